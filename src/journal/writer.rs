//! The runner's side of the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::time::SystemTime;

use prost::Message;

use super::folder::JobFolder;
use super::lock::JobLock;
use crate::proto::journal::{Record, record::What};
use crate::record::{self, FrameError, Next, RecordReader};

/// Appends records. A record is in the file when `append` returns, so that a tail sees it; the disk has it after `sync`.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
    attempt: u32,
    /// Bytes of whole records in the file.
    length: u64,
    buffer: Vec<u8>,
}

impl JournalWriter {
    /// Opens the journal of a job whose lock the caller holds, behind its last whole record: what an earlier runner left
    /// half-written is cut off.
    pub fn open(folder: &JobFolder, _held: &JobLock, attempt: u32) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.journal())?;
        let mut reader = RecordReader::new(&file);
        while let Next::Record(_) = reader.next().map_err(into_io)? {}
        let length = reader.offset();
        file.set_len(length)?;
        file.seek(io::SeekFrom::Start(length))?;
        Ok(Self { file, attempt, length, buffer: Vec::new() })
    }

    /// Adds a record. After an error the journal ends with a whole record, and the same record can be tried again.
    pub fn append(&mut self, now: SystemTime, what: What) -> io::Result<()> {
        let entry = Record { time: Some(now.into()), attempt: self.attempt, what: Some(what) };
        self.buffer.clear();
        record::append(&mut self.buffer, |buffer| entry.encode_raw(buffer));
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.file.set_len(self.length)?;
            self.file.seek(io::SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    /// The file, for somebody who syncs it.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Waits until the disk has every record.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn into_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Io(error) => error,
        damaged @ FrameError::Damaged { .. } => io::Error::new(io::ErrorKind::InvalidData, damaged),
    }
}
