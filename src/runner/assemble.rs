//! From a spec and an order to training that can begin: data are read and judged once more, and
//! every part is built by its registry.

use std::panic::resume_unwind;
use std::thread;

use tch::Device;
use torchd::dataset::{DataFile, Facts, Fault, Field, OpenFiles, Preparation, Preprocessing, Selection, Sets, Source};
use torchd::job::end::CHANGED_DATA_REMEDY;
use torchd::job::length::Place;
use torchd::job::order::Order;
use torchd::job::spec::{DataFacts, Fitted, Mode as Purpose, ModelWork, Network, Precision as WantedPrecision};
use torchd::journal::{Context, FileState, FileStates, JobFolder, Manifest, TrainedOn, write_whole};
use torchd::proto::v1::JobEndReason;
use torchd::shortage::Unjudged;

use crate::augment::Augmentation;
use crate::average::Average;
use crate::checkpoint::Loaded;
use crate::divergence::Skips;
use crate::early_stopping::EarlyStopping;
use crate::failure::{Failure, Result};
use crate::feed::{self, Feed};
use crate::inputs::{data, failure};
use crate::lr_range::LrRange;
use crate::model::Beginning;
use crate::optimizer::Optimizer;
use crate::precision::{Precision, Scaler};
use crate::probe::libtorch_version;
use crate::schedule::Schedule;
use crate::stateful::Hidden;
use crate::sums::Sums;
use crate::train::Training;
use crate::{capture, cuda, loss, model, warm_start};

/// Threads that read a set at most.
const MOST_READERS: usize = 16;
/// A set in memory is held on a GPU where it takes no more than one part in so many of the memory
/// that is free there: the model comes after it.
const DEVICE_SHARE: u64 = 4;

/// Reads the data, judges it once more (it may have changed since the request, and large files were
/// judged by their headers), and builds everything on the device. `graphs` is the library that
/// captures steps, or why there is none; None for a job on the CPU.
pub(crate) fn assemble(
    mut work: ModelWork,
    order: &Order,
    inputs: Result<OpenFiles>,
    folder: &JobFolder,
    device: Device,
    loaded: Option<Loaded>,
    graphs: Option<capture::Found>,
) -> Result<Training> {
    let known = loaded.as_ref().map(|_| kept_preparation(folder)).transpose()?.flatten();
    let data = data(order)?;
    let selection = Selection {
        memory_bytes: data.memory_bytes,
        ..work.data.selection(data.train.clone(), data.validation.clone())
    };
    let (sets, files) = read(&selection, &inputs?, known)?;
    let changed = loaded.as_ref().and_then(|loaded| loaded.manifest.judge_files(&files).err());
    // Data that are as they were have been good: a person decides about others.
    let bad_data = |wrong: String| match &changed {
        None => Failure::new(JobEndReason::BadData, wrong),
        Some(changed) => Failure::new(JobEndReason::DataChanged, format!("{changed}; {wrong}")),
    };
    let of_data = |failure: Failure| match failure.reason {
        JobEndReason::BadData => bad_data(failure.message),
        _ => failure,
    };
    let Sets { train, validation, preparation, notes } = sets.map_err(of_data)?;
    for note in notes {
        eprintln!("torchd-runner: {note}");
    }
    let validation_facts = validation.as_ref().map(|set| set.facts().clone());
    let facts = DataFacts { train: train.facts().clone(), validation: validation_facts };
    let mut trained_on = TrainedOn::of(files, &facts);
    trained_on.train.shards = train.access().shards();
    let mut opened = model::open(&mut work.model, folder, loaded.is_none(), device)?;
    if let Some(loaded) = &loaded {
        judge_data(&loaded.manifest, &trained_on, order)?;
    }
    let feed = |work: &ModelWork, set| feed(work, set, &facts.train, &preparation, order, device).map_err(of_data);
    let mut train = feed(&work, train)?;
    let part = work.recipe.part(work.batch_size).into();
    model::see(&mut work.model, &mut opened, || train.first(part))?;
    let fitted = work.fit(&facts).map_err(|wrong| bad_data(wrong.to_string()))?;
    let Fitted { work, network } = fitted;
    // All data have been read, so that they tell.
    let no_classes = || bad_data("the training set does not tell how many classes there are".into());
    let Network { output, weights, answer, modules } = network.ok_or_else(no_classes)?;
    let (examples, shards) = (facts.train.examples, trained_on.train.shards.as_deref());
    let place = loaded.as_ref().map_or_else(Place::default, |loaded| loaded.manifest.place_in(examples, shards));
    let plan = work.plan(facts.train.examples, place);
    let plan = plan.ok_or_else(|| bad_data("more steps than can be counted".into()))?;
    let beginning = Beginning {
        output: &output,
        weights: &weights,
        modules: modules.as_ref(),
        seed: work.init_seed.unwrap_or(work.seed),
        channels_last: work.recipe.channels_last,
        is_new: loaded.is_none(),
    };
    let network = model::build(&work.model, opened, &beginning, device)?;
    let target = &facts.train.target;
    let mut training = Training {
        augmentation: Augmentation::new(&work.data.augment, &train)?,
        train,
        validation: validation.map(|set| feed(&work, set)).transpose()?,
        preparation: preparation.clone(),
        loss: loss::build(work.loss.as_ref(), &output, target, device)?,
        answer,
        ignored: work.loss.as_ref().and_then(|loss| loss.ignored_label()).filter(|label| has_label(&facts, *label)),
        optimizer: Optimizer::new(&work.optimizer, network.parameters())?,
        precision: Precision::new(work.recipe.precision, device),
        scaler: (work.recipe.precision == WantedPrecision::Float16).then(|| Scaler::new(device)).transpose()?,
        average: work.recipe.ema_decay.map(|decay| Average::new(decay, network.as_ref())).transpose()?,
        early_stopping: work.recipe.early_stopping.map(EarlyStopping::new),
        skips: work.recipe.may_skip_steps().then(Skips::default),
        restores: Training::restores(work.recipe.on_divergence),
        lr_range: match work.mode {
            Purpose::Train | Purpose::Evaluate | Purpose::Predict(_) => None,
            Purpose::LrRange(range) => Some(LrRange::new(range)),
        },
        schedule: Schedule::new(&work.schedule)?,
        capture: None,
        hidden: Hidden(network.hidden()),
        network,
        plan,
        folder: folder.clone(),
        device,
        work,
        place,
        validation_due: false,
        sums: Sums::new(Vec::new(), device)?,
        attempt: order.attempt,
        context: context(device),
        ranks: None,
        trained_on,
        meter: None,
    };
    training.sums = training.no_sums()?;
    training.begin_capture(graphs)?;
    if let Some(loaded) = loaded {
        training.restore(loaded).map_err(of_data)?;
    } else if let Some(wanted) = &training.work.warm_start {
        warm_start::take(folder, wanted, training.network.as_ref())?;
    }
    Ok(training)
}

