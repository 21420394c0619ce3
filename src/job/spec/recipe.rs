//! The way of training besides its parts: precision, accumulation, averages, and the reactions to
//! validation and to divergence.

use super::section::Fields;
use crate::job::Violations;
use crate::job::retention::Quantity;
use crate::proto::v1;

/// The way of training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recipe {
    /// The type that a network computes in where that is safe.
    pub precision: Precision,
    /// Parts that a training step computes one after the other; 0 and 1 for the whole at once.
    pub accumulate_steps: u32,
    /// Slices of a batch that are computed one by one, and added in a fixed order; None for the
    /// whole at once.
    pub shards: Option<u32>,
    /// Share of the averaged weights that each step keeps; None where nothing is averaged.
    pub ema_decay: Option<f64>,
    /// The end of a job that does not get better.
    pub early_stopping: Option<EarlyStopping>,
    /// The result has the weights of the best checkpoint.
    pub restores_best: bool,
    /// The reaction to a step whose numbers are not finite.
    pub on_divergence: OnDivergence,
    /// Steps are captured as CUDA graphs where they can be.
    pub cuda_graphs: bool,
    /// Weights of two-dimensional convolutions have their channels last in memory.
    pub channels_last: bool,
}

/// The type that a network computes in where that is safe. Weights are 32-bit floats throughout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Float32,
    /// 16 bits with the exponent of 32.
    BFloat16,
    /// 16 bits with a short exponent, which needs the loss to be scaled.
    Float16,
}

/// The end of a job that does not get better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// The quantity of the validation pass; None until the metrics of the job are known.
    pub by: Option<Quantity>,
    /// Validation passes without an improvement before the job ends.
    pub patience: u32,
    /// A smaller improvement counts as none.
    pub least_improvement: f64,
}

/// The reaction to a step whose loss or gradients are not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDivergence {
    /// The job fails.
    #[default]
    Fail,
    /// The step changes nothing.
    SkipStep,
    /// The weights of the best checkpoint come back.
    RestoreBest,
}

impl Recipe {
    /// Reads the fields of the training section.
    pub(super) fn read(message: &v1::Training, has_validation: bool, fields: &mut Fields<'_>) -> Self {
        let precision = match v1::Precision::try_from(message.precision) {
            Ok(v1::Precision::Unspecified | v1::Precision::Float32) => Precision::Float32,
            Ok(v1::Precision::Bfloat16) => Precision::BFloat16,
            Ok(v1::Precision::Float16) => Precision::Float16,
            Err(_) => {
                let found = message.precision;
                fields.wrong("precision", format!("is {found}; float32, bfloat16 or float16 is needed"));
                Precision::Float32
            }
        };
        let accumulate_steps = fields.at_least_one("accumulate_steps", message.accumulate_steps, 1);
        let shards = message.shards.map(|shards| fields.at_least_one("shards", Some(shards), 1).max(1));
        if shards.is_some() && accumulate_steps > 1 {
            fields.wrong("shards", "is set beside accumulate_steps; slices of a batch save as much memory as parts do");
        }
        let ema_decay = message.ema_decay.map(|decay| fields.share("ema_decay", decay));
        let early_stopping = message.early_stopping.as_ref().map(|message| {
            let mut fields = fields.within("early_stopping");
            let v1::EarlyStopping { metric, patience, least_improvement } = message;
            let by = Quantity::read("metric", metric, &mut fields);
            let patience = fields.at_least_one("patience", *patience, 3);
            let least_improvement = fields.not_negative("least_improvement", *least_improvement);
            EarlyStopping { by, patience, least_improvement }
        });
        let on_divergence = match v1::OnDivergence::try_from(message.on_divergence) {
            Ok(v1::OnDivergence::Unspecified | v1::OnDivergence::Fail) => OnDivergence::Fail,
            Ok(v1::OnDivergence::SkipStep) => OnDivergence::SkipStep,
            Ok(v1::OnDivergence::RestoreBest) => OnDivergence::RestoreBest,
            Err(_) => {
                let found = message.on_divergence;
                fields.wrong("on_divergence", format!("is {found}; fail, skip_step or restore_best is needed"));
                OnDivergence::Fail
            }
        };
        let needs = "needs data.validation, whose passes tell which weights are the best";
        let wanted = [("early_stopping", early_stopping.is_some()), ("restore_best", message.restore_best)];
        for (field, _) in wanted.into_iter().filter(|(_, is_wanted)| *is_wanted && !has_validation) {
            fields.wrong(field, needs);
        }
        Self {
            precision,
            accumulate_steps,
            shards,
            ema_decay,
            early_stopping,
            restores_best: message.restore_best,
            on_divergence,
            cuda_graphs: message.cuda_graphs,
            channels_last: message.channels_last,
        }
    }

