//! The validation pass: loss and metrics over a set that the network does not learn from.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tch::Device;
use torchd::fault;
use torchd::job::spec::ModelWork;
use torchd::journal::{JobFolder, write_whole};

use crate::average::Average;
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Feed};
use crate::metric::{self, About, Finding, Matrix, Metric};
use crate::model::Mode;
use crate::stateful::zero;
use crate::step::{Computation, Over};
use crate::sums::Sums;
use crate::train::Training;

/// The values of a validation pass.
pub(crate) struct Validated {
    pub(crate) loss: f64,
    /// Each with its name. One that is no finite number is not among them.
    pub(crate) metrics: Vec<(String, f64)>,
    /// Each with its name.
    pub(crate) matrices: Vec<(String, Matrix)>,
}

impl Training {
    /// Mean loss and metrics over a set, without dropout, of the averaged weights where there are
    /// any; None where `go_on` says no. It is asked before each batch, and while a batch is waited
    /// for, then with how long it has been.
    pub(crate) fn validate(
        &mut self,
        feed: &mut Feed,
        go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    ) -> Result<Option<Validated>> {
        let size = u64::from(self.work.validation_batch_size.unwrap_or(self.work.batch_size));
        let metrics = self.metrics(Mode::Evaluate)?;
        self.exchange_average()?;
        let validated = judge(self.computation(), metrics, feed, size, "validation", go_on);
        self.exchange_average()?;
        validated
    }

    /// Exchanges the weights with their average, where there is one.
    pub(crate) fn exchange_average(&mut self) -> Result<()> {
        self.average.as_mut().map_or(Ok(()), Average::exchange)
    }

    /// The sums of nothing: with metrics of each shard where steps are computed in shards.
    pub(crate) fn no_sums(&self) -> Result<Sums> {
        let lanes = 0..self.work.recipe.shards.unwrap_or(1);
        let lanes = lanes.map(|_| self.metrics(Mode::Train)).collect::<Result<_>>()?;
        Sums::new(lanes, self.device)
    }

    /// Metrics of training or of validation that have taken nothing in.
    pub(crate) fn metrics(&self, of: Mode) -> Result<Vec<Metric>> {
        let about = self.answer.map(|answer| About { answer, ignored: self.ignored, device: self.device });
        metrics(&self.work, about, of, self.device)
    }
}

/// Metrics of a job of training or of validation that have taken nothing in. `about` is None for a
/// network that computes its loss.
pub(crate) fn metrics(work: &ModelWork, about: Option<About>, of: Mode, device: Device) -> Result<Vec<Metric>> {
    let told = work.metrics.iter().filter(|metric| of == Mode::Evaluate || !metric.is_of_validation_alone());
    let of_spec = about.iter().flat_map(|about| told.clone().map(|metric| (*metric, *about)));
    let mut metrics = of_spec.map(|(metric, about)| metric::build(metric, about)).collect::<Result<Vec<_>>>()?;
    let own = work.model.own_loss().map_or(&[][..], |own| own.metrics);
    metrics.extend(metric::build_own(own, device)?);
    Ok(metrics)
}

/// Mean loss and metrics over a set, without dropout; None where `go_on` says no, as for
/// [`each_batch`]. The log calls the set by the name `set`.
pub(crate) fn judge(
    computation: Computation<'_>,
    mut metrics: Vec<Metric>,
    feed: &mut Feed,
    size: u64,
    set: &str,
    go_on: impl FnMut(Option<Duration>) -> Result<bool>,
) -> Result<Option<Validated>> {
    let (mut loss, mut weight) = (zero(feed.device())?, zero(feed.device())?);
    let is_done = each_batch(feed, size, go_on, |batch| {
        let (outputs, pair, sum) = computation.run(batch, Mode::Evaluate, Over::Sum)?;
        let _ = loss.f_add_(&sum)?;
        let _ = weight.f_add_(&computation.loss.weight(&batch.targets)?)?;
        let pair = pair.detach();
        metrics.iter_mut().try_for_each(|metric| metric.add(&outputs, &pair))
    })?;
    if !is_done {
        return Ok(None);
    }
    let loss = f64::try_from(&loss)? / f64::try_from(&weight)?;
    let mut validated = Validated { loss, metrics: Vec::new(), matrices: Vec::new() };
    for metric in &mut metrics {
        let name = metric.name().to_owned();
        match metric.value()? {
            Finding::Number(number) => validated.metrics.push((name, number)),
            Finding::Matrix(matrix) => validated.matrices.push((name, matrix)),
            Finding::Nothing(why) => tracing::warn!("{name} of the {set} set is left out: {why}"),
        }
    }
    Ok(Some(validated))
}

/// Goes over a set in its order, without gradients; false where `go_on` says no. It is asked before
/// each batch, and while a batch is waited for, then with how long it has been.
pub(crate) fn each_batch(
    feed: &mut Feed,
    size: u64,
    mut go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    mut work: impl FnMut(&Batch) -> Result<()>,
) -> Result<bool> {
    let count = feed.facts().examples;
    let mut start = 0;
    while start < count {
        if !go_on(None)? {
            return Ok(false);
        }
        fault::point("validation-batch");
        let batch = tch::no_grad(|| feed.batch(None, start, size, &mut |waited| go_on(Some(waited))))?;
        let Some(batch) = batch else { return Ok(false) };
        tch::no_grad(|| work(&batch))?;
        start += size;
    }
    Ok(true)
}

/// Writes the matrices of a pass after that step beside the results, in place of those of the pass
/// before.
pub(crate) fn write(folder: &JobFolder, step: u64, matrices: &[(String, Matrix)]) -> Result<()> {
    #[derive(Serialize)]
    struct Told<'a> {
        step: u64,
        #[serde(flatten)]
        matrix: &'a Matrix,
    }
    for (name, matrix) in matrices {
        let path = folder.artifacts().join(format!("{name}.json"));
        let json = serde_json::to_vec(&Told { step, matrix }).map_err(io::Error::from);
        let written = json.and_then(|json| write_whole(&path, &json));
        written.map_err(Failure::storage("a matrix of the validation set could not be written"))?;
        tracing::info!(step, "artifacts/{name}.json has {name} over {} targets", matrix.targets());
    }
    Ok(())
}
