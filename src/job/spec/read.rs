//! From the message of a client to a `Spec`. Every mistake is told, not only the first.

use std::path::Path;
use std::time::Duration;

use super::data::Named;
use super::labels::{LONGEST_NAME, judge_labels, judge_name};
use super::recipe::Recipe;
use super::training::Training;
use super::{
    Data, Demands, Loss, Metric, Mode, Model, ModelWork, Optimizer, Program, Resources, Scale, Schedule, Spec,
    WarmStart, Work, applied, capture, layout,
};
use crate::job::length::Length;
use crate::job::retention::Checkpoints;
use crate::job::retry::Retry;
use crate::job::{Dependency, Violations};
use crate::proto::{json, v1};

/// A message as far as it could be read.
pub struct Reading {
    /// The part of the machine that is wanted, as far as it is right.
    pub resources: Resources,
    /// The model that is trained or applied; None in a job that has none.
    pub model: Option<ModelReading>,
    /// The spec, if everything is right.
    pub spec: Option<Spec>,
    /// The mistakes.
    pub mistakes: Violations,
}

/// The part of a message that trains a model or applies one, as far as it could be read.
pub struct ModelReading {
    /// The data section, if it alone is right: its files can be judged although other sections are
    /// wrong.
    pub data: Option<Data>,
    /// The demands on the data, as far as they are right.
    pub demands: Demands,
}

impl Spec {
    /// A spec that was taken once, out of a database or a folder.
    ///
    /// # Errors
    /// The mistakes that this version finds in it, in words.
    pub fn stored(message: &v1::JobSpec) -> Result<Self, String> {
        let Reading { spec, mistakes, .. } = read(message);
        spec.ok_or_else(|| format!("its spec is none that this version takes: {mistakes}"))
    }
}

/// Priorities that can be given.
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Judges a priority.
pub fn judge_priority(priority: i32, wrong: &mut Violations) {
    if !PRIORITIES.contains(&priority) {
        let (least, most) = (PRIORITIES.start(), PRIORITIES.end());
        wrong.add("priority", format!("is {priority}; {least} to {most} are right"));
    }
}

/// Reads a message.
pub fn read(message: &v1::JobSpec) -> Reading {
    let mut wrong = Violations::default();
    let (work, model) = match &message.program {
        Some(program) => (Program::read(program, message, &mut wrong).map(Work::Program), None),
        None => {
            let (work, reading) = read_model(message, &mut wrong);
            (work.map(Work::from), Some(reading))
        }
    };
    let retry = Retry::read(message.retry.as_ref(), &mut wrong);
    judge_priority(message.priority, &mut wrong);
    let after = Dependency::read(&message.after, &mut wrong);
    let ttl_after_end = read_ttl(message.ttl_after_end.as_ref(), &mut wrong);
    let on_storage_failure = v1::OnStorageFailure::try_from(message.on_storage_failure);
    if on_storage_failure.is_err() {
        wrong.add("on_storage_failure", format!("is {}; pause or fail is right", message.on_storage_failure));
    }
    let resources = Resources::read(message.resources.as_ref(), model.is_some(), &mut wrong);
    let scale = Scale::read(message, resources, &mut wrong);
    let of_ranks = if resources.gpus().is_some() { "resources.gpu_count" } else { "resources.ranks" };
    let ranks =
        scale.as_ref().map_or((of_ranks, resources.rank_count()), |scale| ("scale.world_size", scale.world_size));
    let work = work.map(|work| in_ranks(work, ranks, &mut wrong));
    let mut model = model;
    if let Some(reading) = model.as_mut().filter(|_| ranks.1 > 1) {
        reading.demands.recipe.shards.get_or_insert(ranks.1);
    }
    judge_labels(&message.labels, &mut wrong);
    let max_duration = read_max_duration(message.max_duration.as_ref(), &mut wrong);
    judge_name(&message.display_name, &mut wrong);
    let spec = work.filter(|_| wrong.0.is_empty()).map(|work| Spec {
        display_name: match (message.display_name.as_str(), &work) {
            ("", Work::Model(work)) => named_by_file(&work.model).unwrap_or_else(|| work.model.name().to_owned()),
            ("", Work::Program(program)) => program.name(),
            (name, _) => name.to_owned(),
        },
        work,
        resources,
        scale,
        max_duration,
        labels: message.labels.clone(),
        retry,
        priority: message.priority,
        after,
        ttl_after_end,
        mirror: message.output.as_ref().map(|output| output.mirror.clone()).filter(|mirror| !mirror.is_empty()),
        pauses_on_storage_failure: on_storage_failure != Ok(v1::OnStorageFailure::Fail),
    });
    Reading { resources, model, spec, mistakes: wrong }
}

