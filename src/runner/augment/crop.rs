//! Images that are padded and cut at a random place.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::data::augment::Crop as Settings;

use super::{Change, Sizes};
use crate::failure::Result;
use crate::feed::{Examples, Feed, moved};

/// The change.
pub(super) struct Crop {
    padding: i64,
    image: usize,
    /// The padded value, one for all or one a channel, `[channels, 1, 1]`.
    fill: Tensor,
}

impl Crop {
    pub(super) fn new(Settings { padding, fill }: Settings, image: usize, feed: &Feed) -> Result<Self> {
        let fill = feed.normalized(image, &Tensor::from(fill as f32).f_to_device(feed.device())?)?;
        Ok(Self { padding: padding.into(), image, fill })
    }
}

impl Change for Crop {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let device = examples.device();
        let images = &mut examples.inputs[self.image];
        let Sizes { count, channels, height, width } = Sizes::of(images)?;
        let (tall, wide) = (height + 2 * self.padding, width + 2 * self.padding);
        // How far down and how far to the right of each padded image.
        let places = Tensor::f_randint(2 * self.padding + 1, [2, count], (Kind::Int64, Device::Cpu))?;
        let places = moved(&places, device)?;
        let mut padded = Tensor::f_empty([count, channels, tall, wide], (images.kind(), device))?;
        padded.f_copy_(&self.fill)?;
        padded.f_narrow(2, self.padding, height)?.f_narrow(3, self.padding, width)?.f_copy_(images)?;
        // Each row of an image is a run of the pixels that lie in memory, from its first one on:
        // rows are copied as a whole, which a selection by rows and columns would not do.
        let steps = |size: i64, step: i64| Tensor::f_arange(size, (Kind::Int64, device))?.f_mul_scalar(step);
        let corners = places.f_get(0)?.f_mul_scalar(wide)?.f_add(&places.f_get(1)?)?;
        let corners = corners.f_add(&steps(count, channels * tall * wide)?)?.f_view([-1, 1, 1])?;
        let channel = steps(channels, tall * wide)?.f_view([1, -1, 1])?;
        let firsts = corners.f_add(&channel)?.f_add(&steps(height, wide)?)?.f_view([-1])?;
        let rows = padded.f_view([-1])?.f_unfold(0, width, 1)?.f_index_select(0, &firsts)?;
        *images = rows.f_view([count, channels, height, width])?;
        Ok(())
    }
}
