//! Examples that are mixed with others of the batch.

use super::{Change, is_numbers, read_alpha};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixUp {
    /// The parameter of the Beta distribution of shares.
    pub alpha: f64,
}

impl Section for MixUp {
    type Message = v1::MixUp;
    const NAME: &str = "mix_up";

    fn read(message: &v1::MixUp, mut fields: Fields<'_>) -> Option<Self> {
        let alpha = read_alpha(message.alpha, &mut fields);
        fields.done(Self { alpha })
    }

    fn to_proto(&self) -> v1::MixUp {
        v1::MixUp { alpha: Some(self.alpha) }
    }
}

impl Change for MixUp {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        for field in train.inputs.iter().filter(|field| !is_numbers(field)) {
            let (name, dtype) = (&field.name, field.dtype.name());
            fields.wrong_itself(format!("mixes numbers, and the input {name:?} has {dtype}; leave it out"));
        }
    }

    fn mixes(&self) -> bool {
        true
    }
}
