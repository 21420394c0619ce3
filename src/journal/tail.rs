//! The daemon's side of the journal: reads on from where it stopped.

use std::fs::File;
use std::io::{self, Seek};

use prost::Message;

use super::folder::JobFolder;
use crate::beneath::present;
use crate::proto::{journal, v1};
use crate::record::{FrameError, Next, RecordReader};

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The number of the last record before it.
    pub sequence: u64,
    /// Where the next record begins, in bytes.
    pub offset: u64,
}

/// Reads the records of a journal with their sequence numbers. The journal need not be there yet.
#[derive(Debug)]
pub struct JournalTail {
    folder: JobFolder,
    reader: Option<RecordReader<File>>,
    at: Position,
}

/// Why a journal cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A record is damaged.
    #[error(
        "the journal is damaged: {0}; a new job with warm_start.checkpoint and warm_start.resume goes on from what was saved"
    )]
    Frame(FrameError),
    /// A record is whole and holds something else.
    #[error("record {sequence} of the journal cannot be understood: {cause}")]
    Unknown {
        /// Its number.
        sequence: u64,
        /// The decoder's words.
        cause: prost::DecodeError,
    },
}

impl JournalTail {
    /// Reads from the first record.
    pub fn new(folder: JobFolder) -> Self {
        Self::from(folder, Position::default())
    }

    /// Reads on from a position where an earlier tail was.
    pub fn from(folder: JobFolder, at: Position) -> Self {
        Self { folder, reader: None, at }
    }

    /// The number of the last record that was read.
    pub fn sequence(&self) -> u64 {
        self.at.sequence
    }

    /// Where the next record begins.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The records that are there now, at most `limit`; none where the journal has not grown. Where
    /// it cannot be read on, what stands before that is handed out first, and the next call tells
    /// why: fewer than `limit` need not be the last.
    pub fn read(&mut self, limit: usize) -> Result<Vec<v1::JobRecord>, JournalError> {
        let mut records = Vec::new();
        while records.len() < limit {
            let before = self.at;
            let record = self.next(|sequence, data| match journal::Record::decode(data) {
                Ok(record) => Ok(public(sequence, record)),
                Err(cause) => Err(JournalError::Unknown { sequence, cause }),
            });
            match record {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => {
                    self.at = before;
                    self.reader = None;
                    break;
                }
            }
        }
        Ok(records)
    }

    /// Goes past the next record, if it is there whole, and hands out what `take` makes of its
    /// number and its data. One that cannot be understood is passed over.
    fn next<T>(&mut self, take: impl FnOnce(u64, &[u8]) -> Result<T, JournalError>) -> Result<Option<T>, JournalError> {
        let mut is_second_look = false;
        loop {
            let sequence = self.at.sequence + 1;
            let Some(reader) = self.reader()? else { return Ok(None) };
            let taken = match reader.next() {
                Ok(Next::Record(data)) => take(sequence, data),
                Ok(Next::End) => return Ok(None),
                // Its writer may cut a torn record off and write another: the next look begins with
                // the record again.
                Ok(Next::Torn) => {
                    self.reader = None;
                    return Ok(None);
                }
                Err(FrameError::Io(error)) => return Err(error.into()),
                // We may have read while the writer did just that.
                Err(FrameError::Damaged { .. }) if !is_second_look => {
                    self.reader = None;
                    is_second_look = true;
                    continue;
                }
                Err(damaged) => return Err(JournalError::Frame(damaged)),
            };
            self.at = Position { sequence, offset: reader.offset() };
            return taken.map(Some);
        }
    }

    /// A reader that stands at the next record; None where there is no journal.
    fn reader(&mut self) -> io::Result<Option<&mut RecordReader<File>>> {
        if self.reader.is_none() {
            let Some(mut file) = present(File::open(self.folder.journal()))? else { return Ok(None) };
            file.seek(io::SeekFrom::Start(self.at.offset))?;
            self.reader = Some(RecordReader::at(file, self.at.offset));
        }
        Ok(self.reader.as_mut())
    }

