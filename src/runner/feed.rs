//! Batches of examples: bytes from a source, in the order of an epoch, as tensors on the device.
//!
//! The loop copies small batches of a set in memory by itself, and takes them from the device where
//! that holds the set. All others are read by threads, ahead of the loop. Which examples a batch
//! has is a function of seed, epoch and the facts of the set alone.

mod held;
mod mixed;
mod order;
mod pass;
mod read_ahead;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, TchError, Tensor};
use torchd::dataset::{Access, Chances, Dtype, Facts, Field, HostBatch, PIXEL_SCALE, Preparation, Source};
use torchd::job::spec::data::Normalize;
use torchd::proto::v1::JobEndReason;

use self::held::Held;
pub(crate) use self::order::Shuffle;
pub(crate) use self::pass::Share;
use self::pass::{At, Pass, Places};
use crate::failure::{Failure, Result};
use crate::stateful::copy;

/// Asked while the loop waits for data, with how long it has: false gives the wait up.
pub(crate) type Patience<'a> = &'a mut dyn FnMut(Duration) -> Result<bool>;

/// The mean and the deviation by which each input of a set is normalized, if it is.
pub(crate) type Normalizer = Vec<Option<(Tensor, Tensor)>>;

/// A set of examples, and the way to a device.
pub(crate) struct Feed {
    facts: Facts,
    /// The chances of the examples in a pass in random order, if they are drawn by chance.
    chances: Option<Arc<Chances>>,
    held: Holding,
    /// Threads that read, where reading takes threads. Nothing that is read depends on it.
    readers: usize,
    normalizer: Normalizer,
    device: Device,
    /// The inputs in the network's order: that of an input of the set, or None for its target.
    places: Vec<Option<usize>>,
    waited: Duration,
}

/// The place of all examples, with the pass that is in hand.
enum Holding {
    /// In files or in the memory of the host. The batch is reused.
    Host { source: Arc<dyn Source>, pass: Option<Pass>, batch: HostBatch },
    /// In the memory of the device.
    Device { held: Held, places: Option<Places> },
}

/// Some examples as a set has them: scaled and normalized.
pub(crate) struct Examples {
    /// The inputs of the set in its order, `[size, ...]`: 32-bit floats or 64-bit integers.
    pub(crate) inputs: Vec<Tensor>,
    /// `[size, ...]`, of the same types.
    pub(crate) targets: Tensor,
    pub(crate) mixed: Option<Mixed>,
}

/// The second targets of examples that were mixed with others.
pub(crate) struct Mixed {
    /// As the first ones.
    pub(crate) targets: Tensor,
    /// The shares of the first and of the second: those of all examples are the same.
    pub(crate) shares: [f64; 2],
}

/// Some examples, ready for a network.
pub(crate) struct Batch {
    /// The inputs of the network in its order, `[size, ...]`: 32-bit floats or 64-bit integers.
    pub(crate) inputs: Vec<Tensor>,
    /// `[size, ...]`, of the same types.
    pub(crate) targets: Tensor,
    pub(crate) mixed: Option<Mixed>,
    pub(crate) size: i64,
    /// Its slices by shard, where it is computed in shards; None for one without an example. Random
    /// changes are those of the slices: the batch itself has none then.
    pub(crate) slices: Vec<Option<Batch>>,
}

impl Examples {
    /// How many they are.
    pub(crate) fn size(&self) -> i64 {
        self.targets.size().first().copied().unwrap_or_default()
    }

    /// The device that holds them.
    pub(crate) fn device(&self) -> Device {
        self.targets.device()
    }

    /// So many of them from one on, which lie in memory as if they were all: the last bits of some
    /// kernels depend on where their inputs begin.
    pub(crate) fn apart(&self, start: i64, size: i64) -> Result<Self> {
        let part = self.part(start, size)?;
        if start == 0 {
            return Ok(part);
        }
        let inputs = part.inputs.iter().map(copy).collect::<std::result::Result<_, _>>()?;
        Ok(Self { inputs, targets: copy(&part.targets)?, mixed: part.mixed })
    }

    /// So many of them from one on, which share their memory.
    pub(crate) fn part(&self, start: i64, size: i64) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, start, size);
        let inputs = self.inputs.iter().map(part).collect::<std::result::Result<_, _>>()?;
        let mixed = self.mixed.as_ref().map(|mixed| mixed.part(start, size)).transpose()?;
        Ok(Self { inputs, targets: part(&self.targets)?, mixed })
    }
}

impl Mixed {
    fn part(&self, start: i64, size: i64) -> Result<Self> {
        Ok(Self { targets: self.targets.f_narrow(0, start, size)?, shares: self.shares })
    }
}

impl Batch {
    /// So many examples from one on.
    pub(crate) fn part(&self, start: i64, size: i64) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, start, size);
        let inputs = self.inputs.iter().map(part).collect::<std::result::Result<_, _>>()?;
        let mixed = self.mixed.as_ref().map(|mixed| mixed.part(start, size)).transpose()?;
        Ok(Self { inputs, targets: part(&self.targets)?, mixed, size, slices: Vec::new() })
    }
}

