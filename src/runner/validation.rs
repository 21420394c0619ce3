//! The validation pass: loss and metrics over a set that the network does not learn from.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tch::{Device, Kind, Tensor};
use torchd::fault;
use torchd::job::spec::ModelWork;
use torchd::journal::{JobFolder, write_whole};

use crate::average::Average;
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Feed, Share};
use crate::metric::{self, About, Finding, Matrix, Metric};
use crate::model::Mode;
use crate::shards::{Node, Tree, bounds, sum_of};
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

    /// Whether all metrics of validation are sums, which those of other slices can be added to.
    pub(crate) fn metrics_are_sums(&self) -> bool {
        self.work.metrics.iter().all(|metric| !metric.is_of_validation_alone())
    }

    /// The same slice by slice, each shard with sums of its own: the values depend on how many
    /// shards there are, and not on who computes which. All ranks have them.
    pub(crate) fn validate_slices(
        &mut self,
        shards: u32,
        feed: &mut Feed,
        go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    ) -> Result<Option<Validated>> {
        self.exchange_average()?;
        let validated = tch::no_grad(|| self.judge_slices(shards, feed, go_on));
        self.exchange_average()?;
        validated
    }

    fn judge_slices(
        &self,
        shards: u32,
        feed: &mut Feed,
        mut go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    ) -> Result<Option<Validated>> {
        let (own, computation) = (self.own_shards(shards), self.computation());
        let share = Share { first: own.start, end: own.end, of: shards };
        let size = u64::from(self.work.validation_batch_size.unwrap_or(self.work.batch_size));
        let lanes = (0..shards).map(|_| self.metrics(Mode::Evaluate)).collect::<Result<_>>()?;
        let mut sums = Sums::new(lanes, self.device)?;
        // Loss and weight of each shard.
        let totals = Tensor::f_zeros([i64::from(shards), 2], (Kind::Double, self.device))?;
        let count = feed.facts().examples;
        for start in (0..count).step_by(size as usize) {
            let goes_on = go_on(None)?;
            // All ranks give it up at the same batch.
            let is_over = match &self.ranks {
                Some(ranks) => ranks.any(!goes_on)?,
                None => !goes_on,
            };
            if is_over {
                return Ok(None);
            }
            fault::point("validation-batch");
            let is_alone = self.ranks.is_none();
            let wait = &mut |waited| Ok(go_on(Some(waited))? || !is_alone);
            let Some(examples) = feed.share(None, start, size, share, wait)? else { return Ok(None) };
            let size = size.min(count - start) as i64;
            let begins = bounds(size, shards, own.start).0;
            for shard in own.clone() {
                let (start, count) = bounds(size, shards, shard);
                if count == 0 {
                    continue;
                }
                let batch = feed.arranged(examples.apart(start - begins, count)?);
                let (outputs, pair, loss) = computation.run(&batch, Mode::Evaluate, Over::Sum)?;
                let told = Tensor::f_stack(
                    &[
                        loss.f_to_kind(Kind::Double)?,
                        computation.loss.weight(&batch.targets)?.f_to_kind(Kind::Double)?.f_to_device(self.device)?,
                    ],
                    0,
                )?;
                let _ = totals.f_get(i64::from(shard))?.f_add_(&told)?;
                sums.add(shard as usize, &outputs, &pair.detach())?;
            }
        }
        if let Some(ranks) = &self.ranks {
            let own_totals = totals.f_narrow(0, own.start.into(), own.len() as i64)?;
            let all = ranks.gathered(&own_totals.f_reshape([-1])?)?;
            totals.shallow_clone().f_copy_(&all.f_view([-1, 2])?)?;
        }
        self.share_lanes(&sums)?;
        let mut tree = Tree::default();
        for shard in 0..i64::from(shards) {
            let sum = Some(totals.f_get(shard)?);
            tree.push(Node { start: shard as u64, size: 1, sum }, sum_of)?;
        }
        let total = tree.whole(sum_of)?.ok_or_else(Failure::no_examples)?;
        let total = Vec::<f64>::try_from(&total)?;
        let found = sums.metrics()?;
        Ok(Some(Validated::of(total[0] / total[1], found, "validation")))
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
    let found = metrics.iter_mut().map(|metric| Ok((metric.name().to_owned(), metric.value()?)));
    Ok(Some(Validated::of(loss, found.collect::<Result<_>>()?, set)))
}

impl Validated {
    /// The values of a pass over the set of that name.
    fn of(loss: f64, found: Vec<(String, Finding)>, set: &str) -> Self {
        let mut validated = Self { loss, metrics: Vec::new(), matrices: Vec::new() };
        for (name, finding) in found {
            match finding {
                Finding::Number(number) => validated.metrics.push((name, number)),
                Finding::Matrix(matrix) => validated.matrices.push((name, matrix)),
                Finding::Nothing(why) => tracing::warn!("{name} of the {set} set is left out: {why}"),
            }
        }
        validated
    }
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
