//! Dropout of numbers, and of whole channels of images.

use super::{Flow, Refusal, Rules};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings. With one dimension it drops numbers, with two whole channels of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout<const DIMENSIONS: usize> {
    /// The probability of each.
    pub p: f64,
}

impl<const DIMENSIONS: usize> Section for Dropout<DIMENSIONS> {
    type Message = v1::Dropout;
    const NAME: &str = if DIMENSIONS == 1 { "dropout" } else { "dropout2d" };

    fn read(message: &v1::Dropout, mut fields: Fields<'_>) -> Option<Self> {
        let p = fields.probability("p", message.p.unwrap_or(0.5));
        fields.done(Self { p })
    }

    fn to_proto(&self) -> v1::Dropout {
        v1::Dropout { p: Some(self.p) }
    }
}

impl<const DIMENSIONS: usize> Rules for Dropout<DIMENSIONS> {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        if DIMENSIONS == 2 {
            input.of_channels::<2>()?;
        }
        input.of_numbers().map(Flow::numbers)
    }
}
