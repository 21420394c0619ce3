//! The training loop: passes over the training set, a validation pass after each, scalars on the
//! way, checkpoints.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use tch::{Device, Reduction, TchError, Tensor};
use torchd::fault;
use torchd::gpu::Meter;
use torchd::job::length::{Place, Plan};
use torchd::job::spec::loss::Answer;
use torchd::job::spec::{Clip, Spec};
use torchd::journal::{Context, JobFolder, Manifest, TrainedOn};
use torchd::proto::v1::JobEndReason;

use crate::checkpoint::{self, Saver, Snapshot};
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Feed};
use crate::loss::Loss;
use crate::model::{Mode, Network};
use crate::optimizer::{Optimizer, clip_norm, clip_value, gradient_norm};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::seed::{Stream, derive, shuffled};
use crate::stateful::{Hidden, Stateful, Tensors};
use crate::stop::Stop;
use crate::sums::Sums;
use crate::validation::Validated;

/// A job that is loaded.
pub(crate) struct Training {
    pub(crate) spec: Spec,
    pub(crate) plan: Plan,
    pub(crate) folder: JobFolder,
    pub(crate) device: Device,
    pub(crate) train: Feed,
    pub(crate) validation: Option<Feed>,
    pub(crate) network: Box<dyn Network>,
    /// Its buffers that are no weights.
    pub(crate) hidden: Hidden,
    pub(crate) loss: Box<dyn Loss>,
    /// How outputs answer targets; None for a network that computes its loss.
    pub(crate) answer: Option<Answer>,
    /// Labels of this value are among the data, and do not count.
    pub(crate) ignored: Option<i64>,
    pub(crate) optimizer: Optimizer,
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
    /// The data, which a later attempt compares with its own.
    pub(crate) trained_on: TrainedOn,
    /// The GPU's number, and what reads it.
    pub(crate) meter: Option<(u32, Meter)>,
}

/// How training ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// After the last step.
    Complete,
    /// After the step in hand, because we were asked to.
    Stopped,
}

