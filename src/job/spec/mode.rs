//! The purpose of a job: to train, to find a learning rate, or to apply a trained model.

use super::section::Fields;
use crate::job::Violations;
use crate::proto::v1;

/// The purpose of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Mode {
    /// To train.
    #[default]
    Train,
    /// To find a learning rate.
    LrRange(LrRange),
    /// To judge a trained model by examples.
    Evaluate,
    /// To answer examples with a trained model.
    Predict(Predictions),
}

/// The format of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Predictions {
    /// A table of text.
    #[default]
    Csv,
    /// Arrays.
    Safetensors,
    /// A table of columns.
    Parquet,
}

/// A learning rate that grows evenly in its logarithm from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrRange {
    /// That of the first step.
    pub lowest: f64,
    /// That of the last step.
    pub highest: f64,
    /// Steps, at least 2.
    pub steps: u32,
}

/// Steps at most: the curve of losses is kept in each checkpoint.
const MOST_STEPS: u32 = 100_000;

impl Mode {
    /// Reads the fields of a spec.
    pub(super) fn read(message: &v1::JobSpec, wrong: &mut Violations) -> Self {
        let range = message.lr_range.unwrap_or_default();
        let predictions = message.output.as_ref().map_or(0, |output| output.predictions);
        let mode = v1::Mode::try_from(message.mode);
        let name = mode.as_ref().map_or("train", |mode| name(*mode));
        if message.lr_range.is_some() && mode != Ok(v1::Mode::LrRange) {
            wrong.add("lr_range", format!("is set, and the mode is {name}; set mode to lr_range, or leave this out"));
        }
        if predictions != 0 && mode != Ok(v1::Mode::Predict) {
            let what = format!("is set, and the mode is {name}; set mode to predict, or leave this out");
            wrong.add("output.predictions", what);
        }
        match mode {
            Ok(v1::Mode::Unspecified | v1::Mode::Train) => Self::Train,
            Ok(v1::Mode::Evaluate) => Self::Evaluate,
            Ok(v1::Mode::Predict) => Self::Predict(match v1::Predictions::try_from(predictions) {
                Ok(v1::Predictions::Unspecified | v1::Predictions::Csv) => Predictions::Csv,
                Ok(v1::Predictions::Safetensors) => Predictions::Safetensors,
                Ok(v1::Predictions::Parquet) => Predictions::Parquet,
                Err(_) => {
                    wrong.add("output.predictions", format!("is {predictions}; csv, parquet or safetensors is needed"));
                    Predictions::Csv
                }
            }),
            Ok(v1::Mode::LrRange) => {
                let mut fields = Fields::new("lr_range", wrong);
                let lowest = fields.positive("lowest", range.lowest.unwrap_or(1e-7));
                let highest = fields.positive("highest", range.highest.unwrap_or(10.0));
                let steps = range.steps.unwrap_or(100);
                if lowest >= highest {
                    fields.wrong("highest", format!("is {highest}; more than lr_range.lowest, {lowest}, is needed"));
                }
                if !(2..=MOST_STEPS).contains(&steps) {
                    fields.wrong("steps", format!("is {steps}; 2 to {MOST_STEPS} is right"));
                }
                Self::LrRange(LrRange { lowest, highest, steps })
            }
            Err(_) => {
                wrong.add("mode", format!("is {}; train, lr_range, evaluate or predict is needed", message.mode));
                Self::Train
            }
        }
    }

    /// Writes the fields that it was read from.
    pub(super) fn write(self, message: &mut v1::JobSpec) {
        let mode = match self {
            Self::Train => v1::Mode::Train,
            Self::LrRange(LrRange { lowest, highest, steps }) => {
                let range = v1::LrRange { lowest: Some(lowest), highest: Some(highest), steps: Some(steps) };
                message.lr_range = Some(range);
                v1::Mode::LrRange
            }
            Self::Evaluate => v1::Mode::Evaluate,
            Self::Predict(format) => {
                let format = match format {
                    Predictions::Csv => v1::Predictions::Csv,
                    Predictions::Safetensors => v1::Predictions::Safetensors,
                    Predictions::Parquet => v1::Predictions::Parquet,
                };
                message.output.get_or_insert_default().predictions = format.into();
                v1::Mode::Predict
            }
        };
        message.mode = mode.into();
    }

