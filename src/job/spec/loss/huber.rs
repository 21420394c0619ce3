//! The Huber loss: squared for small differences, absolute for large ones.

use super::{Answer, Misfit, Objective, fits_numbers};
use crate::dataset::Field;
use crate::job::spec::metric::{Mae, Metric};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Huber {
    /// The difference at which it changes from one to the other.
    pub delta: f64,
}

impl Section for Huber {
    type Message = v1::Huber;
    const NAME: &str = "huber";

    fn read(message: &v1::Huber, mut fields: Fields<'_>) -> Option<Self> {
        let delta = fields.positive("delta", message.delta.unwrap_or(1.0));
        fields.done(Self { delta })
    }

    fn to_proto(&self) -> v1::Huber {
        v1::Huber { delta: Some(self.delta) }
    }
}

impl Objective for Huber {
    fn outputs(&self, target: &Field) -> Option<u64> {
        Some(target.values())
    }

    fn metric(&self) -> Option<Metric> {
        Some(Metric::Mae(Mae))
    }

    fn fits(&self, output: &[u64], target: &Field, _: &str) -> Result<Answer, Misfit> {
        fits_numbers(output, target)
    }
}
