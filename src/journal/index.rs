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
use std::ops::Bound;
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
    resumes: Vec<(u64, Option<u64>)>,
    /// How far that was looked for.
    known: Position,
    tags: BTreeMap<String, Known>,
    /// Position up to which scalars were counted. Records that a resume takes back are found by
    /// counting anew.
    counted: Position,
}

/// A tag, and the records of its first and its last point.
#[derive(Debug)]
struct Known {
    tag: v1::ScalarTag,
    first: u64,
    last: u64,
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

    /// Reads some of the records that the journal has got since; false while there may be more. A
    /// damage is told once everything before it is known.
    fn advance(&mut self) -> Result<bool, JournalError> {
        self.check_file()?;
        let mut tail = JournalTail::from(self.folder.clone(), self.known);
        let read = tail.read(STEP);
        if let Ok(records) = &read
            && !records.is_empty()
        {
            self.note(records, tail.position());
            return Ok(false);
        }
        if self.counted.sequence < self.known.sequence {
            let mut tail = JournalTail::from(self.folder.clone(), self.counted);
            let missing = self.known.sequence - self.counted.sequence;
            let records = tail.read(STEP.min(missing as usize))?;
            self.count(&records);
            self.counted = tail.position();
            // Somebody may have cut the journal off.
            return Ok(records.is_empty());
        }
        read.map(|_| true)
    }

    /// Takes note of the records behind those that are known, up to `end`.
    fn note(&mut self, records: &[v1::JobRecord], end: Position) {
        let from = self.known;
        if self.marks.last().is_none_or(|mark| from.sequence >= mark.sequence + STEP as u64) {
            self.marks.push(from);
        }
        for record in records {
            if let Some(What::Resumed(resumed)) = &record.what {
                self.resumes.push((record.sequence, Some(resumed.step).filter(|_| !resumed.replaces_first)));
                self.tags.clear();
                self.counted = Position::default();
            }
        }
        self.known = end;
        if self.counted == from {
            self.count(records);
            self.counted = end;
        }
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
                let fresh = || Known {
                    tag: v1::ScalarTag { tag: value.tag.clone(), point_count: 0, last: None },
                    first: record.sequence,
                    last: record.sequence,
                };
                // Most are known: no name is copied for those.
                let known = match self.tags.get_mut(&value.tag) {
                    Some(known) => known,
                    None => self.tags.entry(value.tag.clone()).or_insert_with(fresh),
                };
                known.tag.point_count += 1;
                known.tag.last = Some(point);
                known.last = record.sequence;
            }
        }
    }

    /// Whether a later attempt has taken up before that step of that record.
    fn is_superseded(&self, sequence: u64, step: u64) -> bool {
        is_superseded(&self.resumes, sequence, step)
    }

    /// The tags of the job behind that name, by name.
    pub fn tags_after(&self, name: &str) -> impl Iterator<Item = &v1::ScalarTag> {
        let behind = (Bound::Excluded(name), Bound::Unbounded);
        self.tags.range::<str, _>(behind).map(|(_, known)| &known.tag)
    }

    /// A place at or before the end of that record, from which it is not far.
    pub fn near(&self, sequence: u64) -> Position {
        let behind = self.marks.partition_point(|mark| mark.sequence <= sequence);
        behind.checked_sub(1).map_or_else(Position::default, |place| self.marks[place])
    }

    /// Where the points of a tag behind that record are; None where the job has no such tag.
    pub fn span(&self, tag: &str, after: u64) -> Option<Span> {
        let known = self.tags.get(tag)?;
        let after = after.max(known.first - 1);
        Some(Span {
            folder: self.folder.clone(),
            tag: tag.to_owned(),
            near: self.near(after),
            after,
            last: known.last,
            resumes: self.resumes.clone(),
        })
    }
}

fn is_superseded(resumes: &[(u64, Option<u64>)], sequence: u64, step: u64) -> bool {
    resumes.iter().any(|&(later, from)| later > sequence && from.is_none_or(|from| from < step))
}

/// The part of a journal that holds points of a tag. It is read without the index, which others
/// have meanwhile.
#[derive(Debug)]
pub struct Span {
    folder: JobFolder,
    tag: String,
    near: Position,
    after: u64,
    /// There are none behind this record.
    last: u64,
    resumes: Vec<(u64, Option<u64>)>,
}

