//! The runner's side of the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use prost::Message;

use super::folder::JobFolder;
use super::lock::JobLock;
use crate::proto::journal::{Record, record::What};
use crate::record::{self, FrameError, Next, RecordReader};

/// Bytes at the end of a journal in which its last whole record is looked for.
const NEAR_END: u64 = 4 << 20;
/// Bytes of the longest record.
const LONGEST_RECORD: u64 = (record::HEADER_BYTES + record::MAX_DATA_BYTES + record::FOOTER_BYTES) as u64;

/// Appends records. A record is in the file when `append` returns, so that a tail sees it; the disk
/// has it after `sync`.
#[derive(Debug)]
pub struct JournalWriter {
    file: File,
    attempt: u32,
    /// Bytes of whole records in the file.
    length: u64,
    buffer: Vec<u8>,
}

impl JournalWriter {
    /// Opens the journal of a job whose lock the caller holds, behind its last whole record: what
    /// an earlier runner left half-written is cut off.
    pub fn open(folder: &JobFolder, _held: &JobLock, attempt: u32) -> io::Result<Self> {
        // The runner's umask may allow the group to read.
        let mut open = OpenOptions::new();
        let mut file = open.read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.journal())?;
        let length = whole_bytes(&file, 0)?;
        file.set_len(length)?;
        file.seek(io::SeekFrom::Start(length))?;
        Ok(Self { file, attempt, length, buffer: Vec::new() })
    }

    /// Adds a record. After an error the journal ends with a whole record, and the same record can
    /// be tried again, but for one that is longer than readers take (`InvalidInput`).
    pub fn append(&mut self, now: SystemTime, what: What) -> io::Result<()> {
        let entry = Record { time: Some(now.into()), attempt: self.attempt, what: Some(what) };
        let length = entry.encoded_len();
        if length > record::MAX_DATA_BYTES {
            let what = format!("a record of {length} bytes; one of at most {} is needed", record::MAX_DATA_BYTES);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
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

    /// Bytes of whole records.
    pub fn length(&self) -> u64 {
        self.length
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

/// Cuts off what a crash has left half-written, so that readers need not stop there; whether there
/// was anything. Nobody may write: the caller holds the lock. A long journal is looked at near its
/// end alone, since a daemon that starts waits for this: a damage far before that is told by those
/// who read on to it.
pub fn cut_torn_end(folder: &JobFolder, _held: &JobLock) -> io::Result<bool> {
    let file = match OpenOptions::new().read(true).write(true).open(folder.journal()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let whole = match whole_bytes_by_end(&file, length)? {
        Some(whole) => whole,
        None => whole_bytes(&file, 0)?,
    };
    if whole == length {
        return Ok(false);
    }
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(true)
}

/// The same as `whole_bytes`, from the last bytes of a file of that length. None where these do not
/// tell: the file is short, or more of its end is lost.
fn whole_bytes_by_end(file: &File, length: u64) -> io::Result<Option<u64>> {
    let Some(from) = length.checked_sub(NEAR_END) else { return Ok(None) };
    let Some(start) = record::next_header(file, from)? else { return Ok(None) };
    // The data of a record may look like records, but not for longer than a record is.
    let is_told = |whole: &u64| whole - start > LONGEST_RECORD;
    Ok(whole_bytes(file, start).ok().filter(is_told))
}

/// Where the last whole record ends, in a file with a record at byte `start`. When a machine goes
/// down, what was not synced may come back as zeros or as something else: behind that nothing is
/// whole. A damage with whole records behind it is another matter, and is not cut away.
fn whole_bytes(mut file: &File, start: u64) -> io::Result<u64> {
    file.seek(io::SeekFrom::Start(start))?;
    let mut reader = RecordReader::at(file, start);
    let damage = loop {
        match reader.next() {
            Ok(Next::Record(_)) => {}
            Ok(Next::End | Next::Torn) => return Ok(reader.offset()),
            Err(error) => break error,
        }
    };
    let FrameError::Damaged { offset, .. } = damage else { return Err(into_io(damage)) };
    if record::holds_record(file, offset + 1)? { Err(into_io(damage)) } else { Ok(offset) }
}

fn into_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Io(error) => error,
        damaged @ FrameError::Damaged { .. } => io::Error::new(io::ErrorKind::InvalidData, damaged),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{JournalError, JournalTail};
    use super::*;
    use crate::proto::v1::{JobRecord, RunnerEnded, RunnerStarted, ScalarValue, ScalarValues, StepProgress};

    /// A journal with a record of each kind, and where each of them ends.
    fn journal(folder: &JobFolder, lock: &JobLock) -> Vec<u64> {
        let mut writer = JournalWriter::open(folder, lock, 1).unwrap();
        let values = vec![ScalarValue { tag: "loss/train".into(), value: 0.1 + 0.2 }];
        let records = [
            What::Started(RunnerStarted { pid: 4711, device: "cpu".into(), ..RunnerStarted::default() }),
            What::Scalars(ScalarValues { step: 10, values }),
            What::Progress(StepProgress {
                step: 12,
                examples_per_second: 2.5,
                checkpoint_wait_seconds: Some(1.5),
                data_wait_seconds: Some(0.5),
                ..StepProgress::default()
            }),
            What::Ended(RunnerEnded { message: "trained to the end".into(), step: 20, ..RunnerEnded::default() }),
        ];
        let append = |record| {
            writer.append(SystemTime::UNIX_EPOCH, record).unwrap();
            writer.length
        };
        records.into_iter().map(append).collect()
    }

    fn read(folder: &JobFolder) -> (Vec<JobRecord>, Option<JournalError>) {
        let (mut tail, mut records) = (JournalTail::new(folder.clone()), Vec::new());
        loop {
            match tail.read(1) {
                Ok(read) if read.is_empty() => return (records, None),
                Ok(read) => records.extend(read),
                Err(error) => return (records, Some(error)),
            }
        }
    }

    fn folder() -> (tempfile::TempDir, JobFolder, JobLock) {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        (place, folder, lock)
    }

    #[test]
    fn a_journal_cut_at_any_byte_has_the_records_that_are_whole_and_is_written_on_behind_them() {
        let (_place, folder, lock) = folder();
        let ends = journal(&folder, &lock);
        let (bytes, (all, _)) = (fs::read(folder.journal()).unwrap(), read(&folder));
        for cut in 0..=bytes.len() {
            fs::write(folder.journal(), &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut as u64).count();
            let (records, error) = read(&folder);
            assert!(error.is_none() && records == all[..whole], "cut at {cut}: {error:?}");

            let mut writer = JournalWriter::open(&folder, &lock, 2).unwrap();
            writer.append(SystemTime::UNIX_EPOCH, What::Progress(StepProgress::default())).unwrap();
            let (records, error) = read(&folder);
            assert!(error.is_none() && records[..whole] == all[..whole], "cut at {cut}: {error:?}");
            let further: Vec<_> = records[whole..].iter().map(|record| (record.sequence, record.attempt)).collect();
            assert_eq!(further, [(whole as u64 + 1, 2)], "cut at {cut}");
        }
    }

    #[test]
    fn a_record_that_no_reader_would_take_is_refused_and_the_next_one_written() {
        let (_place, folder, lock) = folder();
        let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
        let ended = |bytes| What::Ended(RunnerEnded { message: "a".repeat(bytes), ..RunnerEnded::default() });
        let error = writer.append(SystemTime::now(), ended(record::MAX_DATA_BYTES)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        writer.append(SystemTime::now(), ended(record::MAX_DATA_BYTES - 100)).unwrap();
        let (records, error) = read(&folder);
        assert!(error.is_none() && records.len() == 1, "{error:?}");
    }

    #[test]
    fn a_flipped_bit_hides_no_record_before_it_changes_none_and_is_cut_away_only_at_the_end() {
        let (_place, folder, lock) = folder();
        let ends = journal(&folder, &lock);
        let (bytes, (all, _)) = (fs::read(folder.journal()).unwrap(), read(&folder));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(folder.journal(), &damaged).unwrap();
            let before = ends.iter().filter(|end| **end <= bit as u64 / 8).count();
            let (records, error) = read(&folder);
            assert!(error.is_some() && records == all[..before], "bit {bit}: {error:?}");
            let cut = cut_torn_end(&folder, &lock);
            if before + 1 == all.len() {
                // As a machine that went down may have left it.
                assert!(cut.unwrap(), "bit {bit}");
                assert!(fs::read(folder.journal()).unwrap() == bytes[..ends[before - 1] as usize], "bit {bit}");
            } else {
                // Nobody writes behind what cannot be read, and nothing is cut away that somebody
                // may mend.
                assert!(cut.is_err() && JournalWriter::open(&folder, &lock, 2).is_err(), "bit {bit}");
                assert!(fs::read(folder.journal()).unwrap() == damaged, "bit {bit}");
            }
        }
        // Zeros are what a file system makes of what was not synced.
        for zeros in [1, 11, 12, 100_000] {
            fs::write(folder.journal(), [bytes.clone(), vec![0; zeros]].concat()).unwrap();
            assert!(cut_torn_end(&folder, &lock).unwrap() && !cut_torn_end(&folder, &lock).unwrap(), "{zeros}");
            assert!(fs::read(folder.journal()).unwrap() == bytes);
        }
    }
    #[test]
    fn the_end_of_a_long_journal_is_found_near_it_whatever_its_records_hold() {
        let (_place, folder, lock) = folder();
        let framed = |data: &[u8]| {
            let mut bytes = Vec::new();
            record::append(&mut bytes, |buffer| buffer.extend_from_slice(data));
            bytes
        };
        let plain = framed(&[7; 100_000]);
        // A record within a record, and as much behind it as is looked at: the place from which the
        // end is looked for lies before the inner ones.
        let inner = framed(&[vec![0; 20], framed(b"inner").repeat(40_000)].concat());
        let behind = plain.repeat((NEAR_END as usize - 100_000) / plain.len());
        let whole = [framed(b"first"), plain.repeat(20), inner.clone(), behind].concat();
        let fill = NEAR_END as usize - (whole.len() - framed(b"first").len() - plain.len() * 20 - inner.len());
        assert!(fill < inner.len(), "the place lies within the record");
        let cut = |bytes: &[u8]| {
            fs::write(folder.journal(), bytes).unwrap();
            let is_cut = cut_torn_end(&folder, &lock).unwrap();
            (is_cut, fs::metadata(folder.journal()).unwrap().len())
        };
        let length = whole.len() as u64;
        assert_eq!(cut(&whole), (false, length));
        for torn in [&plain[..1], &plain[..50_000], &[0; 2_000_000], &vec![0; NEAR_END as usize + 1]] {
            assert_eq!(cut(&[&whole, torn].concat()), (true, length), "{}", torn.len());
        }
        // The last one is cut where it begins, and not behind those within it.
        for kept in [inner.len() - 1, inner.len() / 2] {
            assert_eq!(cut(&[&whole, &inner[..kept]].concat()), (true, length), "{kept}");
        }
        // Readers tell of a damage far before the end. What is torn goes all the same.
        let mut damaged = [framed(b"first"), plain.repeat(60)].concat();
        damaged[14] ^= 1;
        let length = damaged.len() as u64;
        assert_eq!(cut(&damaged), (false, length));
        assert_eq!(cut(&[&damaged[..], &[0; 7]].concat()), (true, length));
        assert!(JournalWriter::open(&folder, &lock, 2).is_err());
        // Near the end it is not cut away.
        let near = damaged.len() - plain.len() * 2;
        damaged[near] ^= 1;
        fs::write(folder.journal(), &damaged).unwrap();
        assert!(cut_torn_end(&folder, &lock).is_err());
        assert_eq!(fs::metadata(folder.journal()).unwrap().len(), length);
    }
}
