//! The answers of a network for examples: from its outputs to classes, probabilities or numbers,
//! with the loss of each example where that has a target.

use tch::{Device, Kind, Reduction, TchError, Tensor};
use torchd::dataset::{Dtype, Field};
use torchd::job::spec::Loss as Settings;
use torchd::job::spec::loss::{Answer, Classes};

use crate::failure::Result;
use crate::feed::Batch;
use crate::model::Mode;
use crate::step::Computation;

/// The shapes of the answers for an example.
pub(super) struct Layout {
    /// How outputs answer targets; None where they are taken as they are.
    pub(super) answer: Option<Answer>,
    /// Of what is predicted: a class, whether a label holds, or a number each.
    pub(super) predictions: Vec<u64>,
    /// Of the probabilities; None where there are none.
    pub(super) probabilities: Option<Vec<u64>>,
    /// The dimension of classes in a batch of outputs.
    pub(super) class_dim: i64,
    /// The target; None where the examples have none.
    pub(super) target: Option<Field>,
    /// Whether the examples have names.
    pub(super) has_names: bool,
}

impl Layout {
    /// That of a network with this output, which was trained with that loss on `taught`.
    pub(super) fn new(answer: Option<Answer>, loss: Option<&Settings>, output: &[u64], taught: &Field) -> Self {
        let is_last = match loss {
            // As that loss arranges them.
            Some(Settings::NextToken(_)) => output.first() == taught.shape.first(),
            _ => matches!(Classes::of(output, &taught.shape), Some((Classes::Last, _))),
        };
        let class_dim = if is_last { output.len() } else { 1 };
        let (predictions, probabilities) = match answer {
            Some(Answer::Class(_)) => {
                let mut rest = output.to_vec();
                rest.remove(class_dim - 1);
                (rest, Some(output.to_vec()))
            }
            Some(Answer::Labels(_)) => (taught.shape.clone(), Some(taught.shape.clone())),
            Some(Answer::Numbers(_) | Answer::Shares) => (taught.shape.clone(), None),
            None => (output.to_vec(), None),
        };
        Self { answer, predictions, probabilities, class_dim: class_dim as i64, target: None, has_names: false }
    }

    /// Whether what is predicted is a whole number.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.answer, Some(Answer::Class(_) | Answer::Labels(_)))
    }

    /// Whether targets are whole numbers.
    pub(super) fn has_whole_targets(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.dtype == Dtype::I64)
    }
}

/// The answers for some examples, on the CPU: `[size, ...]` each.
pub(super) struct Answers {
    /// The names of the examples; none where they have none.
    pub(super) names: Vec<String>,
    /// 64-bit integers for classes and labels, else 32-bit floats.
    pub(super) predictions: Tensor,
    /// 32-bit floats.
    pub(super) probabilities: Option<Tensor>,
    /// In their own type.
    pub(super) targets: Option<Tensor>,
    /// 32-bit floats. That of an example none of whose targets counts is not a number.
    pub(super) loss: Option<Tensor>,
}

/// The way from examples to answers.
pub(super) struct Answering<'a> {
    pub(super) computation: Computation<'a>,
    pub(super) layout: &'a Layout,
}

impl Answering<'_> {
    /// The answers for a batch.
    pub(super) fn answer(&self, batch: &Batch) -> Result<Answers> {
        let (output, loss) = self.compute(batch)?;
        let output = output.f_to_kind(Kind::Float)?;
        let layout = self.layout;
        let shaped = |tensor: Tensor| {
            let shape: Vec<_> = [batch.size].into_iter().chain(layout.predictions.iter().map(|&n| n as i64)).collect();
            tensor.f_reshape(shape)
        };
        let (predictions, probabilities) = match layout.answer {
            Some(Answer::Class(_)) => {
                let dim = layout.class_dim;
                (output.f_argmax(dim, false)?, Some(output.f_softmax(dim, Kind::Float)?))
            }
            Some(Answer::Labels(_)) => {
                let output = shaped(output)?;
                (output.f_gt(0.0)?.f_to_kind(Kind::Int64)?, Some(output.f_sigmoid()?))
            }
            Some(Answer::Shares) => (shaped(output.f_exp()?)?, None),
            Some(Answer::Numbers(_)) | None => (shaped(output)?, None),
        };
        let targets = layout.target.as_ref().map(|_| on_cpu(&batch.targets)).transpose()?;
        Ok(Answers {
            names: Vec::new(),
            predictions: on_cpu(&predictions)?,
            probabilities: probabilities.as_ref().map(on_cpu).transpose()?,
            targets,
            loss: loss.as_ref().map(on_cpu).transpose()?,
        })
    }

    /// The outputs for a batch, and the loss of each example by itself.
    fn compute(&self, batch: &Batch) -> Result<(Tensor, Option<Tensor>)> {
        let Computation { network, loss, precision } = self.computation;
        let _region = precision.enter()?;
        let output = network.forward(batch, Mode::Evaluate)?.output;
        if self.layout.target.is_none() {
            return Ok((output, None));
        }
        let each = (0..batch.size).map(|row| {
            let pair = loss.arrange(&output.f_narrow(0, row, 1)?, &batch.targets.f_narrow(0, row, 1)?)?;
            loss.reduced(&pair, Reduction::Mean)
        });
        let each = each.collect::<Result<Vec<_>>>()?;
        Ok((output, Some(Tensor::f_stack(&each, 0)?.f_to_kind(Kind::Float)?)))
    }
}

fn on_cpu(tensor: &Tensor) -> std::result::Result<Tensor, TchError> {
    tensor.f_to_device(Device::Cpu)?.f_contiguous()
}
