//! A set that is held on a device as a whole, in the types of its files.

use tch::{Device, Tensor};
use torchd::dataset::{HostBatch, Source};

use super::{kind, moved, on_device, pass, shape};
use crate::failure::Result;

/// Bytes that are copied to the device at a time.
const PART_BYTES: u64 = 16 << 20;

/// The columns of a set.
pub(super) struct Held {
    /// `[examples, ...]` each: the inputs, and the target.
    columns: Vec<Tensor>,
    device: Device,
}

impl Held {
    /// Copies a set to a device.
    pub(super) fn of(source: &dyn Source, device: Device) -> Result<Self> {
        let facts = source.facts();
        let empty = |field| Ok(Tensor::f_empty(shape(field, facts.examples), (kind(field), device))?);
        let columns = facts.fields().map(empty).collect::<Result<Vec<_>>>()?;
        let part = (PART_BYTES / facts.example_bytes().max(1)).max(1);
        let mut batch = HostBatch::default();
        for begin in (0..facts.examples).step_by(part as usize) {
            let places: Vec<u64> = (begin..facts.examples.min(begin + part)).collect();
            pass::read_batch(source, &places, &mut batch)?;
            let count = places.len() as u64;
            let bytes = batch.inputs.iter().chain([&batch.targets]);
            for ((field, column), bytes) in facts.fields().zip(&columns).zip(bytes) {
                let values = on_device(field, bytes, count, device)?;
                column.f_narrow(0, begin as i64, count as i64)?.f_copy_(&values)?;
            }
        }
        Ok(Self { columns, device })
    }

    /// The values of the examples of these places: the inputs, and the target.
    pub(super) fn select(&self, places: &[u64]) -> Result<Vec<Tensor>> {
        let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let places = moved(&Tensor::f_from_slice(&places)?, self.device)?;
        Ok(self
            .columns
            .iter()
            .map(|column| column.f_index_select(0, &places))
            .collect::<std::result::Result<_, _>>()?)
    }
}
