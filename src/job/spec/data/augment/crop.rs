//! Images that are padded and cut at a random place.

use super::{Change, image, needs_images, needs_still_targets, read_value};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Pixels on each side.
    pub padding: u32,
    /// The value of pixels that are padded, before normalisation.
    pub fill: f64,
}

impl Section for Crop {
    type Message = v1::Crop;
    const NAME: &str = "crop";

    fn read(message: &v1::Crop, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Crop { padding, fill } = *message;
        fields.demand_given("padding", padding > 0, padding, "at least 1");
        let fill = read_value("fill", fill, &mut fields);
        fields.done(Self { padding, fill })
    }

    fn to_proto(&self) -> v1::Crop {
        let Self { padding, fill } = *self;
        v1::Crop { padding, fill }
    }
}

impl Change for Crop {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        needs_images(train, fields);
        needs_still_targets(train, fields);
        let shape = image(train).ok().map(|place| &train.inputs[place].shape[..]);
        if let Some(&[_, height, width]) = shape
            && u64::from(self.padding) >= height.min(width)
        {
            let found = format!("is {}, and the images are {height}x{width}", self.padding);
            fields.wrong("padding", format!("{found}; less than {} is right", height.min(width)));
        }
    }
}