/// The work of several ranks, whose shards they compute.
/// `field` says how many there are.
fn in_ranks(work: Work, (field, ranks): (&str, u32), wrong: &mut Violations) -> Work {
    let Work::Model(mut work) = work else { return work };
    if ranks == 1 {
        return Work::Model(work);
    }
    if work.mode != Mode::Train {
        wrong.add(field, format!("is {ranks}, and several ranks do nothing but train: 1 is right beside mode"));
    }
    if work.recipe.accumulate_steps > 1 && work.recipe.shards.is_none() {
        let what = format!("is {ranks} beside training.accumulate_steps; training.shards saves as much memory");
        wrong.add(field, what);
    }
    let shards = *work.recipe.shards.get_or_insert(ranks);
    if !shards.is_multiple_of(ranks) {
        let what = format!("is {ranks}, which does not divide training.shards, {shards}");
        wrong.add(field, what);
    }
    if shards > work.batch_size && ranks == shards {
        let what = format!("is {ranks}, and training.batch_size is {}: each needs an example", work.batch_size);
        wrong.add(field, what);
    }
    Work::Model(work)
}

/// Reads the sections of a model.
fn read_model(message: &v1::JobSpec, wrong: &mut Violations) -> (Option<ModelWork>, ModelReading) {
    let before = wrong.0.len();
    let mode = Mode::read(message, wrong);
    let neutral = mode.applies().then(|| applied::neutral(message, wrong));
    let message = neutral.as_ref().unwrap_or(message);
    let model = Model::read(message.model.as_ref(), wrong);
    let data = Data::read(message.data.as_ref(), mode, wrong);
    let has_validation =
        mode.applies() || message.data.as_ref().is_some_and(|data| data.validation.is_some() || data.split.is_some());
    let training = Training::read(message.training.as_ref(), has_validation, wrong);
    let optimizer = Optimizer::read(message.optimizer.as_ref(), wrong);
    let loss = Loss::read(message.loss.as_ref(), wrong);
    let lacks_validation = message.data.is_some() && !has_validation;
    let metrics = Metric::read(&message.metrics, lacks_validation, wrong);
    let schedule = Schedule::read(message.schedule.as_ref(), has_validation, wrong);
    let mut checkpoints = Checkpoints::read(message.checkpoint.as_ref(), has_validation, wrong);
    let warm_start = message.warm_start.as_ref().and_then(|warm| WarmStart::read(warm, wrong));
    let scalar_every_steps = message.logging.as_ref().and_then(|logging| logging.scalar_every_steps);
    if scalar_every_steps == Some(0) {
        wrong.add("logging.scalar_every_steps", "is 0; at least 1 is needed");
    }
    // Each learning rate has a loss.
    let scalar_every_steps = if mode == Mode::Train { scalar_every_steps } else { Some(1) };
    let Training { length, batch_size, validation_batch_size, clip, init_seed, recipe } = training;
    let (length, recipe, data, schedule) = match mode {
        Mode::Train | Mode::Evaluate | Mode::Predict(_) => (length, recipe, data, schedule),
        // It goes through rates: neither a schedule nor a validation pass has a meaning.
        Mode::LrRange(range) => {
            checkpoints.keep_best = None;
            let recipe = Recipe { early_stopping: None, restores_best: false, ema_decay: None, ..recipe };
            let data = data.map(|data| Data { validation: None, ..data });
            (Some(Length::Steps(range.steps.into())), recipe, data, Schedule::read(None, false, wrong))
        }
    };
    if recipe.restores_best {
        checkpoints.keep_best();
    }
    let validation_batch_size = validation_batch_size.filter(|_| mode == Mode::Train);
    if let Some(size) = validation_batch_size.filter(|_| lacks_validation) {
        let found = format!("is {size}, and there is no data.validation; name a validation set, or leave this out");
        wrong.add("training.validation_batch_size", found);
    }
    if init_seed.is_some() && model.as_ref().is_some_and(|model| !model.files().is_empty()) {
        let what = "is set, and the model begins with the weights of its file; leave it out, and draw them with \
                    torch.manual_seed before the export";
        wrong.add("training.init_seed", what);
    }
    if let (Some(Named::Text(_)), Some(Loss::NextToken(_))) = (data.as_ref().map(|data| &data.train), &loss) {
        let what = "is set, and the targets of data.train.text are the tokens that follow already; cross_entropy holds \
                    the scores against them";
        wrong.add("loss.next_token", what);
    }
    capture::judge(&recipe, model.as_ref(), optimizer.as_ref(), &metrics, data.as_ref(), wrong);
    layout::judge(&recipe, model.as_ref(), wrong);
    let demands = Demands {
        model: model.clone(),
        loss: Some(loss.clone()).filter(|loss| loss.is_some() || message.loss.is_none()),
        metrics: metrics.clone(),
        mode,
        optimizer: optimizer.clone().filter(|_| !mode.applies()),
        schedule: schedule.clone(),
        normalize: data.as_ref().and_then(|data| data.normalize.clone()),
        augment: data.as_ref().map(|data| data.augment.clone()).unwrap_or_default(),
        checkpoints,
        length,
        batch_size,
        recipe,
        validation_batch_size,
    };
    let reading = ModelReading { data: data.clone(), demands };
    let (Some(model), Some(data), Some(length), Some(optimizer), Some(schedule), true) =
        (model, data, length, optimizer, schedule, wrong.0.len() == before)
    else {
        return (None, reading);
    };
    let work = ModelWork {
        mode,
        seed: message.seed,
        init_seed,
        model,
        data,
        length,
        batch_size,
        validation_batch_size,
        loss,
        metrics,
        optimizer,
        schedule,
        clip,
        recipe,
        checkpoints,
        scalar_every_steps: scalar_every_steps.unwrap_or(10),
        warm_start,
    };
    (Some(work), reading)
}

