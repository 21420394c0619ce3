//! Images of which a rectangle is overwritten.

use super::{Change, needs_images, read_value};
use crate::dataset::Facts;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Erase {
    /// The probability of each image.
    pub p: f64,
    /// The smallest and the largest share of the image.
    pub area: (f64, f64),
    /// The smallest and the largest ratio of height to width.
    pub ratio: (f64, f64),
    /// The value of the pixels, after normalisation.
    pub value: f64,
}

impl Section for Erase {
    type Message = v1::Erase;
    const NAME: &str = "erase";

    fn read(message: &v1::Erase, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Erase { p, min_area, max_area, min_ratio, max_ratio, value } = *message;
        let p = fields.ratio("p", p.unwrap_or(0.5));
        let least = fields.factor("min_area", min_area.unwrap_or(0.02));
        let most = max_area.unwrap_or(0.33);
        fields.demand("max_area", most >= least && most <= 1.0, most, &format!("{least} to 1"));
        let flattest = fields.positive("min_ratio", min_ratio.unwrap_or(0.3));
        let highest = max_ratio.unwrap_or(3.3);
        let is_right = highest.is_finite() && highest >= flattest;
        fields.demand("max_ratio", is_right, highest, &format!("a finite number of at least {flattest}"));
        let value = read_value("value", value, &mut fields);
        fields.done(Self { p, area: (least, most), ratio: (flattest, highest), value })
    }

    fn to_proto(&self) -> v1::Erase {
        let Self { p, area, ratio, value } = *self;
        v1::Erase {
            p: Some(p),
            min_area: Some(area.0),
            max_area: Some(area.1),
            min_ratio: Some(ratio.0),
            max_ratio: Some(ratio.1),
            value,
        }
    }
}

impl Change for Erase {
    fn judge(&self, train: &Facts, fields: &mut Fields<'_>) {
        needs_images(train, fields);
    }
}
