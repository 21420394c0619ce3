//! A learning rate that stays.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constant {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
}

impl Section for Constant {
    type Message = v1::Constant;
    const NAME: &str = "constant";
    const EDITABLE: &[&str] = &["warmup_steps"];

    fn read(message: &v1::Constant, fields: Fields<'_>) -> Option<Self> {
        fields.done(Self { warmup_steps: message.warmup_steps })
    }

    fn to_proto(&self) -> v1::Constant {
        v1::Constant { warmup_steps: self.warmup_steps }
    }
}

impl Curve for Constant {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, _: u64, _: u64) -> f64 {
        1.0
    }
}