fn read_ttl(message: Option<&prost_types::Duration>, wrong: &mut Violations) -> Option<Duration> {
    let message = message?;
    let time = Duration::try_from(*message).ok().filter(|_| json::is_duration(message));
    if time.is_none() {
        let right = format!("0s to {}s is right, and none to keep the job", json::LONGEST_DURATION);
        wrong.add("ttl_after_end", format!("is {} s; {right}", message.seconds));
    }
    time
}

fn read_max_duration(message: Option<&prost_types::Duration>, wrong: &mut Violations) -> Option<Duration> {
    let message = message?;
    let limit = Duration::try_from(*message).ok();
    let limit = limit.filter(|limit| *limit >= Duration::from_secs(1) && json::is_duration(message));
    if limit.is_none() {
        let found = message.seconds as f64 + f64::from(message.nanos) / 1e9;
        let right = format!("1s to {}s is right, and none for no limit", json::LONGEST_DURATION);
        wrong.add("max_duration", format!("is {found} s; {right}"));
    }
    limit
}

/// The name of a model by the first of its files, without the ending; None where it has none that a
/// person can read.
fn named_by_file(model: &Model) -> Option<String> {
    let (_, path) = *model.files().first()?;
    let stem = Path::new(path).file_stem()?.to_str()?;
    let name: String = stem.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::model::MnistCnn;
    use super::*;

    /// A request that is right.
    pub(crate) fn good() -> v1::JobSpec {
        let idx = |name: &str| v1::Dataset {
            format: Some(v1::dataset::Format::Idx(v1::IdxDataset {
                images: name.into(),
                labels: name.into(),
                ..Default::default()
            })),
        };
        v1::JobSpec {
            model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: None })) }),
            data: Some(v1::Data { train: Some(idx("t")), validation: Some(idx("v")), ..v1::Data::default() }),
            training: Some(v1::Training { length: Some(v1::training::Length::Epochs(3)), ..v1::Training::default() }),
            optimizer: Some(v1::Optimizer {
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
                    learning_rate: Some(0.1),
                    momentum: 0.5,
                    ..v1::Sgd::default()
                })),
                ..v1::Optimizer::default()
            }),
            ..v1::JobSpec::default()
        }
    }

    /// The spec that it makes.
    pub(crate) fn example() -> Spec {
        Spec::stored(&good()).unwrap()
    }

    /// The model in it.
    pub(crate) fn example_work() -> ModelWork {
        example().model().unwrap().clone()
    }

    #[test]
    fn a_job_without_a_name_is_called_like_the_file_of_its_model() {
        let long = format!("{}.pt2", "n".repeat(200));
        for (path, name) in
            [("nets/resnet18.v2.pt2", "resnet18.v2"), ("a\nb.pt2", "ab"), ("/", "exported"), (&long, &long[..128])]
        {
            let exported = v1::ExportedModel { path: path.into(), ..v1::ExportedModel::default() };
            let model = Some(v1::Model { family: Some(v1::model::Family::Exported(exported)) });
            let spec = read(&v1::JobSpec { model, ..good() }).spec.unwrap();
            assert_eq!(spec.display_name, name);
            assert_eq!(read(&spec.to_proto()).spec.unwrap(), spec);
        }
    }

    #[test]
    fn defaults_are_filled_in_and_read_back_the_same() {
        let (spec, work) = (example(), example_work());
        assert_eq!((spec.display_name.as_str(), work.batch_size, work.scalar_every_steps), ("mnist_cnn", 64, 10));
        assert_eq!(work.model, Model::MnistCnn(MnistCnn { dropout: 0.5 }));
        assert_eq!(read(&spec.to_proto()).spec.unwrap(), spec);
    }

    #[test]
    fn an_empty_request_names_everything_that_is_missing() {
        let mistakes = read(&v1::JobSpec::default()).mistakes;
        let fields: Vec<_> = mistakes.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["model", "data", "training", "optimizer"]);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for rate in [f64::NAN, f64::INFINITY, -0.1, 0.0] {
            let mut spec = good();
            spec.optimizer = Some(v1::Optimizer {
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
                    learning_rate: Some(rate),
                    momentum: f64::NAN,
                    ..v1::Sgd::default()
                })),
                ..v1::Optimizer::default()
            });
            let fields: Vec<_> = read(&spec).mistakes.0.into_iter().map(|violation| violation.field).collect();
            assert_eq!(fields, ["optimizer.sgd.learning_rate", "optimizer.sgd.momentum"], "{rate}");
        }
    }

    #[test]
    fn times_that_cannot_be_written_down_are_refused() {
        let longest = json::LONGEST_DURATION as i64;
        for (seconds, nanos, is_right) in [
            (1, 0, true),
            (longest - 1, 999_999_999, true),
            (longest, 0, true),
            (longest, 5, false),
            (longest + 1, 0, false),
            (i64::MAX, 0, false),
            (-1, 0, false),
        ] {
            let time = Some(prost_types::Duration { seconds, nanos });
            let message = v1::JobSpec { ttl_after_end: time, max_duration: time, ..good() };
            let fields: Vec<_> = read(&message).mistakes.0.into_iter().map(|mistake| mistake.field).collect();
            assert_eq!(fields.is_empty(), is_right, "{seconds}: {fields:?}");
            if is_right {
                let told = read(&message).spec.unwrap().to_proto();
                let again: v1::JobSpec = json::from_str(&json::to_string(&told, false).unwrap()).unwrap();
                assert_eq!(again, told);
            }
        }
    }

    #[test]
    fn data_files_can_be_judged_although_the_optimizer_is_wrong() {
        let reading = read(&v1::JobSpec { optimizer: None, ..good() });
        assert!(reading.spec.is_none() && reading.model.unwrap().data.is_some());
    }
}
