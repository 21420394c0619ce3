//! From the message of a client to a `Spec`. Every mistake is told, not only the first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Data, Demands, Device, IdxPaths, Length, Model, Optimizer, Resources, Spec, WarmSource, WarmStart};
use crate::job::Violations;
use crate::job::retention::Checkpoints;
use crate::job::retry::Retry;
use crate::proto::{json, v1};

/// What came of reading a message.
pub struct Reading {
    /// The data section, if it alone is right: its files can be judged although other sections are
    /// wrong.
    pub data: Option<Data>,
    /// What is wanted of the machine, as far as it is right.
    pub resources: Resources,
    /// What is wanted of the data, as far as it is right.
    pub demands: Demands,
    /// The spec, if everything is right.
    pub spec: Option<Spec>,
    /// What is wrong.
    pub mistakes: Violations,
}

/// Priorities that can be given.
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;
/// Labels of a job.
const MOST_LABELS: usize = 16;
/// Longest name or value of a label, in characters.
const LONGEST_LABEL: usize = 63;

/// Longest name for people, in characters.
const MAX_DISPLAY_NAME: usize = 128;

/// Reads a message.
pub fn read(message: &v1::JobSpec) -> Reading {
    let mut wrong = Violations::default();
    let model = read_model(message.model.as_ref(), &mut wrong);
    let data = read_data(message.data.as_ref(), &mut wrong);
    let training = read_training(message.training.as_ref(), &mut wrong);
    let optimizer = read_optimizer(message.optimizer.as_ref(), &mut wrong);
    let has_validation = message.data.as_ref().is_some_and(|data| data.validation.is_some());
    let checkpoints = Checkpoints::read(message.checkpoint.as_ref(), has_validation, &mut wrong);
    let retry = Retry::read(message.retry.as_ref(), &mut wrong);
    if !PRIORITIES.contains(&message.priority) {
        let (least, most) = (PRIORITIES.start(), PRIORITIES.end());
        wrong.add("priority", format!("is {}; {least} to {most} are right", message.priority));
    }
    let ttl_after_end = read_ttl(message.ttl_after_end.as_ref(), &mut wrong);
    let warm_start = message.warm_start.as_ref().and_then(|warm| read_warm_start(warm, &mut wrong));
    let on_storage_failure = v1::OnStorageFailure::try_from(message.on_storage_failure);
    if on_storage_failure.is_err() {
        wrong.add("on_storage_failure", format!("is {}; pause or fail is right", message.on_storage_failure));
    }
    let scalar_every_steps = at_least_one(
        "logging.scalar_every_steps",
        message.logging.as_ref().and_then(|logging| logging.scalar_every_steps),
        10,
        &mut wrong,
    );
    let resources = read_resources(message.resources.as_ref(), &mut wrong);
    judge_labels(&message.labels, &mut wrong);
    let max_duration = read_max_duration(message.max_duration.as_ref(), &mut wrong);
    let length = message.display_name.chars().count();
    if length > MAX_DISPLAY_NAME {
        wrong.add("display_name", format!("has {length} characters; at most {MAX_DISPLAY_NAME} are kept"));
    }
    if let Some(control) = message.display_name.chars().find(|character| character.is_control()) {
        wrong.add("display_name", format!("holds the control character {control:?}; it is shown on terminals"));
    }
    let Lengths { length, batch_size, validation_batch_size } = training;
    if let Some(size) = validation_batch_size.filter(|_| message.data.is_some() && !has_validation) {
        let found = format!("is {size}, and there is no data.validation; name a validation set, or leave this out");
        wrong.add("training.validation_batch_size", found);
    }
    let demands = Demands { model, length, batch_size, validation_batch_size };
    let (Some(model), Some(data), Some(length), Some(optimizer), true) =
        (model, data.clone(), length, optimizer, wrong.0.is_empty())
    else {
        return Reading { data, resources, demands, spec: None, mistakes: wrong };
    };
    let display_name = match message.display_name.as_str() {
        "" => model.name().to_owned(),
        name => name.to_owned(),
    };
    let spec = Spec {
        display_name,
        seed: message.seed,
        model,
        data: data.clone(),
        length,
        batch_size,
        validation_batch_size,
        optimizer,
        checkpoints,
        scalar_every_steps,
        resources,
        max_duration,
        labels: message.labels.clone(),
        retry,
        priority: message.priority,
        ttl_after_end,
        warm_start,
        mirror: message.output.as_ref().map(|output| output.mirror.clone()).filter(|mirror| !mirror.is_empty()),
        pauses_on_storage_failure: on_storage_failure != Ok(v1::OnStorageFailure::Fail),
    };
    Reading { data: Some(data), resources, demands, spec: Some(spec), mistakes: wrong }
}