impl Span {
    /// The same, up to the damage that the journal has behind what is known.
    pub fn to_damage(self) -> Self {
        Self { last: u64::MAX, ..self }
    }

    /// The points, at most `limit`, and whether there are more: then the number of the last record
    /// whose point is among them. A damage is told to those who begin at it.
    pub fn read(&self, limit: usize, wanted: &Wanted) -> Result<Points, JournalError> {
        let mut tail = JournalTail::from(self.folder.clone(), self.near);
        tail.skip_to(self.after)?;
        let (mut points, mut last) = (Vec::new(), self.after);
        while tail.sequence() < self.last {
            wanted.check()?;
            let records = match tail.read(STEP) {
                Ok(records) => records,
                Err(JournalError::Frame(_) | JournalError::Unknown { .. }) if !points.is_empty() => {
                    return Ok((points, Some(last)));
                }
                Err(error) => return Err(error),
            };
            if records.is_empty() {
                break;
            }
            for (record, scalars) in records.iter().filter_map(scalars) {
                if is_superseded(&self.resumes, record.sequence, scalars.step) {
                    continue;
                }
                for value in scalars.values.iter().filter(|value| value.tag == self.tag) {
                    if points.len() == limit {
                        return Ok((points, Some(last)));
                    }
                    points.push(v1::ScalarPoint { step: scalars.step, time: record.time, value: value.value });
                    last = record.sequence;
                }
            }
        }
        Ok((points, None))
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
    /// Brings the index of a journal up to date and hands it to `look`, with the damage that the
    /// journal has behind what is known. Others may have the index after each step. Blocks.
    pub fn look<T>(
        &self,
        folder: &JobFolder,
        wanted: &Wanted,
        look: impl FnOnce(&JournalIndex, Option<JournalError>) -> T,
    ) -> Result<T, JournalError> {
        let index = self.index(folder);
        loop {
            wanted.check()?;
            let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
            match index.advance() {
                Ok(false) => {}
                Ok(true) => return Ok(look(&index, None)),
                Err(error @ JournalError::Io(_)) => return Err(error),
                Err(damage) => return Ok(look(&index, Some(damage))),
            }
        }
    }

    fn index(&self, folder: &JobFolder) -> Arc<Mutex<JournalIndex>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == folder).and_then(|place| kept.remove(place));
        let (folder, index) =
            found.unwrap_or_else(|| (folder.clone(), Arc::new(Mutex::new(JournalIndex::new(folder.clone())))));
        if kept.len() == MOST_JOURNALS {
            kept.pop_front();
        }
        kept.push_back((folder, index.clone()));
        index
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

    fn catch_up(index: &mut JournalIndex, wanted: &Wanted) -> Result<(), JournalError> {
        while !index.advance()? {
            wanted.check()?;
        }
        Ok(())
    }

    fn read(index: &JournalIndex, after: u64, limit: usize, wanted: &Wanted) -> Result<Points, JournalError> {
        index.span("loss/train", after).unwrap().read(limit, wanted)
    }

    fn told(points: &Points) -> Vec<(u64, f64)> {
        points.0.iter().map(|point| (point.step, point.value)).collect()
    }

    #[tokio::test]
    async fn what_a_later_attempt_does_again_counts_once_also_where_it_is_learned_later() {
        let job = Job::new();
        job.write(1, (1..=3).map(|step| scalar(step, step as f64)));
        let folder = job.folder.clone();
        let count = |index: &JournalIndex| index.tags["loss/train"].tag.point_count;
        let index = asked(move |wanted| {
            let mut index = JournalIndex::new(folder);
            catch_up(&mut index, wanted).unwrap();
            assert_eq!(index.tags["loss/train"].tag.point_count, 3);
            index
        });
        let mut index = index.await;
        job.write(3, [resumed(1), scalar(2, 2.5)]);
        let index = asked(move |wanted| {
            catch_up(&mut index, wanted).unwrap();
            let points = read(&index, 0, 10, wanted).unwrap();
            assert_eq!((told(&points), points.1), (vec![(1, 1.0), (2, 2.5)], None));
            assert_eq!(told(&read(&index, 0, 1, wanted).unwrap()), [(1, 1.0)]);
            index
        });
        let index = index.await;
        assert_eq!((count(&index), index.tags["loss/train"].tag.last.unwrap().value), (2, 2.5));
    }

