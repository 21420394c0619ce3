//! A training step: from a batch to gradients, and from these to new weights.

use tch::{Reduction, TchError, Tensor};
use torchd::job::spec::{Clip, OnDivergence};

use crate::failure::Result;
use crate::feed::{Batch, Mixed};
use crate::loss::{Loss, Pair};
use crate::model::{Mode, Network, Outputs};
use crate::optimizer::{clip_norm, clip_value, gradient_norm};
use crate::precision::Precision;
use crate::seed::{Stream, derive};
use crate::stateful::laid_out_like;
use crate::train::Training;

/// The outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stepped {
    /// The weights have moved. The norm of the gradients, before they are clipped, where it is
    /// wanted.
    Moved(Option<f64>),
    /// Nothing has changed: the loss or a gradient was not finite.
    Skipped,
}

/// How the losses of examples become one number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over<'a> {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// Their sum, divided by the weight of the targets of a larger batch: that of the first
    /// targets, and that of the second where examples were mixed.
    Weights(&'a [Tensor]),
}

/// Loss and gradients of a batch.
pub(crate) struct Computed {
    /// The mean over the batch, without a gradient.
    pub(crate) loss: Tensor,
    /// Its parts, for the metrics.
    pub(crate) compared: Vec<Compared>,
    /// In the order of the parameters that are trained; None where the loss does not depend on one.
    pub(crate) gradients: Vec<Option<Tensor>>,
}

/// Outputs and the targets that they are compared with, without gradients.
pub(crate) struct Compared {
    /// The metrics that take them in: of which shard they are.
    pub(crate) lane: usize,
    pub(crate) outputs: Outputs,
    pub(crate) pair: Pair,
}

/// The parts of a job that compute outputs and losses.
#[derive(Clone, Copy)]
pub(crate) struct Computation<'a> {
    pub(crate) network: &'a dyn Network,
    pub(crate) loss: &'a dyn Loss,
    pub(crate) precision: &'a Precision,
}

impl Computation<'_> {
    /// The outputs for examples, arranged for the loss, and that loss. Of examples that were mixed
    /// it is that of both targets by their shares; the pair has the first.
    pub(crate) fn run(self, batch: &Batch, mode: Mode, over: Over<'_>) -> Result<(Outputs, Pair, Tensor)> {
        let _region = self.precision.enter()?;
        let outputs = self.network.forward(batch, mode)?;
        let loss_of = |targets: &Tensor, place: usize| -> Result<(Pair, Tensor)> {
            let pair = self.loss.arrange(&outputs.output, targets)?;
            let loss = match over {
                Over::Mean => self.loss.reduced(&pair, Reduction::Mean)?,
                Over::Sum => self.loss.reduced(&pair, Reduction::Sum)?,
                Over::Weights(weights) => {
                    let sum = self.loss.reduced(&pair, Reduction::Sum)?;
                    sum.f_div(&weights[place].f_to_kind(sum.kind())?.f_to_device(sum.device())?)?
                }
            };
            Ok((pair, loss))
        };
        let (pair, mut loss) = loss_of(&batch.targets, 0)?;
        if let Some(Mixed { targets, shares: [first, second] }) = &batch.mixed {
            let (_, other) = loss_of(targets, 1)?;
            loss = loss.f_mul_scalar(*first)?.f_add(&other.f_mul_scalar(*second)?)?;
        }
        Ok((outputs, pair, loss))
    }
}

impl Training {
    /// One optimizer step.
    pub(crate) fn train_step(&mut self, batch: &Batch, want_norm: bool) -> Result<Stepped> {
        tch::manual_seed(derive(self.work.seed, Stream::Step(self.place.step)) as i64);
        if let Some(stepped) = self.captured_step(batch, want_norm)? {
            return Ok(stepped);
        }
        let Computed { loss, compared, gradients } = self.gradients(batch)?;
        let is_finite = self.scaler.as_mut().map(|scaler| scaler.unscale(&gradients)).transpose()?;
        let skips = self.work.recipe.on_divergence == OnDivergence::SkipStep;
        let wants = want_norm || skips || matches!(self.work.clip, Some(Clip::Norm(_)));
        let norm = if wants { Some(gradient_norm(&gradients)?) } else { None };
        let told = norm.as_ref().filter(|_| want_norm || skips).map(f64::try_from).transpose()?;
        let is_bad = is_finite == Some(false)
            || (skips && !(f64::try_from(&loss)?.is_finite() && told.is_some_and(f64::is_finite)));
        let rate = self.learning_rate(self.place.step);
        self.place.step += 1;
        self.place.examples += batch.size as u64;
        self.count_skip(is_bad)?;
        if is_bad {
            return Ok(Stepped::Skipped);
        }
        self.optimizer.set_rate(rate)?;
        self.descend(Computed { loss, compared, gradients }, norm.as_ref(), batch.size, rate)?;
        self.sums.examples += batch.size as u64;
        Ok(Stepped::Moved(told.filter(|_| want_norm)))
    }

