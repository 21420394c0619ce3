//! `exit.json`: how a runner ended, as its parent saw it.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::folder::{JobFolder, write_whole};
use crate::job::end::Exit;

/// How the runner of one attempt ended. Neither code nor signal means that nobody saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitNote {
    /// Which attempt.
    pub attempt: u32,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl ExitNote {
    /// A note of how an attempt ended.
    pub fn new(attempt: u32, exit: Exit) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        Self { attempt, code, signal }
    }

    /// How it ended.
    pub fn exit(&self) -> Exit {
        match (self.code, self.signal) {
            (_, Some(signal)) => Exit::Signal(signal),
            (Some(code), None) => Exit::Code(code),
            (None, None) => Exit::Unknown,
        }
    }

    /// Leaves the note.
    pub fn write(&self, folder: &JobFolder) -> io::Result<()> {
        write_whole(&folder.exit(), &serde_json::to_vec(self)?)
    }

    /// The note, if there is one.
    pub fn read(folder: &JobFolder) -> io::Result<Option<Self>> {
        match fs::read(folder.exit()) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
