//! A job that applies a trained model: it goes over a test set once, in its order, and trains
//! nothing. An attempt that is interrupted leaves nothing, and the next one begins anew.

mod answers;
mod columns;
mod csv;
mod parquet;
mod tensors;

use std::collections::BTreeMap;
use std::io::{self, BufWriter};
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::Device;
use torchd::dataset::{Facts, OpenFiles, Preparation, Preprocessing, Selection, Sets};
use torchd::job::length::{Place, Plan};
use torchd::job::order::Order;
use torchd::job::spec::{DataFacts, Fitted, Mode as Purpose, ModelWork, Network as Told, Predictions};
use torchd::journal::{JobFolder, write_whole, write_whole_by};
use torchd::proto::v1::JobEndReason;

use self::answers::{Answering, Answers, Layout};
use self::csv::Table;
use self::parquet::Groups;
use self::tensors::Arrays;
use crate::assemble::{bad, feed, has_label};
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Feed};
use crate::inputs::data;
use crate::loss::Loss;
use crate::metric::About;
use crate::model::{Beginning, Mode, Network};
use crate::precision::Precision;
use crate::report::Report;
use crate::step::Computation;
use crate::stop::Stop;
use crate::train::Finish;
use crate::validation::{self, Validated, each_batch};
use crate::{loss, model, warm_start};

/// A job that is loaded.
pub(crate) struct Application {
    pub(crate) work: ModelWork,
    pub(crate) plan: Plan,
    folder: JobFolder,
    device: Device,
    feed: Feed,
    network: Box<dyn Network>,
    loss: Box<dyn Loss>,
    precision: Precision,
    /// None for a network that computes its loss.
    about: Option<About>,
    /// The shape of the output of an example.
    output: Vec<u64>,
    /// The facts of the set that the model was trained on.
    taught: Facts,
    preparation: Preparation,
}

/// The end of a pass over the set.
struct Done {
    /// Scalars.
    values: Vec<(String, f64)>,
    /// The end of the job, in words.
    words: String,
}

/// The file of an evaluation.
#[derive(Serialize)]
struct Evaluation<'a> {
    examples: u64,
    loss: f64,
    metrics: BTreeMap<&'a str, f64>,
}

impl Application {
    /// Reads the test set, builds the network as it was trained, and loads its weights.
    pub(crate) fn assemble(
        mut work: ModelWork,
        order: &Order,
        inputs: OpenFiles,
        folder: &JobFolder,
        device: Device,
    ) -> Result<Self> {
        let bad_data = |what: String| Failure::new(JobEndReason::BadData, what);
        let taken = taken_preprocessing(folder)?;
        let data = data(order)?;
        let selection = Selection {
            known: taken.as_ref().map(|taken| taken.known()),
            may_lack_target: taken.is_some() && work.mode.may_lack_target(),
            memory_bytes: data.memory_bytes,
            ..work.data.selection(data.train.clone(), None)
        };
        let Sets { train: test, preparation, notes, .. } = selection.open(&inputs, None).map_err(bad)?;
        for note in notes {
            eprintln!("torchd-runner: {note}");
        }
        let test_facts = test.facts().clone();
        let taught = taken.as_ref().map_or_else(|| test_facts.clone(), Preprocessing::facts);
        let mut opened = model::open(&mut work.model, folder, true, device)?;
        let mut feed = feed(&work, test, &taught, &preparation, order, device)?;
        let size = u64::from(work.batch_size);
        model::see(&mut work.model, &mut opened, || feed.first(size))?;
        let facts = DataFacts { train: taught, validation: Some(test_facts) };
        let Fitted { work, network } = work.fit(&facts).map_err(|wrong| bad_data(wrong.to_string()))?;
        let no_classes = || bad_data("the training set does not tell how many classes there are".into());
        let Told { output, weights, answer, modules } = network.ok_or_else(no_classes)?;
        let plan = work.plan(feed.facts().examples, Place::default());
        let plan = plan.ok_or_else(|| bad_data("more batches than can be counted".into()))?;
        let beginning = Beginning {
            output: &output,
            weights: &weights,
            modules: modules.as_ref(),
            seed: work.seed,
            channels_last: false,
            is_new: true,
        };
        let network = model::build(&work.model, opened, &beginning, device)?;
        if let Some(wanted) = &work.warm_start {
            warm_start::take(folder, wanted, network.as_ref())?;
        }
        let ignored = work.loss.as_ref().and_then(|loss| loss.ignored_label());
        let ignored = ignored.filter(|label| has_label(&facts, *label));
        let DataFacts { train: taught, .. } = facts;
        Ok(Self {
            plan,
            folder: folder.clone(),
            device,
            feed,
            network,
            loss: loss::build(work.loss.as_ref(), &output, &taught.target, device)?,
            precision: Precision::new(work.recipe.precision, device),
            about: answer.map(|answer| About { answer, ignored, device }),
            output,
            taught,
            preparation,
            work,
        })
    }

    /// Numbers of the network that can be learned.
    pub(crate) fn parameter_count(&self) -> u64 {
        self.network.parameters().count()
    }

