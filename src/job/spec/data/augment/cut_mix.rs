//! Images whose rectangles are replaced by those of others of the batch.

use super::{Change, needs_images, read_alpha};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CutMix {
    /// The parameter of the Beta distribution of shares.
    pub alpha: f64,
}

impl Section for CutMix {
    type Message = v1::CutMix;
    const NAME: &str = "cut_mix";

    fn read(message: &v1::CutMix, mut fields: Fields<'_>) -> Option<Self> {
        let alpha = read_alpha(message.alpha, &mut fields);
        fields.done(Self { alpha })
    }

    fn to_proto(&self) -> v1::CutMix {
        v1::CutMix { alpha: Some(self.alpha) }
    }
}

impl Change for CutMix {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        needs_images(train, fields);
        if let [_, other, ..] = &train.inputs[..] {
            let what = format!("exchanges parts of one input, and there is {:?} as well", other.name);
            fields.wrong_itself(format!("{what}; leave it out"));
        }
    }

    fn mixes(&self) -> bool {
        true
    }
}
