//! Messages in files: TOML or JSON in their JSON mapping, such as the spec of a job. Every mistake is told with its path, and an unknown field with the
//! known one that is nearest.

use std::collections::HashMap;
use std::path::Path;

use prost::Name;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use toml::Table;

use super::failure::Failure;
use crate::proto::json;

/// Reads a message and changes what `--set` says.
pub(super) fn read<M: Name + Default>(file: &Path, sets: &[String]) -> Result<M, Failure> {
    let name = file.display().to_string();
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::Mistake(format!("{name} cannot be read: {error}")))?;
    let is_json = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let table = if is_json { from_json(&text) } else { text.parse::<Table>().map_err(|error| error.to_string()) };
    let table = table.map_err(|error| {
        Failure::Mistake(format!("{name} is no {}: {error}", if is_json { "JSON" } else { "TOML" }))
    })?;
    let descriptor = json::descriptor::<M>().map_err(|error| Failure::Other(error.to_string()))?;
    let mut message = DynamicMessage::new(descriptor);
    let mut mistakes = Vec::new();
    fill(&mut message, &table, "", &mut mistakes);
    for set in sets {
        match parse_set(set) {
            Ok(table) => fill(&mut message, &table, "", &mut mistakes),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if !mistakes.is_empty() {
        return Err(Failure::Spec { file: name, mistakes });
    }
    message.transcode_to().map_err(|error| Failure::Other(error.to_string()))
}

fn from_json(text: &str) -> Result<Table, String> {
    fn convert(value: serde_json::Value) -> Option<toml::Value> {
        Some(match value {
            // In the JSON mapping null is the same as absent.
            serde_json::Value::Null => return None,
            serde_json::Value::Bool(value) => value.into(),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => number.into(),
                // TOML has no numbers beyond 63 bits; the mapping takes them as text too.
                (None, Some(number)) => number.to_string().into(),
                (None, None) => number.as_f64()?.into(),
            },
            serde_json::Value::String(text) => text.into(),
            serde_json::Value::Array(items) => toml::Value::Array(items.into_iter().filter_map(convert).collect()),
            serde_json::Value::Object(fields) => toml::Value::Table(table(fields)),
        })
    }
    fn table(fields: serde_json::Map<String, serde_json::Value>) -> Table {
        fields.into_iter().filter_map(|(name, value)| Some((name, convert(value)?))).collect()
    }
    match serde_json::from_str(text).map_err(|error| error.to_string())? {
        serde_json::Value::Object(fields) => Ok(table(fields)),
        _ => Err("an object is needed".into()),
    }
}

/// `a.b=1` as the table that it means. A value is TOML, else text.
fn parse_set(set: &str) -> Result<Table, String> {
    let wrong = || format!("--set {set}: KEY=VALUE is needed, for example training.epochs=3");
    let (key, value) = set.split_once('=').ok_or_else(wrong)?;
    let value = match format!("value = {value}").parse::<Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").ok_or_else(wrong)?,
        _ => toml::Value::String(value.to_owned()),
    };
    let mut names: Vec<&str> = key.split('.').map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(wrong());
    }
    let last = names.pop().ok_or_else(wrong)?;
    let innermost = Table::from_iter([(last.to_owned(), value)]);
    Ok(names
        .into_iter()
        .rev()
        .fold(innermost, |inner, name| Table::from_iter([(name.to_owned(), toml::Value::Table(inner))])))
}

/// Puts a table into a message: messages are merged, everything else is replaced, and a member of a oneof takes the place of
/// the one that was there, unless the same table names two.
fn fill(message: &mut DynamicMessage, table: &Table, path: &str, mistakes: &mut Vec<String>) {
    let descriptor = message.descriptor();
    let mut chosen: HashMap<String, String> = HashMap::new();
    let mut given: HashMap<u32, &String> = HashMap::new();
    for (key, value) in table {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(field) = descriptor.get_field_by_name(key).or_else(|| descriptor.get_field_by_json_name(key)) else {
            mistakes.push(format!("{at}: no such field{}", nearest(&descriptor, key)));
            continue;
        };
        if let Some(other) = given.insert(field.number(), key) {
            mistakes.push(format!("{at}: is given a second time, as {other} and as {key}"));
            continue;
        }
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
            && let Some(other) = chosen.insert(oneof.full_name().to_owned(), key.clone())
        {
            let place = if path.is_empty() { "the spec" } else { path };
            mistakes.push(format!("{at}: {place} has {other} already, and only one of the two can be"));
            continue;
        }
        match (field.kind(), value) {
            (Kind::Message(_), toml::Value::Table(inner)) if !field.is_list() && !field.is_map() => {
                if let Some(inner_message) = message.get_field_mut(&field).as_message_mut() {
                    fill(inner_message, inner, &at, mistakes);
                }
            }
            _ => match convert(&field, value, &at) {
                Ok(value) => message.set_field(&field, value),
                Err(mistake) => mistakes.push(mistake),
            },
        }
    }
}

fn nearest(descriptor: &MessageDescriptor, key: &str) -> String {
    let names: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
    let likeness = |name: &String| strsim::jaro_winkler(name, key);
    match names.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other))) {
        Some(best) if likeness(best) > 0.7 => format!("; did you mean {best}?"),
        Some(_) => format!("; there are {}", names.join(", ")),
        None => "; nothing can be set here".into(),
    }
}