    /// Passes over records up to and including that number, without looking into them; false where
    /// the journal ends before it.
    pub fn skip_to(&mut self, sequence: u64) -> Result<bool, JournalError> {
        while self.at.sequence < sequence {
            if self.next(|_, _| Ok(()))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A record as clients see it.
fn public(sequence: u64, record: journal::Record) -> v1::JobRecord {
    use journal::record::What as Private;
    use v1::job_record::What as Public;
    let what = record.what.map(|what| match what {
        Private::Started(started) => Public::Started(started),
        Private::Scalars(scalars) => Public::Scalars(scalars),
        Private::Progress(progress) => Public::Progress(progress),
        Private::Checkpoint(checkpoint) => Public::Checkpoint(checkpoint),
        Private::Ended(ended) => Public::Ended(ended),
        Private::Resumed(resumed) => Public::Resumed(resumed),
        Private::Damaged(damaged) => Public::Damaged(damaged),
    });
    v1::JobRecord { sequence, time: record.time, what, attempt: record.attempt }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::SystemTime;

    use super::super::{JobLock, JournalWriter};
    use super::*;
    use crate::proto::journal::record::What;

    fn step(step: u64) -> What {
        What::Progress(v1::StepProgress { step, examples_per_second: 1.0, ..v1::StepProgress::default() })
    }

    #[test]
    fn a_record_that_its_writer_cut_off_and_wrote_anew_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
        writer.append(SystemTime::now(), step(1)).unwrap();
        let whole = std::fs::metadata(folder.journal()).unwrap().len();
        let mut tail = JournalTail::new(folder.clone());
        assert_eq!(tail.read(10).unwrap().len(), 1);
        writer.append(SystemTime::now(), step(2)).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(folder.journal()).unwrap();
        file.set_len(whole + 20).unwrap();
        assert!(tail.read(10).unwrap().is_empty());
        drop(writer);
        let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
        writer.append(SystemTime::now(), step(3)).unwrap();
        let read = tail.read(10).unwrap();
        assert!(matches!(&read[0].what, Some(v1::job_record::What::Progress(progress)) if progress.step == 3));
    }

    #[test]
    fn what_stands_before_a_damage_is_handed_out_before_the_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
        let whole = |number| {
            let mut bytes = Vec::new();
            let record = journal::Record { what: Some(step(number)), ..journal::Record::default() };
            crate::record::append(&mut bytes, |buffer| record.encode_raw(buffer));
            bytes
        };
        let mut unknown = Vec::new();
        crate::record::append(&mut unknown, |buffer| buffer.extend_from_slice(b"\xff no record"));
        let mut damaged = whole(4);
        damaged[14] ^= 1;
        writer.append(SystemTime::now(), step(1)).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(folder.journal()).unwrap();
        file.write_all(&[unknown, whole(3), damaged, whole(5)].concat()).unwrap();

        let mut tail = JournalTail::new(folder);
        let numbers = |records: Vec<v1::JobRecord>| records.iter().map(|record| record.sequence).collect::<Vec<_>>();
        assert_eq!(numbers(tail.read(10).unwrap()), [1]);
        assert_eq!(tail.sequence(), 1);
        assert!(matches!(tail.read(10), Err(JournalError::Unknown { sequence: 2, .. })));
        assert_eq!(numbers(tail.read(10).unwrap()), [3]);
        for _ in 0..2 {
            assert!(matches!(tail.read(10), Err(JournalError::Frame(_))), "it stays damaged");
        }
        assert_eq!(tail.sequence(), 3);
    }

    #[test]
    fn a_tail_follows_a_writer_and_a_later_writer_cuts_what_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        let mut tail = JournalTail::new(folder.clone());
        assert!(tail.read(10).unwrap().is_empty());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
        for number in 0..3 {
            writer.append(SystemTime::now(), step(number)).unwrap();
        }
        assert_eq!(tail.read(2).unwrap().len(), 2);
        assert_eq!(tail.read(10).unwrap()[0].sequence, 3);
        drop(writer);

        std::fs::OpenOptions::new().append(true).open(folder.journal()).unwrap().write_all(b"half").unwrap();
        assert!(tail.read(10).unwrap().is_empty());
        let mut writer = JournalWriter::open(&folder, &lock, 2).unwrap();
        writer.append(SystemTime::now(), step(3)).unwrap();

        let mut other = JournalTail::new(folder);
        assert!(other.skip_to(3).unwrap());
        assert_eq!(other.read(10).unwrap()[0].sequence, 4);
        assert!(!other.skip_to(5).unwrap());
    }
}
