//! Event files, which TensorBoard reads. One file per attempt of a job, scalars as `simple_value`
//! (the one form that every reader shows), each file begun by its version and a session START at
//! the first step that it will hold.
//!
//! The framing is `record`'s; the meaning of a tag is the business of the writer.

mod cut;
mod events;
mod file_name;
mod reader;
mod writer;

pub use cut::cut_after;
pub use events::{FILE_VERSION, WRITER, file_version, scalar, session_start};
pub use reader::{EventError, EventReader};
pub use writer::{EventFileWriter, MARK};

pub use crate::proto::tensorboard::*;
