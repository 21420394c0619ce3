//! The job's folder: the wire between the daemon and a runner.
//!
//! Owns: where things lie in the folder, the journal that a runner appends to and the daemon tails,
//! the lock that tells who lives, what the records add up to, and the index by which readers find
//! their place. The journal ends with the runner's `ended` record, or, when the runner died, with
//! whatever whole record is last: a tail is torn only once the lock is free.

mod artifacts;
mod checkpoint;
mod exit_note;
mod file_lock;
mod folder;
mod index;
mod lock;
mod manifest;
mod program;
mod progress;
mod recent;
mod survey;
mod tail;
mod trained_on;
mod writer;

pub use artifacts::{Artifact, artifact_path, artifacts, artifacts_after, open_artifact};
pub use checkpoint::{Checkpoint, checkpoints};
pub use exit_note::{ExitNote, ExitRoom};
pub use file_lock::{FileLock, Holder, holders, is_held};
pub use folder::{JobFolder, entries, sync_folder, write_whole, write_whole_and, write_whole_by};
pub use index::{JournalIndex, JournalIndexes, Points, Span};
pub use lock::{JobLock, Signature};
pub use manifest::{Context, FileSum, Manifest};
pub use program::{PROGRAM, ProgramCheckpoint, ProgramCheckpoints};
pub use progress::ProgressFold;
pub use recent::{Batch, Recent};
pub use survey::{Damaged, Survey, damage, set_aside};
pub use tail::{JournalError, JournalTail, Position};
pub use trained_on::{DataSet, FileState, FileStates, TrainedOn};
pub use writer::{JournalWriter, cut_torn_end};
