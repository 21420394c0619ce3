//! Images whose rectangles are replaced by those of others of the batch.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::data::augment::CutMix as Settings;

use super::{Change, Sizes, beta, mix_targets, partners};
use crate::failure::Result;
use crate::feed::{Examples, moved};

/// The change.
pub(super) struct CutMix {
    pub(super) settings: Settings,
    pub(super) image: usize,
}

impl Change for CutMix {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let share = beta(self.settings.alpha)?;
        let partners = moved(&partners(examples)?, examples.device())?;
        let images = &mut examples.inputs[self.image];
        let Sizes { height, width, .. } = Sizes::of(images)?;
        let half = 0.5 * (1.0 - share).sqrt();
        // A rectangle around a point, as far as it lies within the image.
        let span = |size: i64| -> Result<(i64, i64)> {
            let middle = Tensor::f_randint(size, [1], (Kind::Int64, Device::Cpu))?.f_int64_value(&[0])?;
            let reach = (half * size as f64) as i64;
            let (first, end) = ((middle - reach).max(0), (middle + reach).min(size));
            Ok((first, end - first))
        };
        let (columns, rows) = (span(width)?, span(height)?);
        let part = |images: &Tensor| images.f_narrow(2, rows.0, rows.1)?.f_narrow(3, columns.0, columns.1);
        let others = part(images)?.f_index_select(0, &partners)?;
        let changed = images.copy();
        part(&changed)?.f_copy_(&others)?;
        *images = changed;
        let share = 1.0 - (columns.1 * rows.1) as f64 / (width * height) as f64;
        mix_targets(examples, &partners, share)
    }
}
