//! How far a journal may be brought home before its next checkpoint is: an attempt that goes on
//! from a checkpoint needs all that was told before it.

use std::fs::File;
use std::io;
use std::path::Path;

use prost::Message;

use crate::proto::journal::{Record, record::What};
use crate::record::{FrameError, Next, RecordReader};

/// The bytes of a journal before the first record of a checkpoint that is not at home, by its step.
/// `from` is where a record begins, up to which that is known; `home` bytes are at home.
pub(super) fn before_news(journal: &Path, from: u64, home: u64, is_home: impl Fn(u64) -> bool) -> io::Result<u64> {
    let Some(file) = crate::beneath::present(File::open(journal))? else { return Ok(from) };
    let mut reader = RecordReader::at(seek(file, from)?, from);
    let mut before = from;
    loop {
        match reader.next() {
            Ok(Next::Record(data)) => {
                let what = Record::decode(data).ok().and_then(|record| record.what);
                let is_news = matches!(what, Some(What::Checkpoint(saved)) if !is_home(saved.step));
                if is_news && reader.offset() > home {
                    return Ok(before);
                }
                before = reader.offset();
            }
            Ok(Next::End | Next::Torn) => return Ok(before),
            Err(FrameError::Io(error)) => return Err(error),
            Err(damaged) => return Err(io::Error::new(io::ErrorKind::InvalidData, damaged)),
        }
    }
}

fn seek(mut file: File, to: u64) -> io::Result<File> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(to))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::journal::{JobFolder, JobLock, JournalWriter};
    use crate::proto::v1::{CheckpointSaved, StepProgress};

    #[test]
    fn a_journal_is_brought_up_to_the_next_checkpoint_that_is_not_at_home() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        assert_eq!(before_news(&folder.journal(), 0, 0, |_| false).unwrap(), 0, "there is none yet");
        let mut journal = JournalWriter::open(&folder, &JobLock::take(&folder).unwrap().unwrap(), 1).unwrap();
        let mut tell = |what| {
            journal.append(SystemTime::now(), what).unwrap();
            journal.length()
        };
        let checkpoint = |step| What::Checkpoint(CheckpointSaved { step, ..CheckpointSaved::default() });
        let first = tell(What::Progress(StepProgress::default()));
        tell(checkpoint(7));
        let second = tell(What::Progress(StepProgress::default()));
        tell(checkpoint(14));
        let end = tell(What::Progress(StepProgress::default()));
        let before = |from, home, last: u64| before_news(&folder.journal(), from, home, |step| step <= last).unwrap();
        assert_eq!([before(0, 0, 0), before(0, 0, 7), before(0, 0, 14)], [first, second, end]);
        assert_eq!([before(first, 0, 0), before(first, 0, 7), before(second, 0, 14)], [first, second, end]);
        assert_eq!(before(0, end, 0), end, "it was removed before it could be brought");
    }
}