/// The batches of a set as the model of a spec takes them, which has learned from a set with the
/// facts `taught`. `BadData` where the set does not fit.
pub(crate) fn feed(
    work: &ModelWork,
    set: Box<dyn Source>,
    taught: &Facts,
    preparation: &Preparation,
    order: &Order,
    device: Device,
) -> Result<Feed> {
    let places = work.model.places(set.facts()).map_err(|what| Failure::new(JobEndReason::BadData, what))?;
    // The lease is that of all ranks.
    let threads = order.lease.cpu_threads / order.rank.map_or(1, |rank| rank.count.max(1));
    let readers = usize::try_from(threads).unwrap_or(usize::MAX).clamp(1, MOST_READERS);
    let normalizer = feed::normalizer(set.facts(), taught, work.data.normalize.as_ref(), preparation, device)?;
    Feed::new(set, readers, normalizer, places, device, device_bytes(device, order))
}

/// Reads the sets, as far as that can be done, and their files' fingerprints beside it, so that
/// these take no time of their own.
fn read(selection: &Selection, opened: &OpenFiles, known: Option<Preparation>) -> Result<(Result<Sets>, FileStates)> {
    let states = || -> Result<FileStates> {
        let of = |files: &[DataFile]| files.iter().map(state).collect::<Result<Vec<_>>>();
        let validation = selection.validation.as_ref().map(|_| of(&opened.validation)).transpose()?;
        Ok(FileStates { train: of(&opened.train)?, validation })
    };
    let (sets, files) =
        thread::scope(|scope| match thread::Builder::new().name("fingerprints".into()).spawn_scoped(scope, states) {
            Ok(beside) => {
                let sets = selection.open(opened, known);
                (sets, beside.join().unwrap_or_else(|panic| resume_unwind(panic)))
            }
            Err(_) => (selection.open(opened, known), states()),
        });
    Ok((sets.map_err(bad), files?))
}