/// Labels that can be: mistakes are told for each.
pub fn judge_labels(labels: &BTreeMap<String, String>, wrong: &mut Violations) {
    if labels.len() > MOST_LABELS {
        wrong.add("labels", format!("has {} entries; at most {MOST_LABELS} are kept", labels.len()));
    }
    let is_name = |character: char| character.is_ascii_alphanumeric() || ".-_/".contains(character);
    for (name, value) in labels {
        if name.is_empty() || name.len() > LONGEST_LABEL || !name.chars().all(is_name) {
            let right = format!("1 to {LONGEST_LABEL} letters, digits, '.', '_', '-' and '/' are right");
            wrong.add("labels", format!("has the name {name:?}; {right}"));
        }
        if value.chars().count() > LONGEST_LABEL || value.chars().any(char::is_control) {
            let right = format!("at most {LONGEST_LABEL} characters, none of them for control, are right");
            wrong.add("labels", format!("has the value {value:?} for {name:?}; {right}"));
        }
    }
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

fn read_warm_start(message: &v1::WarmStart, wrong: &mut Violations) -> Option<WarmStart> {
    let (source, field, text) = match &message.source {
        Some(v1::warm_start::Source::Checkpoint(name)) => (WarmSource::Checkpoint(name.clone()), "checkpoint", name),
        Some(v1::warm_start::Source::File(path)) => (WarmSource::File(path.clone()), "file", path),
        None => {
            wrong.add("warm_start", "names nothing to begin with; choose one: checkpoint, file");
            return None;
        }
    };
    if text.is_empty() || text.contains('\0') {
        wrong.add(format!("warm_start.{field}"), format!("is {text:?}, which names nothing"));
        return None;
    }
    Some(WarmStart { source, resume: message.resume })
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

fn read_model(message: Option<&v1::Model>, wrong: &mut Violations) -> Option<Model> {
    match message.and_then(|model| model.family.as_ref()) {
        Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout })) => {
            let dropout = dropout.unwrap_or(0.5);
            if !(0.0..1.0).contains(&dropout) {
                wrong.add(
                    "model.mnist_cnn.dropout",
                    format!("is {dropout}; a probability of at least 0 and below 1 is needed"),
                );
                return None;
            }
            Some(Model::MnistCnn { dropout })
        }
        None => {
            wrong.add("model", "is missing; choose a network: mnist_cnn");
            None
        }
    }
}

fn read_data(message: Option<&v1::Data>, wrong: &mut Violations) -> Option<Data> {
    let before = wrong.0.len();
    let Some(v1::Data { train, validation, normalize, shuffle }) = message else {
        wrong.add("data", "is missing; data.train at least is needed");
        return None;
    };
    let paths = match train {
        Some(train) => read_dataset("data.train", train, wrong),
        None => {
            wrong.add("data.train", "is missing; name the examples to learn from, for example data.train.idx");
            None
        }
    };
    let validation = validation.as_ref().map(|dataset| read_dataset("data.validation", dataset, wrong));
    let normalize = normalize.clone().unwrap_or_default();
    let mean = one_channel("data.normalize.mean", &normalize.mean, 0.0, wrong);
    let std = one_channel("data.normalize.std", &normalize.std, 1.0, wrong);
    if !mean.is_finite() {
        wrong.add("data.normalize.mean[0]", format!("is {mean}; a finite number is needed"));
    }
    if !(std.is_finite() && std > 0.0) {
        wrong.add("data.normalize.std[0]", format!("is {std}; a finite number above 0 is needed"));
    }
    if wrong.0.len() > before {
        return None;
    }
    Some(Data { train: paths?, validation: validation.flatten(), mean, std, shuffle: shuffle.unwrap_or(true) })
}

