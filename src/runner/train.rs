//! The training loop: passes over the training set, a validation pass after each, scalars on the
//! way, checkpoints.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use tch::{Device, Reduction, Tensor};
use torchd::fault;
use torchd::gpu::Meter;
use torchd::job::spec::{Place, Plan, Spec};
use torchd::journal::{Context, JobFolder, Manifest, TrainedOn};
use torchd::proto::v1::JobEndReason;

use crate::batches::{Batch, Examples};
use crate::checkpoint::{self, Saver, Snapshot};
use crate::failure::{Failure, Result};
use crate::model::Network;
use crate::optimizer::{Sgd, gradient_norm};
use crate::report::Report;
use crate::seed::{Stream, derive, shuffled};
use crate::stop::Stop;
use crate::sums::Sums;
use crate::validation::nll_loss;

/// A job that is loaded.
pub(crate) struct Training {
    pub(crate) spec: Spec,
    pub(crate) plan: Plan,
    pub(crate) folder: JobFolder,
    pub(crate) device: Device,
    pub(crate) train: Examples,
    pub(crate) validation: Option<Examples>,
    pub(crate) network: Network,
    pub(crate) optimizer: Sgd,
    /// How far training is.
    pub(crate) place: Place,
    /// An epoch, or a part of the last, is over, and its validation pass is not.
    pub(crate) validation_due: bool,
    /// The sums behind the next scalars.
    pub(crate) sums: Sums,
    pub(crate) attempt: u32,
    /// What the numbers depend on besides the spec.
    pub(crate) context: Context,
    /// The data, for whoever goes on from its checkpoints.
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
        let finish = self.steps(report, saver, stop)?;
        let step = self.place.step;
        for saved in saver.finish(|waited| report.waits_for_checkpoint(step, waited))? {
            report.checkpoint(saved)?;
        }
        if finish == Finish::Complete {
            fault::point("trained");
            checkpoint::save_result(&self.folder, self.place.step, &self.network)?;
            fault::point("result-saved");
        }
        Ok(finish)
    }

    fn steps(&mut self, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<Finish> {
        if stop.is_asked() {
            return Ok(Finish::Stopped);
        }
        let count = self.train.count();
        let batch_size = i64::from(self.spec.batch_size);
        let mut examples = 0;
        if self.validation_due && self.end_epoch(examples, report, saver, stop)? {
            return Ok(Finish::Stopped);
        }
        while self.place.step < self.plan.total_steps {
            let order = self.order(self.place.epoch)?;
            loop {
                report.journal().begins(self.place.step);
                let start = self.place.examples as i64;
                let size = batch_size.min(count - start);
                let batch = match &order {
                    Some(order) => self.train.at(&order.f_narrow(0, start, size)?)?,
                    None => self.train.range(start, size)?,
                };
                let due = (self.place.step + 1).is_multiple_of(u64::from(self.spec.scalar_every_steps));
                let norm = self.train_step(&batch, due)?;
                examples += batch.size as u64;
                match norm {
                    Some(norm) => {
                        self.tell(report, norm, examples)?;
                        self.sums = Sums::new(self.device)?;
                    }
                    None => report.progress(self.place.step, examples)?,
                }
                fault::point("step");
                if let Some(saved) = saver.poll()? {
                    report.checkpoint(saved)?;
                }
                if self.place.step == self.plan.total_steps || self.place.examples >= count as u64 {
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
            if self.place.examples >= count as u64 {
                self.place.epoch += 1;
                self.place.examples = 0;
            }
            self.validation_due = self.validation.is_some();
            let stops = self.end_epoch(examples, report, saver, stop)?;
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
        let weights = checkpoint::weights(step, &self.network)?;
        let state = Snapshot::of(step, self.optimizer.state(&self.network.parameters).chain(self.sums.state()))?;
        let request = checkpoint::Request {
            weights,
            state,
            manifest: Manifest {
                place: self.place,
                attempt: self.attempt,
                time: SystemTime::now(),
                summed_examples: self.sums.examples as u64,
                metrics,
                validation_due: self.validation_due,
                context: self.context.clone(),
                trained_on: Some(self.trained_on.clone()),
                files: Vec::new(),
            },
        };
        saver.save(request)
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, loaded: &checkpoint::Loaded) -> Result<()> {
        let damaged = |what| Failure::new(JobEndReason::BadData, format!("the checkpoint does not fit: {what}"));
        checkpoint::put(&loaded.weights, &self.network).map_err(damaged)?;
        self.optimizer.restore(&loaded.state, &self.network.parameters).map_err(damaged)?;
        self.sums.restore(&loaded.state, loaded.manifest.summed_examples)?;
        self.place = loaded.manifest.place;
        self.validation_due = loaded.manifest.validation_due && self.validation.is_some();
        if loaded.manifest.context != self.context {
            let (then, now) = (&loaded.manifest.context, &self.context);
            tracing::warn!(
                "the checkpoint was made with {then:?}, and this is {now:?}: the numbers will not be the same bit for bit"
            );
        }
        Ok(())
    }

    /// One optimizer step; the norm of the gradients where it is wanted.
    pub(crate) fn train_step(&mut self, batch: &Batch, want_norm: bool) -> Result<Option<f64>> {
        tch::manual_seed(derive(self.spec.seed, Stream::Step(self.place.step)) as i64);
        let output = self.network.forward(&batch.images, true)?;
        let loss = nll_loss(&output, &batch.labels, Reduction::Mean)?;
        let parameters: Vec<&Tensor> = self.network.parameters.iter().map(|(_, tensor)| tensor).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
        let norm = if want_norm { Some(gradient_norm(&gradients)?) } else { None };
        self.optimizer.step(&self.network.parameters, gradients)?;
        self.sums.add(&loss, &output, batch)?;
        self.place.step += 1;
        self.place.examples += batch.size as u64;
        Ok(norm)
    }

    fn order(&self, epoch: u64) -> Result<Option<Tensor>> {
        if !self.spec.data.shuffle {
            return Ok(None);
        }
        let order = shuffled(self.train.count() as u64, self.spec.seed, epoch);
        Ok(Some(Tensor::f_from_slice(&order)?.f_to_device(self.device)?))
    }

    fn tell(&self, report: &mut Report, gradient_norm: f64, examples: u64) -> Result<()> {
        let sums = &self.sums;
        let loss = sums.mean(&sums.loss)?;
        let mut values = vec![
            ("loss/train", loss),
            ("accuracy/train", sums.mean(&sums.correct)?),
            ("learning_rate", self.optimizer.learning_rate()),
            ("gradient_norm", gradient_norm),
            ("throughput/examples_per_second", sums.examples_per_second()),
            ("process/rss_bytes", resident_bytes()),
        ];
        let share = self.gpu_share();
        values.extend(share.iter().map(|(tag, value)| (tag.as_str(), *value)));
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
    /// last one. A stop gives the validation pass up: nothing of it was told, so that whoever goes
    /// on can do it from its start. Whether training stops here, with a checkpoint.
    fn end_epoch(&mut self, trained: u64, report: &mut Report, saver: &mut Saver, stop: &Stop) -> Result<bool> {
        let step = self.place.step;
        let (epoch, of) = (self.place.epoch + u64::from(self.place.examples > 0), self.plan.total_epochs);
        let mut metrics = BTreeMap::new();
        if let Some(examples) = self.validation.as_ref().filter(|_| self.validation_due) {
            let go_on = || {
                report.alive(step)?;
                report.journal().begins(step);
                Ok(!stop.is_asked())
            };
            let Some((loss, accuracy)) = self.validate(examples, go_on)? else {
                tracing::info!(step, "epoch {epoch}/{of}: stopped before its validation was done");
                self.save(metrics, report, saver)?;
                return Ok(true);
            };
            let values = [("loss/validation", loss), ("accuracy/validation", accuracy)];
            report.scalars(step, trained, &values)?;
            metrics.extend(values.map(|(tag, value)| (tag.to_owned(), value)));
            if !loss.is_finite() {
                return Err(self.diverged(&format!("the validation loss was {loss}")));
            }
            tracing::info!(step, "epoch {epoch}/{of}: validation loss {loss:.4}, accuracy {accuracy:.4}");
        } else {
            tracing::info!(step, "epoch {epoch}/{of}");
        }
        self.validation_due = false;
        fault::point("epoch");
        let policy = &self.spec.checkpoints;
        let is_due = epoch.is_multiple_of(u64::from(policy.every_epochs))
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
mod tests {
    use std::path::Path;

    use tch::Kind;
    use torchd::dataset::{DataFile, labelled_images};
    use torchd::job::spec::{self, DataFacts};
    use torchd::journal::{DataSet, JobLock, JournalWriter, checkpoints};
    use torchd::proto::v1;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        loss: Vec<f64>,
        gradient_norm: Vec<f64>,
        logprobs_first_8_validation: Vec<Vec<f64>>,
        validation_after_20: GoldenValidation,
    }

    #[derive(serde::Deserialize)]
    struct GoldenValidation {
        loss: f64,
        accuracy: f64,
    }

    /// The request of the golden values: the notebook's, without dropout and in the order of the
    /// files.
    fn request() -> v1::JobSpec {
        let paths = || v1::IdxDataset { images: "i".into(), labels: "l".into() };
        let set = || Some(v1::Dataset { format: Some(v1::dataset::Format::Idx(paths())) });
        v1::JobSpec {
            model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: Some(0.0) })) }),
            data: Some(v1::Data {
                train: set(),
                validation: set(),
                normalize: Some(v1::Normalize { mean: vec![0.1307], std: vec![0.3081] }),
                shuffle: Some(false),
            }),
            training: Some(v1::Training {
                length: Some(v1::training::Length::MaxSteps(20)),
                batch_size: Some(64),
                validation_batch_size: None,
            }),
            optimizer: Some(v1::Optimizer {
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate: Some(0.01), momentum: 0.5 })),
            }),
            ..v1::JobSpec::default()
        }
    }

    fn golden_training() -> Training {
        let load = |name: &str| {
            let file = |kind: &str| format!("examples/mnist-5k/{name}-{kind}-ubyte.gz");
            let open = |path: &str| DataFile::open(&Path::new(path).canonicalize().unwrap()).unwrap();
            labelled_images::load(&open(&file("images-idx3")), &open(&file("labels-idx1"))).unwrap()
        };
        let (train, validation) = (load("train"), load("t10k"));
        let facts = DataFacts { train: train.facts, validation: Some(validation.facts) };
        let spec = spec::read(&request()).spec.unwrap().fit(&facts).unwrap();
        let device = Device::Cpu;
        let network = Network::new(spec.model, spec.seed, device).unwrap();
        checkpoint::load_weights(Path::new("tests/data/golden/mnist_cnn_init.safetensors"), &network);
        Training {
            train: Examples::new(&train, &spec.data, device).unwrap(),
            validation: Some(Examples::new(&validation, &spec.data, device).unwrap()),
            optimizer: Sgd::new(spec.optimizer),
            plan: spec.plan(train.facts.examples, Place::default()).unwrap(),
            place: Place::default(),
            validation_due: false,
            sums: Sums::new(device).unwrap(),
            attempt: 1,
            context: Context::default(),
            trained_on: TrainedOn {
                train: DataSet { examples: train.facts.examples, files: vec![] },
                validation: None,
            },
            folder: JobFolder::new("unused".into()),
            network,
            device,
            spec,
            meter: None,
        }
    }

    fn is_close(ours: f64, theirs: f64, relative: f64) -> bool {
        (ours - theirs).abs() <= relative * theirs.abs()
    }

    #[test]
    fn twenty_steps_give_the_numbers_of_pytorch() {
        let golden: Golden =
            serde_json::from_str(&std::fs::read_to_string("tests/data/golden/mnist_cnn_steps.json").unwrap()).unwrap();
        assert_eq!(
            (golden.loss.len(), golden.gradient_norm.len(), golden.logprobs_first_8_validation.len()),
            (20, 20, 8)
        );
        let mut training = golden_training();

        let eight = training.validation.as_ref().unwrap().range(0, 8).unwrap();
        let ours =
            Vec::<Vec<f64>>::try_from(training.network.forward(&eight.images, false).unwrap().to_kind(Kind::Double))
                .unwrap();
        for (ours, theirs) in ours.iter().flatten().zip(golden.logprobs_first_8_validation.iter().flatten()) {
            assert!(is_close(*ours, *theirs, 1e-4), "log-probability {ours}, PyTorch {theirs}");
        }

        for (step, (loss, norm)) in golden.loss.iter().zip(&golden.gradient_norm).enumerate() {
            let batch = training.train.range(step as i64 * 64, 64).unwrap();
            training.sums = Sums::new(training.device).unwrap();
            let our_norm = training.train_step(&batch, true).unwrap().unwrap();
            let our_loss = training.sums.mean(&training.sums.loss).unwrap();
            assert!(is_close(our_loss, *loss, 1e-4), "loss of step {step}: {our_loss}, PyTorch {loss}");
            assert!(is_close(our_norm, *norm, 1e-4), "norm of step {step}: {our_norm}, PyTorch {norm}");
        }

        let theirs = Network::new(training.spec.model, 0, Device::Cpu).unwrap();
        checkpoint::load_weights(Path::new("tests/data/golden/mnist_cnn_after_20_steps.safetensors"), &theirs);
        for ((name, ours), (_, theirs)) in training.network.parameters.iter().zip(&theirs.parameters) {
            let apart = (ours - theirs).abs().max().double_value(&[]);
            let scale = theirs.abs().max().double_value(&[]);
            assert!(apart <= 1e-5 * scale, "{name} is {apart} apart, its largest weight is {scale}");
        }

        let validation = training.validation.as_ref().unwrap();
        let (loss, accuracy) = training.validate(validation, || Ok(true)).unwrap().unwrap();
        assert!(is_close(loss, golden.validation_after_20.loss, 1e-4), "{loss}");
        assert!(is_close(accuracy, golden.validation_after_20.accuracy, 1e-6), "{accuracy}");
    }

    #[test]
    fn what_has_diverged_is_not_saved_wherever_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let journal = JobFolder::new(folder.path().into());
        let lock = JobLock::take(&journal).unwrap().unwrap();
        let mut report = Report::new(JournalWriter::open(&journal, &lock, 1).unwrap());
        std::fs::create_dir(journal.checkpoints()).unwrap();
        let mut saver =
            Saver::start(journal.clone(), spec::read(&request()).spec.unwrap().checkpoints, vec![]).unwrap();
        let mut training = golden_training();
        let batch = training.train.range(0, 64).unwrap();
        training.train_step(&batch, false).unwrap();
        training.save(BTreeMap::new(), &mut report, &mut saver).unwrap();
        let saved = saver.finish(|_| Ok(())).unwrap();
        assert_eq!(saved.iter().map(|saved| saved.step).collect::<Vec<_>>(), [1]);

        type Spoil = fn(&mut Training) -> Tensor;
        let spoils: [(Spoil, &str); 3] = [
            (|training| training.sums.loss.shallow_clone(), "the loss was NaN"),
            (|training| training.network.parameters[3].1.detach(), "conv2.bias"),
            (
                |training| {
                    let state = training.optimizer.state(&training.network.parameters);
                    state.last().unwrap().1.shallow_clone()
                },
                "velocity.fc2.bias",
            ),
        ];
        for (spoil, words) in spoils {
            let mut tensor = spoil(&mut training);
            let before = tensor.copy();
            let _ = tensor.view(-1).narrow(0, 0, 1).fill_(f64::NAN);
            training.place.step += 1;
            let failure = training.save(BTreeMap::new(), &mut report, &mut saver).unwrap_err();
            assert_eq!(failure.reason, JobEndReason::Diverged);
            assert!(failure.message.contains(words), "{}", failure.message);
            tensor.copy_(&before);
        }
        assert!(saver.finish(|_| Ok(())).unwrap().is_empty());
        assert_eq!(checkpoints(&journal).unwrap().len(), 1);
    }

    #[test]
    fn initial_weights_have_the_names_shapes_and_ranges_of_pytorch() {
        let spec = spec::read(&request()).spec.unwrap();
        let network = Network::new(spec.model, 3, Device::Cpu).unwrap();
        assert_eq!(network.parameter_count(), 21_840);
        let golden = std::fs::read("tests/data/golden/mnist_cnn_init.safetensors").unwrap();
        let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
        for (name, tensor) in &network.parameters {
            let shape: Vec<i64> = golden.tensor(name).unwrap().shape().iter().map(|&size| size as i64).collect();
            assert_eq!(tensor.size(), shape, "{name}");
            let fan_in = if name.starts_with("conv1") {
                25.0
            } else if name.starts_with("conv2") {
                250.0
            } else if name.starts_with("fc1") {
                320.0
            } else {
                50.0
            };
            let largest = tensor.abs().max().double_value(&[]);
            let bound = 1.0 / f64::sqrt(fan_in);
            assert!(largest <= bound && largest > 0.5 * bound, "{name}: {largest}, bound {bound}");
        }
    }
}
