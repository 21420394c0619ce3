//! Probabilities of scores, and their logarithms.

use super::{Flow, Refusal, Rules, dimension};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Settings of the probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    /// The dimension that sums to 1: 0 is that of the examples; from the last one where negative.
    pub dim: i32,
}

/// Settings of their logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSoftmax {
    /// As that of the probabilities.
    pub dim: i32,
}

macro_rules! along_a_dimension {
    ($($name:ident: $text:literal),+) => {
        $(
            impl Section for $name {
                type Message = v1::Softmax;
                const NAME: &str = $text;

                fn read(message: &v1::Softmax, fields: Fields<'_>) -> Option<Self> {
                    fields.done(Self { dim: message.dim.unwrap_or(1) })
                }

                fn to_proto(&self) -> v1::Softmax {
                    v1::Softmax { dim: Some(self.dim) }
                }
            }

            impl Rules for $name {
                fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
                    let rank = input.of_numbers()?.len();
                    let takes = || Refusal::takes(format!("examples with the dimension {}", self.dim));
                    dimension(self.dim, rank).map(|_| input.clone()).ok_or_else(takes)
                }
            }
        )+
    };
}
along_a_dimension!(Softmax: "softmax", LogSoftmax: "log_softmax");
