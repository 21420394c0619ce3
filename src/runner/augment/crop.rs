//! Images that are padded and cut at a random place.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::data::augment::Crop as Settings;

use super::{Change, Sizes};
use crate::failure::Result;
use crate::feed::{Examples, Feed};

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
        let around = 2 * self.padding;
        // How far down and how far to the right of each padded image.
        let places = Tensor::f_randint(around + 1, [2, count], (Kind::Int64, Device::Cpu))?;
        let places = crate::feed::moved(&places, device)?;
        let sizes = [count, channels, height + around, width + around];
        let mut padded = Tensor::f_empty(sizes, (images.kind(), device))?;
        padded.f_copy_(&self.fill)?;
        padded.f_narrow(2, self.padding, height)?.f_narrow(3, self.padding, width)?.f_copy_(images)?;
        // [count, channels, places down, places to the right, height, width], without a copy.
        let windows = padded.f_unfold(2, height, 1)?.f_unfold(3, width, 1)?;
        let each = Tensor::f_arange(count, (Kind::Int64, device))?;
        *images = windows.f_index(&[Some(each), None, Some(places.f_get(0)?), Some(places.f_get(1)?)])?;
        Ok(())
    }
}
