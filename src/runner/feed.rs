//! Batches of examples: bytes from a source, in the order of an epoch, as tensors on the device.

use tch::{Device, Kind, TchError, Tensor};
use torchd::dataset::{Dtype, Facts, Field, HostBatch, Moments, Preparation, Source};
use torchd::job::spec::data::Normalize;
use torchd::proto::v1::JobEndReason;

use crate::failure::{Failure, Result};

/// A set of examples, and the way to a device.
pub(crate) struct Feed {
    source: Box<dyn Source>,
    /// How values of each input become those of the network: mean and deviation.
    normalize: Vec<Option<(Tensor, Tensor)>>,
    device: Device,
    /// The inputs in the network's order: that of an input of the set, or None for its target.
    places: Vec<Option<usize>>,
    /// Reused from batch to batch.
    bytes: HostBatch,
}

/// Some examples, ready for a network.
pub(crate) struct Batch {
    /// The inputs of the network in its order, `[size, ...]`: 32-bit floats or 64-bit integers.
    pub(crate) inputs: Vec<Tensor>,
    /// `[size, ...]`, of the same types.
    pub(crate) targets: Tensor,
    pub(crate) size: i64,
}

impl Batch {
    /// So many examples from one on.
    pub(crate) fn part(&self, start: i64, size: i64) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, start, size);
        let inputs = self.inputs.iter().map(part).collect::<std::result::Result<_, _>>()?;
        Ok(Self { inputs, targets: part(&self.targets)?, size })
    }
}

impl Feed {
    /// The batches of a source. `places` are the inputs in the network's order: those of inputs of
    /// the set, or None for its target.
    pub(crate) fn new(
        source: Box<dyn Source>,
        normalize: Option<&Normalize>,
        preparation: &Preparation,
        places: Vec<Option<usize>>,
        device: Device,
    ) -> Result<Self> {
        let of = |field: &Field| -> Result<Option<(Tensor, Tensor)>> {
            if field.normalized().is_none() {
                return Ok(None);
            }
            let (mean, std) = match normalize {
                None => return Ok(None),
                Some(Normalize::By { mean, std }) => (mean, std),
                Some(Normalize::Measured) => match preparation.moments.get(&field.name) {
                    Some(Moments { mean, std }) => (mean, std),
                    None => return Ok(None),
                },
            };
            // One number a channel, spread over its pixels, or one for each of a row.
            let shape: &[i64] = if field.shape.len() == 1 { &[-1] } else { &[-1, 1, 1] };
            let spread = |values: &[f64], default: f64| -> std::result::Result<_, TchError> {
                let values = if values.is_empty() { &[default][..] } else { values };
                let values = Tensor::f_from_slice(values)?.f_to_kind(Kind::Float)?;
                values.f_view(shape)?.f_to_device(device)
            };
            Ok(Some((spread(mean, 0.0)?, spread(std, 1.0)?)))
        };
        let normalize = source.facts().inputs.iter().map(of).collect::<Result<_>>()?;
        Ok(Self { source, normalize, device, places, bytes: HostBatch::default() })
    }

    /// The facts of the set.
    pub(crate) fn facts(&self) -> &Facts {
        self.source.facts()
    }

    /// The examples of these places.
    pub(crate) fn batch(&mut self, places: &[u64]) -> Result<Batch> {
        let bad = |problem: torchd::dataset::Problem| Failure::new(JobEndReason::BadData, problem.what);
        self.source.fill(places, &mut self.bytes).map_err(bad)?;
        let facts = self.source.facts();
        let inputs = facts.inputs.iter().zip(&self.bytes.inputs).zip(&self.normalize);
        let inputs = inputs.map(|((field, bytes), normalize)| {
            let values = self.tensor(field, bytes, places.len())?;
            Ok(match normalize {
                Some((mean, std)) => values.f_sub(mean)?.f_div(std)?,
                None => values,
            })
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let targets = self.tensor(&facts.target, &self.bytes.targets, places.len())?;
        let arranged = self.places.iter().map(|place| place.map_or(&targets, |place| &inputs[place]).shallow_clone());
        let inputs = arranged.collect();
        Ok(Batch { inputs, targets, size: places.len() as i64 })
    }

    fn tensor(&self, field: &Field, bytes: &[u8], examples: usize) -> Result<Tensor> {
        let shape: Vec<i64> = [examples as u64].iter().chain(&field.shape).map(|&size| size as i64).collect();
        let kind = match field.dtype {
            Dtype::Pixel => Kind::Uint8,
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
        };
        let values = Tensor::f_from_data_size(bytes, &shape, kind)?.f_to_device(self.device)?;
        if field.dtype != Dtype::Pixel {
            return Ok(values);
        }
        Ok(values.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?)
    }
}

#[cfg(test)]
mod tests {
    use torchd::dataset::{DataFile, Files, OpenFiles, Selection, Sets, named_arrays};

    use super::*;

    #[test]
    fn examples_come_in_any_order_with_their_types_and_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("set.safetensors");
        let tensors = [
            ("x", Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([3, 2])),
            ("y", Tensor::from_slice(&[7i64, 8, 9])),
        ];
        Tensor::write_safetensors(&tensors, &path).unwrap();
        let files = named_arrays::Files { path: path.clone(), inputs: vec![], target: "y".into() };
        let selection = Selection { measure: true, ..Selection::of(Files::Safetensors(files)) };
        let opened = OpenFiles::of([DataFile::open(&path).unwrap()]);
        let Sets { train, preparation, .. } = selection.open(&opened, None).ok().unwrap();
        let mut feed = Feed::new(train, None, &preparation, vec![Some(0)], Device::Cpu).unwrap();
        let batch = feed.batch(&[2, 0]).unwrap();
        assert_eq!(batch.inputs[0], Tensor::from_slice(&[5f32, 6.0, 1.0, 2.0]).view([2, 2]));
        assert_eq!((batch.targets, batch.size), (Tensor::from_slice(&[9i64, 7]), 2));
        let (train, normalize) = (selection.open(&opened, None).ok().unwrap().train, Normalize::Measured);
        let mut feed = Feed::new(train, Some(&normalize), &preparation, vec![Some(0)], Device::Cpu).unwrap();
        let inputs = &feed.batch(&[0, 1, 2]).unwrap().inputs[0];
        let deviation = (8.0f32 / 3.0).sqrt();
        let expected = Tensor::from_slice(&[-2f32, -2.0, 0.0, 0.0, 2.0, 2.0]).view([3, 2]) / f64::from(deviation);
        assert!(inputs.allclose(&expected, 1e-6, 1e-6, false), "{inputs}");
    }
}
