//! Repeats the step that PyTorch recorded in an archive, before training begins: a graph that
//! computes something else than the module would train something else.

use tch::{Kind, Reduction, TchError, Tensor};
use torchd::exported::SeededStep;
use torchd::exported::seeded::Criterion;
use torchd::job::spec::loss::Classes;
use torchd::tensor_file::{self, ReaderAt};

use super::state::viewed;
use super::{Exported, Named};
use crate::graph::Value;
use crate::model::Mode;

/// Numbers may differ by so much, relative to the larger: other processors add up in other orders.
const TOLERANCE: f64 = 1e-3;

impl Exported {
    /// Makes the step again, on the CPU, and leaves weights and buffers as they were.
    ///
    /// # Errors
    /// If a loss or the norm of the gradients differs, with both numbers; or if a graph fails.
    pub(crate) fn rehearse(&self, step: &SeededStep, source: &dyn ReaderAt) -> Result<(), TchError> {
        let tensor = |stored: &tensor_file::Tensor| taken(stored, source);
        let inputs = step.inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = inputs.iter().collect();
        let target = step.target.as_ref().map(tensor).transpose()?;
        let loss = |mode| {
            tch::manual_seed(step.seed);
            loss_of(&self.forward(&inputs, mode)?, step.criterion, target.as_ref())
        };
        if self.eval.is_some() {
            let found = tch::no_grad(|| loss(Mode::Evaluate)).and_then(f64::try_from)?;
            compare("the loss of the graph for evaluation", found, step.eval_loss)?;
        }
        // Running a graph for training changes buffers.
        let copied = |named: &Named| {
            let mut copy = named.tensor.f_empty_like()?;
            copy.f_copy_(&named.tensor)?;
            Ok::<_, TchError>(copy)
        };
        let before = self.buffers.iter().map(copied).collect::<Result<Vec<_>, _>>()?;
        let made = loss(Mode::Train).and_then(|loss| self.gradient_norm(&loss).map(|norm| (loss, norm)));
        // Behind the gradients, which need what the graph has written.
        tch::no_grad(|| {
            self.buffers.iter().zip(&before).try_for_each(|(named, old)| {
                named.tensor.shallow_clone().f_copy_(old)?;
                Ok::<_, TchError>(())
            })
        })?;
        let (found, norm) = made?;
        compare("the loss of the graph for training", f64::try_from(found)?, step.train_loss)?;
        compare("the norm of its gradients", norm, step.gradient_norm)
    }

    /// The norm of all gradients of a loss taken as one vector.
    fn gradient_norm(&self, loss: &Tensor) -> Result<f64, TchError> {
        let parameters: Vec<_> = self.parameters.iter().map(|named| &named.tensor).collect();
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
        let squares = gradients.iter().filter(|gradient| gradient.defined()).map(|gradient| {
            let wide = gradient.f_to_kind(Kind::Double)?;
            f64::try_from(wide.f_mul(&wide)?.f_sum(Kind::Double)?)
        });
        Ok(squares.sum::<Result<f64, _>>()?.sqrt())
    }
}

fn compare(what: &str, found: f64, recorded: f64) -> Result<(), TchError> {
    if (found - recorded).abs() <= TOLERANCE * found.abs().max(recorded.abs()) {
        return Ok(());
    }
    Err(TchError::Torch(format!(
        "the step that PyTorch recorded comes out differently: {what} is {found}, and was {recorded} in PyTorch"
    )))
}

/// A recorded tensor.
fn taken(stored: &tensor_file::Tensor, source: &dyn ReaderAt) -> Result<Tensor, TchError> {
    let bytes = stored.read(source).map_err(|problem| TchError::Torch(format!("the archive {problem}")))?;
    let flat = Tensor::f_from_data_size(&bytes, &[bytes.len() as i64], Kind::Uint8)?;
    let shape: Vec<_> = stored.shape.iter().map(|&size| size as i64).collect();
    viewed(&flat, stored.dtype)?.f_view(shape.as_slice())
}

fn loss_of(returned: &[Value], criterion: Criterion, target: Option<&Tensor>) -> Result<Tensor, TchError> {
    let missing = |what: &str| TchError::Torch(format!("the recorded step has no {what}"));
    let Some(Value::Tensor(output)) = returned.first() else { return Err(missing("output")) };
    let target = || target.ok_or_else(|| missing("target"));
    match criterion {
        Criterion::Output => Ok(output.shallow_clone()),
        Criterion::MeanSquare => {
            let output = output.f_to_kind(Kind::Float)?;
            output.f_mul(&output)?.f_mean(Kind::Float)
        }
        Criterion::CrossEntropy => {
            let (output, target) = classes_second(output, target()?)?;
            output.f_cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, -100, 0.0)
        }
        Criterion::Nll => {
            let (output, target) = classes_second(output, target()?)?;
            output.f_nll_loss_nd::<Tensor>(target, None, Reduction::Mean, -100)
        }
        Criterion::Mse => output.f_mse_loss(target()?, Reduction::Mean),
    }
}

/// The scores with their classes in the second dimension, as libtorch takes them, and their target.
fn classes_second<'a>(scores: &Tensor, target: &'a Tensor) -> Result<(Tensor, &'a Tensor), TchError> {
    let within = |tensor: &Tensor| tensor.size().iter().skip(1).map(|&size| size as u64).collect::<Vec<_>>();
    match Classes::of(&within(scores), &within(target)) {
        Some((Classes::Last, _)) => Ok((scores.f_movedim_int(-1, 1)?, target)),
        Some((Classes::First, _)) | None => Ok((scores.shallow_clone(), target)),
    }
}
