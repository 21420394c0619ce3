//! The edits that a paused job allows: fields of its spec, by their paths. Each section names its
//! fields that may change; the others are here, with the reason.

mod gpus;

use prost::Message;
use prost_reflect::DynamicMessage;

use super::optimizer::{Method, Optimizer};
use super::training::Training;
use super::{Data, ModelWork, Resources, Schedule, Spec, Work, read};
use crate::job::Violations;
use crate::proto::json;
use crate::proto::text::{self, NotSet};
use crate::proto::v1::{self, FieldEdit, job_edits::Length};

/// Sections and fields that may change as a whole.
const FREE: [&str; 10] = [
    "display_name",
    "checkpoint",
    "logging",
    "max_duration",
    "labels",
    "retry",
    "priority",
    "ttl_after_end",
    "on_storage_failure",
    "scale",
];

/// The other sections, and why their fields may not change that none of them names.
const OTHERS: [(&str, &str); 15] = [
    ("mode", "it is another job then"),
    ("lr_range", "the losses so far belong to these rates"),
    ("seed", "everything random of the job follows from it"),
    ("model", "the weights of the checkpoint are those of this model"),
    ("data", "a place in an epoch is one in these data"),
    ("training", "the job has begun with it"),
    ("loss", "the job is about this loss"),
    ("metrics", "the checkpoint holds the sums of these metrics"),
    ("optimizer", "the state of the checkpoint depends on it"),
    ("schedule", "where the schedule stands depends on it"),
    ("resources", "the numbers of the job depend on where it computes"),
    ("warm_start", "the job has begun"),
    ("program", "the job is about this program; submit it as another job"),
    ("after", "the job has waited, or waits, for these jobs; submit another one"),
    ("output", "the copy of its results goes on where it was begun"),
];

/// Those of them that programs have too.
const OF_PROGRAMS: [&str; 4] = ["resources", "program", "after", "output"];
/// The reason why a program has no fields of models that may change.
const NO_RECIPE: &str = "the job runs a program, which has no recipe to edit; submit it with other arguments as \
                         another job, or edit its priority, labels, retry and max_duration";

/// All edits as fields, in the order in which they are made.
fn edits_in_order(spec: &Spec, edits: &v1::JobEdits) -> Vec<FieldEdit> {
    let v1::JobEdits { length, learning_rate, batch_size, set } = edits;
    let edit = |path: String, value: String| FieldEdit { path, value };
    let length = length.map(|length| match length {
        Length::Epochs(epochs) => edit("training.epochs".into(), epochs.to_string()),
        Length::MaxSteps(steps) => edit("training.max_steps".into(), steps.to_string()),
    });
    let rate = learning_rate.map(|rate| {
        let optimizer = spec.model().map_or("", |work| work.optimizer.name());
        let path = format!("optimizer.{optimizer}.learning_rate");
        edit(path, text::to_json(rate.into()).to_string())
    });
    let batch_size = batch_size.map(|size| edit("training.batch_size".into(), size.to_string()));
    length.into_iter().chain(rate).chain(batch_size).chain(set.iter().cloned()).collect()
}

/// Refuses the edits that are of a recipe alone, as a program has none.
fn refuse_recipe(edits: &v1::JobEdits, wrong: &mut Violations) {
    let v1::JobEdits { length, learning_rate, batch_size, set: _ } = edits;
    for (field, is_set) in [
        ("edits.epochs", matches!(length, Some(Length::Epochs(_)))),
        ("edits.max_steps", matches!(length, Some(Length::MaxSteps(_)))),
        ("edits.learning_rate", learning_rate.is_some()),
        ("edits.batch_size", batch_size.is_some()),
    ] {
        if is_set {
            wrong.add(field, format!("is set, and {NO_RECIPE}"));
        }
    }
}

/// The edits of earlier resumes and those of a new one, which win.
pub fn merged(spec: &Spec, before: Option<&v1::JobEdits>, now: &v1::JobEdits) -> v1::JobEdits {
    let now = edits_in_order(spec, now);
    let before = before.map(|before| edits_in_order(spec, before)).unwrap_or_default();
    let stays = |edit: &FieldEdit| now.iter().all(|new| new.path != edit.path);
    let set = before.into_iter().filter(stays).chain(now.iter().cloned()).collect();
    v1::JobEdits { set, ..v1::JobEdits::default() }
}

