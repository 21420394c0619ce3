//! The Kullback-Leibler divergence of log-probabilities from distributions.

use super::{Answer, Misfit, Objective, fits_numbers};
use crate::dataset::Field;
use crate::job::spec::metric::Metric;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KlDivergence;

impl Section for KlDivergence {
    type Message = v1::KlDivergence;
    const NAME: &str = "kl_divergence";

    fn read(_: &v1::KlDivergence, fields: Fields<'_>) -> Option<Self> {
        fields.done(Self)
    }

    fn to_proto(&self) -> v1::KlDivergence {
        v1::KlDivergence {}
    }
}

impl Objective for KlDivergence {
    fn outputs(&self, target: &Field) -> Option<u64> {
        Some(target.values())
    }

    fn metric(&self) -> Option<Metric> {
        None
    }

    fn fits(&self, output: &[u64], target: &Field, _: &str) -> Result<Answer, Misfit> {
        fits_numbers(output, target)?;
        if target.range.is_some_and(|range| range.lowest < 0) {
            return Err(Misfit::Target("holds a number below 0; a distribution has none".into()));
        }
        Ok(Answer::Shares)
    }
}