fn state(file: &DataFile) -> Result<FileState> {
    FileState::of(file, || Ok(())).map_err(|error| {
        let what = format!("{} cannot be read: {error}", file.path().display());
        failure(JobEndReason::BadData, what, Unjudged::of(&error))
    })
}

/// The failure for files that are wrong.
pub(crate) fn bad(faults: Vec<Fault>) -> Failure {
    let unjudged = faults.iter().find_map(|fault| fault.problem.unjudged);
    let words: Vec<_> = faults.into_iter().map(|fault| fault.problem.what).collect();
    failure(JobEndReason::BadData, words.join("; "), unjudged)
}

/// The preparation that the first attempt learned; None where it learned nothing, and in jobs of
/// earlier versions.
fn kept_preparation(folder: &JobFolder) -> Result<Option<Preparation>> {
    let cannot = Failure::storage("the preparation of the data cannot be read");
    match std::fs::read(folder.preprocessing()) {
        Ok(bytes) => match Preprocessing::read(&bytes) {
            Ok(kept) => Ok(Some(kept.preparation().clone())),
            Err(what) => Err(std::io::Error::other(what)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
    .map_err(cannot)
}

/// Keeps with the result how values become inputs and targets.
pub(crate) fn keep_preprocessing(training: &Training) -> Result<()> {
    let Training { work, preparation, train, folder, .. } = training;
    let normalize = work.data.normalize.as_ref();
    let moments = |field: &Field| field.normalized().and_then(|_| normalize?.moments(&field.name, preparation));
    let kept = Preprocessing::of(train.facts(), preparation.clone(), moments);
    let written = kept.to_json().map_err(std::io::Error::from);
    let written = written.and_then(|bytes| write_whole(&folder.preprocessing(), &bytes));
    written.map_err(Failure::storage("the preparation of the data cannot be written"))
}

/// Refuses other data than those that a checkpoint was made with, unless a user has accepted them.
fn judge_data(manifest: &Manifest, now: &TrainedOn, order: &Order) -> Result<()> {
    let Place { step, epoch, examples } = manifest.place;
    let Err(what) = manifest.judge_data(now) else {
        if manifest.place_in(now.train.examples, now.train.shards.as_deref()).epoch != epoch {
            tracing::warn!(
                step,
                "the data are read in other shards than those of the checkpoint, so that their order is another: \
                 training goes on with epoch {}, as {examples} examples of the one before are used",
                epoch + 2
            );
        }
        return Ok(());
    };
    if !order.accepts_other_data(step) {
        return Err(Failure::new(JobEndReason::DataChanged, format!("{what}; {CHANGED_DATA_REMEDY}")));
    }
    let goes_on = match manifest.place_in(now.train.examples, now.train.shards.as_deref()).epoch == epoch {
        true => "training goes on at its place in the epoch".to_owned(),
        false => {
            format!("training goes on with epoch {}, as {examples} examples of the one before are used", epoch + 2)
        }
    };
    tracing::warn!(step, "{what}; they were accepted: {goes_on}");
    Ok(())
}

/// The bytes that a set may take of the device: of what is free, and of what the job may have.
fn device_bytes(device: Device, order: &Order) -> u64 {
    let Some(free) = device.is_cuda().then(cuda::free_memory).flatten() else { return 0 };
    let limit = order.lease.gpu().and_then(|gpu| gpu.memory_bytes);
    free.min(limit.unwrap_or(free)) / DEVICE_SHARE
}

/// Whether that label is among the targets.
pub(crate) fn has_label(facts: &DataFacts, label: i64) -> bool {
    let within = |set: &Facts| set.target.range.is_some_and(|range| (range.lowest..=range.highest).contains(&label));
    within(&facts.train) || facts.validation.as_ref().is_some_and(within)
}

/// The conditions under which the numbers are the same.
fn context(device: Device) -> Context {
    let cpu = || {
        let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        named.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
    };
    // Each rank has a GPU of its own, and a job may go on with another one of the same kind.
    let (kind, processor) = match device {
        Device::Cuda(_) => ("cuda", cuda::device_kind().unwrap_or_default()),
        _ => ("cpu", cpu()),
    };
    let cpu_threads = u32::try_from(tch::get_num_threads()).unwrap_or(0);
    Context { libtorch: libtorch_version(), device: kind.into(), cpu_threads, processor, captured: false }
}
