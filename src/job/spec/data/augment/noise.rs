//! Inputs to which noise is added.

use super::{Change, is_numbers};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The standard deviation, after normalisation.
    pub std: f64,
}

impl Section for Noise {
    type Message = v1::Noise;
    const NAME: &str = "noise";

    fn read(message: &v1::Noise, mut fields: Fields<'_>) -> Option<Self> {
        let std = message.std;
        let is_right = std > 0.0 && (std as f32).is_finite();
        fields.demand_given("std", is_right, std, "a finite number of 32 bits above 0");
        fields.done(Self { std })
    }

    fn to_proto(&self) -> v1::Noise {
        v1::Noise { std: self.std }
    }
}

impl Change for Noise {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        if !train.inputs.iter().any(is_numbers) {
            fields.wrong_itself("needs an input of numbers, and all inputs are classes or tokens; leave it out");
        }
    }
}
