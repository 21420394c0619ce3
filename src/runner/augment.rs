//! The random changes of training examples, whole batches at a time on the device: each is a file
//! in `augment/`, one in `src/job/spec/data/augment/`, and a line in each registry.
//!
//! Random numbers are a function of seed, step and place in the list. They are drawn on the CPU, so that
//! it is the same on every device.

mod crop;
mod cut_mix;
mod erase;
mod flip;
mod mix_up;
mod noise;

use tch::{Kind, Tensor};
use torchd::job::spec::data::augment::{self, Augment as Settings};
use torchd::proto::v1::JobEndReason;

use crate::failure::{Failure, Result};
use crate::feed::{Examples, Feed, Mixed};
use crate::seed::{Stream, derive};

/// A change of examples.
trait Change {
    /// Changes the examples of a batch. Random numbers come from the CPU's generator, which is
    /// seeded for this change and this step.
    fn change(&self, examples: &mut Examples) -> Result<()>;
}

/// The changes of a job, in their order.
pub(crate) struct Augmentation(Vec<Box<dyn Change>>);

impl Augmentation {
    /// The changes of a spec, for the examples of a feed.
    pub(crate) fn new(list: &[Settings], feed: &Feed) -> Result<Self> {
        let build = |settings: &Settings| -> Result<Box<dyn Change>> {
            let image = || {
                let unfit = |what| Failure::new(JobEndReason::BadData, format!("{} needs {what}", settings.name()));
                augment::image(feed.facts()).map_err(unfit)
            };
            Ok(match settings {
                Settings::Crop(settings) => Box::new(crop::Crop::new(*settings, image()?, feed)?),
                Settings::Flip(settings) => Box::new(flip::Flip { settings: *settings, image: image()? }),
                Settings::Erase(settings) => Box::new(erase::Erase { settings: *settings, image: image()? }),
                Settings::MixUp(settings) => Box::new(mix_up::MixUp { settings: *settings }),
                Settings::CutMix(settings) => Box::new(cut_mix::CutMix { settings: *settings, image: image()? }),
                Settings::Noise(settings) => Box::new(noise::Noise::new(*settings, feed.facts())),
            })
        };
        list.iter().map(build).collect::<Result<_>>().map(Self)
    }

    /// Changes the examples of the batch of a step, counted from 0.
    pub(crate) fn change(&self, seed: u64, step: u64, examples: &mut Examples) -> Result<()> {
        for (change, place) in self.0.iter().zip(0..) {
            tch::manual_seed(derive(seed, Stream::Change { step, place }) as i64);
            change.change(examples)?;
        }
        Ok(())
    }
}

/// The sizes of a batch of images.
struct Sizes {
    count: i64,
    channels: i64,
    height: i64,
    width: i64,
}

impl Sizes {
    fn of(images: &Tensor) -> Result<Self> {
        let (count, channels, height, width) = images.size4()?;
        Ok(Self { count, channels, height, width })
    }
}

/// So many numbers for each example, uniform from 0 to 1, as 64-bit floats: `[examples, numbers]`.
fn uniform(examples: i64, numbers: i64) -> Result<Tensor> {
    Ok(Tensor::f_rand([examples, numbers], (Kind::Double, tch::Device::Cpu))?)
}

/// A draw from Beta(alpha, alpha), as torch.distributions.Beta makes it.
fn beta(alpha: f64) -> Result<f64> {
    let parameters = Tensor::f_from_slice(&[alpha as f32; 2])?;
    Ok(parameters.f_internal_sample_dirichlet()?.f_double_value(&[0])?)
}

/// The partners of the examples of a batch, by their numbers in it.
fn partners(examples: &Examples) -> Result<Tensor> {
    Ok(Tensor::f_randperm(examples.size(), (Kind::Int64, tch::Device::Cpu))?)
}

/// Gives each example the target of its partner besides its own, which keeps that share.
fn mix_targets(examples: &mut Examples, partners: &Tensor, share: f64) -> Result<()> {
    let own = examples.targets.shallow_clone();
    let others = own.f_index_select(0, partners)?;
    let rest = 1.0 - share;
    // Metrics compare with the target of the larger share.
    let (targets, others, shares) =
        if share < rest { (others, own, [rest, share]) } else { (own, others, [share, rest]) };
    examples.targets = targets;
    examples.mixed = Some(Mixed { targets: others, shares });
    Ok(())
}

#[cfg(test)]
mod tests;