fn one_channel(field: &str, values: &[f64], default: f64, wrong: &mut Violations) -> f64 {
    if values.len() > 1 {
        wrong.add(field, format!("has {} values; IDX images have one channel", values.len()));
    }
    values.first().copied().unwrap_or(default)
}

fn read_dataset(field: &str, message: &v1::Dataset, wrong: &mut Violations) -> Option<IdxPaths> {
    let Some(v1::dataset::Format::Idx(v1::IdxDataset { images, labels })) = &message.format else {
        wrong.add(field, "names no format; choose one: idx");
        return None;
    };
    for (name, path) in [("images", images), ("labels", labels)] {
        if path.is_empty() {
            wrong.add(format!("{field}.idx.{name}"), "is missing; name a file under the data roots");
        } else if path.contains('\0') {
            wrong.add(format!("{field}.idx.{name}"), "holds a zero byte, which no path can");
        }
    }
    Some(IdxPaths { images: images.clone(), labels: labels.clone() })
}

/// The training section, as far as it is right.
struct Lengths {
    length: Option<Length>,
    batch_size: u32,
    validation_batch_size: Option<u32>,
}

fn read_training(message: Option<&v1::Training>, wrong: &mut Violations) -> Lengths {
    let Some(v1::Training { length, batch_size, validation_batch_size }) = message else {
        wrong.add("training", "is missing; training.epochs or training.max_steps is needed");
        return Lengths { length: None, batch_size: 1, validation_batch_size: None };
    };
    let length = match *length {
        Some(v1::training::Length::Epochs(epochs)) if epochs >= 1 => Some(Length::Epochs(epochs)),
        Some(v1::training::Length::MaxSteps(steps)) if steps >= 1 => Some(Length::Steps(steps)),
        Some(v1::training::Length::Epochs(_)) => {
            wrong.add("training.epochs", "is 0; at least 1 is needed");
            None
        }
        Some(v1::training::Length::MaxSteps(_)) => {
            wrong.add("training.max_steps", "is 0; at least 1 is needed");
            None
        }
        None => {
            wrong.add("training", "says not how long to train; set epochs or max_steps");
            None
        }
    };
    let batch_size = at_least_one("training.batch_size", *batch_size, 64, wrong);
    if *validation_batch_size == Some(0) {
        wrong.add("training.validation_batch_size", "is 0; at least 1 is needed");
    }
    Lengths { length, batch_size: batch_size.max(1), validation_batch_size: *validation_batch_size }
}

fn read_optimizer(message: Option<&v1::Optimizer>, wrong: &mut Violations) -> Option<Optimizer> {
    let Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate, momentum })) =
        message.and_then(|optimizer| optimizer.kind.as_ref())
    else {
        wrong.add("optimizer", "is missing; choose one: sgd");
        return None;
    };
    let learning_rate = match *learning_rate {
        Some(rate) if rate.is_finite() && rate > 0.0 => Some(rate),
        Some(rate) => {
            wrong.add("optimizer.sgd.learning_rate", format!("is {rate}; a finite number above 0 is needed"));
            None
        }
        None => {
            wrong.add("optimizer.sgd.learning_rate", "is missing; a finite number above 0 is needed, for example 0.01");
            None
        }
    };
    if !(0.0..1.0).contains(momentum) {
        wrong.add("optimizer.sgd.momentum", format!("is {momentum}; at least 0 and below 1 is needed"));
        return None;
    }
    Some(Optimizer::Sgd { learning_rate: learning_rate?, momentum: *momentum })
}

