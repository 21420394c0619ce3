//! The spec of a job and facts of a machine in files, with what `--set` changes.

use std::io::ErrorKind;
use std::path::Path;

use prost::Name;
use toml::Table;

use super::failure::Failure;
use crate::proto::{text, v1};

/// Reads a message and changes what `--set` says.
pub(super) fn read<M: Name + Default>(file: &Path, sets: &[String]) -> Result<M, Failure> {
    let name = file.display().to_string();
    let content = std::fs::read_to_string(file).map_err(|error| {
        Failure::Mistake(match error.kind() {
            ErrorKind::InvalidData => format!(
                "{name} is no text; a file of TOML or JSON is needed. A spec names a model of its own as \
                 model.exported.path"
            ),
            _ => format!("{name} cannot be read: {error}"),
        })
    })?;
    let is_json = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let table = text::to_table(&content, is_json).map_err(|error| {
        Failure::Mistake(format!("{name} is no {}: {error}", if is_json { "JSON" } else { "TOML" }))
    })?;
    with_sets(table, sets).map_err(|mistakes| Failure::Spec { file: name, mistakes })
}

/// The message that the table of a file holds, changed by what `--set` says; or all mistakes, each
/// with its path or its `--set`.
pub fn with_sets<M: Name + Default>(table: Table, sets: &[String]) -> Result<M, Vec<String>> {
    let mut tables = vec![table];
    let mut wrong_sets = Vec::new();
    for set in sets {
        match parse_set(set) {
            Ok(table) => tables.push(table),
            Err(mistake) => wrong_sets.push(mistake),
        }
    }
    match text::message(&tables) {
        Ok(message) if wrong_sets.is_empty() => Ok(message),
        Ok(_) => Err(wrong_sets),
        Err(mut mistakes) => {
            mistakes.extend(wrong_sets);
            Err(mistakes)
        }
    }
}

/// Names in a key, as a file of TOML may have them: tables within tables take room on the stack.
const DEEPEST: usize = 80;

/// `a.b=1` as a key and a value, which is TOML, else text.
fn split_set(set: &str) -> Result<(&str, toml::Value), String> {
    let (key, value) = set.split_once('=').ok_or_else(|| no_set(set))?;
    let value = match format!("value = {value}").parse::<Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").ok_or_else(|| no_set(set))?,
        _ => toml::Value::String(value.to_owned()),
    };
    Ok((key, value))
}

fn no_set(set: &str) -> String {
    format!("--set {set}: KEY=VALUE is needed, for example training.epochs=3")
}

/// `a.b=1` as an edit of a job; the value null is that of JSON.
pub(super) fn edit(set: &str) -> Result<v1::FieldEdit, String> {
    let (path, value) = split_set(set)?;
    let value = if value.as_str() == Some("null") { serde_json::Value::Null } else { text::to_json(value) };
    Ok(v1::FieldEdit { path: path.trim().to_owned(), value: value.to_string() })
}

