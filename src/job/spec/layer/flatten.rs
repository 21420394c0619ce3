//! Several dimensions in a row.

use super::{Flow, Refusal, Rules, dimension};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings: 0 is the dimension of the examples, and negative ones count from the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flatten {
    /// The first dimension.
    pub start_dim: i32,
    /// The last one.
    pub end_dim: i32,
}

impl Default for Flatten {
    fn default() -> Self {
        Self { start_dim: 1, end_dim: -1 }
    }
}

impl Section for Flatten {
    type Message = v1::Flatten;
    const NAME: &str = "flatten";

    fn read(message: &v1::Flatten, fields: Fields<'_>) -> Option<Self> {
        let default = Self::default();
        let start_dim = message.start_dim.unwrap_or(default.start_dim);
        fields.done(Self { start_dim, end_dim: message.end_dim.unwrap_or(default.end_dim) })
    }

    fn to_proto(&self) -> v1::Flatten {
        v1::Flatten { start_dim: Some(self.start_dim), end_dim: Some(self.end_dim) }
    }
}

impl Rules for Flatten {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        let Flow { shape, values } = input;
        // A single number is a row of one.
        if shape.is_empty() && *self == Self::default() {
            return Ok(Flow { shape: vec![1], values: *values });
        }
        let [first, last] = [self.start_dim, self.end_dim].map(|dim| dimension(dim, shape.len()));
        let ends = first.zip(last).filter(|(first, last)| first <= last);
        let takes = || format!("examples with the dimensions {} to {}", self.start_dim, self.end_dim);
        let (first, last) = ends.ok_or_else(|| Refusal::Takes(takes()))?;
        let row = shape[first..=last].iter().fold(1, |product: u64, size| product.saturating_mul(*size));
        Ok(Flow { shape: [&shape[..first], &[row], &shape[last + 1..]].concat(), values: *values })
    }
}
