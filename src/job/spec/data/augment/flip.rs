//! Images that are mirrored at random.

use super::{Change, needs_images, needs_still_targets};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flip {
    /// The probability of each image.
    pub p: f64,
    /// Top to bottom, in place of left to right.
    pub is_vertical: bool,
}

impl Section for Flip {
    type Message = v1::Flip;
    const NAME: &str = "flip";

    fn read(message: &v1::Flip, mut fields: Fields<'_>) -> Option<Self> {
        let p = fields.ratio("p", message.p.unwrap_or(0.5));
        fields.done(Self { p, is_vertical: message.vertical })
    }

    fn to_proto(&self) -> v1::Flip {
        v1::Flip { p: Some(self.p), vertical: self.is_vertical }
    }
}

impl Change for Flip {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        needs_images(train, fields);
        needs_still_targets(train, fields);
    }
}
