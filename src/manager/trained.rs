//! The job whose model another one applies: its spec, how its values became inputs, and the files
//! of its model. It lends them as they are; nothing of it changes.

use std::io::{self, Read};

use super::ManagerSettings;
use super::warm_start::{self, Refusal, Source};
use crate::beneath::{Folder, present};
use crate::dataset::{Facts, Preparation, Preprocessing};
use crate::job::spec::Network;
use crate::job::{Spec, Violations, spec};
use crate::journal::JobFolder;
use crate::proto::v1;

/// The field that names it.
const FIELD: &str = "warm_start.checkpoint";
/// A larger preprocessing.json is none that a runner has written.
const MOST_BYTES: u64 = 64 << 20;

/// The job that trained a model.
pub(super) struct Trained {
    /// `jobs/{id}`.
    pub(super) name: String,
    /// Its preprocessing.json.
    pub(super) preprocessing: Preprocessing,
    /// The bytes of that file.
    pub(super) bytes: Vec<u8>,
    /// Its request, with the edits of its last attempt.
    spec: v1::JobSpec,
    place: JobFolder,
    folder: Folder,
}

/// Whether a request applies the model of a job.
pub(super) fn is_of_job(message: &v1::JobSpec) -> bool {
    name_of(message).is_some()
}

fn name_of(message: &v1::JobSpec) -> Option<&str> {
    let applies = matches!(message.mode(), v1::Mode::Evaluate | v1::Mode::Predict);
    match message.warm_start.as_ref().and_then(|warm| warm.source.as_ref()) {
        Some(v1::warm_start::Source::Checkpoint(name)) if applies && !name.is_empty() => Some(name),
        _ => None,
    }
}

/// The request with what it takes from the job whose model it applies, and that job. None twice for
/// any other request. The request without a model, and no job, where there are mistakes.
pub(super) fn take_over(
    message: &v1::JobSpec,
    settings: &ManagerSettings,
    wrong: &mut Violations,
) -> (Option<v1::JobSpec>, Option<Trained>) {
    let Some(name) = name_of(message) else { return (None, None) };
    match Trained::find(name, settings) {
        Ok(trained) => {
            let taken = spec::take_over(message, &trained.name, &trained.spec, wrong);
            (Some(taken), Some(trained))
        }
        Err(refusal) => {
            refusal.tell(FIELD, wrong);
            (Some(v1::JobSpec { model: None, ..message.clone() }), None)
        }
    }
}

impl Trained {
    fn find(name: &str, settings: &ManagerSettings) -> Result<Self, Refusal> {
        let (id, _) = warm_start::named(name)?;
        let (place, folder) = warm_start::open_job(name, &id, settings)?;
        let unreadable = |error: io::Error| Refusal::of(&error, format!("is {name:?}, which cannot be read: {error}"));
        let kept = folder.folder("artifacts").and_then(|artifacts| artifacts.file(JobFolder::PREPROCESSING));
        let Some(kept) = present(kept).map_err(unreadable)? else {
            let why = "it has not begun to train, or an earlier version trained it";
            let what = format!("is {name:?}, and that job has no artifacts/{}: {why}", JobFolder::PREPROCESSING);
            return Err(format!("{what}; name its weights as warm_start.file, with the model").into());
        };
        let mut bytes = Vec::new();
        kept.take(MOST_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        let preprocessing = Preprocessing::read(&bytes)
            .map_err(|what| format!("is {name:?}, whose artifacts/{} {what}", JobFolder::PREPROCESSING))?;
        let spec = spec_of(&place).map_err(unreadable)?;
        Ok(Self { name: id.name(), preprocessing, bytes, spec, place, folder })
    }

    /// The facts of the set that it was trained on.
    pub(super) fn facts(&self) -> Facts {
        self.preprocessing.facts()
    }

    /// Opens its copy of a file of its model.
    pub(super) fn open(&self, file: &str) -> Result<Source, Refusal> {
        let path = self.place.path().join(file);
        let opened = self.folder.file(file).and_then(|opened| Source::new(opened, path));
        opened.map_err(|error| {
            Refusal::of(&error, format!("is that of {}, whose {file} cannot be read: {error}", self.name))
        })
    }
}

/// The spec of a job, with all edits that an attempt was made with.
fn spec_of(place: &JobFolder) -> io::Result<v1::JobSpec> {
    let spec = Spec::stored(&place.read_spec()?).map_err(io::Error::other)?;
    let last = place.last_attempt()?;
    let edits = if last > 0 { place.read_order(last)?.edits } else { None };
    match edits {
        Some(edits) => Ok(spec.edited(&edits).map_err(|wrong| io::Error::other(wrong.to_string()))?.to_proto()),
        None => Ok(spec.to_proto()),
    }
}

/// Refuses a test set that would have to teach what the training set of the model has taught: its
/// names may be others, or stand for other numbers.
pub(super) fn judge_untaught(
    field: &str,
    preparation: &Preparation,
    network: Option<&Network>,
    wrong: &mut Violations,
) {
    let remedy = "name the job that trained it, as warm_start.checkpoint";
    if let Some(names) = preparation.of_training() {
        return wrong.add(field, format!("needs {names} that the model was trained with; {remedy}"));
    }
    let found = preparation.classes.len() as u64;
    if let Some([answered]) = network.map(|network| &network.output[..])
        && found > 0
        && *answered != found
    {
        let what = format!("has {found} classes by name, and the model answers {answered}");
        wrong.add(field, format!("{what}, so that their numbers are not known; {remedy}"));
    }
}