    #[tokio::test]
    async fn a_page_is_read_from_near_where_it_begins_and_a_replaced_journal_from_its_start() {
        let job = Job::new();
        let (many, page) = (3 * STEP as u64 + 5, 7);
        job.write(1, (1..=many).map(|step| scalar(step, 0.5)));
        let folder = job.folder.clone();
        let index = asked(move |wanted| {
            let mut index = JournalIndex::new(folder);
            catch_up(&mut index, wanted).unwrap();
            let mark = index.near(many - 1);
            assert_eq!((mark.sequence, index.near(0)), (3 * STEP as u64, Position::default()));
            // Records before it are not read: damage there does not matter.
            let journal = index.folder.journal();
            let mut bytes = fs::read(&journal).unwrap();
            bytes[20] ^= 1;
            fs::write(&journal, bytes).unwrap();
            let points = read(&index, many - page, 100, wanted).unwrap();
            assert_eq!(points.0.len() as u64, page);
            assert!(matches!(read(&index, 3, 100, wanted), Err(JournalError::Frame(_))));
            index
        });
        let mut index = index.await;
        fs::remove_file(job.folder.journal()).unwrap();
        job.write(1, [scalar(1, 7.0)]);
        asked(move |wanted| {
            catch_up(&mut index, wanted).unwrap();
            assert_eq!((index.tags["loss/train"].tag.point_count, index.marks.len()), (1, 1));
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
            tell.send(kept.look(&folder, wanted, |_, _| ())).unwrap();
        };
        let caller = tokio::spawn(async move { of.run(work).await });
        begun.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        assert!(matches!(told.await.unwrap(), Err(JournalError::Io(_))));
        let folder = job.folder.clone();
        let counted = gate.run(move |wanted| indexes.look(&folder, wanted, |index, _| index.tags.len()).unwrap());
        assert_eq!(counted.await.unwrap(), 1, "the next one reads it");
    }

    #[tokio::test]
    async fn the_journal_is_read_no_further_than_the_points_of_a_tag_reach() {
        let job = Job::new();
        let other = (0..4 * STEP as u64).map(|step| {
            let values = vec![v1::ScalarValue { tag: "other".into(), value: 0.5 }];
            What::Scalars(v1::ScalarValues { step, values })
        });
        job.write(1, [scalar(1, 0.5), scalar(2, 0.5)].into_iter().chain(other));
        let (indexes, folder) = (JournalIndexes::default(), job.folder.clone());
        asked(move |wanted| {
            let spans = |index: &JournalIndex, _| (index.span("loss/train", 0), index.span("unknown", 0));
            let (span, unknown) = indexes.look(&folder, wanted, spans).unwrap();
            assert!(unknown.is_none());
            // The rest is damaged, which is not met. The index is free while the span is read.
            let mut bytes = fs::read(folder.journal()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(folder.journal(), bytes).unwrap();
            let (points, next) = span.unwrap().read(10, wanted).unwrap();
            assert_eq!((points.len(), next), (2, None));
        })
        .await;
    }

    #[tokio::test]
    async fn what_stands_before_a_damage_is_told_and_then_the_damage() {
        let job = Job::new();
        job.write(1, [scalar(1, 1.0), scalar(2, 2.0)]);
        job.write(2, [resumed(1), scalar(2, 2.5), scalar(3, 3.0)]);
        let mut bytes = fs::read(job.folder.journal()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(job.folder.journal(), bytes).unwrap();
        let (indexes, folder) = (JournalIndexes::default(), job.folder.clone());
        asked(move |wanted| {
            let page = |after: u64| {
                let look = |index: &JournalIndex, damage: Option<JournalError>| {
                    assert!(damage.is_some());
                    index.span("loss/train", after).unwrap().to_damage()
                };
                indexes.look(&folder, wanted, look).unwrap().read(10, wanted)
            };
            let first = page(0).unwrap();
            assert_eq!((told(&first), first.1), (vec![(1, 1.0), (2, 2.5)], Some(4)));
            assert!(matches!(page(4), Err(JournalError::Frame(_))));
        })
        .await;
    }
}
