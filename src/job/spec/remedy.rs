//! Remedies that depend on the format of a set: a column is mended otherwise than an array.

use super::loss::Misfit;
use super::model::Set;
use super::{Loss, Model};
use crate::dataset::{Dtype, Field};

/// The field and the words of a model, a loss and the target of a set that do not fit. The training
/// set tells what the model was made for.
pub(super) fn of_misfit(
    misfit: Misfit,
    train: &Set<'_>,
    set: &Set<'_>,
    loss: &Loss,
    model: &Model,
) -> (String, String) {
    let target = &set.facts.target;
    let (of_model, of_loss) = (format!("model.{}", model.name()), format!("loss.{}", loss.name()));
    match misfit {
        Misfit::Target(what) => {
            (set.file(target), format!("{what}{}", highest_of_training(train, set).unwrap_or_default()))
        }
        Misfit::Output(what) => (of_model, what),
        Misfit::Single(what) => {
            (of_model, format!("{what}; where they are classes, {}", of_target(set, target, Dtype::I64)))
        }
        Misfit::Loss(what) => (of_loss, what),
        Misfit::Type(what, wanted) => (of_loss, format!("{what}, and {}", of_target(set, target, wanted))),
        Misfit::Setting(field, what) => (format!("{of_loss}.{field}"), what),
    }
}

/// The highest label of the training set, behind a semicolon, where another set has a higher one.
fn highest_of_training(train: &Set<'_>, set: &Set<'_>) -> Option<String> {
    let highest = |set: &Set<'_>| {
        let target = &set.facts.target;
        target.range.filter(|_| target.dtype == Dtype::I64).map(|range| range.highest)
    };
    let (had, has) = (highest(train)?, highest(set)?);
    (has > had).then(|| format!("; the highest label of {} is {had}", train.path))
}

/// The way to a target of another type, which follows "and".
fn of_target(set: &Set<'_>, target: &Field, wanted: Dtype) -> String {
    let name = &target.name;
    let is_number = wanted != Dtype::I64;
    match (set.format(), is_number) {
        ("csv" | "parquet", true) => "a column of numbers is taken as they are with target_type = \"numbers\"".into(),
        ("csv" | "parquet", false) => "target_type = \"classes\" makes classes of a column of numbers".into(),
        ("image_folder", true) => "a table that lists the images can have a column of numbers as target".into(),
        ("image_folder", false) => "table.target_type = \"classes\" makes classes of a column of numbers".into(),
        ("idx", true) => "labels of floats are numbers".into(),
        ("idx", false) => "labels of integers are classes".into(),
        ("text" | "cifar", _) => "other data are needed for this loss".into(),
        ("npy" | "npz", true) => format!("32-bit floats, {name}.astype(np.float32), are numbers"),
        ("npy" | "npz", false) => format!("64-bit integers, {name}.astype(np.int64), are classes"),
        (_, true) => format!("32-bit floats, {name}.float(), are numbers"),
        (_, false) => format!("64-bit integers, {name}.long(), are classes"),
    }
}

/// The way to an input of numbers for a network that does not take integers.
pub(super) fn of_integers(set: &Set<'_>, input: &Field) -> String {
    let name = &input.name;
    match set.format() {
        "text" => "the tokens of a text are for gpt, or for sequential with an embedding".into(),
        "csv" | "parquet" => "columns in inputs with encoding = \"index\" are for an embedding".into(),
        "npy" | "npz" => format!("save {name}.astype(np.float32)"),
        _ => format!("save {name}.float()"),
    }
}

/// The way to one input, or to those that a model takes, behind a semicolon; empty where the format
/// leaves no choice.
pub(super) fn of_inputs(set: &Set<'_>) -> &'static str {
    match set.format() {
        "npz" | "safetensors" => {
            "; `inputs` names the arrays that the model gets, and `target` the one that it answers"
        }
        "csv" | "parquet" => "; `inputs` names the columns of each",
        _ => "",
    }
}