impl Spec {
    /// The spec with the edits made, judged as that of a new job.
    ///
    /// # Errors
    /// The fields that may not change, with the reason, and those that are wrong.
    pub fn edited(&self, edits: &v1::JobEdits) -> Result<Self, Violations> {
        let mut wrong = Violations::default();
        if self.program().is_some() {
            refuse_recipe(edits, &mut wrong);
            if !wrong.0.is_empty() {
                return Err(wrong);
            }
        }
        let edits = edits_in_order(self, edits);
        let mut message = self.dynamic()?;
        for (place, FieldEdit { path, value }) in edits.iter().enumerate() {
            if edits[..place].iter().any(|other| other.path == *path) {
                wrong.add(path, "is set twice");
                continue;
            }
            match serde_json::from_str(value) {
                Ok(value) => self.edit(&mut message, path, value, &mut wrong),
                Err(error) => wrong.add(path, format!("is {value:?}, which is no JSON: {error}")),
            }
        }
        gpus::keep_ranks_with(self, &mut message, &edits);
        if !wrong.0.is_empty() {
            return Err(wrong);
        }
        let reading = read(&message.transcode_to().map_err(|error| unread(&error))?);
        let mut edited = reading.mistakes.or(reading.spec)?;
        if let (Work::Model(edited), Some(work)) = (&edited.work, self.model())
            && edited.recipe.shards != work.recipe.shards
        {
            let what = "may not change: the job has no training.shards, so that its numbers are those of one rank";
            let edited = edits.iter().map(|edit| edit.path.as_str()).find(|path| path.starts_with("resources."));
            wrong.add(edited.unwrap_or("resources.ranks"), what);
            return Err(wrong);
        }
        if edited.resources.gpus().is_some() != self.resources.gpus().is_some() {
            let what = "may not change between 0 and more: the numbers of the job depend on where it computes";
            wrong.add("resources.gpu_count", what);
            return Err(wrong);
        }
        // A model that is read from files knows them already.
        if let (Work::Model(edited), Some(work)) = (&mut edited.work, self.model()) {
            edited.model = work.model.clone();
        }
        Ok(edited)
    }

    /// Its message, whose fields are reached by their names.
    fn dynamic(&self) -> Result<DynamicMessage, Violations> {
        let descriptor = json::descriptor::<v1::JobSpec>().map_err(|error| unread(&error))?;
        DynamicMessage::decode(descriptor, &*self.to_proto().encode_to_vec()).map_err(|error| unread(&error))
    }

    /// Makes an edit, or adds why not.
    fn edit(&self, message: &mut DynamicMessage, path: &str, value: serde_json::Value, wrong: &mut Violations) {
        let mut changed = message.clone();
        match (text::set(&mut changed, path, value), self.may_change(path)) {
            (Err(NotSet { at, what, is_unknown: true }), _) => return wrong.add(at, what),
            (_, Err(reason)) => return wrong.add(path, format!("may not change: {reason}")),
            (Err(NotSet { at, what, .. }), Ok(())) => return wrong.add(at, what),
            (Ok(()), Ok(())) => {}
        }
        if path.starts_with("optimizer.") && !self.keeps_alike(&changed) {
            let what = "may not become 0 or cease to be 0: what the optimizer keeps of each parameter depends on it";
            return wrong.add(path, what);
        }
        *message = changed;
    }

    /// Whether an optimizer keeps the same tensors after an edit as before. One that is wrong is
    /// judged with the spec.
    fn keeps_alike(&self, edited: &DynamicMessage) -> bool {
        let edited = edited.transcode_to::<v1::JobSpec>().ok();
        let optimizer =
            edited.and_then(|edited| Optimizer::read(edited.optimizer.as_ref(), &mut Violations::default()));
        let slots = self.model().map(|work| work.optimizer.slots());
        optimizer.is_none_or(|optimizer| Some(optimizer.slots()) == slots)
    }

