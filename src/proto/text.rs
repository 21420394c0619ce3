//! Messages as people write them: TOML or JSON in the JSON mapping. Every mistake is told with its
//! path, and an unknown field with the known one that is nearest.

use std::collections::HashMap;

use prost::Name;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use toml::Table;

use super::json;

/// The content of a file as a table, or why it is none.
pub fn to_table(text: &str, is_json: bool) -> Result<Table, String> {
    if is_json { from_json(text) } else { text.parse::<Table>().map_err(|error| error.to_string()) }
}

/// The message that tables hold, the later over the earlier; or all mistakes, each as `path: what
/// is wrong`.
pub fn message<M: Name + Default>(tables: &[Table]) -> Result<M, Vec<String>> {
    let descriptor = json::descriptor::<M>().map_err(|error| vec![error.to_string()])?;
    let mut message = DynamicMessage::new(descriptor);
    let mut mistakes = Vec::new();
    for table in tables {
        fill(&mut message, table, "", &mut mistakes);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    message.transcode_to().map_err(|error| vec![error.to_string()])
}

fn from_json(text: &str) -> Result<Table, String> {
    match to_toml(serde_json::from_str(text).map_err(|error| error.to_string())?) {
        Some(toml::Value::Table(table)) => Ok(table),
        _ => Err("an object is needed".into()),
    }
}

/// In the JSON mapping null is the same as absent.
fn to_toml(value: serde_json::Value) -> Option<toml::Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            // TOML has no numbers beyond 63 bits; the mapping takes them as text too.
            (None, Some(number)) => number.to_string().into(),
            (None, None) => number.as_f64()?.into(),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(items) => toml::Value::Array(items.into_iter().filter_map(to_toml).collect()),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter();
            toml::Value::Table(fields.filter_map(|(name, value)| Some((name, to_toml(value)?))).collect())
        }
    })
}

/// A value of TOML in the JSON mapping.
pub fn to_json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) if number.is_nan() => "NaN".into(),
        toml::Value::Float(f64::INFINITY) => "Infinity".into(),
        toml::Value::Float(f64::NEG_INFINITY) => "-Infinity".into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(to_json).collect(),
        toml::Value::Table(fields) => fields.into_iter().map(|(name, value)| (name, to_json(value))).collect(),
    }
}

/// Why a field cannot be set.
#[derive(Debug, PartialEq, Eq)]
pub struct NotSet {
    /// The path, as far as it was followed.
    pub at: String,
    /// The mistake there.
    pub what: String,
    /// The path leads to nothing.
    pub is_unknown: bool,
}

/// Sets the field at a path such as `a.b[0].c` to a value in the JSON mapping; null clears it. The
/// fields of a message and the entries of a map are set one by one.
///
/// # Errors
/// The path leads to no field, or the value is none for it.
pub fn set(message: &mut DynamicMessage, path: &str, value: serde_json::Value) -> Result<(), NotSet> {
    let wrong = |at: String, what: String| Err(NotSet { at, what, is_unknown: false });
    let value = to_toml(value);
    let (mut message, mut left, mut at) = (message, path, String::new());
    loop {
        let (name, rest) = left.split_once('.').map_or((left, None), |(name, rest)| (name, Some(rest)));
        let (name, place) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((name, place)) => (name, Some(place)),
            None => (name, None),
        };
        let before = at.clone();
        if !at.is_empty() {
            at.push('.');
        }
        at.push_str(&shown(name));
        let descriptor = message.descriptor();
        let Some(field) = descriptor.get_field_by_name(name) else {
            return Err(NotSet { at, what: format!("no such field{}", nearest(&descriptor, name)), is_unknown: true });
        };
        let is_inner = matches!(field.kind(), Kind::Message(_));
        match (rest, place) {
            (Some(entry), None) if field.is_map() => return set_entry(message, &field, entry, value.as_ref(), at),
            (Some(rest), None) if is_inner && !field.is_list() => {
                let Some(inner) = message.get_field_mut(&field).as_message_mut() else {
                    return wrong(at, "holds no message".into());
                };
                (message, left) = (inner, rest);
            }
            (Some(rest), Some(place)) if is_inner && field.is_list() => {
                let items = message.get_field_mut(&field).as_list_mut();
                let count = items.as_ref().map_or(0, |items| items.len());
                let item = items.and_then(|items| items.get_mut(place.parse::<usize>().ok()?));
                let Some(inner) = item.and_then(Value::as_message_mut) else {
                    let what = format!("has {count} entries, counted from 0; there is no [{place}]");
                    return Err(NotSet { at, what, is_unknown: true });
                };
                at = format!("{at}[{place}]");
                (message, left) = (inner, rest);
            }
            (Some(_), _) => return wrong(at, "has no fields".into()),
            (None, Some(_)) => return wrong(at, "is set as a whole, or by the fields of an entry".into()),
            (None, None) => {
                let Some(value) = value else {
                    message.clear_field(&field);
                    return Ok(());
                };
                let (table, mut mistakes) = (Table::from_iter([(name.to_owned(), value)]), Vec::new());
                fill(message, &table, &before, &mut mistakes);
                let Some(mistake) = mistakes.into_iter().next() else { return Ok(()) };
                let (at, what) = mistake.split_once(": ").unwrap_or((&at, &mistake));
                return wrong(at.to_owned(), what.to_owned());
            }
        }
    }
}

