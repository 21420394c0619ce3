//! The training loop: passes over the training set, a validation pass after each, scalars on the
//! way, checkpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tch::{Device, Tensor};
use torchd::dataset::Preparation;
use torchd::fault;
use torchd::gpu::Meter;
use torchd::job::length::{Place, Plan};
use torchd::job::spec::loss::Answer;
use torchd::job::spec::{LrRange as LrRangeSettings, Mode as Purpose, ModelWork};
use torchd::journal::{Context, JobFolder, Manifest, TrainedOn};
use torchd::proto::v1::JobEndReason;
use torchd::tensor_file::Values;

use crate::augment::Augmentation;
use crate::average::Average;
use crate::capture::Capture;
use crate::checkpoint::{self, Saver, Snapshot};
use crate::divergence::{Restores, Skips};
use crate::early_stopping::EarlyStopping;
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Feed, Patience, Shuffle};
use crate::loss::Loss;
use crate::lr_range::LrRange;
use crate::model::Network;
use crate::optimizer::Optimizer;
use crate::precision::{Precision, Scaler};
use crate::ranks::Ranks;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::stateful::{Hidden, Stateful, Tensors};
use crate::step::Stepped;
use crate::stop::Stop;
use crate::sums::Sums;
use crate::together::Role;
use crate::validation::{self, Validated};

/// A job that is loaded.
pub(crate) struct Training {
    pub(crate) work: ModelWork,
    pub(crate) plan: Plan,
    pub(crate) folder: JobFolder,
    pub(crate) device: Device,
    pub(crate) train: Feed,
    pub(crate) validation: Option<Feed>,
    /// How the training examples are changed.
    pub(crate) augmentation: Augmentation,
    /// How values become inputs and targets, as the training set taught it.
    pub(crate) preparation: Preparation,
    pub(crate) network: Box<dyn Network>,
    /// Steps as CUDA graphs, where they are wanted and can be.
    pub(crate) capture: Option<Capture>,
    /// Its buffers that are no weights.
    pub(crate) hidden: Hidden,
    pub(crate) loss: Box<dyn Loss>,
    /// How outputs answer targets; None for a network that computes its loss.
    pub(crate) answer: Option<Answer>,
    /// Labels of this value are among the data, and do not count.
    pub(crate) ignored: Option<i64>,
    pub(crate) optimizer: Optimizer,
    /// The type that the network is computed in.
    pub(crate) precision: Precision,
    /// The factor of its losses, where its numbers are short.
    pub(crate) scaler: Option<Scaler>,
    /// The average of its weights.
    pub(crate) average: Option<Average>,
    pub(crate) early_stopping: Option<EarlyStopping>,
    /// Steps that changed nothing, where there may be any.
    pub(crate) skips: Option<Skips>,
    /// Checkpoints that came back, where they may.
    pub(crate) restores: Option<Restores>,
    /// The losses of a job that looks for a learning rate.
    pub(crate) lr_range: Option<LrRange>,
    pub(crate) schedule: Schedule,
    /// How far training is.
    pub(crate) place: Place,
    /// An epoch, or a part of the last, is over, and its validation pass is not.
    pub(crate) validation_due: bool,
    /// The sums behind the next scalars.
    pub(crate) sums: Sums,
    pub(crate) attempt: u32,
    /// The machine and the libraries, on which the numbers depend besides the spec.
    pub(crate) context: Context,
    /// The other ranks that train it; None where this process does so alone.
    pub(crate) ranks: Option<Ranks>,
    /// The data, which a later attempt compares with its own.
    pub(crate) trained_on: TrainedOn,
    /// The GPU's number, and what reads it.
    pub(crate) meter: Option<(u32, Meter)>,
}

/// The end of training that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// There is nothing left to do, for this reason.
    Complete(String),
    /// After the step in hand, because we were asked to.
    Stopped,
}

