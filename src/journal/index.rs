//! An index of a journal: where records begin, where later attempts resumed, and which tags there
//! are.
//!
//! It lies in memory and in no file. A file would have to be written by the runner, which should
//! not wait for readers, or by a daemon, which may write nothing while a runner holds the lock;
//! both would have to be kept true through crashes. The price is one pass over a journal when
//! somebody first asks for it. An index is never trusted over the journal: it says where to begin
//! reading, and every record that is read there is held against its own checksum.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::folder::JobFolder;
use super::tail::{JournalError, JournalTail, Position};
use crate::gate::Wanted;
use crate::proto::v1::{self, job_record::What};

/// From one place that is remembered to the next, in records.
const STEP: usize = 1000;
/// Journals whose indexes are kept; the one that was not asked for longest goes first.
const MOST_JOURNALS: usize = 64;

/// The index of one journal.
#[derive(Debug)]
pub struct JournalIndex {
    folder: JobFolder,
    /// Device and inode of the journal that this is about.
    file: Option<(u64, u64)>,
    /// Where every thousandth record begins.
    marks: Vec<Position>,
    /// The records of later attempts that say where they took up: number and step.
    resumes: Vec<(u64, u64)>,
    /// How far that was looked for.
    known: Position,
    tags: BTreeMap<String, v1::ScalarTag>,
    /// How far scalars were counted. What a resume takes back is found by counting anew.
    counted: Position,
}

impl JournalIndex {
    /// Nothing is known yet.
    pub fn new(folder: JobFolder) -> Self {
        Self {
            folder,
            file: None,
            marks: Vec::new(),
            resumes: Vec::new(),
            known: Position::default(),
            tags: BTreeMap::new(),
            counted: Position::default(),
        }
    }

    /// Reads the records that the journal has got since. Records that were read stay known where
    /// reading ends early, as when nobody waits any more.
    pub fn catch_up(&mut self, wanted: &Wanted) -> Result<(), JournalError> {
        self.check_file()?;
        let mut tail = JournalTail::from(self.folder.clone(), self.known);
        loop {
            wanted.check()?;
            let from = self.known;
            let records = tail.read(STEP)?;
            let Some(last) = records.last().map(|record| record.sequence) else { break };
            if self.marks.last().is_none_or(|mark| from.sequence >= mark.sequence + STEP as u64) {
                self.marks.push(from);
            }
            for record in &records {
                if let Some(What::Resumed(resumed)) = &record.what {
                    self.resumes.push((record.sequence, resumed.step));
                    self.tags.clear();
                    self.counted = Position::default();
                }
            }
            self.known = tail.position();
            debug_assert_eq!(self.known.sequence, last);
            if self.counted == from {
                self.count(&records);
                self.counted = self.known;
            }
        }
        let mut tail = JournalTail::from(self.folder.clone(), self.counted);
        while self.counted.sequence < self.known.sequence {
            wanted.check()?;
            let missing = self.known.sequence - self.counted.sequence;
            let records = tail.read(STEP.min(missing as usize))?;
            if records.is_empty() {
                break;
            }
            self.count(&records);
            self.counted = tail.position();
        }
        Ok(())
    }

    /// Forgets everything where the file is another one, or shorter than what was read of it.
    fn check_file(&mut self) -> io::Result<()> {
        let (file, length) = match fs::metadata(self.folder.journal()) {
            Ok(about) => (Some((about.dev(), about.ino())), about.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, 0),
            Err(error) => return Err(error),
        };
        if self.file != file || length < self.known.offset {
            *self = Self { file, ..Self::new(self.folder.clone()) };
        }
        Ok(())
    }

    fn count(&mut self, records: &[v1::JobRecord]) {
        for (record, scalars) in records.iter().filter_map(scalars) {
            if self.is_superseded(record.sequence, scalars.step) {
                continue;
            }
            for value in &scalars.values {
                let point = v1::ScalarPoint { step: scalars.step, time: record.time, value: value.value };
                // Most are known: no name is copied for those.
                let tag = match self.tags.get_mut(&value.tag) {
                    Some(tag) => tag,
                    None => self.tags.entry(value.tag.clone()).or_insert_with(|| v1::ScalarTag {
                        tag: value.tag.clone(),
                        point_count: 0,
                        last: None,
                    }),
                };
                tag.point_count += 1;
                tag.last = Some(point);
            }
        }
    }

