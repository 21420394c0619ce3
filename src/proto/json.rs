//! Messages in their JSON mapping, with proto field names: as `torchctl -o json` prints them and
//! job folders hold them.

use prost::Name;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// Why a JSON text is not such a message.
#[derive(Debug, thiserror::Error)]
#[error("not {message} in its JSON mapping: {cause}")]
pub struct JsonError {
    message: String,
    cause: String,
}

/// The message on one line, defaults included where `defaults` says so.
pub fn to_string<M: Name>(message: &M, defaults: bool) -> Result<String, JsonError> {
    let value = to_value(message, defaults)?;
    serde_json::to_string(&value).map_err(|error| fault::<M>(&error))
}

/// The message as a JSON value, defaults included where `defaults` says so.
pub fn to_value<M: Name>(message: &M, defaults: bool) -> Result<Value, JsonError> {
    let descriptor = descriptor::<M>()?;
    let dynamic = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())
        .map_err(|error| fault::<M>(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(!defaults);
    let mut value =
        dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| fault::<M>(&error))?;
    sort_maps(&mut value, &descriptor);
    Ok(value)
}

/// Puts the entries of maps in order: they come in none, and the same message has to become the
/// same text.
fn sort_maps(message: &mut Value, descriptor: &MessageDescriptor) {
    for field in descriptor.fields() {
        let Some(value) = message.get_mut(field.name()) else { continue };
        if let (true, Some(entries)) = (field.is_map(), value.as_object_mut()) {
            entries.sort_keys();
        } else if let Kind::Message(inner) = field.kind() {
            match value {
                Value::Array(items) => items.iter_mut().for_each(|item| sort_maps(item, &inner)),
                single => sort_maps(single, &inner),
            }
        }
    }
}

/// The message that a JSON text holds. An unknown field is an error.
pub fn from_str<M: Name + Default>(text: &str) -> Result<M, JsonError> {
    let mut input = serde_json::Deserializer::from_str(text);
    let dynamic = DynamicMessage::deserialize(descriptor::<M>()?, &mut input).map_err(|error| fault::<M>(&error))?;
    dynamic.transcode_to().map_err(|error| fault::<M>(&error))
}

/// The descriptor of a generated message.
pub fn descriptor<M: Name>() -> Result<MessageDescriptor, JsonError> {
    let name = M::full_name();
    super::descriptors().get_message_by_name(&name).ok_or_else(|| fault::<M>(&"no such message in this build"))
}

/// Whether the mapping can write a time: it has the years 1 to 9999
/// (google/protobuf/timestamp.proto).
pub fn is_time(time: &prost_types::Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.seconds)
}

/// The longest time between two times that the mapping can write, in seconds: 10,000 years
/// (google/protobuf/duration.proto).
pub const LONGEST_DURATION: u64 = 315_576_000_000;

/// Whether the mapping can write a time between two times.
pub fn is_duration(duration: &prost_types::Duration) -> bool {
    match duration.seconds.unsigned_abs() {
        LONGEST_DURATION => duration.nanos == 0,
        seconds => seconds < LONGEST_DURATION,
    }
}

/// For serde: a message, or none, as a field of something else that is JSON.
pub mod optional {
    use prost::Name;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the message in its JSON mapping.
    pub fn serialize<M: Name, S: Serializer>(message: &Option<M>, serializer: S) -> Result<S::Ok, S::Error> {
        let value = message.as_ref().map(|message| super::to_value(message, false)).transpose();
        value.map_err(S::Error::custom)?.serialize(serializer)
    }

    /// Reads it back.
    pub fn deserialize<'de, M: Name + Default, D: Deserializer<'de>>(deserializer: D) -> Result<Option<M>, D::Error> {
        let value = Option::<serde_json::Value>::deserialize(deserializer)?;
        value.map(|value| super::from_str(&value.to_string())).transpose().map_err(D::Error::custom)
    }
}

fn fault<M: Name>(cause: &dyn std::fmt::Display) -> JsonError {
    JsonError { message: M::full_name(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn a_message_comes_back_from_its_json() {
        let job = v1::Job { name: "jobs/a".into(), generation: 3, ..v1::Job::default() };
        let text = to_string(&job, false).unwrap();
        assert_eq!(text, r#"{"name":"jobs/a","generation":"3"}"#);
        assert_eq!(from_str::<v1::Job>(&text).unwrap(), job);
    }

    #[test]
    fn the_same_message_is_the_same_text() {
        let labels = ["b", "d", "a", "c", "e"].map(|name| (name.to_owned(), name.to_owned()));
        let spec = v1::JobSpec { labels: labels.into(), ..v1::JobSpec::default() };
        let in_order = r#"{"labels":{"a":"a","b":"b","c":"c","d":"d","e":"e"}}"#;
        assert_eq!(to_string(&spec, false).unwrap(), in_order);
        let jobs = v1::ListJobsResponse {
            jobs: vec![v1::Job { spec: Some(spec), ..v1::Job::default() }],
            ..v1::ListJobsResponse::default()
        };
        assert_eq!(to_string(&jobs, false).unwrap(), format!(r#"{{"jobs":[{{"spec":{in_order}}}]}}"#));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = from_str::<v1::Job>(r#"{"nme":"jobs/a"}"#).unwrap_err().to_string();
        assert!(error.contains("nme"), "{error}");
    }

    #[test]
    fn the_mapping_writes_the_times_that_we_say_and_no_others() {
        let progress = |seconds| v1::JobProgress {
            remaining: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..v1::JobProgress::default()
        };
        let longest = LONGEST_DURATION as i64;
        for (seconds, is_right) in [(longest, true), (longest + 1, false), (-longest, true), (-longest - 1, false)] {
            assert_eq!(to_string(&progress(seconds), false).is_ok(), is_right, "{seconds}");
            assert_eq!(is_duration(&prost_types::Duration { seconds, nanos: 0 }), is_right, "{seconds}");
        }
        for (year, is_right) in [(0, false), (1, true), (9999, true), (10_000, false)] {
            let time = prost_types::Timestamp::date(year, 1, 1).unwrap();
            assert_eq!(is_time(&time), is_right, "{year}");
            let job = v1::Job { create_time: Some(time), ..v1::Job::default() };
            assert_eq!(to_string(&job, false).is_ok(), is_right, "{year}");
        }
    }
}
