//! The spec of a job that applies a trained model, and trains none: what makes no sense there is
//! refused, and what a spec has to have all the same is neutral.

use super::data::Normalize;
use super::data::{image_folder, table, text};
use super::{Loss, Model, mode};
use crate::job::Violations;
use crate::proto::v1;

/// Examples at a time, where neither the spec nor the job that trained the model says.
const DEFAULT_BATCH: u32 = 1000;

/// The same request with neutral sections in place of those by which a model is trained. Adds the
/// sections that are there all the same.
pub(super) fn neutral(message: &v1::JobSpec, wrong: &mut Violations) -> v1::JobSpec {
    let name = mode::name(message.mode());
    let mut refuse = |field: &str, is_set: bool| {
        if is_set {
            wrong.add(field, format!("is set, and mode = {name} trains nothing; leave it out"));
        }
    };
    let v1::JobSpec { optimizer, schedule, checkpoint, logging, .. } = message;
    refuse("optimizer", optimizer.is_some());
    refuse("schedule", schedule.is_some());
    refuse("checkpoint", checkpoint.is_some());
    refuse("logging", logging.is_some());
    let data = message.data.clone().unwrap_or_default();
    let v1::Data { train, validation, test: _, normalize, shuffle, split, limit, augment, sampling } = data;
    refuse("data.train", train.is_some());
    refuse("data.validation", validation.is_some());
    refuse("data.split", split.is_some());
    refuse("data.limit", limit.is_some());
    refuse("data.shuffle", shuffle.is_some());
    refuse("data.augment", !augment.is_empty());
    refuse("data.sampling", sampling.is_some());
    let training = message.training.clone().unwrap_or_default();
    let v1::Training { batch_size, precision, .. } = training;
    let rest = v1::Training { batch_size, precision, ..v1::Training::default() } != training;
    refuse("training", rest);
    let is_file = matches!(
        message.warm_start.as_ref().and_then(|warm| warm.source.as_ref()),
        Some(v1::warm_start::Source::File(_))
    );
    let measures = normalize.is_some_and(|normalize| normalize.measure);
    refuse("data.normalize.measure", is_file && measures);
    refuse("metrics", matches!(message.mode(), v1::Mode::Predict) && !message.metrics.is_empty());
    if let Some(test) = message.data.as_ref().and_then(|data| data.test.as_ref())
        && is_file
        && table::takes_means(test)
    {
        let what = "takes the mean, which the training set has taught; name the job as warm_start.checkpoint";
        wrong.add("data.test", format!("{what}, or drop rows with missing values, or take a constant"));
    }
    match &message.warm_start {
        None => {
            let what = format!("is missing; mode = {name} needs the job or the file whose weights it uses");
            wrong.add("warm_start", format!("{what}, as warm_start.checkpoint or warm_start.file"));
        }
        Some(warm) => {
            let what = format!("is set, and mode = {name} takes all weights and nothing else; leave it out");
            for (field, is_set) in
                [("resume", warm.resume), ("strict", warm.strict == Some(false)), ("only", !warm.only.is_empty())]
            {
                if is_set {
                    wrong.add(format!("warm_start.{field}"), what.clone());
                }
            }
        }
    }
    let sgd = v1::Sgd { learning_rate: Some(1.0), ..v1::Sgd::default() };
    v1::JobSpec {
        optimizer: Some(v1::Optimizer { kind: Some(v1::optimizer::Kind::Sgd(sgd)), ..v1::Optimizer::default() }),
        schedule: None,
        checkpoint: None,
        logging: None,
        data: message.data.as_ref().map(|data| v1::Data {
            test: data.test.clone(),
            normalize: data.normalize.clone(),
            shuffle: Some(false),
            ..v1::Data::default()
        }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::Epochs(1)),
            batch_size: Some(batch_size.unwrap_or(DEFAULT_BATCH)),
            precision,
            ..v1::Training::default()
        }),
        ..message.clone()
    }
}

/// Takes the neutral sections out of a message.
pub(super) fn trim(message: &mut v1::JobSpec) {
    message.optimizer = None;
    message.schedule = None;
    message.checkpoint = None;
    message.logging = None;
    if let Some(data) = &mut message.data {
        data.shuffle = None;
    }
    message.training = message.training.take().map(|v1::Training { batch_size, precision, .. }| v1::Training {
        batch_size,
        precision,
        ..v1::Training::default()
    });
}