    /// Writes the fields that it was read from.
    pub(super) fn write(&self, message: &mut v1::Training) {
        let precision = match self.precision {
            Precision::Float32 => v1::Precision::Float32,
            Precision::BFloat16 => v1::Precision::Bfloat16,
            Precision::Float16 => v1::Precision::Float16,
        };
        let on_divergence = match self.on_divergence {
            OnDivergence::Fail => v1::OnDivergence::Fail,
            OnDivergence::SkipStep => v1::OnDivergence::SkipStep,
            OnDivergence::RestoreBest => v1::OnDivergence::RestoreBest,
        };
        message.precision = precision.into();
        message.accumulate_steps = Some(self.accumulate_steps);
        message.shards = self.shards;
        message.ema_decay = self.ema_decay;
        message.early_stopping = self.early_stopping.map(|stopping| v1::EarlyStopping {
            metric: stopping.by.map(Quantity::tag).unwrap_or_default(),
            patience: Some(stopping.patience),
            least_improvement: stopping.least_improvement,
        });
        message.restore_best = self.restores_best;
        message.on_divergence = on_divergence.into();
        message.cuda_graphs = self.cuda_graphs;
        message.channels_last = self.channels_last;
    }

    /// Examples that are computed at once in a training step of that many.
    pub fn part(&self, batch_size: u32) -> u32 {
        batch_size.div_ceil(self.accumulate_steps.max(1)).max(1)
    }

    /// Whether a step may change nothing.
    pub fn may_skip_steps(&self) -> bool {
        self.on_divergence == OnDivergence::SkipStep || self.precision == Precision::Float16
    }

    /// Adds what does not fit the batches.
    pub(super) fn judge_batch_size(&self, batch_size: u32, wrong: &mut Violations) {
        let parts = self.accumulate_steps;
        if parts > 1 && !batch_size.is_multiple_of(parts) {
            let what = format!("is {parts}, which does not divide training.batch_size, {batch_size}");
            wrong.add("training.accumulate_steps", what);
        }
        if let Some(shards) = self.shards.filter(|shards| *shards > batch_size) {
            let what = format!("is {shards}, and training.batch_size is {batch_size}: each slice needs an example");
            wrong.add("training.shards", what);
        }
    }

    /// Adds what does not fit the device.
    pub fn judge_device(&self, on_gpu: bool, wrong: &mut Violations) {
        if self.precision == Precision::Float16 && !on_gpu {
            let what = "is float16, which needs a GPU; bfloat16 works on the CPU as well";
            wrong.add("training.precision", what);
        }
        if self.cuda_graphs && !on_gpu {
            let what = "is set, and the job computes on the CPU, where there are no CUDA graphs; leave it out";
            wrong.add("training.cuda_graphs", what);
        }
    }
}

impl EarlyStopping {
    /// The names of its numbers in the state of a checkpoint: the best value, whether there is one,
    /// and validation passes since.
    pub const NUMBERS: [&str; 3] = ["early_stopping.best", "early_stopping.has_best", "early_stopping.waited"];
}
