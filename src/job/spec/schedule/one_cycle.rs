//! A learning rate that rises and falls once, each along half a cosine.

use std::f64::consts::PI;

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    /// Share of the steps in which the rate rises.
    pub rise_share: f64,
    /// Share of the rate that it begins with.
    pub start_ratio: f64,
    /// Share of the rate that it ends with.
    pub final_ratio: f64,
}

impl Section for OneCycle {
    type Message = v1::OneCycle;
    const NAME: &str = "one_cycle";
    const EDITABLE: &[&str] = &["rise_share", "start_ratio", "final_ratio"];

    fn read(message: &v1::OneCycle, mut fields: Fields<'_>) -> Option<Self> {
        let v1::OneCycle { rise_share, start_ratio, final_ratio } = *message;
        // The defaults are PyTorch's: div_factor is 25, and final_div_factor is 10,000.
        let rise_share = rise_share.unwrap_or(0.3);
        fields.demand("rise_share", rise_share > 0.0 && rise_share < 1.0, rise_share, "above 0 and below 1");
        let start_ratio = fields.ratio("start_ratio", start_ratio.unwrap_or(0.04));
        let final_ratio = fields.ratio("final_ratio", final_ratio.unwrap_or(4e-6));
        fields.done(Self { rise_share, start_ratio, final_ratio })
    }

    fn to_proto(&self) -> v1::OneCycle {
        let Self { rise_share, start_ratio, final_ratio } = *self;
        v1::OneCycle { rise_share: Some(rise_share), start_ratio: Some(start_ratio), final_ratio: Some(final_ratio) }
    }
}

impl OneCycle {
    /// The steps of the rise, which end within a step.
    fn rise(&self, total: u64) -> f64 {
        self.rise_share * total as f64
    }
}

impl Curve for OneCycle {
    /// The rise is the warm-up.
    fn warmup_steps(&self) -> u64 {
        0
    }

    fn ratio(&self, step: u64, total: u64) -> f64 {
        let along = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * ((PI * share).cos() + 1.0);
        let (step, last) = (step as f64, total as f64 - 1.0);
        let top = self.rise(total) - 1.0;
        if step <= top {
            return along(self.start_ratio, 1.0, step / top.max(1.0));
        }
        along(1.0, self.final_ratio, ((step - top) / (last - top)).min(1.0))
    }

    fn judge(&self, steps: u64, mut fields: Fields<'_>) {
        let rise = self.rise(steps);
        if rise <= 1.0 {
            let what = format!("is {}, which is {rise} of the {steps} steps of the job", self.rise_share);
            fields.wrong("rise_share", format!("{what}; a rise of more than 1 step is needed"));
        }
    }
}
