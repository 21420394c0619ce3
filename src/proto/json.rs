//! Messages in their JSON mapping, with proto field names: as `torchctl -o json` prints them and job folders hold them.

use prost::Name;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

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
pub fn to_value<M: Name>(message: &M, defaults: bool) -> Result<serde_json::Value, JsonError> {
    let dynamic = DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice())
        .map_err(|error| fault::<M>(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(!defaults);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| fault::<M>(&error))
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
    fn an_unknown_field_is_named() {
        let error = from_str::<v1::Job>(r#"{"nme":"jobs/a"}"#).unwrap_err().to_string();
        assert!(error.contains("nme"), "{error}");
    }
}