impl Feed {
    /// The batches of a source. `places` are the inputs in the network's order: those of inputs of
    /// the set, or None for its target. A set in memory is held on the device where it takes no
    /// more than `device_bytes` there.
    pub(crate) fn new(
        source: Box<dyn Source>,
        readers: usize,
        normalizer: Normalizer,
        places: Vec<Option<usize>>,
        device: Device,
        device_bytes: u64,
    ) -> Result<Self> {
        let (facts, chances) = (source.facts().clone(), source.chances().cloned());
        let bytes = facts.examples.saturating_mul(facts.example_bytes());
        if let Access::Shards { ends, window_bytes } = source.access() {
            tracing::info!(shards = ends.len(), window_bytes, "a set is read in shards");
        }
        let held = match source.access() {
            Access::Memory if bytes <= device_bytes => Held::of(source.as_ref(), device).map(Some),
            _ => Ok(None),
        };
        // Memory that is not there after all: the host has the set as well.
        let held = held.unwrap_or_else(|Failure { message, .. }| {
            tracing::warn!("the data stay in the memory of the host: {message}");
            None
        });
        let held = match held {
            Some(held) => Holding::Device { held, places: None },
            None => Holding::Host { source: Arc::from(source), pass: None, batch: HostBatch::default() },
        };
        Ok(Self { facts, chances, held, readers, normalizer, device, places, waited: Duration::ZERO })
    }

    /// The facts of the set.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The set, where the host has it.
    pub(crate) fn source(&self) -> Option<&Arc<dyn Source>> {
        match &self.held {
            Holding::Host { source, .. } => Some(source),
            Holding::Device { .. } => None,
        }
    }

    /// The device that batches are on.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Values of an input of the set, normalized as that is.
    pub(crate) fn normalized(&self, input: usize, values: &Tensor) -> Result<Tensor> {
        Ok(match self.normalizer.get(input).and_then(Option::as_ref) {
            Some((mean, std)) => values.f_sub(mean)?.f_div(std)?,
            None => values.shallow_clone(),
        })
    }

    /// The time in which the loop has waited for bytes, or copied them, since this was last asked.
    pub(crate) fn take_waited(&mut self) -> Duration {
        mem::take(&mut self.waited)
    }

    /// The next `size` examples of a pass, or as many as there are: `position` of its examples lie
    /// before them, and at least one has to be left. None where `go_on`, asked while readers are
    /// waited for, says no. Batches that follow each other are read ahead.
    pub(crate) fn batch(
        &mut self,
        shuffle: Option<Shuffle>,
        position: u64,
        size: u64,
        go_on: Patience<'_>,
    ) -> Result<Option<Batch>> {
        let examples = self.examples(shuffle, position, size, go_on)?;
        Ok(examples.map(|examples| self.arranged(examples)))
    }

    /// The examples of such a batch.
    pub(crate) fn examples(
        &mut self,
        shuffle: Option<Shuffle>,
        position: u64,
        size: u64,
        go_on: Patience<'_>,
    ) -> Result<Option<Examples>> {
        self.share(shuffle, position, size, Share::WHOLE, go_on)
    }

    /// The examples of a part of such a batch; one of them where that has none.
    pub(crate) fn share(
        &mut self,
        shuffle: Option<Shuffle>,
        position: u64,
        size: u64,
        share: Share,
        go_on: Patience<'_>,
    ) -> Result<Option<Examples>> {
        let at = At { shuffle, position, size, share };
        let values = match &mut self.held {
            Holding::Device { held, places } => {
                let pass = places.take().filter(|pass| pass.is_at(at));
                let mut pass = pass.unwrap_or_else(|| Places::of(&self.facts, self.chances.as_ref(), at));
                let Some(next) = pass.next() else { return Err(Failure::no_examples()) };
                *places = Some(pass);
                held.select(&next)?
            }
            Holding::Host { source, pass, batch } => {
                let begun = Instant::now();
                let size = read(source, self.readers, at, pass, batch, go_on);
                self.waited += begun.elapsed();
                let Some(size) = size? else { return Ok(None) };
                let columns = batch.inputs.iter().chain([&batch.targets]);
                let fields = self.facts.fields().zip(columns);
                fields.map(|(field, bytes)| on_device(field, bytes, size, self.device)).collect::<Result<_>>()?
            }
        };
        self.as_examples(values).map(Some)
    }

    /// The first `size` examples of the set.
    pub(crate) fn first(&mut self, size: u64) -> Result<Batch> {
        self.batch(None, 0, size, &mut |_| Ok(true))?.ok_or_else(Failure::no_examples)
    }