    /// Whether a later attempt has taken up before that step of that record.
    fn is_superseded(&self, sequence: u64, step: u64) -> bool {
        self.resumes.iter().any(|&(later, from)| later > sequence && from < step)
    }

    /// The tags of the job, by name.
    pub fn tags(&self) -> &BTreeMap<String, v1::ScalarTag> {
        &self.tags
    }

    /// A place at or before the end of that record, from which it is not far.
    pub fn near(&self, sequence: u64) -> Position {
        let behind = self.marks.partition_point(|mark| mark.sequence <= sequence);
        behind.checked_sub(1).map_or_else(Position::default, |place| self.marks[place])
    }

    /// The points of a tag behind that record, at most `limit`, and whether there are more: then
    /// the number of the last record whose point is among them.
    pub fn points(&self, tag: &str, after: u64, limit: usize, wanted: &Wanted) -> Result<Points, JournalError> {
        let mut tail = JournalTail::from(self.folder.clone(), self.near(after));
        tail.skip_to(after)?;
        let (mut points, mut last) = (Vec::new(), after);
        loop {
            wanted.check()?;
            let records = tail.read(STEP)?;
            if records.is_empty() {
                return Ok((points, None));
            }
            for (record, scalars) in records.iter().filter_map(scalars) {
                if self.is_superseded(record.sequence, scalars.step) {
                    continue;
                }
                for value in scalars.values.iter().filter(|value| value.tag == tag) {
                    if points.len() == limit {
                        return Ok((points, Some(last)));
                    }
                    points.push(v1::ScalarPoint { step: scalars.step, time: record.time, value: value.value });
                    last = record.sequence;
                }
            }
        }
    }
}

/// Points, and where the next page begins.
pub type Points = (Vec<v1::ScalarPoint>, Option<u64>);

fn scalars(record: &v1::JobRecord) -> Option<(&v1::JobRecord, &v1::ScalarValues)> {
    match &record.what {
        Some(What::Scalars(scalars)) => Some((record, scalars)),
        _ => None,
    }
}

/// The indexes of the journals that were asked for lately; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct JournalIndexes {
    /// The one that was asked for last stands last.
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

type Kept = (JobFolder, Arc<Mutex<JournalIndex>>);

impl JournalIndexes {
    /// Hands the index of a journal to `look`; nobody else has it meanwhile. Blocks.
    pub fn with<T>(&self, folder: &JobFolder, look: impl FnOnce(&mut JournalIndex) -> T) -> T {
        let index = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kept.iter().position(|(known, _)| known == folder).and_then(|place| kept.remove(place));
            let (folder, index) = found.unwrap_or_else(|| {
                let index = JournalIndex::new(folder.clone());
                (folder.clone(), Arc::new(Mutex::new(index)))
            });
            if kept.len() == MOST_JOURNALS {
                kept.pop_front();
            }
            kept.push_back((folder, index.clone()));
            index
        };
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::gate::Gate;
    use crate::journal::{JobLock, JournalWriter};
    use crate::proto::journal::record::What;

    fn scalar(step: u64, value: f64) -> What {
        let values = vec![v1::ScalarValue { tag: "loss/train".into(), value }];
        What::Scalars(v1::ScalarValues { step, values })
    }

    fn resumed(step: u64) -> What {
        What::Resumed(v1::RunnerResumed { step, ..v1::RunnerResumed::default() })
    }

    /// A job's folder whose journal can be written.
    struct Job {
        _place: tempfile::TempDir,
        folder: JobFolder,
        lock: JobLock,
    }

    impl Job {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let folder = JobFolder::new(place.path().into());
            let lock = JobLock::take(&folder).unwrap().unwrap();
            Self { _place: place, folder, lock }
        }

