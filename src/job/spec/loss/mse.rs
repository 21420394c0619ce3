//! The mean of squared differences.

use super::{Answer, Misfit, Objective, fits_numbers};
use crate::dataset::Field;
use crate::job::spec::metric::{Mae, Metric};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mse;

impl Section for Mse {
    type Message = v1::Mse;
    const NAME: &str = "mse";

    fn read(_: &v1::Mse, fields: Fields<'_>) -> Option<Self> {
        fields.done(Self)
    }

    fn to_proto(&self) -> v1::Mse {
        v1::Mse {}
    }
}

impl Objective for Mse {
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