    /// Whether examples need no targets, where those of the training set are known.
    pub fn may_lack_target(self) -> bool {
        matches!(self, Self::Predict(_))
    }

    /// Whether the job applies a trained model, and trains none.
    pub fn applies(self) -> bool {
        match self {
            Self::Train | Self::LrRange(_) => false,
            Self::Evaluate | Self::Predict(_) => true,
        }
    }
}

/// The name of a mode in a spec.
pub(super) fn name(mode: v1::Mode) -> &'static str {
    match mode {
        v1::Mode::Unspecified | v1::Mode::Train => "train",
        v1::Mode::LrRange => "lr_range",
        v1::Mode::Evaluate => "evaluate",
        v1::Mode::Predict => "predict",
    }
}

impl LrRange {
    /// The name of the losses so far in the state of a checkpoint, as many as there are steps.
    pub const LOSSES: &str = "lr_range.losses";

    /// The learning rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        let share = step as f64 / f64::from(self.steps - 1);
        self.lowest * (self.highest / self.lowest).powf(share)
    }

    /// Whether the last of these losses is so far above the lowest that higher rates tell nothing.
    pub fn has_risen(&self, losses: &[f64]) -> bool {
        let smooth = smoothed(losses);
        let Some(counted) = smooth.get(FIRST_STEPS..) else { return false };
        let lowest = counted.iter().copied().fold(f64::INFINITY, f64::min);
        counted.last().is_some_and(|last| *last > RISE * lowest)
    }

    /// The learning rate that the losses of the first steps propose, in words: that at which the
    /// loss fell fastest from step to step.
    pub fn proposal(&self, losses: &[f64]) -> String {
        let smooth = smoothed(losses);
        let slope = |step: usize| (smooth[step + 1] - smooth[step - 1]) / 2.0;
        let steps = FIRST_STEPS..smooth.len().saturating_sub(1);
        let steepest = steps.min_by(|one, other| slope(*one).total_cmp(&slope(*other)));
        match steepest.filter(|step| slope(*step) < 0.0) {
            Some(step) => {
                let rate = self.rate(step as u64);
                format!("the loss fell fastest at a learning rate of {rate:.2e}, which is proposed")
            }
            None => {
                let most = self.rate(smooth.len().saturating_sub(1) as u64);
                format!(
                    "the loss fell at no learning rate up to {most:.2e} after {} steps: no rate is proposed",
                    losses.len()
                )
            }
        }
    }
}

/// Steps at the beginning that tell of the weights and of single batches more than of the rate.
const FIRST_STEPS: usize = 10;
/// Share of the smoothed loss that each step keeps.
const SMOOTHING: f64 = 0.9;
/// A loss so many times the lowest ends the job.
const RISE: f64 = 4.0;

/// Means of losses that forget the older ones, corrected for their beginning.
fn smoothed(losses: &[f64]) -> Vec<f64> {
    let (mut mean, mut weight) = (0.0, 1.0);
    let smooth = losses.iter().map(|loss| {
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
        weight *= SMOOTHING;
        mean / (1.0 - weight)
    });
    smooth.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_grows_by_the_same_factor_from_step_to_step() {
        let range = LrRange { lowest: 1e-4, highest: 1.0, steps: 5 };
        let rates: Vec<_> = (0..5).map(|step| range.rate(step)).collect();
        for (rate, right) in rates.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
            assert!((rate / right - 1.0).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn the_rate_at_which_the_loss_falls_fastest_is_proposed() {
        let range = LrRange { lowest: 1e-6, highest: 1.0, steps: 61 };
        // It falls around step 40, where the rate is 1e-2, and rises from step 50 on.
        let loss = |step: i32| match step {
            ..50 => 2.0 - 1.0 / (1.0 + (-(f64::from(step) - 40.0)).exp()),
            _ => 2.0 + f64::from(step - 50),
        };
        let losses: Vec<_> = (0..=60).map(loss).collect();
        let words = range.proposal(&losses);
        let rate: f64 = words.split("rate of ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert!((5e-3..5e-2).contains(&rate), "{words}");
        assert!(range.has_risen(&losses) && !range.has_risen(&losses[..50]));
        assert!(range.proposal(&losses[..3]).contains("no rate is proposed"));
        assert!(range.proposal(&(0..60).map(f64::from).collect::<Vec<_>>()).contains("no rate is proposed"));
    }
}
