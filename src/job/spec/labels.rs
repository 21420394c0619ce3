//! The name and the labels that people find a job by.

use std::collections::BTreeMap;

use crate::job::Violations;

/// Labels of a job.
const MOST_LABELS: usize = 16;
/// Longest name or value of a label, in characters.
const LONGEST_LABEL: usize = 63;
/// Longest name for people, in characters.
pub(super) const LONGEST_NAME: usize = 128;

/// Adds what is wrong with labels, each by itself.
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

/// Adds what is wrong with a name for people.
pub(super) fn judge_name(name: &str, wrong: &mut Violations) {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        wrong.add("display_name", format!("has {length} characters; at most {LONGEST_NAME} are kept"));
    }
    if let Some(control) = name.chars().find(|character| character.is_control()) {
        wrong.add("display_name", format!("holds the control character {control:?}; it is shown on terminals"));
    }
}
