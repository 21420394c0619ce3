//! The examples as tensors. They are held as bytes, drawn by index, and become numbers a batch at a
//! time: no per-sample loop, and a quarter of the memory.

use tch::{Device, Kind, TchError, Tensor};
use torchd::dataset::LabelledImages;
use torchd::job::spec::Data;

/// A set of examples on a device.
pub(crate) struct Examples {
    /// `[count, 1, height, width]`, bytes.
    images: Tensor,
    /// `[count]`, 64-bit integers.
    labels: Tensor,
    count: i64,
    mean: f64,
    std: f64,
}

/// Some examples, ready for a network.
pub(crate) struct Batch {
    /// `[size, 1, height, width]`, normalised.
    pub(crate) images: Tensor,
    /// `[size]`.
    pub(crate) labels: Tensor,
    pub(crate) size: i64,
}

impl Examples {
    /// Moves a set to a device.
    pub(crate) fn new(set: &LabelledImages, data: &Data, device: Device) -> Result<Self, TchError> {
        let count = set.facts.examples as i64;
        let shape = [count, 1, i64::from(set.facts.height), i64::from(set.facts.width)];
        let images = Tensor::f_from_slice(&set.images)?.f_view(shape)?.f_to_device(device)?;
        let labels = Tensor::f_from_slice(&set.labels)?.f_to_kind(Kind::Int64)?.f_to_device(device)?;
        Ok(Self { images, labels, count, mean: data.mean, std: data.std })
    }

    /// Examples in the set.
    pub(crate) fn count(&self) -> i64 {
        self.count
    }

    /// The examples of those places, an index tensor on the same device.
    pub(crate) fn at(&self, places: &Tensor) -> Result<Batch, TchError> {
        self.batch(self.images.f_index_select(0, places)?, self.labels.f_index_select(0, places)?)
    }

    /// Examples in the order of the files.
    pub(crate) fn range(&self, start: i64, size: i64) -> Result<Batch, TchError> {
        let size = size.min(self.count - start);
        self.batch(self.images.f_narrow(0, start, size)?, self.labels.f_narrow(0, start, size)?)
    }

    fn batch(&self, images: Tensor, labels: Tensor) -> Result<Batch, TchError> {
        let scaled = images.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
        let images = scaled.f_sub_scalar(self.mean)?.f_div_scalar(self.std)?;
        Ok(Batch { size: images.size()[0], images, labels })
    }
}
