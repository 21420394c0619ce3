//! `exit.json`: how a runner ended, as its parent saw it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::folder::{JobFolder, sync_folder, write_whole};
use crate::beneath::{folder_of, present};
use crate::job::end::Exit;

/// A note is shorter than this; what is left are spaces, which JSON allows.
const NOTE_BYTES: usize = 256;

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
    /// The signal was SIGKILL, and the kernel's count of processes killed for want of memory has
    /// risen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
}

/// The file of a note, made before anything else can take the room on the disk.
#[derive(Debug)]
pub struct ExitRoom {
    file: File,
    aside: PathBuf,
    note: PathBuf,
}

impl ExitRoom {
    /// Takes room for a note.
    pub fn take(folder: &JobFolder) -> io::Result<Self> {
        let aside = folder.path().join(".exit.json.room");
        let file = File::create(&aside)?;
        (&file).write_all(&[b' '; NOTE_BYTES])?;
        file.sync_all()?;
        Ok(Self { file, aside, note: folder.exit() })
    }

    /// Leaves the note, also on a disk that is full now.
    pub fn write(&self, note: &ExitNote) -> io::Result<()> {
        let text = serde_json::to_vec(note)?;
        self.file.write_all_at(&text, 0)?;
        self.file.sync_all()?;
        fs::rename(&self.aside, &self.note)?;
        sync_folder(folder_of(&self.note))
    }
}

impl ExitNote {
    /// A note of how an attempt ended.
    pub fn new(attempt: u32, exit: Exit) -> Self {
        let (code, signal) = exit.code_and_signal();
        Self { attempt, code, signal, out_of_memory: exit == Exit::OutOfMemory }
    }

    /// How it ended.
    pub fn exit(&self) -> Exit {
        match (self.code, self.signal) {
            (_, Some(_)) if self.out_of_memory => Exit::OutOfMemory,
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
    ///
    /// # Errors
    /// `InvalidData` where something else than a note stands there.
    pub fn read(folder: &JobFolder) -> io::Result<Option<Self>> {
        let Some(bytes) = present(fs::read(folder.exit()))? else { return Ok(None) };
        let note = serde_json::from_slice(&bytes);
        note.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
