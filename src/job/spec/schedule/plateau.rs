//! A learning rate that falls by a factor where validation does not get better
//! (`torch.optim.lr_scheduler.ReduceLROnPlateau`).

use super::Curve;
use crate::job::retention::Quantity;
use crate::job::spec::metric::Better;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// The quantity that has to get better.
    pub metric: Quantity,
    /// The share of the rate that remains after a fall.
    pub factor: f64,
    /// Validation passes in a row that may be no better.
    pub patience_validations: u32,
    /// A value is better where it is beyond the best by this share of it.
    pub threshold: f64,
    /// Validation passes after a fall that are not counted.
    pub cooldown: u32,
    /// Share of the rate that it does not fall below.
    pub least_ratio: f64,
}

/// Where it stands, which a checkpoint keeps as numbers of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The share of the learning rate.
    pub ratio: f64,
    /// The best value; None before the first.
    pub best: Option<f64>,
    /// Validation passes in a row that were no better.
    pub bad: u32,
    /// Validation passes that are still not counted.
    pub cooldown_left: u32,
}

impl Standing {
    /// The names of its numbers in the state of a checkpoint.
    pub const NAMES: [&str; 5] =
        ["schedule.ratio", "schedule.has_best", "schedule.best", "schedule.bad_validations", "schedule.cooldown_left"];

    /// Its numbers, all finite, in the order of the names.
    pub fn numbers(&self) -> [f64; 5] {
        let Self { ratio, best, bad, cooldown_left } = *self;
        [ratio, f64::from(u8::from(best.is_some())), best.unwrap_or(0.0), f64::from(bad), f64::from(cooldown_left)]
    }

    /// That of such numbers.
    pub fn of([ratio, has_best, best, bad, cooldown_left]: [f64; 5]) -> Self {
        let best = (has_best != 0.0).then_some(best);
        Self { ratio, best, bad: bad as u32, cooldown_left: cooldown_left as u32 }
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self { ratio: 1.0, best: None, bad: 0, cooldown_left: 0 }
    }
}

/// A fall of the rate by less is left out: ReduceLROnPlateau's `eps`.
const LEAST_FALL: f64 = 1e-8;

impl Plateau {
    /// Takes the value of a validation pass in, for a job of that learning rate.
    pub fn hear(&self, standing: &mut Standing, value: f64, learning_rate: f64) {
        if self.is_better(value, standing.best) {
            standing.best = Some(value);
            standing.bad = 0;
        } else {
            standing.bad += 1;
        }
        if standing.cooldown_left > 0 {
            standing.cooldown_left -= 1;
            standing.bad = 0;
        }
        if standing.bad > self.patience_validations {
            let fallen = (standing.ratio * self.factor).max(self.least_ratio);
            if learning_rate * (standing.ratio - fallen) > LEAST_FALL {
                standing.ratio = fallen;
            }
            standing.cooldown_left = self.cooldown;
            standing.bad = 0;
        }
    }

    fn is_better(&self, value: f64, best: Option<f64>) -> bool {
        let is_beyond = best.is_none_or(|best| match self.metric.better() {
            Some(Better::Lower) => value < best * (1.0 - self.threshold),
            Some(Better::Higher) => value > best * (1.0 + self.threshold),
            None => false,
        });
        value.is_finite() && is_beyond
    }
}

impl Section for Plateau {
    type Message = v1::Plateau;
    const NAME: &str = "plateau";
    const EDITABLE: &[&str] =
        &["warmup_steps", "factor", "patience_validations", "threshold", "cooldown", "least_ratio"];

    fn read(message: &v1::Plateau, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Plateau { warmup_steps, metric, factor, patience_validations, threshold, cooldown, least_ratio } =
            message;
        let found = Quantity::read("metric", metric, &mut fields);
        // The defaults are PyTorch's.
        let factor = factor.unwrap_or(0.1);
        fields.demand("factor", factor > 0.0 && factor < 1.0, factor, "above 0 and below 1");
        let threshold = fields.ratio("threshold", threshold.unwrap_or(1e-4));
        let least_ratio = fields.ratio("least_ratio", *least_ratio);
        let (warmup_steps, cooldown) = (*warmup_steps, *cooldown);
        let patience_validations = patience_validations.unwrap_or(10);
        let metric = found.unwrap_or(Quantity::Loss);
        fields.done(Self { warmup_steps, metric, factor, patience_validations, threshold, cooldown, least_ratio })
    }

    fn to_proto(&self) -> v1::Plateau {
        let Self { warmup_steps, metric, factor, patience_validations, threshold, cooldown, least_ratio } = *self;
        v1::Plateau {
            warmup_steps,
            metric: metric.tag(),
            factor: Some(factor),
            patience_validations: Some(patience_validations),
            threshold: Some(threshold),
            cooldown,
            least_ratio,
        }
    }
}

impl Curve for Plateau {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    /// Where it stands is told by the runner, which hears of validation.
    fn ratio(&self, _: u64, _: u64) -> f64 {
        1.0
    }

    fn plateau(&self) -> Option<&Self> {
        Some(self)
    }
}