    /// The examples of these values, in the types of the file: the inputs of the set and its
    /// target.
    fn as_examples(&self, values: Vec<Tensor>) -> Result<Examples> {
        let values = self.facts.fields().zip(values).map(|(field, values)| network_values(field, values));
        let mut inputs = values.collect::<Result<Vec<_>>>()?;
        let targets = inputs.pop().ok_or_else(Failure::no_examples)?;
        for (place, input) in inputs.iter_mut().enumerate() {
            // In place: nobody else has the values of a batch.
            if let Some((mean, std)) = self.normalizer.get(place).and_then(Option::as_ref) {
                let _ = input.f_sub_(mean)?.f_div_(std)?;
            }
        }
        Ok(Examples { inputs, targets, mixed: None })
    }

    /// The batch of some examples.
    pub(crate) fn arranged(&self, examples: Examples) -> Batch {
        let size = examples.size();
        let Examples { inputs, targets, mixed } = examples;
        let arranged = self.places.iter().map(|place| place.map_or(&targets, |place| &inputs[place]).shallow_clone());
        Batch { inputs: arranged.collect(), targets, mixed, size, slices: Vec::new() }
    }
}

/// Values of a field as a network gets them, before they are normalized.
fn network_values(field: &Field, values: Tensor) -> Result<Tensor> {
    if field.dtype != Dtype::Pixel {
        return Ok(values);
    }
    Ok(values.f_to_kind(Kind::Float)?.f_div_scalar_(PIXEL_SCALE)?)
}

/// How values of the inputs of a set, in its order, become those of a network that has learned from
/// a set with the facts `taught`.
///
/// # Errors
/// `BadData` for an input without moments that should have been measured. Those of libtorch.
pub(crate) fn normalizer(
    facts: &Facts,
    taught: &Facts,
    normalize: Option<&Normalize>,
    preparation: &Preparation,
    device: Device,
) -> Result<Normalizer> {
    // Sets may call their inputs otherwise: that of a `.npy` file is named after the file.
    let learned = |place: usize, field: &Field| {
        let same = taught.inputs.iter().find(|other| other.name == field.name);
        same.or(taught.inputs.get(place)).map_or_else(|| field.name.clone(), |field| field.name.clone())
    };
    let of = |(place, field): (usize, &Field)| -> Result<Option<(Tensor, Tensor)>> {
        let Some((normalize, _)) = normalize.zip(field.normalized()) else { return Ok(None) };
        let name = learned(place, field);
        let Some((mean, std)) = normalize.moments(&name, preparation) else {
            let what = format!("{:?} was not measured in the training set, whose moments normalize it", field.name);
            return Err(Failure::new(JobEndReason::BadData, what));
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
    facts.inputs.iter().enumerate().map(of).collect()
}

/// Reads a batch, of the pass in hand or of a new one. How many examples it has; None where the
/// wait was given up.
fn read(
    source: &Arc<dyn Source>,
    readers: usize,
    at: At,
    pass: &mut Option<Pass>,
    batch: &mut HostBatch,
    go_on: Patience<'_>,
) -> Result<Option<u64>> {
    // One whose wait is given up, or that fails, begins anew. The readers of another pass leave
    // before those of this one come.
    let next = mem::take(pass).filter(|pass| pass.is_at(at));
    let mut next = next.map_or_else(|| Pass::begin(source, readers, at), Ok)?;
    let size = next.read(source.as_ref(), batch, go_on)?;
    *pass = Some(next).filter(|next| size.is_some() && !next.is_over());
    Ok(size)
}

/// The bytes of a field of some examples, as a tensor.
fn on_device(field: &Field, bytes: &[u8], examples: u64, device: Device) -> Result<Tensor> {
    moved(&copied(bytes, &shape(field, examples), kind(field))?, device)
}

/// A tensor of the host with these bytes. tch's own way fills it with zeros first.
fn copied(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    let values = Tensor::f_empty(shape, (kind, Device::Cpu))?;
    let (wanted, found) = (values.numel() * kind.elt_size_in_bytes(), bytes.len());
    if wanted != found {
        return Err(TchError::Shape(format!("{found} bytes are not a tensor {shape:?} of {wanted} bytes")).into());
    }
    if found > 0 {
        // SAFETY: a new tensor is contiguous, nobody else has it, and it has room for these bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), values.data_ptr().cast::<u8>(), found) };
    }
    Ok(values)
}

/// Values of the host on a device.
pub(crate) fn moved(values: &Tensor, device: Device) -> Result<Tensor> {
    if !device.is_cuda() {
        return Ok(values.f_to_device(device)?);
    }
    // Copied without waiting for it. libtorch keeps pinned memory until its copies are done, also
    // where its tensor is gone before.
    Ok(values.f_pin_memory(device)?.f_to_device_(device, values.kind(), true, false)?)
}

/// The sizes of a tensor of some examples.
fn shape(field: &Field, examples: u64) -> Vec<i64> {
    [examples].iter().chain(&field.shape).map(|&size| size as i64).collect()
}

/// The type of a field in files.
fn kind(field: &Field) -> Kind {
    match field.dtype {
        Dtype::Pixel => Kind::Uint8,
        Dtype::F32 => Kind::Float,
        Dtype::I64 => Kind::Int64,
    }
}

#[cfg(test)]
pub(crate) mod tests;
