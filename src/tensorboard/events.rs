//! The events that we write.

use std::time::{Duration, SystemTime};

use crate::proto::tensorboard::{Event, SessionLog, SourceMetadata, Summary, event::What, session_log, summary};

/// The format that every reader of today expects (TensorBoard's `event_file_writer.py`).
pub const FILE_VERSION: &str = "brain.Event:2";
/// Our name as the writer of a file.
pub const WRITER: &str = "torchd";

/// The first record of a file.
pub fn file_version(now: SystemTime) -> Event {
    let metadata = SourceMetadata { writer: WRITER.into() };
    event(now, 0, What::FileVersion(FILE_VERSION.into()), Some(metadata))
}

/// The second record of a file: `step` is the first that the file will hold. Readers drop what
/// older files of the run hold for that step and later ones.
pub fn session_start(now: SystemTime, step: i64) -> Event {
    let log = SessionLog { status: session_log::SessionStatus::Start.into(), ..SessionLog::default() };
    event(now, step, What::SessionLog(log), None)
}

/// One value of one tag, in the bytes of PyTorch's `add_scalar`.
pub fn scalar(now: SystemTime, step: i64, tag: &str, value: f32) -> Event {
    let value =
        summary::Value { tag: tag.into(), value: Some(summary::value::Value::SimpleValue(value)), metadata: None };
    event(now, step, What::Summary(Summary { value: vec![value] }), None)
}

fn event(now: SystemTime, step: i64, what: What, source_metadata: Option<SourceMetadata>) -> Event {
    Event { wall_time: seconds(now), step, what: Some(what), source_metadata }
}

fn seconds(now: SystemTime) -> f64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
