//! Whether training has diverged, a number that it needs to go on being infinite or not a number,
//! and the reactions to that.

use tch::Tensor;
use torchd::job::spec::{OnDivergence, RESTORES, SKIPS};
use torchd::proto::v1::JobEndReason;

use crate::checkpoint::{self, Saver};
use crate::failure::{Failure, Result};
use crate::report::Report;
use crate::stateful::{Stateful, Tensors};
use crate::train::Training;

/// Steps in a row that change nothing, at most.
const MOST_SKIPPED: u32 = 20;
/// Checkpoints that come back in a job, at most.
const MOST_RESTORES: u32 = 5;

/// Steps that changed nothing.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    in_a_row: u32,
    pub(crate) since_scalars: u32,
}

impl Skips {
    /// Counts a step. Whether it was one too many.
    pub(crate) fn count(&mut self, is_skipped: bool) -> bool {
        self.in_a_row = if is_skipped { self.in_a_row + 1 } else { 0 };
        self.since_scalars += u32::from(is_skipped);
        self.in_a_row >= MOST_SKIPPED
    }
}

impl Stateful for Skips {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let counts = [self.in_a_row, self.since_scalars].map(f64::from);
        SKIPS.into_iter().zip(counts).try_for_each(|(name, count)| put(name, &Tensor::from(count)))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        let [in_a_row, since_scalars] = SKIPS.map(|name| tensors.number(name));
        (self.in_a_row, self.since_scalars) = (in_a_row? as u32, since_scalars? as u32);
        Ok(())
    }
}

/// Checkpoints that came back. Each time halves the learning rate.
#[derive(Debug, Default)]
pub(crate) struct Restores(u32);

impl Restores {
    /// The share of the learning rate that is left.
    pub(crate) fn rate_share(&self) -> f64 {
        0.5f64.powi(self.0 as i32)
    }
}

impl Stateful for Restores {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        put(RESTORES, &Tensor::from(f64::from(self.0)))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.0 = tensors.number(RESTORES)? as u32;
        Ok(())
    }
}

impl Training {
    /// Fails where training has diverged, before a validation pass is spent on it. What is saved is
    /// judged as it is saved.
    pub(crate) fn judge(&self) -> Result<()> {
        self.judge_loss()?;
        for (name, tensor) in self.network.parameters().named() {
            if !checkpoint::is_finite(tensor)? {
                return Err(self.diverged(&format!("{name} held numbers that are not finite")));
            }
        }
        Ok(())
    }

    /// The losses since the last scalars, which nobody may have read yet.
    pub(crate) fn judge_loss(&self) -> Result<()> {
        let loss = f64::try_from(&self.sums.loss)?;
        if loss.is_finite() { Ok(()) } else { Err(self.diverged(&format!("the loss was {loss}"))) }
    }

    pub(crate) fn diverged(&self, found: &str) -> Failure {
        Failure::diverged(self.place.step, found)
    }

    /// Counts a step. `Diverged` where too many in a row have changed nothing.
    pub(crate) fn count_skip(&mut self, is_skipped: bool) -> Result<()> {
        if self.skips.as_mut().is_some_and(|skips| skips.count(is_skipped)) {
            return Err(self.diverged(&format!("{MOST_SKIPPED} steps in a row had numbers that are not finite")));
        }
        Ok(())
    }

    /// Goes on after a failure, where the spec says so: weights and state of the best checkpoint
    /// come back, and training stays at its place in the data. The failure where that cannot be.
    pub(crate) fn bring_back(&mut self, failure: Failure, report: &mut Report, saver: &mut Saver) -> Result<()> {
        let restores = self.restores.as_ref().map_or(MOST_RESTORES, |restores| restores.0);
        if failure.reason != JobEndReason::Diverged || restores >= MOST_RESTORES {
            return Err(failure);
        }
        let place = self.place;
        self.rest(report);
        for saved in saver.finish(|waited| report.waits_for_checkpoint(place.step, waited))? {
            report.checkpoint(saved)?;
        }
        let by = self.work.checkpoints.keep_best.and_then(|best| best.by);
        let loaded = self.found_by_first(|| checkpoint::best_good(&self.folder, by))?;
        let Some(loaded) = loaded else { return Err(failure) };
        let from = loaded.manifest.place.step;
        let validation_due = self.validation_due;
        self.restore(loaded)?;
        (self.place, self.validation_due) = (place, validation_due);
        self.restores = Some(Restores(restores + 1));
        self.sums = self.no_sums()?;
        let why = failure.message;
        tracing::warn!(
            step = place.step,
            "diverged: {why}; the weights of step {from} come back, and training goes on at half the learning rate"
        );
        Ok(())
    }

    /// Counts of checkpoints that came back, for a spec that wants it.
    pub(crate) fn restores(policy: OnDivergence) -> Option<Restores> {
        (policy == OnDivergence::RestoreBest).then(Restores::default)
    }
}
