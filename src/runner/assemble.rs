//! From a spec and an order to training that can begin: data are read and judged once more, and
//! every part is built by its registry.

use tch::Device;
use torchd::dataset::{Facts, Format, Source};
use torchd::job::length::Place;
use torchd::job::order::Order;
use torchd::job::spec::{DataFacts, Fitted, Mode as Purpose, Network, Precision as WantedPrecision, Spec};
use torchd::journal::{Context, JobFolder, TrainedOn};
use torchd::proto::v1::JobEndReason;

use crate::average::Average;
use crate::checkpoint::Loaded;
use crate::divergence::Skips;
use crate::early_stopping::EarlyStopping;
use crate::failure::{Failure, Result};
use crate::feed::Feed;
use crate::inputs::{OpenInputs, OpenSet, failure};
use crate::lr_range::LrRange;
use crate::model::{Beginning, Mode};
use crate::optimizer::Optimizer;
use crate::precision::{Precision, Scaler};
use crate::probe::libtorch_version;
use crate::schedule::Schedule;
use crate::stateful::Hidden;
use crate::sums::Sums;
use crate::train::Training;
use crate::{cuda, loss, model, warm_start};

/// Threads that read a set at most.
const MOST_READERS: usize = 16;
/// A set in memory is held on a GPU where it takes no more than one part in so many of the memory
/// that is free there: the model comes after it.
const DEVICE_SHARE: u64 = 4;

/// Reads the data, judges it once more (it may have changed since the request, and large files were
/// judged by their headers), and builds everything on the device.
pub(crate) fn assemble(
    mut spec: Spec,
    order: &Order,
    inputs: OpenInputs,
    folder: &JobFolder,
    device: Device,
    loaded: Option<Loaded>,
) -> Result<Training> {
    let bad_data = |wrong: String| Failure::new(JobEndReason::BadData, wrong);
    let train = inputs.train.and_then(read)?;
    let validation = inputs.validation.map(|set| set.and_then(read)).transpose()?;
    let validation_facts = validation.as_ref().map(|set| set.facts().clone());
    let facts = DataFacts { train: train.facts().clone(), validation: validation_facts };
    let trained_on = TrainedOn::of(&order.inputs, &facts);
    let mut opened = model::open(&mut spec.model, folder, loaded.is_none(), device)?;
    if let Some(loaded) = &loaded {
        loaded.manifest.judge_data(&trained_on).map_err(|what| Failure::new(JobEndReason::DataChanged, what))?;
    }
    let feed = |spec: &Spec, set: Box<dyn Source>| {
        let places = spec.model.places(set.facts()).map_err(bad_data)?;
        let readers = usize::try_from(order.lease.cpu_threads).unwrap_or(usize::MAX).clamp(1, MOST_READERS);
        Feed::new(set, readers, spec.data.normalize.as_ref(), places, device, device_bytes(device, order))
    };
    let mut train = feed(&spec, train)?;
    let part = spec.recipe.part(spec.batch_size).into();
    model::see(&mut spec.model, &mut opened, || train.first(part))?;
    let fitted = spec.fit(&facts).map_err(|wrong| bad_data(wrong.to_string()))?;
    let Fitted { spec, network } = fitted;
    // All data have been read, so that they tell.
    let no_classes = || bad_data("the training set does not tell how many classes there are".into());
    let Network { output, weights, answer, modules } = network.ok_or_else(no_classes)?;
    let place = loaded.as_ref().map_or_else(Place::default, |loaded| loaded.manifest.place);
    let plan = spec.plan(facts.train.examples, place);
    let plan = plan.ok_or_else(|| bad_data("more steps than can be counted".into()))?;
    let beginning = Beginning {
        output: &output,
        weights: &weights,
        modules: modules.as_ref(),
        seed: spec.init_seed.unwrap_or(spec.seed),
        is_new: loaded.is_none(),
    };
    let network = model::build(&spec.model, opened, &beginning, device)?;
    let target = &facts.train.target;
    let mut training = Training {
        train,
        validation: validation.map(|set| feed(&spec, set)).transpose()?,
        loss: loss::build(spec.loss.as_ref(), &output, target, device)?,
        answer,
        ignored: spec.loss.as_ref().and_then(|loss| loss.ignored_label()).filter(|label| has_label(&facts, *label)),
        optimizer: Optimizer::new(&spec.optimizer, network.parameters())?,
        precision: Precision::new(spec.recipe.precision, device),
        scaler: (spec.recipe.precision == WantedPrecision::Float16).then(|| Scaler::new(device)).transpose()?,
        average: spec.recipe.ema_decay.map(|decay| Average::new(decay, network.as_ref())).transpose()?,
        early_stopping: spec.recipe.early_stopping.map(EarlyStopping::new),
        skips: spec.recipe.may_skip_steps().then(Skips::default),
        restores: Training::restores(spec.recipe.on_divergence),
        lr_range: match spec.mode {
            Purpose::Train => None,
            Purpose::LrRange(range) => Some(LrRange::new(range)),
        },
        schedule: Schedule::new(&spec.schedule)?,
        hidden: Hidden(network.hidden()),
        network,
        plan,
        folder: folder.clone(),
        device,
        spec,
        place,
        validation_due: false,
        sums: Sums::new(Vec::new(), device)?,
        attempt: order.attempt,
        context: context(device, order),
        trained_on,
        meter: None,
    };
    training.sums = Sums::new(training.metrics(Mode::Train)?, device)?;
    if let Some(loaded) = loaded {
        training.restore(loaded)?;
    } else if let Some(wanted) = &training.spec.warm_start {
        warm_start::take(folder, wanted, training.network.as_ref())?;
    }
    Ok(training)
}

/// Reads what training needs of a set.
fn read(set: OpenSet) -> Result<Box<dyn Source>> {
    set.files.open(&set.opened).map_err(|problems| {
        let unjudged = problems.iter().find_map(|problem| problem.unjudged);
        let words: Vec<_> = problems.into_iter().map(|problem| problem.what).collect();
        failure(JobEndReason::BadData, words.join("; "), unjudged)
    })
}

/// The bytes that a set may take of the device: of what is free, and of what the job may have.
fn device_bytes(device: Device, order: &Order) -> u64 {
    let Some(free) = device.is_cuda().then(cuda::free_memory).flatten() else { return 0 };
    let limit = order.lease.gpu.as_ref().and_then(|gpu| gpu.memory_bytes);
    free.min(limit.unwrap_or(free)) / DEVICE_SHARE
}

/// Whether that label is among the targets.
fn has_label(facts: &DataFacts, label: i64) -> bool {
    let within = |set: &Facts| set.target.range.is_some_and(|range| (range.lowest..=range.highest).contains(&label));
    within(&facts.train) || facts.validation.as_ref().is_some_and(within)
}

/// The conditions under which the numbers are the same.
fn context(device: Device, order: &Order) -> Context {
    let cpu = || {
        let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        named.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
    };
    let (kind, processor) = match (device, &order.lease.gpu) {
        (Device::Cuda(_), Some(gpu)) => ("cuda", gpu.visible.clone()),
        _ => ("cpu", cpu()),
    };
    let cpu_threads = u32::try_from(tch::get_num_threads()).unwrap_or(0);
    Context { libtorch: libtorch_version(), device: kind.into(), cpu_threads, processor }
}
