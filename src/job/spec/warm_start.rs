//! The section on weights to begin with.

use super::section::Fields;
use crate::job::Violations;
use crate::proto::v1;
use crate::tensor_file::matching::{Rename, Rules};

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmStart {
    /// The words of the client for it.
    pub source: WarmSource,
    /// The optimizer's state and the place in the data come along.
    pub resume: bool,
    /// Which weights are taken, and what they are called in the file.
    pub rules: Rules,
}

/// The sources of a beginning that a client can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmSource {
    /// `jobs/{id}`, or one of its checkpoints.
    Checkpoint(String),
    /// A file, or the folder of a checkpoint.
    File(String),
}

impl WarmSource {
    /// The path of its field in a spec.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Checkpoint(_) => "warm_start.checkpoint",
            Self::File(_) => "warm_start.file",
        }
    }
}

impl WarmStart {
    /// Reads the section of a spec.
    pub(super) fn read(message: &v1::WarmStart, wrong: &mut Violations) -> Option<Self> {
        let mut fields = Fields::new("warm_start", wrong);
        let (source, field, text) = match &message.source {
            Some(v1::warm_start::Source::Checkpoint(name)) => {
                (WarmSource::Checkpoint(name.clone()), "checkpoint", name)
            }
            Some(v1::warm_start::Source::File(path)) => (WarmSource::File(path.clone()), "file", path),
            None => {
                fields.wrong_itself("names nothing to begin with; choose one: checkpoint, file");
                return None;
            }
        };
        if text.is_empty() || text.contains('\0') {
            let right = match field {
                "checkpoint" => "jobs/{id} or jobs/{id}/checkpoints/step-{step} is needed",
                _ => "the path of a file below the data roots is needed",
            };
            fields.wrong(field, format!("is {text:?}, which names nothing; {right}"));
        }
        let rules = rules(message);
        let found = [
            ("strict", message.strict.is_some_and(|strict| !strict)),
            ("rename", !rules.rename.is_empty()),
            ("only", !rules.only.is_empty()),
        ];
        for (field, _) in found.into_iter().filter(|(_, is_set)| message.resume && *is_set) {
            fields.wrong(field, "is set, and a checkpoint is taken as it is with resume; drop one of the two");
        }
        for (place, pattern) in rules.only.iter().enumerate().filter(|(_, pattern)| pattern.is_empty()) {
            fields.wrong(&format!("only[{place}]"), format!("is {pattern:?}, which describes no name"));
        }
        for (place, _) in rules.rename.iter().enumerate().filter(|(_, rule)| rule.prefix == rule.name) {
            fields.wrong(&format!("rename[{place}]"), "changes nothing: its name is its prefix");
        }
        fields.done(Self { source, resume: message.resume, rules })
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::WarmStart {
        let source = match &self.source {
            WarmSource::Checkpoint(name) => v1::warm_start::Source::Checkpoint(name.clone()),
            WarmSource::File(path) => v1::warm_start::Source::File(path.clone()),
        };
        let Rules { strict, rename, only } = &self.rules;
        let rename =
            rename.iter().map(|Rename { prefix, name }| v1::Rename { prefix: prefix.clone(), name: name.clone() });
        v1::WarmStart {
            source: Some(source),
            resume: self.resume,
            strict: Some(*strict),
            rename: rename.collect(),
            only: only.clone(),
        }
    }
}

fn rules(message: &v1::WarmStart) -> Rules {
    let rename = message.rename.iter().map(|rule| Rename { prefix: rule.prefix.clone(), name: rule.name.clone() });
    Rules { strict: message.strict.unwrap_or(true), rename: rename.collect(), only: message.only.clone() }
}
