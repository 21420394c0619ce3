//! The rules for single values.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};

use super::LogFormat;
use super::keys::{parsed, text};

/// An address to listen on; None for an empty text.
pub(super) fn listen(value: &Value) -> Result<Option<SocketAddr>, String> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let right = "host:port is needed, for example 127.0.0.1:7080, with port 0 for a free one, or \"\" for none";
    let mut found = text.to_socket_addrs().map_err(|_| format!("is {text:?}; {right}"))?;
    found.next().map(Some).ok_or_else(|| format!("is {text:?}, which names no address; {right}"))
}

pub(super) fn path(value: &Value) -> Result<PathBuf, String> {
    let text = text(value)?;
    if text.is_empty() { Err("is empty; a path is needed".into()) } else { Ok(PathBuf::from(text)) }
}

/// A list, or what the environment can hold: paths with colons between them.
pub(super) fn paths(value: &Value) -> Result<Vec<PathBuf>, String> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(path).collect(),
        ValueKind::String(list) => Ok(list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect()),
        other => Err(format!("is {other}; a list of folders is needed")),
    }
}

/// A list of host names, or what the environment can hold: names with commas between them.
pub(super) fn hosts(value: &Value) -> Result<Vec<String>, String> {
    let names: Vec<String> = match &value.kind {
        ValueKind::Array(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        ValueKind::String(list) => list.split(',').map(|name| name.trim().to_owned()).collect(),
        other => return Err(format!("is {other}; a list of host names is needed")),
    };
    let is_name = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => {
            Err(format!("holds {name:?}; a host name without a port is needed, such as \"metrics.example.org\""))
        }
        None => Ok(names),
    }
}

/// Variables of an environment, a trailing `*` for all that begin so: a list, or what the
/// environment can hold, names with commas between them.
pub(super) fn variables(value: &Value) -> Result<Vec<String>, String> {
    let names: Vec<String> = match &value.kind {
        ValueKind::Array(items) => items.iter().map(text).collect::<Result<_, _>>()?,
        ValueKind::String(list) => {
            list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        }
        other => return Err(format!("is {other}; a list of names of variables is needed")),
    };
    let is_name = |name: &String| {
        let letters = name.strip_suffix('*').unwrap_or(name);
        !name.is_empty() && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => {
            Err(format!("holds {name:?}; a name such as \"PATH\", or the beginning of some as \"OMP_*\", is needed"))
        }
        None => Ok(names),
    }
}

/// Intervals at which something can be done again.
pub(super) const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// The largest request that the settings may allow, in bytes. Requests on their way have as much
/// room together.
pub const MOST_MESSAGE_BYTES: usize = 32 << 20;

/// The longest path of a Unix socket, without the byte that ends it. (unix(7), sun_path)
pub const LONGEST_SOCKET: usize = 107;

/// The longest path of the state folder. SQLite allows 512 bytes for a path and reserves 8 of them
/// for suffixes; the names of our databases have at most 24. (os_unix.c, MAX_PATHNAME)
pub(super) const LONGEST_STATE_DIR: usize = 512 - 8 - 24;

/// The mode of a file, as chmod takes it.
pub(super) fn mode(value: &Value) -> Result<u32, String> {
    let right = "the mode of a file in octal is needed, such as \"0660\"";
    let text = text(value).map_err(|_| format!("is {}; {right}", value.kind))?;
    let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| format!("is {text:?}; {right}"))
}

/// Longer times are mistakes.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    let duration = any_duration(value)?;
    let found = humantime::format_duration(duration);
    if duration > LONGEST { Err(format!("is {found}; at most one day is right")) } else { Ok(duration) }
}

/// Longer times cannot be written down in the specs of jobs: 10,000 years.
/// (google/protobuf/duration.proto)
const LONGEST_IN_SPEC: Duration = Duration::from_secs(315_576_000_000);

/// A time that becomes a part of specs.
pub(super) fn long_duration(value: &Value) -> Result<Duration, String> {
    let duration = any_duration(value)?;
    let found = humantime::format_duration(duration);
    if duration > LONGEST_IN_SPEC { Err(format!("is {found}; at most 10,000 years are right")) } else { Ok(duration) }
}

fn any_duration(value: &Value) -> Result<Duration, String> {
    let right = "a time with its unit is needed, for example \"10s\" or \"2min\"";
    let text = text(value).map_err(|_| format!("is {}; {right}", value.kind))?;
    humantime::parse_duration(&text).map_err(|_| format!("is {text:?}; {right}"))
}

pub(super) fn in_range(least: usize, most: usize, unit: &'static str) -> impl Fn(&Value) -> Result<usize, String> {
    move |value| {
        let number: usize = parsed("a whole number is needed")(value)?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(format!("is {number}; {least} to {most} {unit} are right"))
        }
    }
}

pub(super) fn thread_wait(value: &Value) -> Result<String, String> {
    match text(value)? {
        text if ["adaptive", "passive", "active", "openmp"].contains(&text.as_str()) => Ok(text),
        other => Err(format!("is {other:?}; adaptive, passive, active or openmp is right")),
    }
}

pub(super) fn log_format(value: &Value) -> Result<LogFormat, String> {
    match text(value)?.as_str() {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("is {other:?}; auto, human or json is right")),
    }
}

pub(super) fn log_level(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let levels = "error, warn, info, debug or trace is right";
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) if text.contains(['=', ',', '[']) || text.parse::<tracing::Level>().is_ok() => Ok(text),
        _ => Err(format!("is {text:?}; {levels}")),
    }
}
