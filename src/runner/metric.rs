//! The metrics: each is a file in `metric/`, one in `src/job/spec/metric/`, and a line in each
//! registry.

mod accuracy;
mod mae;
mod own;

use tch::{Device, Tensor};
use torchd::job::spec::Metric as Kind;
use torchd::job::spec::loss::Classes;

use crate::failure::Result;
use crate::model::Outputs;
use crate::stateful::Stateful;

/// A metric of outputs and targets. Its sums stay on the device, so that a step on a GPU waits for
/// nothing.
pub(crate) trait Metric: Stateful {
    /// Its name before the slash of a tag.
    fn name(&self) -> &str;

    /// Takes the outputs for a batch in.
    fn add(&mut self, outputs: &Outputs, targets: &Tensor) -> Result<()>;

    /// Its value over all that was taken in.
    fn value(&self) -> Result<f64>;
}

/// A metric that has taken nothing in. Targets that are `ignored` do not count.
pub(crate) fn build(kind: Kind, ignored: Option<i64>, classes: Classes, device: Device) -> Result<Box<dyn Metric>> {
    Ok(match kind {
        Kind::Accuracy => Box::new(accuracy::Accuracy::new(classes, ignored, device)?),
        Kind::Mae => Box::new(mae::Mae::new(device)?),
    })
}

/// The metrics that a network gives by these names, which have taken nothing in.
pub(crate) fn build_own(names: &[String], device: Device) -> Result<Vec<Box<dyn Metric>>> {
    let build = |(place, name): (usize, &String)| -> Result<Box<dyn Metric>> {
        Ok(Box::new(own::Own::new(name, place, device)?))
    };
    names.iter().enumerate().map(build).collect()
}
