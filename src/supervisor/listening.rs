//! Follows a runner: reads the records of its journal, and measures its silence.

use std::time::Instant;

use super::hearing::{Growth, Heard, Hearing, Silence};
use super::{Fault, FaultKind, RunnerNews, Supervisor};
use crate::job::JobId;
use crate::journal::{Batch, JobFolder, JournalError, JournalTail, ProgressFold};
use crate::proto::EncodedWatch;
use crate::proto::v1::RunnerEnded;
use crate::proto::v1::watch_event::Event;

/// Records read at a time.
const RECORDS_AT_ONCE: usize = 1_000;
/// Records read before signals are looked at again: a long journal does not starve them.
const MOST_RECORDS: usize = 100_000;

/// The journal as far as it was read.
pub(super) struct Tail {
    /// None once it cannot be read on.
    journal: Option<JournalTail>,
    /// Its length, while it cannot be read.
    growth: Growth,
    hearing: Hearing,
    fold: ProgressFold,
    /// Why the last look has failed.
    pub(super) trouble: Option<Fault>,
    /// Why it cannot be read on, or why its shim could not work.
    pub(super) fault: Option<Fault>,
}

impl Tail {
    /// Of a runner that is listened to from its first record on.
    pub(super) fn new(folder: &JobFolder, silence: Silence) -> Self {
        Self {
            journal: Some(JournalTail::new(folder.clone())),
            growth: Growth::default(),
            hearing: Hearing::new(silence, Instant::now()),
            fold: ProgressFold::default(),
            trouble: None,
            fault: None,
        }
    }
}

impl Tail {
    /// The last word of the runner of that attempt.
    pub(super) fn ended(&self, attempt: u32) -> Option<RunnerEnded> {
        self.fold.ended(attempt).cloned()
    }
}

impl Supervisor {
    /// Looks at the journal, and tells what its runner has told since the look before: by its
    /// records, or by its length where they cannot be read.
    pub(super) async fn listen(&self, id: &JobId, folder: &JobFolder, tail: &mut Tail) -> Heard {
        let before = tail.journal.as_ref().map(JournalTail::sequence);
        self.look(id, tail).await;
        let after = tail.journal.as_ref().map(JournalTail::sequence);
        if after > before {
            return Heard::Something;
        }
        let heard = if after.is_some() && tail.trouble.is_none() {
            Heard::Nothing
        } else {
            let (mut growth, journal) = (std::mem::take(&mut tail.growth), folder.journal());
            let looked = tokio::task::spawn_blocking(move || (growth.look(&journal), growth)).await;
            match looked {
                Ok((heard, growth)) => {
                    tail.growth = growth;
                    heard
                }
                Err(error) => Heard::Unknown(std::io::Error::other(error)),
            }
        };
        tail.hearing.note(&heard, Instant::now());
        heard
    }

    /// Reads what the journal has, up to a limit; whether there may be more at once.
    pub(super) async fn look(&self, id: &JobId, tail: &mut Tail) -> bool {
        let Some(journal) = tail.journal.take() else { return false };
        let fold = std::mem::take(&mut tail.fold);
        let looked = match tokio::task::spawn_blocking(move || look(journal, fold)).await {
            Ok(looked) => looked,
            Err(error) => {
                let words = format!("the journal cannot be read: {error}");
                tail.fault = Some(Fault { kind: FaultKind::Other, words });
                return false;
            }
        };
        let Looked { journal, fold, count, batch, fault } = looked;
        let sequence = journal.sequence();
        tail.fold = fold;
        match fault {
            // There may be too many open files just now, or a disk that answers again.
            Some(JournalError::Io(error)) => {
                tail.trouble = Some(Fault::of("the journal cannot be read", &error));
                tail.journal = Some(journal);
            }
            // The journal is not looked at again; the runner goes on and ends as it ends.
            Some(error) => {
                tracing::error!(job.id = %id, %error, "the journal cannot be read on");
                tail.fault = Some(Fault { kind: FaultKind::Storage, words: error.to_string() });
            }
            None => {
                tail.trouble = None;
                tail.journal = Some(journal);
            }
        }
        if count > 0 {
            // This is noted before it is told: a listener that hears of it asks for the silence.
            tail.hearing.note(&Heard::Something, Instant::now());
            self.tell(id, RunnerNews::Progress { fold: Box::new(tail.fold.clone()), sequence, batch }).await;
        }
        count >= MOST_RECORDS
    }
}

/// The result of one look at a journal.
struct Looked {
    journal: JournalTail,
    fold: ProgressFold,
    /// Records that were read.
    count: usize,
    batch: Option<Batch>,
    fault: Option<JournalError>,
}

/// Reads what a journal has. Records that are many are old news, which watchers read for
/// themselves.
fn look(mut journal: JournalTail, mut fold: ProgressFold) -> Looked {
    let from = journal.position();
    let (mut count, mut batch, mut fault) = (0, None, None);
    while count < MOST_RECORDS {
        match journal.read(RECORDS_AT_ONCE) {
            Ok(records) if records.is_empty() => break,
            Ok(records) => {
                records.iter().for_each(|record| fold.add(record));
                let (is_first, to) = (count == 0, journal.position());
                count += records.len();
                let piece = || EncodedWatch::piece(records.into_iter().map(Event::Record));
                batch = is_first.then(|| Batch { from, to, piece: piece() });
            }
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    Looked { journal, fold, count, batch, fault }
}