fn read_resources(message: Option<&v1::Resources>, wrong: &mut Violations) -> Resources {
    let message = message.copied().unwrap_or_default();
    let device = match v1::Device::try_from(message.device) {
        Ok(v1::Device::Unspecified | v1::Device::Auto) => Device::Auto,
        Ok(v1::Device::Cpu) => Device::Cpu,
        Ok(v1::Device::Cuda) => Device::Cuda,
        Err(_) => {
            wrong.add("resources.device", format!("is {}; auto, cpu or cuda is needed", message.device));
            Device::Auto
        }
    };
    match (message.gpu_count, device) {
        (Some(count @ 2..), _) => wrong.add(
            "resources.gpu_count",
            format!("is {count}; this version trains on one GPU, there is no data-parallel training"),
        ),
        (Some(0), Device::Cuda) => wrong.add("resources.gpu_count", "is 0 while resources.device is cuda; 1 is needed"),
        (Some(1), Device::Cpu) => wrong.add("resources.gpu_count", "is 1 while resources.device is cpu; 0 is needed"),
        _ => {}
    }
    if message.cpu_threads == Some(0) {
        wrong.add("resources.cpu_threads", "is 0; at least 1 is needed");
    }
    if message.gpu_memory_bytes == Some(0) {
        wrong.add("resources.gpu_memory_bytes", "is 0; leave it out for a GPU of the job's own");
    }
    if message.gpu_memory_bytes.is_some() && (device == Device::Cpu || message.gpu_count == Some(0)) {
        wrong.add("resources.gpu_memory_bytes", "is set, and the job computes on the CPU");
    }
    Resources {
        device,
        gpu_count: message.gpu_count,
        cpu_threads: message.cpu_threads,
        gpu_memory_bytes: message.gpu_memory_bytes,
    }
}

fn at_least_one(field: &str, value: Option<u32>, default: u32, wrong: &mut Violations) -> u32 {
    if value == Some(0) {
        wrong.add(field, "is 0; at least 1 is needed");
    }
    value.unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::JobSpec {
        let idx = |name: &str| v1::Dataset {
            format: Some(v1::dataset::Format::Idx(v1::IdxDataset { images: name.into(), labels: name.into() })),
        };
        v1::JobSpec {
            model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: None })) }),
            data: Some(v1::Data { train: Some(idx("t")), validation: Some(idx("v")), normalize: None, shuffle: None }),
            training: Some(v1::Training {
                length: Some(v1::training::Length::Epochs(3)),
                batch_size: None,
                validation_batch_size: None,
            }),
            optimizer: Some(v1::Optimizer {
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate: Some(0.1), momentum: 0.5 })),
            }),
            ..v1::JobSpec::default()
        }
    }

    #[test]
    fn defaults_are_filled_in_and_read_back_the_same() {
        let spec = read(&good()).spec.unwrap();
        assert_eq!((spec.display_name.as_str(), spec.batch_size, spec.scalar_every_steps), ("mnist_cnn", 64, 10));
        assert_eq!(spec.model, Model::MnistCnn { dropout: 0.5 });
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
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate: Some(rate), momentum: f64::NAN })),
            });
            let fields: Vec<_> = read(&spec).mistakes.0.into_iter().map(|violation| violation.field).collect();
            assert_eq!(fields, ["optimizer.sgd.learning_rate", "optimizer.sgd.momentum"], "{rate}");
        }
    }

    #[test]
    fn times_that_cannot_be_written_down_are_refused() {
        let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let longest = json::LONGEST_DURATION as i64;
        for (seconds, is_right) in [(1, true), (longest, true), (longest + 1, false), (i64::MAX, false), (-1, false)] {
            let message = v1::JobSpec { ttl_after_end: time(seconds), max_duration: time(seconds), ..good() };
            let fields: Vec<_> = read(&message).mistakes.0.into_iter().map(|mistake| mistake.field).collect();
            assert_eq!(fields.is_empty(), is_right, "{seconds}: {fields:?}");
            assert!(!is_right || json::to_string(&read(&message).spec.unwrap().to_proto(), false).is_ok());
        }
    }

    #[test]
    fn data_files_can_be_judged_although_the_optimizer_is_wrong() {
        let reading = read(&v1::JobSpec { optimizer: None, ..good() });
        assert!(reading.spec.is_none() && reading.data.is_some());
    }

    #[test]
    fn two_gpus_are_refused() {
        let mut spec = good();
        spec.resources = Some(v1::Resources { gpu_count: Some(2), ..v1::Resources::default() });
        assert!(read(&spec).mistakes.to_string().contains("resources.gpu_count: is 2"));
    }
}