/// The request with what it takes from the job that trained the model, whose name and spec these
/// are. What the request names besides has to be the same, but for metrics, sizes of batches and
/// the precision.
pub fn take_over(message: &v1::JobSpec, job: &str, trained: &v1::JobSpec, wrong: &mut Violations) -> v1::JobSpec {
    let mut taken = message.clone();
    let mut other = |field: &str, is_other: bool| {
        if is_other {
            wrong.add(field, format!("is another than that of {job}, whose model is used; leave it out"));
        }
    };
    let mut unread = Violations::default();
    if message.model.is_some() {
        let [own, theirs] = [&message.model, &trained.model].map(|model| Model::read(model.as_ref(), &mut unread));
        other("model", own != theirs);
    }
    if message.loss.is_some() {
        let [own, theirs] = [&message.loss, &trained.loss].map(|loss| Loss::read(loss.as_ref(), &mut unread));
        other("loss", own != theirs);
    }
    let normalize = |message: &v1::JobSpec| {
        let normalize = message.data.as_ref().and_then(|data| data.normalize.clone());
        normalize.map(|normalize| Normalize::read(&normalize, &mut Violations::default()))
    };
    other("data.normalize", normalize(message).is_some() && normalize(message) != normalize(trained));
    taken.model.clone_from(&trained.model);
    taken.loss.clone_from(&trained.loss);
    if let Some(data) = &mut taken.data {
        let theirs = trained.data.clone().unwrap_or_default();
        data.normalize = theirs.normalize;
        if let (Some(test), Some(train)) = (&mut data.test, &theirs.train) {
            table::take_over(test, train);
            image_folder::take_over(test, train);
            text::take_over(test, train);
        }
    }
    if taken.mode() == v1::Mode::Evaluate && taken.metrics.is_empty() {
        taken.metrics.clone_from(&trained.metrics);
    }
    let theirs = trained.training.clone().unwrap_or_default();
    let training = taken.training.get_or_insert_default();
    training.batch_size = training.batch_size.or(theirs.validation_batch_size);
    if training.precision() == v1::Precision::Unspecified {
        training.precision = theirs.precision;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::read::tests::good;
    use super::*;

    fn request(mode: v1::Mode) -> v1::JobSpec {
        let test = good().data.unwrap().train;
        let source = Some(v1::warm_start::Source::Checkpoint("jobs/x".into()));
        v1::JobSpec {
            mode: mode.into(),
            data: Some(v1::Data { test, ..v1::Data::default() }),
            warm_start: Some(v1::WarmStart { source, ..v1::WarmStart::default() }),
            ..v1::JobSpec::default()
        }
    }

    fn mistakes(message: &v1::JobSpec) -> Vec<String> {
        read(message).mistakes.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
    }

    #[test]
    fn what_the_trained_job_has_is_filled_in_and_read_back_the_same() {
        let mut wrong = Violations::default();
        let mut trained = good();
        let training = v1::Training { validation_batch_size: Some(7), ..trained.training.unwrap() };
        (trained.training, trained.metrics) = (Some(training), vec!["top_3".into()]);
        let taken = take_over(&request(v1::Mode::Evaluate), "jobs/x", &trained, &mut wrong);
        let spec = read(&taken).spec.unwrap();
        let told = spec.to_proto();
        assert_eq!((told.metrics.clone(), told.training.as_ref().unwrap().batch_size), (vec!["top_3".into()], Some(7)));
        assert!(told.model.is_some() && told.optimizer.is_none() && told.data.as_ref().unwrap().train.is_none());
        assert_eq!(read(&told).spec.unwrap(), spec);
        // A client can send the spec again that it was told: it names the same.
        let again = take_over(&told, "jobs/x", &trained, &mut wrong);
        assert_eq!((read(&again).spec.unwrap(), wrong.0.len()), (spec, 0));
        let mut other = request(v1::Mode::Predict);
        other.model = Some(v1::Model { family: Some(v1::model::Family::Mlp(v1::Mlp::default())) });
        other.data.as_mut().unwrap().normalize = Some(v1::Normalize { mean: vec![0.5], ..v1::Normalize::default() });
        take_over(&other, "jobs/x", &trained, &mut wrong);
        let told: Vec<_> = wrong.0.iter().map(|wrong| wrong.field.as_str()).collect();
        assert_eq!(told, ["model", "data.normalize"]);
    }

    #[test]
    fn what_trains_is_refused_by_its_field() {
        let sections = v1::JobSpec { model: good().model, ..request(v1::Mode::Evaluate) };
        assert!(mistakes(&sections).is_empty());
        let mut all = v1::JobSpec {
            mode: v1::Mode::Predict.into(),
            metrics: vec!["accuracy".into()],
            warm_start: sections.warm_start.clone(),
            ..good()
        };
        all.warm_start.as_mut().unwrap().only = vec!["a".into()];
        let told = mistakes(&all).join("\n");
        let fields =
            ["optimizer", "data.train", "data.validation", "training", "metrics", "warm_start.only", "data.test"];
        for (line, field) in told.lines().zip(fields) {
            assert!(line.starts_with(&format!("{field}: is ")), "{told}");
        }
        assert_eq!(told.lines().count(), fields.len(), "{told}");
        let bare = v1::JobSpec { mode: v1::Mode::Evaluate.into(), ..v1::JobSpec::default() };
        let fields: Vec<_> = read(&bare).mistakes.0.into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["warm_start", "model", "data"]);
        // Data to use a model on have no meaning in training.
        let trains =
            v1::JobSpec { data: Some(v1::Data { test: good().data.unwrap().train, ..good().data.unwrap() }), ..good() };
        assert!(mistakes(&trains)[0].starts_with("data.test: is set, and the mode is none that uses a model"));
    }
}