    /// Whether the field at a path may change, or why not.
    fn may_change(&self, path: &str) -> Result<(), String> {
        let is_within = |path: &str, whole: &str| {
            path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if FREE.iter().any(|free| is_within(path, free)) {
            return Ok(());
        }
        let editable = self.editable();
        let is_of = |field: &String| {
            path.strip_prefix(&**field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if editable.iter().any(is_of) {
            return Ok(());
        }
        let within: Vec<_> = editable.iter().filter(|field| is_within(field, path)).map(String::as_str).collect();
        if !within.is_empty() {
            return Err(format!("its fields are edited one by one; those that may are {}", within.join(", ")));
        }
        let (section, rest) = path.split_once('.').unwrap_or((path, ""));
        let (kinds, kind) = match section {
            "optimizer" => (Method::NAMES, self.model().map_or("", |work| work.optimizer.name())),
            "schedule" => (Schedule::NAMES, self.model().map_or("", |work| work.schedule.name())),
            _ => (&[][..], ""),
        };
        if kinds.iter().any(|other| *other != kind && is_within(rest, other)) {
            return Err(format!("the job has {section}.{kind}, and no other takes its place"));
        }
        let reason = OTHERS.iter().find(|(other, _)| *other == section);
        if reason.is_some() && self.program().is_some() && !OF_PROGRAMS.contains(&section) {
            return Err(NO_RECIPE.into());
        }
        Err(reason.map_or("it is no section of a spec", |(_, reason)| reason).into())
    }

    /// The paths that may change within the sections that may not as a whole.
    fn editable(&self) -> Vec<String> {
        let of = |section: String, fields: &'static [&'static str]| {
            fields.iter().map(move |field| format!("{section}.{field}"))
        };
        let Some(ModelWork { model, loss, schedule, optimizer, .. }) = self.model() else { return Vec::new() };
        of("training".into(), &Training::EDITABLE)
            .chain(of("data".into(), &Data::EDITABLE))
            .chain(of("resources".into(), &Resources::EDITABLE))
            .chain(of(format!("model.{}", model.name()), model.editable()))
            .chain(loss.iter().flat_map(|loss| of(format!("loss.{}", loss.name()), loss.editable())))
            .chain(optimizer.editable())
            .chain(of(format!("schedule.{}", schedule.name()), schedule.editable()))
            .collect()
    }
}

/// The spec as a message was not read: a fault of this build.
fn unread(error: &dyn std::fmt::Display) -> Violations {
    let mut wrong = Violations::default();
    wrong.add("edits", error.to_string());
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::Clip;
    use super::super::read::tests::good;
    use super::*;
    use crate::job::length;

    fn edits(set: &[(&str, &str)]) -> v1::JobEdits {
        let edit = |&(path, value): &(&str, &str)| FieldEdit { path: path.into(), value: value.into() };
        v1::JobEdits { set: set.iter().map(edit).collect(), ..v1::JobEdits::default() }
    }

    /// The good spec with other sections in JSON.
    fn spec(sections: &str) -> Spec {
        let others: v1::JobSpec = json::from_str(sections).unwrap();
        let message = v1::JobSpec {
            optimizer: others.optimizer.or(good().optimizer),
            schedule: others.schedule,
            labels: others.labels,
            ..good()
        };
        Spec::stored(&message).unwrap()
    }

    fn work(spec: &Spec) -> &ModelWork {
        spec.model().unwrap()
    }

    fn told(spec: &Spec, set: &[(&str, &str)]) -> Vec<String> {
        let wrong = spec.edited(&edits(set)).unwrap_err();
        wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
    }

    #[test]
    fn gpus_and_ranks_of_a_model_change_together_and_no_gpu_comes_or_goes() {
        let on = |gpu_count| {
            let resources = Some(v1::Resources { gpu_count: Some(gpu_count), ..v1::Resources::default() });
            let training = good().training.map(|training| v1::Training { shards: Some(4), ..training });
            Spec::stored(&v1::JobSpec { resources, training, ..good() }).unwrap()
        };
        for path in ["resources.gpu_count", "resources.ranks"] {
            for count in [4, 1] {
                let edited = on(2).edited(&edits(&[(path, &count.to_string())])).unwrap();
                assert_eq!((edited.resources.gpus(), edited.resources.rank_count()), (Some(count), count), "{path}");
            }
        }
        for (spec, value) in [(on(2), "0"), (on(0), "1")] {
            let told = told(&spec, &[("resources.gpu_count", value)]);
            assert!(told[0].starts_with("resources.gpu_count: may not change between 0 and more"), "{told:?}");
        }
        let both = told(&on(2), &[("resources.gpu_count", "4"), ("resources.ranks", "2")]);
        assert!(both[0].starts_with("resources.ranks: is 2, and the job has 4 of resources.gpu_count"), "{both:?}");
    }

    #[test]
    fn edits_change_what_they_name_and_later_ones_win() {
        let spec = spec("{}");
        assert_eq!(spec.edited(&v1::JobEdits::default()).unwrap(), spec);
        let first = v1::JobEdits { learning_rate: Some(0.01), batch_size: Some(32), ..v1::JobEdits::default() };
        let second = v1::JobEdits {
            length: Some(Length::MaxSteps(9)),
            batch_size: Some(16),
            ..edits(&[("optimizer.sgd.weight_decay", "0.1")])
        };
        let third = edits(&[("optimizer.sgd.learning_rate", "0.02"), ("training.epochs", "4")]);
        let once = merged(&spec, Some(&first), &second);
        let both = spec.edited(&once).unwrap();
        assert_eq!((work(&both).length, work(&both).batch_size), (length::Length::Steps(9), 16));
        assert_eq!(work(&both).optimizer.learning_rate(), 0.01);
        let all = merged(&spec, Some(&once), &third);
        let paths: Vec<_> = all.set.iter().map(|edit| edit.path.trim_start_matches("optimizer.sgd.")).collect();
        assert_eq!(
            paths,
            ["training.max_steps", "training.batch_size", "weight_decay", "learning_rate", "training.epochs"]
        );
        let edited = spec.edited(&all).unwrap();
        let rate = work(&edited).optimizer.learning_rate();
        assert_eq!((work(&edited).length, rate), (length::Length::Epochs(4), 0.02));
        assert_eq!(both.edited(&third).unwrap(), edited, "edits one after the other are those of all resumes");
        let wrong = v1::JobEdits { learning_rate: Some(-1.0), batch_size: Some(0), ..v1::JobEdits::default() };
        let mistakes = spec.edited(&wrong).unwrap_err();
        let fields: Vec<_> = mistakes.0.into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(fields, ["training.batch_size", "optimizer.sgd.learning_rate"]);
    }

    #[test]
    fn fields_of_every_type_are_edited() {
        let spec = spec(r#"{"labels": {"team": "a", "run": "1"}}"#);
        let edited = spec
            .edited(&edits(&[
                ("display_name", r#""other""#),
                ("labels.team", r#""b""#),
                ("labels.run", "null"),
                ("labels.a.b", r#""c""#),
                ("max_duration", r#""90s""#),
                ("on_storage_failure", r#""fail""#),
                ("retry", r#"{"max_restarts": 3}"#),
                ("checkpoint.keep_best.metric", r#""loss/validation""#),
                ("logging.scalar_every_steps", "null"),
                ("training.gradient_clip_value", "0.5"),
                ("priority", "-7"),
            ]))
            .unwrap();
        let message = edited.to_proto();
        assert_eq!(message.display_name, "other");
        assert_eq!(message.labels, [("a.b", "c"), ("team", "b")].map(|(key, text)| (key.into(), text.into())).into());
        assert_eq!((message.max_duration.unwrap().seconds, message.priority), (90, -7));
        assert_eq!(message.retry.unwrap().max_restarts, 3);
        assert_eq!(message.checkpoint.unwrap().keep_best.unwrap().metric, "loss/validation");
        assert!(!edited.pauses_on_storage_failure);
        assert_eq!((work(&edited).scalar_every_steps, work(&edited).clip), (10, Some(Clip::Value(0.5))));
        let other = edited.edited(&edits(&[("training.gradient_clip_norm", "1")])).unwrap();
        assert_eq!(work(&other).clip, Some(Clip::Norm(1.0)));
        let none = other.edited(&edits(&[("training.gradient_clip_norm", "null")])).unwrap();
        assert_eq!(work(&none).clip, None);
    }

    #[test]
    fn changes_of_examples_are_edited_one_by_one_and_as_a_list() {
        let list = serde_json::json!([{"flip": {}}, {"noise": {"std": 0.1}}]);
        let spec = spec("{}").edited(&edits(&[("data.augment", &list.to_string())])).unwrap();
        assert_eq!(work(&spec).data.augment.len(), 2);
        let edited = spec.edited(&edits(&[("data.augment[0].flip.p", "0.25"), ("data.augment[1].noise.std", "0.2")]));
        let written = json::to_value(&edited.unwrap().to_proto(), true).unwrap();
        let expected = serde_json::json!([{"flip": {"p": 0.25, "vertical": false}}, {"noise": {"std": 0.2}}]);
        assert_eq!(written["data"]["augment"], expected);
        let none = spec.edited(&edits(&[("data.augment", "[]")])).unwrap();
        assert!(work(&none).data.augment.is_empty());
        for (path, value, wrong) in [
            ("data.augment[0].flip.p", "2", "data.augment[0].flip.p: is 2; at least 0 and at most 1"),
            ("data.augment[2].flip.p", "1", "data.augment: has 2 entries"),
            ("data", "{}", "data: may not change: its fields are edited one by one; those that may are data.augment"),
            ("data.shuffle", "false", "data.shuffle: may not change: a place in an epoch"),
        ] {
            let told = told(&spec, &[(path, value)]);
            assert!(told.len() == 1 && told[0].starts_with(wrong), "{path}: {told:?}");
        }
    }

    #[test]
    fn every_field_that_may_change_can_be_set_to_what_it_is() {
        let schedule = |name: &str| match name {
            "step" => r#"{"every_steps": 2}"#,
            "multi_step" => r#"{"at_steps": [2, 3]}"#,
            "exponential" => r#"{"factor": 0.9}"#,
            "cosine" => r#"{"restart_steps": 2}"#,
            _ => "{}",
        };
        let optimizers = Method::NAMES.iter().map(|name| {
            let numbers = if *name == "sgd" { r#"{"learning_rate": 0.1, "momentum": 0.9}"# } else { "{}" };
            let groups = r#""groups": [{"parameters": ["a"]}, {"parameters": ["b"], "weight_decay": 0.1}]"#;
            format!(r#"{{"optimizer": {{"{name}": {numbers}, {groups}}}}}"#)
        });
        let schedules =
            Schedule::NAMES.iter().map(|name| format!(r#"{{"schedule": {{"{name}": {}}}}}"#, schedule(name)));
        for sections in optimizers.chain(schedules) {
            let spec = spec(&sections);
            let value = json::to_value(&spec.to_proto(), true).unwrap();
            let paths = spec.editable().into_iter().chain(FREE.map(str::to_owned));
            let at = |path: &str| {
                let path = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
                value.pointer(&path).cloned()
            };
            // Those of a choice that the job has not made are absent.
            let set: Vec<_> = paths.filter_map(|path| Some((at(&path)?.to_string(), path))).collect();
            assert!(set.len() > 10, "{sections}: {set:?}");
            for (value, path) in set {
                assert_eq!(spec.edited(&edits(&[(&path, &value)])), Ok(spec.clone()), "{sections}: {path}={value}");
            }
        }
    }

    #[test]
    fn every_section_of_a_spec_may_change_or_may_not() {
        let sections = json::descriptor::<v1::JobSpec>().unwrap();
        let known = |name: &str| {
            let others = OTHERS.iter().map(|(section, _)| *section);
            FREE.into_iter().chain(others).filter(|section| *section == name).count()
        };
        for section in sections.fields() {
            assert_eq!(known(section.name()), 1, "{}", section.name());
        }
    }

    #[test]
    fn what_may_not_change_is_refused_with_the_reason() {
        let adamw = r#""optimizer": {"adamw": {}, "groups": [{"parameters": ["a"]}]}"#;
        let adamw = spec(&format!(r#"{{{adamw}, "schedule": {{"cosine": {{}}}}}}"#));
        for (path, value, wrong) in [
            ("seed", "7", "seed: may not change: everything random"),
            ("model.mnist_cnn.dropout", "0.1", "model.mnist_cnn.dropout: may not change: the weights"),
            ("data.shuffle", "false", "data.shuffle: may not change: a place in an epoch"),
            ("loss.nll.ignored_label", "1", "loss.nll.ignored_label: may not change: the job is about this loss"),
            ("metrics", "[]", "metrics: may not change: the checkpoint holds the sums"),
            ("training.init_seed", "1", "training.init_seed: may not change: the job has begun with it"),
            (
                "optimizer.sgd.momentum",
                "0.1",
                "optimizer.sgd.momentum: may not change: the job has optimizer.adamw, and",
            ),
            ("optimizer.adamw.amsgrad", "true", "optimizer.adamw.amsgrad: may not change: the state of the checkpoint"),
            ("optimizer.freeze", r#"["a"]"#, "optimizer.freeze: may not change: the state of the checkpoint"),
            ("optimizer.groups[0].parameters", "[]", "optimizer.groups[0].parameters: may not change: the state of"),
            (
                "optimizer.adamw",
                "{}",
                "optimizer.adamw: may not change: its fields are edited one by one; those that may",
            ),
            (
                "schedule.linear.final_ratio",
                "0",
                "schedule.linear.final_ratio: may not change: the job has schedule.cos",
            ),
            ("schedule", "null", "schedule: may not change: its fields are edited one by one"),
            // Unknown ones name the nearest.
            ("optimizer.adamw.weigth_decay", "1", "optimizer.adamw.weigth_decay: no such field; did you mean weight_d"),
            ("shedule.cosine", "1", "shedule: no such field; did you mean schedule?"),
            ("", "1", "\"\": no such field"),
            ("\u{1b}[2J", "1", "\"\\u{1b}[2J\": no such field"),
            ("training.epochs.x", "1", "training.epochs: has no fields"),
            ("optimizer.groups[1].rate_scale", "1", "optimizer.groups: has 1 entries, counted from 0; there is no [1]"),
            // Values.
            ("optimizer.adamw.beta1", "1.5", "optimizer.adamw.beta1: is 1.5; at least 0 and below 1"),
            ("optimizer.adamw.beta1", "\"x\"", "optimizer.adamw.beta1: is \"x\", a number is needed"),
            ("optimizer.adamw.beta1", "0.5 x", "optimizer.adamw.beta1: is \"0.5 x\", which is no JSON"),
            ("labels.team", "3", "labels.team: is 3, text is needed"),
            ("schedule.cosine.final_ratio", "2", "schedule.cosine.final_ratio: is 2; at least 0"),
        ] {
            let told = told(&adamw, &[(path, value)]);
            assert!(told.len() == 1 && told[0].starts_with(wrong), "{path}: {told:?}");
        }
        let twice = told(&adamw, &[("priority", "1"), ("priority", "2"), ("seed", "1")]);
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert_eq!(twice[0], "priority: is set twice");
    }

    #[test]
    fn an_optimizer_goes_on_keeping_what_it_keeps() {
        for (optimizer, path, wrong, right) in [
            (r#"{"sgd": {"learning_rate": 0.1, "momentum": 0.9}}"#, "optimizer.sgd.momentum", "0", "0.5"),
            (r#"{"sgd": {"learning_rate": 0.1}}"#, "optimizer.sgd.momentum", "0.5", "0"),
            (r#"{"rmsprop": {}}"#, "optimizer.rmsprop.momentum", "0.5", "0"),
            (r#"{"rmsprop": {"momentum": 0.9}}"#, "optimizer.rmsprop.momentum", "0", "0.5"),
        ] {
            let spec = spec(&format!(r#"{{"optimizer": {optimizer}}}"#));
            let told = told(&spec, &[(path, wrong)]);
            assert!(told[0].starts_with(&format!("{path}: may not become 0 or cease to be 0")), "{told:?}");
            assert!(spec.edited(&edits(&[(path, right)])).is_ok());
        }
    }
}