        fn write(&self, attempt: u32, records: impl IntoIterator<Item = What>) {
            let mut writer = JournalWriter::open(&self.folder, &self.lock, attempt).unwrap();
            records.into_iter().for_each(|record| writer.append(SystemTime::UNIX_EPOCH, record).unwrap());
        }
    }

    /// Runs `work` as a client's.
    async fn asked<T: Send + 'static>(work: impl FnOnce(&Wanted) -> T + Send + 'static) -> T {
        Gate::new(1).run(work).await.unwrap()
    }

    fn told(points: &Points) -> Vec<(u64, f64)> {
        points.0.iter().map(|point| (point.step, point.value)).collect()
    }

    #[tokio::test]
    async fn what_a_later_attempt_does_again_counts_once_also_where_it_is_learned_later() {
        let job = Job::new();
        job.write(1, (1..=3).map(|step| scalar(step, step as f64)));
        let folder = job.folder.clone();
        let count = |index: &JournalIndex| index.tags()["loss/train"].point_count;
        let index = asked(move |wanted| {
            let mut index = JournalIndex::new(folder);
            index.catch_up(wanted).unwrap();
            assert_eq!(index.tags()["loss/train"].point_count, 3);
            index
        });
        let mut index = index.await;
        job.write(3, [resumed(1), scalar(2, 2.5)]);
        let index = asked(move |wanted| {
            index.catch_up(wanted).unwrap();
            let points = index.points("loss/train", 0, 10, wanted).unwrap();
            assert_eq!((told(&points), points.1), (vec![(1, 1.0), (2, 2.5)], None));
            assert_eq!(told(&index.points("loss/train", 0, 1, wanted).unwrap()), [(1, 1.0)]);
            index
        });
        let index = index.await;
        assert_eq!((count(&index), index.tags()["loss/train"].last.unwrap().value), (2, 2.5));
    }

    #[tokio::test]
    async fn a_page_is_read_from_near_where_it_begins_and_a_replaced_journal_from_its_start() {
        let job = Job::new();
        let (many, page) = (3 * STEP as u64 + 5, 7);
        job.write(1, (1..=many).map(|step| scalar(step, 0.5)));
        let folder = job.folder.clone();
        let index = asked(move |wanted| {
            let mut index = JournalIndex::new(folder);
            index.catch_up(wanted).unwrap();
            let mark = index.near(many - 1);
            assert_eq!((mark.sequence, index.near(0)), (3 * STEP as u64, Position::default()));
            // What lies before it is not looked at: damage there does not matter.
            let journal = index.folder.journal();
            let mut bytes = fs::read(&journal).unwrap();
            bytes[20] ^= 1;
            fs::write(&journal, bytes).unwrap();
            let points = index.points("loss/train", many - page, 100, wanted).unwrap();
            assert_eq!(points.0.len() as u64, page);
            assert!(matches!(index.points("loss/train", 3, 100, wanted), Err(JournalError::Frame(_))));
            index
        });
        let mut index = index.await;
        fs::remove_file(job.folder.journal()).unwrap();
        job.write(1, [scalar(1, 7.0)]);
        asked(move |wanted| {
            index.catch_up(wanted).unwrap();
            assert_eq!((index.tags()["loss/train"].point_count, index.marks.len()), (1, 1));
        })
        .await;
    }

    #[tokio::test]
    async fn reading_ends_when_its_caller_has_left() {
        let job = Job::new();
        job.write(1, [scalar(1, 0.5)]);
        let (gate, indexes) = (Gate::new(1), JournalIndexes::default());
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (of, kept, folder) = (gate.clone(), indexes.clone(), job.folder.clone());
        let work = move |wanted: &Wanted| {
            begin.send(()).unwrap();
            released.recv().unwrap();
            tell.send(kept.with(&folder, |index| index.catch_up(wanted))).unwrap();
        };
        let caller = tokio::spawn(async move { of.run(work).await });
        begun.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        assert!(matches!(told.await.unwrap(), Err(JournalError::Io(_))));
        let folder = job.folder.clone();
        let counted = gate.run(move |wanted| {
            indexes.with(&folder, |index| index.catch_up(wanted).map(|()| index.tags().len()).unwrap())
        });
        assert_eq!(counted.await.unwrap(), 1, "the next one reads it");
    }
}