fn convert(field: &FieldDescriptor, value: &toml::Value, at: &str) -> Result<Value, String> {
    if !field.is_list() {
        return scalar(&field.kind(), value, at);
    }
    match value {
        toml::Value::Array(items) => {
            let item = |(place, item)| scalar(&field.kind(), item, &format!("{at}[{place}]"));
            Ok(Value::List(items.iter().enumerate().map(item).collect::<Result<_, _>>()?))
        }
        other => Err(format!("{at}: is {}, a list is needed", describe(other))),
    }
}

/// A single value, as the JSON mapping has it: numbers also as text, enums by their full name or in short.
fn scalar(kind: &Kind, value: &toml::Value, at: &str) -> Result<Value, String> {
    let wrong = |needed: &str| format!("{at}: is {}, {needed} is needed", describe(value));
    let whole = |least: i128, most: i128| {
        let number = match value {
            toml::Value::Integer(number) => Some(i128::from(*number)),
            // 10.0 is a whole number in JSON's eyes.
            toml::Value::Float(number) if number.fract() == 0.0 => Some(*number as i128),
            toml::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| wrong(&format!("a whole number from {least} to {most}")))
    };
    let real = || match value {
        toml::Value::Float(number) => Ok(*number),
        toml::Value::Integer(number) => Ok(*number as f64),
        toml::Value::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            other => other.parse().map_err(|_| wrong("a number")),
        },
        _ => Err(wrong("a number")),
    };
    match kind {
        Kind::Double => Ok(Value::F64(real()?)),
        Kind::Float => Ok(Value::F32(real()? as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Ok(Value::I32(whole(i32::MIN.into(), i32::MAX.into())? as i32)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Ok(Value::I64(whole(i64::MIN.into(), i64::MAX.into())? as i64)),
        Kind::Uint32 | Kind::Fixed32 => Ok(Value::U32(whole(0, u32::MAX.into())? as u32)),
        Kind::Uint64 | Kind::Fixed64 => Ok(Value::U64(whole(0, u64::MAX.into())? as u64)),
        Kind::Bool => value.as_bool().map(Value::Bool).ok_or_else(|| wrong("true or false")),
        Kind::String => value.as_str().map(|text| Value::String(text.to_owned())).ok_or_else(|| wrong("text")),
        Kind::Enum(descriptor) => {
            enum_number(descriptor, value).ok_or_else(|| wrong(&choices(descriptor))).map(Value::EnumNumber)
        }
        Kind::Bytes => Err(wrong("nothing that a spec file can hold")),
        Kind::Message(descriptor) => {
            let toml::Value::Table(table) = value else { return Err(wrong("a table")) };
            let (mut message, mut mistakes) = (DynamicMessage::new(descriptor.clone()), Vec::new());
            fill(&mut message, table, at, &mut mistakes);
            if mistakes.is_empty() { Ok(Value::Message(message)) } else { Err(mistakes.join("\n  ")) }
        }
    }
}

fn enum_number(descriptor: &EnumDescriptor, value: &toml::Value) -> Option<i32> {
    let name = value.as_str()?;
    descriptor
        .values()
        .find(|known| known.name() == name || short(descriptor, known.name()) == name)
        .map(|known| known.number())
}

fn choices(descriptor: &EnumDescriptor) -> String {
    let names: Vec<_> =
        descriptor.values().filter(|value| value.number() != 0).map(|value| short(descriptor, value.name())).collect();
    names.join(" or ")
}

/// DEVICE_CUDA of Device is cuda.
fn short(descriptor: &EnumDescriptor, name: &str) -> String {
    let mut prefix = String::new();
    for character in descriptor.name().chars() {
        if character.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(character.to_ascii_uppercase());
    }
    prefix.push('_');
    name.strip_prefix(&prefix).unwrap_or(name).to_lowercase()
}

fn describe(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(_) => "a table".into(),
        toml::Value::Array(_) => "a list".into(),
        single => single.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

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
    fn every_mistake_is_told_with_its_path() {
        let text = "sed = 1\n[training]\nepochs = 1\nmax_steps = 2\nbatch_size = -4\n[resources]\ndevice = 'gpu'\n[model]\nresnet = {}\n";
        let mistakes = spec(text, ".toml", &["optimizer.adam.beta=1", "nonsense"]).unwrap_err();
        let expected = [
            "sed: no such field; did you mean seed?",
            "training.max_steps: training has epochs already",
            "training.batch_size: is -4, a whole number from 0",
            "resources.device: is \"gpu\", auto or cpu or cuda is needed",
            "model.resnet: no such field; there are mnist_cnn",
            "optimizer.adam: no such field; there are sgd",
            "--set nonsense: KEY=VALUE is needed",
        ];
        for expected in expected {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(expected)), "{expected}: {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
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
    fn set_changes_a_field_and_switches_a_choice() {
        let text = "display_name = 'a'\n[training]\nepochs = 3\nbatch_size = 5\n";
        let read = spec(text, ".toml", &["training.max_steps=9", "display_name=b c", "seed=2"]).unwrap();
        let training = read.training.unwrap();
        assert_eq!(training.length, Some(v1::training::Length::MaxSteps(9)));
        assert_eq!((training.batch_size, read.display_name.as_str(), read.seed), (Some(5), "b c", 2));
    }
}