/// `a.b=1` as the table that it means.
fn parse_set(set: &str) -> Result<Table, String> {
    let wrong = || no_set(set);
    let (key, value) = split_set(set)?;
    let mut names: Vec<&str> = key.split('.').map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(wrong());
    }
    if names.len() > DEEPEST {
        return Err(format!("--set {key}: names a field within {} others; no field is so deep", names.len() - 1));
    }
    let last = names.pop().ok_or_else(wrong)?;
    let innermost = Table::from_iter([(last.to_owned(), value)]);
    Ok(names
        .into_iter()
        .rev()
        .fold(innermost, |inner, name| Table::from_iter([(name.to_owned(), toml::Value::Table(inner))])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str, ending: &str, sets: &[&str]) -> Result<v1::JobSpec, Vec<String>> {
        let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sets: Vec<_> = sets.iter().map(|&set| set.to_owned()).collect();
        read(file.path(), &sets).map_err(|failure| match failure {
            Failure::Spec { mistakes, .. } => mistakes,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn toml_and_json_give_the_same_message() {
        let toml =
            "seed = 7\n[resources]\ndevice = 'cuda'\n[data.normalize]\nmean = [0.5]\n[training]\nbatch_size = 3\n";
        let json = r#"{"seed": "7", "resources": {"device": "DEVICE_CUDA"}, "data": {"normalize": {"mean": [0.5]}},
                      "training": {"batchSize": 3, "epochs": null}}"#;
        let read = spec(toml, ".toml", &[]).unwrap();
        assert_eq!(read, spec(json, ".json", &[]).unwrap());
        assert_eq!(read.resources.unwrap().device(), v1::Device::Cuda);
    }

    #[test]
    fn a_file_that_is_no_text_is_told_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"PK\x03\x04\xff\xfe").unwrap();
        let Err(Failure::Mistake(told)) = read::<v1::JobSpec>(file.path(), &[]) else { panic!("it was read") };
        assert!(told.contains("is no text") && told.contains("model.exported.path"), "{told}");
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let text = "sed = 1\n[training]\nepochs = 1\nmax_steps = 2\nbatch_size = -4\n[resources]\ndevice = 'gpu'\n[model]\nwavelets = {}\n";
        let mistakes = spec(text, ".toml", &["optimizer.adan.beta=1", "nonsense"]).unwrap_err();
        let expected = [
            "sed: no such field; did you mean seed?",
            "training.max_steps: training has epochs already",
            "training.batch_size: is -4, a whole number from 0",
            "resources.device: is \"gpu\", auto or cpu or cuda is needed",
            "model.wavelets: no such field; there are mnist_cnn, mlp",
            "optimizer.adan: no such field; did you mean adam?",
            "--set nonsense: KEY=VALUE is needed",
        ];
        for expected in expected {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(expected)), "{expected}: {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    }

    #[test]
    fn a_key_that_is_no_name_is_told_in_quotes() {
        let text = "\"\" = 1\n\"\\u001b[2J\" = 2\n[labels]\n\"a.b\" = 3\n";
        let mistakes = spec(text, ".toml", &[]).unwrap_err();
        let expected =
            [r#""": no such field"#, r#""\u{1b}[2J": no such field"#, r#"labels."a.b": is 3, text is needed"#];
        assert!(mistakes.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{mistakes:#?}");
    }

    #[test]
    fn what_is_no_number_arrives_as_such() {
        for text in ["[optimizer.sgd]\nlearning_rate = nan", "[optimizer.sgd]\nlearning_rate = 'NaN'"] {
            let optimizer = spec(text, ".toml", &[]).unwrap().optimizer.unwrap();
            let Some(v1::optimizer::Kind::Sgd(sgd)) = optimizer.kind else { panic!("no sgd") };
            assert!(sgd.learning_rate.unwrap().is_nan());
        }
    }

    #[test]
    fn a_key_of_many_names_is_refused() {
        let deep = format!("{}=1", vec!["a"; 60_000].join("."));
        let mistakes = spec("", ".toml", &[&deep]).unwrap_err();
        assert!(mistakes[0].ends_with("within 59999 others; no field is so deep"));
    }

    #[test]
    fn set_is_an_edit_of_a_job_too() {
        for (set, path, value) in [
            ("optimizer.adamw.weight_decay=0.1", "optimizer.adamw.weight_decay", "0.1"),
            ("display_name=b c", "display_name", r#""b c""#),
            ("schedule.multi_step.at_steps = [1, 2]", "schedule.multi_step.at_steps", "[1,2]"),
            ("retry={max_restarts = 3}", "retry", r#"{"max_restarts":3}"#),
            ("training.gradient_clip_norm=null", "training.gradient_clip_norm", "null"),
            ("optimizer.sgd.learning_rate=nan", "optimizer.sgd.learning_rate", r#""NaN""#),
        ] {
            assert_eq!(edit(set), Ok(v1::FieldEdit { path: path.into(), value: value.into() }));
        }
        assert!(edit("nonsense").unwrap_err().starts_with("--set nonsense: KEY=VALUE is needed"));
    }

    #[test]
    fn set_changes_a_field_and_switches_a_choice() {
        let text = "display_name = 'a'\n[training]\nepochs = 3\nbatch_size = 5\n";
        let read = spec(text, ".toml", &["training.max_steps=9", "display_name=b c", "seed=2"]).unwrap();
        let training = read.training.unwrap();
        assert_eq!(training.length, Some(v1::training::Length::MaxSteps(9)));
        assert_eq!((training.batch_size, read.display_name.as_str(), read.seed), (Some(5), "b c", 2));
    }
}