    /// The part of a step that the device does by itself: it asks the host for nothing, and changes
    /// nothing but tensors. Without a skip, a scaler and a first step of the optimizer, that is all
    /// of it. The norm of the gradients where it is wanted.
    pub(crate) fn step_on_device(&mut self, batch: &Batch, wants_norm: bool, rate: f64) -> Result<Option<Tensor>> {
        let computed = self.gradients(batch)?;
        let norm = wants_norm.then(|| gradient_norm(&computed.gradients)).transpose()?;
        self.descend(computed, norm.as_ref(), batch.size, rate)?;
        Ok(norm)
    }

    /// From the gradients of a batch of that size to new weights and sums.
    fn descend(&mut self, computed: Computed, norm: Option<&Tensor>, size: i64, rate: f64) -> Result<()> {
        let Computed { loss, compared, mut gradients } = computed;
        match (self.work.clip, norm) {
            (Some(Clip::Norm(longest)), Some(norm)) => clip_norm(&mut gradients, norm, longest)?,
            (Some(Clip::Value(largest)), _) => clip_value(&mut gradients, largest)?,
            (Some(Clip::Norm(_)), None) | (None, _) => {}
        }
        self.optimizer.step(&gradients, rate)?;
        if let Some(average) = &mut self.average {
            average.update()?;
        }
        self.sums.add_loss(&loss, size)?;
        compared.iter().try_for_each(|Compared { lane, outputs, pair }| self.sums.add(*lane, outputs, pair))
    }

    /// The outputs of a network for examples, arranged for the loss, and that loss.
    pub(crate) fn compute(&self, batch: &Batch, mode: Mode, over: Over<'_>) -> Result<(Outputs, Pair, Tensor)> {
        self.computation().run(batch, mode, over)
    }

    /// The parts of the job that compute outputs and losses.
    pub(crate) fn computation(&self) -> Computation<'_> {
        Computation { network: self.network.as_ref(), loss: self.loss.as_ref(), precision: &self.precision }
    }

    /// The gradients of the mean loss over a batch, part by part where the spec says so.
    fn gradients(&self, batch: &Batch) -> Result<Computed> {
        if let Some(shards) = self.work.recipe.shards.filter(|_| !batch.slices.is_empty()) {
            return self.gradients_of_slices(batch, shards);
        }
        let part = i64::from(self.work.recipe.part(self.work.batch_size));
        if batch.size <= part {
            let (outputs, pair, loss) = self.compute(batch, Mode::Train, Over::Mean)?;
            let gradients = self.backward(&loss)?;
            let compared = vec![Compared { lane: 0, outputs: outputs.detach(), pair: pair.detach() }];
            return Ok(Computed { loss: loss.detach(), compared, gradients });
        }
        let targets = [&batch.targets].into_iter().chain(batch.mixed.as_ref().map(|mixed| &mixed.targets));
        let weights = targets.map(|targets| self.loss.weight(targets)).collect::<Result<Vec<_>>>()?;
        let (mut whole, mut compared, mut gradients) = (None::<Tensor>, Vec::new(), None::<Vec<Option<Tensor>>>);
        let mut start = 0;
        while start < batch.size {
            let examples = batch.part(start, part.min(batch.size - start))?;
            let (outputs, pair, loss) = self.compute(&examples, Mode::Train, Over::Weights(&weights))?;
            let more = self.backward(&loss)?;
            gradients = Some(match gradients {
                None => more,
                Some(sums) => sums.into_iter().zip(more).map(added).collect::<std::result::Result<_, _>>()?,
            });
            let loss = loss.detach();
            whole = Some(whole.map_or_else(|| Ok(loss.shallow_clone()), |sum| sum.f_add(&loss))?);
            compared.push(Compared { lane: 0, outputs: outputs.detach(), pair: pair.detach() });
            start += part;
        }
        let nothing = || TchError::Torch("the batch has no examples".into());
        Ok(Computed { loss: whole.ok_or_else(nothing)?, compared, gradients: gradients.ok_or_else(nothing)? })
    }

    /// The gradients of a loss, laid out in memory as the parameters are.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let scaled = self.scaler.as_ref().map(|scaler| scaler.scaled(loss)).transpose()?;
        let trained = self.optimizer.trained();
        let gradients = Tensor::f_run_backward(&[scaled.as_ref().unwrap_or(loss)], trained, false, false)?;
        let laid_out = trained.iter().zip(gradients).map(|(parameter, gradient)| {
            // The fused operators go over both as they lie. The loss need not depend on every
            // parameter.
            gradient.defined().then(|| laid_out_like(parameter, gradient)).transpose()
        });
        Ok(laid_out.collect::<std::result::Result<_, _>>()?)
    }
}

/// Two gradients of one parameter, added.
pub(crate) fn added((one, other): (Option<Tensor>, Option<Tensor>)) -> std::result::Result<Option<Tensor>, TchError> {
    match (one, other) {
        (Some(mut one), Some(other)) => one.f_add_(&other).map(Some),
        (one, other) => Ok(one.or(other)),
    }
}
