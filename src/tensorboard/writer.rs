//! Writes an event file.
//!
//! Events are encoded into a buffer at once and reach the file when the buffer is full, when a
//! caller asks, or when the oldest of them has waited two seconds: a viewer lags little and a fast
//! job makes few system calls. After a failed write the file is cut back to its last whole record,
//! since readers give a file with a broken record up for good.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;

use super::{events, file_name};
use crate::proto::tensorboard::Event;
use crate::record;

/// The part of an event file's name that TensorBoard looks for.
pub const MARK: &str = "tfevents";
/// A full buffer goes to the file.
const BUFFER_BYTES: usize = 64 << 10;
/// An event waits no longer than this for company.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Appends to one event file. Dropping it writes what is still waiting; `flush` before that, to see
/// an error.
pub struct EventFileWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole records in the file.
    written: u64,
    buffer: Vec<u8>,
    waiting_since: Option<Instant>,
}

impl EventFileWriter {
    /// Begins a file in `folder` that will hold `first_step` and later ones.
    pub fn create(folder: &Path, first_step: i64) -> io::Result<Self> {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let now = SystemTime::now();
        let path = folder.join(file_name::next(folder, now, &host, std::process::id())?);
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        let mut writer =
            Self { path, file, written: 0, buffer: Vec::with_capacity(2 * BUFFER_BYTES), waiting_since: None };
        writer.append(&events::file_version(now))?;
        writer.append(&events::session_start(now, first_step))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far, those that wait included.
    pub fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The file, for somebody who syncs it.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Adds one value of one tag.
    pub fn scalar(&mut self, now: SystemTime, step: i64, tag: &str, value: f32) -> io::Result<()> {
        self.append(&events::scalar(now, step, tag, value))
    }

    /// Adds an event.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        record::append(&mut self.buffer, |buffer| event.encode_raw(buffer));
        if self.buffer.len() >= BUFFER_BYTES {
            return self.flush();
        }
        // A clock is read once per buffer that begins to fill, and then by `flush_if_due`, not by
        // every event.
        self.waiting_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes what has waited long enough. For callers that have a moment, such as a training loop
    /// after a step.
    pub fn flush_if_due(&mut self) -> io::Result<()> {
        match self.waiting_since {
            Some(since) if since.elapsed() >= MAX_WAIT => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes everything to the file. After an error everything is still waiting, and the file ends
    /// with a whole record.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.file.set_len(self.written)?;
            return Err(error);
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.waiting_since = None;
        Ok(())
    }

    /// Writes everything and waits until the disk has it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}

impl Drop for EventFileWriter {
    fn drop(&mut self) {
        // A caller that wants to know has flushed before.
        let _ = self.flush();
    }
}