impl Training {
    /// Trains to the end, or until we are asked to stop.
    pub(crate) fn run(&mut self, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<Finish> {
        let finish = self.steps(report, saver, stop);
        let step = self.place.step;
        // A checkpoint that is being written counts, also where training has failed since.
        let saved = saver.finish(|waited| report.waits_for_checkpoint(step, waited));
        let told = saved.and_then(|saved| saved.into_iter().try_for_each(|saved| report.checkpoint(saved)));
        let finish = finish?;
        told?;
        if finish == Finish::Complete {
            fault::point("trained");
            checkpoint::save_result(&self.folder, self.place.step, self.network.as_ref())?;
            fault::point("result-saved");
        }
        Ok(finish)
    }

    fn steps(&mut self, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<Finish> {
        if stop.is_asked() {
            return Ok(Finish::Stopped);
        }
        let count = self.train.facts().examples;
        let batch_size = u64::from(self.spec.batch_size);
        let mut examples = 0;
        // Saved anew after it: the next attempt does not report the same pass again.
        if self.validation_due && self.end_epoch(examples, true, report, saver, stop)? {
            return Ok(Finish::Stopped);
        }
        while self.place.step < self.plan.total_steps {
            let order = self.order(self.place.epoch);
            loop {
                report.journal().begins(self.place.step);
                let start = self.place.examples;
                let places = start as usize..count.min(start + batch_size) as usize;
                let batch = self.train.batch(&order[places])?;
                let due = (self.place.step + 1).is_multiple_of(u64::from(self.spec.scalar_every_steps));
                let norm = self.train_step(&batch, due)?;
                examples += batch.size as u64;
                match norm {
                    Some(norm) => {
                        self.tell(report, norm, examples)?;
                        self.sums = Sums::new(self.metrics()?, self.device)?;
                    }
                    None => report.progress(self.place.step, examples)?,
                }
                fault::point("step");
                if let Some(saved) = saver.poll()? {
                    report.checkpoint(saved)?;
                }
                if self.place.step == self.plan.total_steps || self.place.examples >= count {
                    break;
                }
                let is_due =
                    self.spec.checkpoints.every_steps.is_some_and(|every| self.place.step.is_multiple_of(every));
                let is_asked = stop.is_asked();
                if is_due || is_asked {
                    self.save(BTreeMap::new(), report, saver)?;
                }
                if is_asked {
                    return Ok(Finish::Stopped);
                }
            }
            let pause = Instant::now();
            self.judge()?;
            if self.place.examples >= count {
                self.place.epoch += 1;
                self.place.examples = 0;
            }
            self.validation_due = self.validation.is_some();
            let stops = self.end_epoch(examples, false, report, saver, stop)?;
            self.sums.apart += pause.elapsed();
            if stops {
                return Ok(Finish::Stopped);
            }
        }
        Ok(Finish::Complete)
    }

    /// Takes a checkpoint of this place and hands it over to be written: every checkpoint goes this
    /// way. `Diverged` where training has.
    fn save(&self, metrics: BTreeMap<String, f64>, report: &mut Report, saver: &mut Saver) -> Result<()> {
        report.journal().rests();
        // The one before is written before memory holds another.
        let step = self.place.step;
        for saved in saver.finish(|waited| report.waits_for_checkpoint(step, waited))? {
            report.checkpoint(saved)?;
        }
        report.flush()?;
        self.judge_loss()?;
        let weights = Snapshot::of(step, &[self.network.as_ref()])?;
        let state = Snapshot::of(step, &self.state())?;
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
    fn state(&self) -> [&dyn Stateful; 4] {
        [&self.optimizer, &self.sums, &self.hidden, &self.schedule]
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, loaded: checkpoint::Loaded) -> Result<()> {
        let checkpoint::Loaded { manifest, weights, state } = loaded;
        let mut parts: [&mut dyn Stateful; 4] =
            [&mut self.optimizer, &mut self.sums, &mut self.hidden, &mut self.schedule];
        let taken = take_up(&mut [self.network.as_mut()], Tensors::new(weights, 0))
            .and_then(|()| take_up(&mut parts, Tensors::new(state, manifest.summed_examples)));
        taken.map_err(|what| Failure::new(JobEndReason::BadData, format!("the checkpoint does not fit: {what}")))?;
        self.place = manifest.place;
        self.validation_due = manifest.validation_due && self.validation.is_some();
        if manifest.context != self.context {
            let (then, now) = (&manifest.context, &self.context);
            tracing::warn!(
                "the checkpoint was made with {then:?}, and this is {now:?}: the numbers will not be the same bit for bit"
            );
        }
        Ok(())
    }

    /// One optimizer step; the norm of the gradients, before they are clipped, where it is wanted.
    pub(crate) fn train_step(&mut self, batch: &Batch, want_norm: bool) -> Result<Option<f64>> {
        tch::manual_seed(derive(self.spec.seed, Stream::Step(self.place.step)) as i64);
        let outputs = self.network.forward(batch, Mode::Train)?;
        let pair = self.loss.arrange(&outputs.output, &batch.targets)?;
        let loss = self.loss.reduced(&pair, Reduction::Mean)?;
        let trained = self.optimizer.trained();
        let gradients = Tensor::f_run_backward(&[&loss], trained, false, false)?;
        let laid_out = trained.iter().zip(gradients).map(|(parameter, gradient)| {
            // The loss need not depend on every parameter.
            gradient.defined().then(|| laid_out_like(parameter, gradient)).transpose()
        });
        let mut gradients = laid_out.collect::<std::result::Result<Vec<_>, _>>()?;
        let clip = self.spec.clip;
        let needs_norm = want_norm || matches!(clip, Some(Clip::Norm(_)));
        let norm = if needs_norm { Some(gradient_norm(&gradients)?) } else { None };
        let told = norm.as_ref().filter(|_| want_norm).map(f64::try_from).transpose()?;
        match (clip, &norm) {
            (Some(Clip::Norm(longest)), Some(norm)) => clip_norm(&mut gradients, norm, longest)?,
            (Some(Clip::Value(largest)), _) => clip_value(&mut gradients, largest)?,
            (Some(Clip::Norm(_)), None) | (None, _) => {}
        }
        let rate = self.learning_rate(self.place.step);
        self.optimizer.step(&gradients, rate)?;
        self.sums.add(&loss, &outputs, &pair, batch.size)?;
        self.place.step += 1;
        self.place.examples += batch.size as u64;
        Ok(told)
    }

    /// The learning rate of a step, counted from 0.
    fn learning_rate(&self, step: u64) -> f64 {
        self.spec.optimizer.learning_rate() * self.schedule.at(step, self.plan.total_steps)
    }

    /// The examples in the order of an epoch.
    fn order(&self, epoch: u64) -> Vec<u64> {
        let count = self.train.facts().examples;
        if self.spec.data.shuffle { shuffled(count, self.spec.seed, epoch) } else { (0..count).collect() }
    }

    fn tell(&self, report: &mut Report, gradient_norm: f64, examples: u64) -> Result<()> {
        let sums = &self.sums;
        let loss = sums.mean_loss()?;
        let mut values = vec![("loss/train".to_owned(), loss)];
        for metric in &sums.metrics {
            values.push((format!("{}/train", metric.name()), metric.value()?));
        }
        values.extend([
            ("learning_rate".to_owned(), self.learning_rate(self.place.step - 1)),
            ("gradient_norm".to_owned(), gradient_norm),
            ("throughput/examples_per_second".to_owned(), sums.examples_per_second()),
            ("process/rss_bytes".to_owned(), resident_bytes()),
        ]);
        values.extend(self.gpu_share());
        report.scalars(self.place.step, examples, &values)?;
        if loss.is_finite() && gradient_norm.is_finite() {
            return Ok(());
        }
        Err(self.diverged(&format!("the loss was {loss} and the gradient norm {gradient_norm}")))
    }

    /// The newest readings of the GPU, as scalars. What the driver does not tell is left out.
    fn gpu_share(&self) -> Vec<(String, f64)> {
        let Some((index, reading)) = self.meter.as_ref().and_then(|(index, meter)| Some((index, meter.latest()?)))
        else {
            return Vec::new();
        };
        let readings = [
            ("utilization_ratio", reading.utilization_ratio),
            ("memory_used_bytes", reading.memory_used_bytes.map(|bytes| bytes as f64)),
            ("energy_joules", reading.energy_joules),
        ];
        readings.into_iter().filter_map(|(name, value)| Some((format!("gpu/{index}/{name}"), value?))).collect()
    }

    /// Validation and checkpoint, where they are due, at the end of an epoch or of a part of the
    /// last one; `saves` makes the checkpoint due. A stop gives the validation pass up: nothing of it
    /// was told, so that the next attempt does it from its start. Whether training stops here, with
    /// a checkpoint.
    fn end_epoch(
        &mut self,
        trained: u64,
        saves: bool,
        report: &mut Report,
        saver: &mut Saver,
        stop: &Stop,
    ) -> Result<bool> {
        let step = self.place.step;
        let (epoch, of) = (self.place.epoch + u64::from(self.place.examples > 0), self.plan.total_epochs);
        let mut metrics = BTreeMap::new();
        if let Some(mut feed) = self.validation.take_if(|_| self.validation_due) {
            let go_on = || {
                report.alive(step)?;
                report.journal().begins(step);
                Ok(!stop.is_asked())
            };
            let validated = self.validate(&mut feed, go_on);
            self.validation = Some(feed);
            let Some(Validated { loss, metrics: values }) = validated? else {
                tracing::info!(step, "epoch {epoch}/{of}: stopped before its validation was done");
                self.save(metrics, report, saver)?;
                return Ok(true);
            };
            let values = [("loss".to_owned(), loss)].into_iter().chain(values);
            let values: Vec<_> = values.map(|(name, value)| (format!("{name}/validation"), value)).collect();
            report.scalars(step, trained, &values)?;
            let told: Vec<_> = values.iter().map(|(tag, value)| format!("{tag} {value:.4}")).collect();
            metrics.extend(values);
            if !loss.is_finite() {
                return Err(self.diverged(&format!("the validation loss was {loss}")));
            }
            tracing::info!(step, "epoch {epoch}/{of}: {}", told.join(", "));
            self.schedule.hear(&metrics, step, self.spec.optimizer.learning_rate())?;
        } else {
            tracing::info!(step, "epoch {epoch}/{of}");
        }
        self.validation_due = false;
        fault::point("epoch");
        let policy = &self.spec.checkpoints;
        let is_due = saves
            || epoch.is_multiple_of(u64::from(policy.every_epochs))
            || policy.every_steps.is_some_and(|every| step.is_multiple_of(every))
            || step == self.plan.total_steps;
        // Asked once: who stops has saved.
        let is_asked = stop.is_asked();
        if is_due || is_asked {
            self.save(metrics, report, saver)?;
        }
        Ok(is_asked && step < self.plan.total_steps)
    }
}

/// A gradient that lies in memory as its parameter does: the fused operators go over both as they
/// lie.
fn laid_out_like(parameter: &Tensor, gradient: Tensor) -> std::result::Result<Tensor, TchError> {
    if gradient.stride() == parameter.stride() {
        return Ok(gradient);
    }
    let mut copy = parameter.detach().f_empty_like()?;
    copy.f_copy_(&gradient)?;
    Ok(copy)
}

/// Lets parts take up the tensors of a file, all of them.
pub(crate) fn take_up(parts: &mut [&mut dyn Stateful], mut tensors: Tensors) -> std::result::Result<(), String> {
    parts.iter_mut().try_for_each(|part| part.load(&mut tensors))?;
    tensors.all_taken()
}

/// Memory of this process: field 2 of `/proc/self/statm`, in pages.
fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    (pages * page as u64) as f64
}

#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