/// Sets an entry of a map, or removes it.
fn set_entry(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    entry: &str,
    value: Option<&toml::Value>,
    at: String,
) -> Result<(), NotSet> {
    let wrong = |at: String, what: String| NotSet { at, what, is_unknown: false };
    let (Kind::Message(kind), Some(map)) = (field.kind(), message.get_field_mut(field).as_map_mut()) else {
        return Err(wrong(at, "is no map".into()));
    };
    let key = MapKey::String(entry.to_owned());
    let Some(value) = value else {
        map.remove(&key);
        return Ok(());
    };
    let made = scalar(&kind.map_entry_value_field().kind(), value, "");
    let at = format!("{at}.{}", shown(entry));
    map.insert(key, made.map_err(|what| wrong(at, what.trim_start_matches(": ").to_owned()))?);
    Ok(())
}

/// Puts a table into a message: messages are merged, everything else is replaced, and a member of a
/// oneof takes the place of the one that was there, unless the same table names two.
fn fill(message: &mut DynamicMessage, table: &Table, path: &str, mistakes: &mut Vec<String>) {
    let descriptor = message.descriptor();
    let mut chosen: HashMap<String, String> = HashMap::new();
    let mut given: HashMap<u32, &String> = HashMap::new();
    for (key, value) in table {
        let at = if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) };
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
            let place = if path.is_empty() { "it" } else { path };
            mistakes.push(format!("{at}: {place} has {other} already, and only one of the two can be"));
            continue;
        }
        match (field.kind(), value) {
            (Kind::Message(_), toml::Value::Table(inner)) if !field.is_list() && !field.is_map() => {
                if let Some(inner_message) = message.get_field_mut(&field).as_message_mut() {
                    fill(inner_message, inner, &at, mistakes);
                }
            }
            (Kind::Message(entry), toml::Value::Table(inner)) if field.is_map() => {
                let kind = entry.map_entry_value_field().kind();
                for (name, value) in inner {
                    match scalar(&kind, value, &format!("{at}.{}", shown(name))) {
                        Ok(value) => {
                            if let Some(map) = message.get_field_mut(&field).as_map_mut() {
                                map.insert(MapKey::String(name.clone()), value);
                            }
                        }
                        Err(mistake) => mistakes.push(mistake),
                    }
                }
            }
            (Kind::Message(_), other) if field.is_map() => {
                mistakes.push(format!("{at}: is {}, a table of names and values is needed", describe(other)));
            }
            _ => match convert(&field, value, &at) {
                Ok(value) => message.set_field(&field, value),
                Err(mistake) => mistakes.push(mistake),
            },
        }
    }
}

/// A key as it stands in messages: in quotes where it is not one that needs none, since messages
/// are shown on terminals.
fn shown(key: &str) -> String {
    let is_bare = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { format!("{key:?}") }
}

fn nearest(descriptor: &MessageDescriptor, key: &str) -> String {
    let names: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
    let in_lowercase = key.to_lowercase();
    let likeness = |name: &String| strsim::jaro_winkler(name, &in_lowercase);
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

/// A single value, as the JSON mapping has it: numbers also as text, enums by their full name or in
/// short.
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
        // The daemon judges the bounds of a field; this range is that of its type.
        let number = number.ok_or_else(|| wrong("a whole number"))?;
        if number > most {
            return Err(wrong(&format!("a whole number up to {most}")));
        }
        if number >= least { Ok(number) } else { Err(wrong(&format!("a whole number from {least} on"))) }
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
        Kind::Bytes => Err(wrong("nothing that a text can hold")),
        Kind::Message(descriptor) if descriptor.full_name() == "google.protobuf.Duration" => {
            let time = duration(value).ok_or_else(|| wrong("a time such as \"30s\""))?;
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_name("seconds", Value::I64(time.seconds));
            message.set_field_by_name("nanos", Value::I32(time.nanos));
            Ok(Value::Message(message))
        }
        Kind::Message(descriptor) => {
            let toml::Value::Table(table) = value else { return Err(wrong("a table")) };
            let (mut message, mut mistakes) = (DynamicMessage::new(descriptor.clone()), Vec::new());
            fill(&mut message, table, at, &mut mistakes);
            if mistakes.is_empty() { Ok(Value::Message(message)) } else { Err(mistakes.join("\n  ")) }
        }
    }
}

/// Such as `30s`, `1.5s` or `2min`.
fn duration(value: &toml::Value) -> Option<prost_types::Duration> {
    let text = value.as_str()?;
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    let time = match seconds {
        Some(seconds) => std::time::Duration::try_from_secs_f64(seconds).ok()?,
        None => humantime::parse_duration(text).ok()?,
    };
    prost_types::Duration::try_from(time).ok()
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