impl Training {
    /// Trains to the end, or until we are asked to stop.
    pub(crate) fn run(&mut self, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<Finish> {
        let finish = loop {
            match self.steps(report, saver, stop) {
                Ok(finish) => break Ok(finish),
                Err(failure) => match self.bring_back(failure, report, saver) {
                    Ok(()) => {}
                    Err(failure) => break Err(failure),
                },
            }
        };
        let step = self.place.step;
        // A checkpoint that is being written counts, also where training has failed since.
        let saved = saver.finish(|waited| report.waits_for_checkpoint(step, waited));
        let told = saved.and_then(|saved| saved.into_iter().try_for_each(|saved| report.checkpoint(saved)));
        let finish = finish?;
        told?;
        match finish {
            Finish::Complete(words) => self.finish(words).map(Finish::Complete),
            Finish::Stopped => Ok(Finish::Stopped),
        }
    }

    /// Saves the result. The end of the job, in words.
    fn finish(&mut self, mut words: String) -> Result<String> {
        fault::point("trained");
        if !self.leads() {
            return Ok(words);
        }
        if let Some(range) = &self.lr_range {
            return Ok(format!("{words}; {}", range.proposal()));
        }
        if self.work.recipe.restores_best {
            let by = self.work.checkpoints.keep_best.and_then(|best| best.by);
            if let (Some(by), Some(loaded)) = (by, checkpoint::best_good(&self.folder, by)?) {
                let (step, value) = (loaded.manifest.place.step, loaded.manifest.metrics.get(&by.tag()).copied());
                if let Some(value) = value {
                    words = format!("{words}; the result is that of step {step}, with the best {}, {value}", by.tag());
                    self.restore(loaded)?;
                }
            }
        }
        self.exchange_average()?;
        checkpoint::save_result(&self.folder, self.place.step, self.network.as_ref())?;
        fault::point("result-saved");
        Ok(words)
    }

    fn steps(&mut self, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<Finish> {
        if stop.is_asked() {
            return Ok(Finish::Stopped);
        }
        let begun_at = self.place.step;
        let count = self.train.facts().examples;
        let mut examples = 0;
        // Saved anew after it: the next attempt does not report the same pass again.
        if self.validation_due
            && let Some(finish) = self.end_epoch(examples, true, report, saver, stop)?
        {
            return Ok(finish);
        }
        if let Some(words) = self.early_stopping.as_ref().and_then(EarlyStopping::is_over) {
            return Ok(Finish::Complete(words));
        }
        while self.place.step < self.plan.total_steps {
            loop {
                let step = self.place.step;
                report.journal().begins(step);
                let go_on = &mut |waited| {
                    report.waits_for_data(step, waited)?;
                    Ok(!stop.is_asked())
                };
                let Some(batch) = self.next_batch(go_on)? else {
                    tracing::info!(step, "stopped while it waited for data");
                    if step != begun_at && saver.newest() != Some(step) {
                        self.save(BTreeMap::new(), report, saver)?;
                    }
                    return Ok(Finish::Stopped);
                };
                let due = (self.place.step + 1).is_multiple_of(u64::from(self.work.scalar_every_steps));
                self.sums.waited += self.train.take_waited();
                let stepped = self.train_step(&batch, due)?;
                examples += batch.size as u64;
                if due {
                    let norm = if let Stepped::Moved(norm) = stepped { norm } else { None };
                    self.tell(report, norm, examples)?;
                    if let Some(words) = self.lr_range_ends()? {
                        return Ok(Finish::Complete(words));
                    }
                    self.sums.clear()?;
                } else {
                    report.progress(self.place.step, examples)?;
                }
                fault::point("step");
                if let Some(saved) = saver.poll()? {
                    report.checkpoint(saved)?;
                }
                if self.place.step == self.plan.total_steps || self.place.examples >= count {
                    break;
                }
                let is_due =
                    self.work.checkpoints.every_steps.is_some_and(|every| self.place.step.is_multiple_of(every));
                let is_asked = stop.is_asked();
                if is_due || is_asked {
                    self.save(BTreeMap::new(), report, saver)?;
                }
                if is_asked {
                    return Ok(Finish::Stopped);
                }
            }
            let pause = Instant::now();
            // Weights that come back after a divergence go on from here.
            if self.place.examples >= count {
                self.place.epoch += 1;
                self.place.examples = 0;
            }
            self.validation_due = self.validation.is_some();
            self.judge()?;
            let finish = self.end_epoch(examples, false, report, saver, stop)?;
            self.sums.apart += pause.elapsed();
            if let Some(finish) = finish {
                return Ok(finish);
            }
        }
        Ok(Finish::Complete(match self.work.mode {
            Purpose::Train | Purpose::Evaluate | Purpose::Predict(_) => "trained to the end".into(),
            Purpose::LrRange(LrRangeSettings { steps, .. }) => format!("went through all {steps} learning rates"),
        }))
    }

    /// Takes a checkpoint of this place and hands it over to be written: every checkpoint goes this
    /// way. `Diverged` where training has.
    fn save(&self, metrics: BTreeMap<String, f64>, report: &mut Report, saver: &mut Saver) -> Result<()> {
        self.rest(report);
        // The one before is written before memory holds another.
        let step = self.place.step;
        for saved in saver.finish(|waited| report.waits_for_checkpoint(step, waited))? {
            report.checkpoint(saved)?;
        }
        report.flush()?;
        self.judge_loss()?;
        self.share_lanes(&self.sums)?;
        let weights = Snapshot::of(step, &[self.network.as_ref()])?;
        let state = Snapshot::of(step, &self.state())?;
        if self.compare(&[&weights, &state])? == Role::Follows {
            saver.leave(step);
            return Ok(());
        }
        let request = checkpoint::Request {
            weights,
            state,
            manifest: Manifest {
                place: self.place,
                attempt: self.attempt,
                time: SystemTime::now(),
                summed_examples: self.sums.examples,
                metrics,
                validation_due: self.validation_due,
                context: self.context.clone(),
                trained_on: Some(self.trained_on.clone()),
                files: Vec::new(),
            },
        };
        saver.save(request)
    }

    /// The parts that a checkpoint holds besides the weights.
    pub(crate) fn state(&self) -> [&dyn Stateful; 10] {
        let Self {
            optimizer, schedule, sums, hidden, scaler, average, early_stopping, skips, restores, lr_range, ..
        } = self;
        [optimizer, schedule, sums, hidden, scaler, average, early_stopping, skips, restores, lr_range]
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, loaded: checkpoint::Loaded) -> Result<()> {
        let checkpoint::Loaded { manifest, weights, state } = loaded;
        let judged = judge_saved(&[self.network.as_ref()], &weights).and_then(|()| judge_saved(&self.state(), &state));
        judged.map_err(|what| {
            let what = format!("{} cannot be used: {what}", JobFolder::checkpoint_name(manifest.place.step));
            Failure::new(JobEndReason::BadCheckpoint, what)
        })?;
        let Self {
            optimizer, schedule, sums, hidden, scaler, average, early_stopping, skips, restores, lr_range, ..
        } = self;
        let mut parts: [&mut dyn Stateful; 10] =
            [optimizer, schedule, sums, hidden, scaler, average, early_stopping, skips, restores, lr_range];
        let taken = take_up(&mut [self.network.as_mut()], Tensors::new(weights, 0))
            .and_then(|()| take_up(&mut parts, Tensors::new(state, manifest.summed_examples)));
        taken.map_err(|what| Failure::new(JobEndReason::BadData, format!("the checkpoint does not fit: {what}")))?;
        // The parts have taken up new tensors.
        self.capture.as_mut().map_or(Ok(()), Capture::forget)?;
        self.place = manifest.place_in(self.train.facts().examples, self.trained_on.train.shards.as_deref());
        if let Some(range) = &mut self.lr_range {
            range.cut(self.place.step);
        }
        self.validation_due = manifest.validation_due && self.validation.is_some();
        let (then, now) = (&manifest.context, &self.context);
        // Earlier versions tell the uuid of the GPU, and not its kind.
        let is_uuid = ["GPU-", "MIG-"].iter().any(|beginning| then.processor.starts_with(beginning));
        let processor = if is_uuid { &now.processor } else { &then.processor };
        if *now != (Context { processor: processor.clone(), ..then.clone() }) {
            tracing::warn!(
                "the checkpoint was made with {then:?}, and this is {now:?}: the numbers will not be the same bit for bit"
            );
        }
        Ok(())
    }

    /// The learning rate of a step, counted from 0.
    pub(crate) fn learning_rate(&self, step: u64) -> f64 {
        let share = self.restores.as_ref().map_or(1.0, Restores::rate_share);
        let rate = match &self.work.mode {
            Purpose::Train | Purpose::Evaluate | Purpose::Predict(_) => {
                self.work.optimizer.learning_rate() * self.schedule.at(step, self.plan.total_steps)
            }
            Purpose::LrRange(range) => range.rate(step),
        };
        rate * share
    }

    /// The batch of the step in hand; None where `go_on`, asked while it is waited for, says no.
    pub(crate) fn next_batch(&mut self, go_on: Patience<'_>) -> Result<Option<Batch>> {
        let Place { epoch, examples, .. } = self.place;
        let shuffle = self.work.data.shuffle.then_some(Shuffle { seed: self.work.seed, epoch });
        let size = u64::from(self.work.batch_size);
        if let Some(shards) = self.work.recipe.shards {
            return self.next_slices(shards, shuffle, examples, size, go_on);
        }
        let Some(mut examples) = self.train.examples(shuffle, examples, size, go_on)? else { return Ok(None) };
        self.augmentation.change(self.work.seed, self.place.step, &mut examples)?;
        Ok(Some(self.train.arranged(examples)))
    }

    /// Validation and checkpoint, where they are due, at the end of an epoch or of a part of the
    /// last one; `saves` makes the checkpoint due. A stop gives the validation pass up: nothing of
    /// it was told, so that the next attempt does it from its start. The end of training where it
    /// is here, with a checkpoint.
    fn end_epoch(
        &mut self,
        trained: u64,
        saves: bool,
        report: &mut Report,
        saver: &mut Saver,
        stop: &Stop,
    ) -> Result<Option<Finish>> {
        let step = self.place.step;
        let (epoch, of) = (self.place.epoch + u64::from(self.place.examples > 0), self.plan.total_epochs);
        let (mut metrics, mut is_over, mut is_best) = (BTreeMap::new(), None, false);
        if let Some(mut feed) = self.validation.take_if(|_| self.validation_due) {
            let go_on = |waits: Option<Duration>| {
                match waits {
                    // Not that the runner lives: a reader that hangs is for the daemon to see.
                    Some(waited) => report.waits_for_data(step, waited)?,
                    None => {
                        report.alive(step)?;
                        report.journal().begins(step);
                    }
                }
                Ok(!stop.is_heard())
            };
            let validated = self.validated(&mut feed, go_on);
            self.validation = Some(feed);
            let Some(Validated { loss, metrics: values, matrices }) = validated? else {
                stop.agree();
                tracing::info!(step, "epoch {epoch}/{of}: stopped before its validation was done");
                self.save(metrics, report, saver)?;
                return Ok(Some(Finish::Stopped));
            };
            let values = [("loss".to_owned(), loss)].into_iter().chain(values);
            let values: Vec<_> = values.map(|(name, value)| (format!("{name}/validation"), value)).collect();
            report.scalars(step, trained, &values)?;
            let told: Vec<_> = values.iter().map(|(tag, value)| format!("{tag} {value:.4}")).collect();
            if !loss.is_finite() {
                return Err(self.diverged(&format!("the validation loss was {loss}")));
            }
            if let Some(stopping) = &mut self.early_stopping {
                stopping.hear(&values);
                is_over = stopping.is_over();
            }
            metrics.extend(values);
            is_best = self.work.recipe.restores_best && self.is_best(&metrics, saver, report)?;
            tracing::info!(step, "epoch {epoch}/{of}: {}", told.join(", "));
            if self.leads() {
                validation::write(&self.folder, step, &matrices)?;
            }
            self.schedule.hear(&metrics, step, self.work.optimizer.learning_rate())?;
        } else {
            tracing::info!(step, "epoch {epoch}/{of}");
        }
        self.validation_due = false;
        fault::point("epoch");
        let policy = &self.work.checkpoints;
        let is_due = saves
            || is_best
            || is_over.is_some()
            || epoch.is_multiple_of(u64::from(policy.every_epochs))
            || policy.every_steps.is_some_and(|every| step.is_multiple_of(every))
            || step == self.plan.total_steps;
        // Asked once: who stops has saved.
        let is_asked = stop.is_asked();
        if is_due || is_asked {
            self.save(metrics, report, saver)?;
        }
        Ok(match is_over {
            Some(words) => Some(Finish::Complete(words)),
            None => (is_asked && step < self.plan.total_steps).then_some(Finish::Stopped),
        })
    }

    /// Whether a validation pass was better than those of all checkpoints.
    fn is_best(&self, metrics: &BTreeMap<String, f64>, saver: &mut Saver, report: &mut Report) -> Result<bool> {
        let Some(by) = self.work.checkpoints.keep_best.and_then(|best| best.by) else { return Ok(false) };
        let step = self.place.step;
        for saved in saver.finish(|waited| report.waits_for_checkpoint(step, waited))? {
            report.checkpoint(saved)?;
        }
        let best = self.known_by_first(|| checkpoint::best_value(&self.folder, by))?;
        Ok(metrics.get(&by.tag()).is_some_and(|value| best.is_none_or(|best| by.is_better(*value, best))))
    }
}

/// Refuses the tensors of a file that hold values which no part allows.
fn judge_saved(parts: &[&dyn Stateful], tensors: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
    tensors.iter().try_for_each(|(name, tensor)| {
        let may_be_infinite = parts.iter().any(|part| part.values(name) == Values::Infinite);
        checkpoint::judge(name, tensor, if may_be_infinite { Values::Infinite } else { Values::Finite })
    })
}

/// Lets parts take up the tensors of a file, all of them.
pub(crate) fn take_up(parts: &mut [&mut dyn Stateful], mut tensors: Tensors) -> std::result::Result<(), String> {
    parts.iter_mut().try_for_each(|part| part.load(&mut tensors))?;
    tensors.all_taken()
}

#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