    /// Goes over the set. `step` counts the batches that are done.
    pub(crate) fn run(&mut self, report: &mut Report, stop: &Stop, step: &mut u64) -> Result<Finish> {
        let size = u64::from(self.work.batch_size);
        let examples = self.feed.facts().examples;
        let total = self.plan.total_steps;
        tracing::info!("{examples} examples in {total} batches");
        let begun = Instant::now();
        let mut next = 0;
        let mut go_on = |waits: Option<Duration>| {
            match waits {
                // Not that the runner lives: a reader that hangs is for the daemon to see.
                Some(waited) => report.waits_for_data(*step, waited)?,
                None => {
                    *step = next;
                    next += 1;
                    report.progress(*step, (*step * size).min(examples))?;
                    report.journal().begins(*step);
                }
            }
            Ok(!stop.is_asked())
        };
        let done = match self.work.mode {
            Purpose::Predict(format) => self.predict(format, &mut go_on)?,
            Purpose::Evaluate | Purpose::Train | Purpose::LrRange(_) => self.evaluate(&mut go_on)?,
        };
        let Some(Done { mut values, words }) = done else { return Ok(Finish::Stopped) };
        *step = total;
        let speed = examples as f64 / begun.elapsed().as_secs_f64();
        values.push(("throughput/examples_per_second".to_owned(), speed));
        report.scalars(total, examples, &values)?;
        Ok(Finish::Complete(words))
    }

    /// Tells loss and metrics; None where the pass was given up.
    fn evaluate(&mut self, go_on: impl FnMut(Option<Duration>) -> Result<bool>) -> Result<Option<Done>> {
        let Self { work, feed, network, loss, precision, .. } = self;
        let computation = Computation { network: network.as_ref(), loss: loss.as_ref(), precision };
        let metrics = validation::metrics(work, self.about, Mode::Evaluate, self.device)?;
        let size = u64::from(work.batch_size);
        let validated = validation::judge(computation, metrics, feed, size, "test", go_on)?;
        let Some(Validated { loss, metrics, matrices }) = validated else { return Ok(None) };
        if !loss.is_finite() {
            let what = format!("the loss over the test set was {loss}");
            return Err(Failure::new(JobEndReason::Diverged, what));
        }
        let examples = feed.facts().examples;
        validation::write(&self.folder, self.plan.total_steps, &matrices)?;
        let metrics_by_name = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let told = Evaluation { examples, loss, metrics: metrics_by_name };
        let json = serde_json::to_vec_pretty(&told).map_err(io::Error::from);
        let written = json.and_then(|json| write_whole(&self.folder.artifacts().join("evaluation.json"), &json));
        written.map_err(Failure::storage("artifacts/evaluation.json could not be written"))?;
        let values: Vec<_> = [("loss".to_owned(), loss)].into_iter().chain(metrics).collect();
        let words: Vec<_> = values.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let words = format!("evaluated on {examples} examples: {}", words.join(", "));
        let values = values.into_iter().map(|(name, value)| (format!("{name}/test"), value)).collect();
        Ok(Some(Done { values, words }))
    }

    /// Writes the answers; None where the pass was given up.
    fn predict(
        &mut self,
        format: Predictions,
        go_on: impl FnMut(Option<Duration>) -> Result<bool>,
    ) -> Result<Option<Done>> {
        let Self { work, folder, feed, network, loss, precision, about, output, taught, preparation, .. } = self;
        let examples = feed.facts().examples;
        let mut layout = Layout::new(about.map(|about| about.answer), work.loss.as_ref(), output, &taught.target);
        layout.target = Some(feed.facts().target.clone()).filter(|_| feed.facts().has_target());
        let named = feed.source().filter(|source| source.name(0).is_some()).cloned();
        layout.has_names = named.is_some();
        let computation = Computation { network: network.as_ref(), loss: loss.as_ref(), precision };
        let answering = Answering { computation, layout: &layout };
        let name = match format {
            Predictions::Csv => "predictions.csv",
            Predictions::Safetensors => "predictions.safetensors",
            Predictions::Parquet => "predictions.parquet",
        };
        // The end of a pass that the file is not to blame for.
        let mut end = None;
        let written = write_whole_by(&folder.artifacts().join(name), |file| {
            let mut sink: Box<dyn Sink> = match format {
                Predictions::Csv => Box::new(Table::begin(BufWriter::new(file), &layout, &preparation.classes)?),
                Predictions::Safetensors => Box::new(Arrays::begin(file, &layout, examples)?),
                Predictions::Parquet => Box::new(Groups::begin(file, &layout, &preparation.classes)?),
            };
            let size = u64::from(work.batch_size);
            let mut next = 0;
            let add = |batch: &Batch| {
                let places = next..next + batch.size as u64;
                next = places.end;
                let name = |place| named.as_ref()?.name(place).map(str::to_owned);
                let names = places.filter_map(name).collect();
                sink.add(&Answers { names, ..answering.answer(batch)? })
            };
            match each_batch(feed, size, go_on, add) {
                Ok(true) => sink.finish(),
                other => {
                    end = Some(other.map(|_| None));
                    Err(io::ErrorKind::Other.into())
                }
            }
        });
        match (end, written) {
            (Some(end), _) => end,
            (None, Err(error)) => Err(Failure::storage(format!("artifacts/{name} could not be written"))(error)),
            (None, Ok(())) => {
                let words = format!("answered {examples} examples: artifacts/{name}");
                Ok(Some(Done { values: Vec::new(), words }))
            }
        }
    }
}

/// A file that answers go into, in the order of the examples.
trait Sink {
    /// Adds those of a batch.
    fn add(&mut self, answers: &Answers) -> Result<()>;

    /// Nothing follows.
    fn finish(&mut self) -> io::Result<()>;
}

/// The preprocessing of the job that trained the model; None where the weights come from a file.
fn taken_preprocessing(folder: &JobFolder) -> Result<Option<Preprocessing>> {
    let read = match std::fs::read(folder.taken_preprocessing()) {
        Ok(bytes) => Preprocessing::read(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    read.map_err(Failure::storage("the preprocessing of the model cannot be read"))
}
