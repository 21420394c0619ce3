//! The audit: one line for each call that changes something, and for refused ones, in the log and
//! in a file. It holds names, and neither tokens nor contents of requests. `failures` bounds the
//! lines about refusals.
//!
//! Lines go through a queue to a thread that writes the file, so that a slow disk holds up nobody.
//! A full queue loses lines of the file, which the log has, and tells how many.

mod file;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde::Serialize;

use super::{Caller, Connection, Refusal};
use file::Rotated;

/// Lines that wait for the disk.
const MOST_WAITING: usize = 1024;
/// Longer names of jobs and files are cut.
const LONGEST_TARGET: usize = 300;

/// Where the audit goes, besides the log.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// The file.
    pub path: PathBuf,
    /// A larger one gets another name, and a new one is begun.
    pub max_bytes: u64,
    /// Files that stay, this one included.
    pub files: usize,
    /// Calls that only read are told too.
    pub reads: bool,
}

/// A call.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Entry {
    /// In whose name; empty where that is not known.
    pub who: String,
    /// How that is known; empty where it is not.
    pub known_by: String,
    /// The way in: `unix`, `loopback`, `plain`, `tls`, `mutual_tls` or `mailbox`.
    pub door: &'static str,
    /// The address or user at the other end.
    pub from: String,
    /// The method or page.
    pub method: String,
    /// The job, file or token that it was about; empty where it was about none.
    pub target: String,
    /// `OK`, or the reason of the refusal.
    pub outcome: String,
}

impl Entry {
    /// A call of this caller.
    pub fn of(caller: &Caller, connection: &Connection, method: &str, target: String, outcome: &str) -> Self {
        Self {
            who: caller.owner.to_string(),
            known_by: caller.known_by(),
            door: connection.door(),
            from: connection.to_string(),
            method: method.trim_start_matches('/').to_owned(),
            target: abridged(target),
            outcome: outcome.to_owned(),
        }
    }
}

fn abridged(mut text: String) -> String {
    if text.len() > LONGEST_TARGET {
        let end = (0..=LONGEST_TARGET).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// The audit; cheap to clone. Its file is whole once the last handle is gone.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    reads: bool,
    /// None once the last handle is being dropped.
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the file, and starts the thread that writes it.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn open(settings: AuditSettings) -> std::io::Result<Self> {
        let AuditSettings { path, max_bytes, files, reads } = settings;
        let mut file = Rotated::open(path, max_bytes, files)?;
        let (lines, written) = sync_channel::<String>(MOST_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let losses = lost.clone();
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || {
            let mut is_told = false;
            while let Ok(line) = written.recv() {
                match file.append(&line) {
                    Ok(()) => is_told = false,
                    Err(error) => {
                        losses.fetch_add(1, Ordering::Relaxed);
                        if !is_told {
                            tracing::error!(%error, "the audit's file cannot be written; its lines are in this log alone");
                        }
                        is_told = true;
                    }
                }
            }
        })?;
        let shared = Shared { reads, lines: Some(lines), lost, writer: Mutex::new(Some(writer)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether calls that only read are told.
    pub fn tells_reads(&self) -> bool {
        self.shared.reads
    }

    /// Lines that are not in the file since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Tells a call.
    pub fn tell(&self, entry: &Entry) {
        let Entry { who, known_by, door, from, method, target, outcome } = entry;
        tracing::info!(target: "torchd::audit", who, known_by, door, from, method, target, outcome, "audit");
        self.write(entry);
    }

    /// Tells that a call was refused before anything was done.
    pub(super) fn refused(&self, path: &str, connection: &Connection, refusal: &Refusal, more: &str) {
        let who = match refusal {
            Refusal::RoleTooLow { owner, .. } | Refusal::NoRole(owner) => owner.to_string(),
            Refusal::InClear(owner) => owner.to_string(),
            Refusal::Expired(token) | Refusal::Revoked(token) => format!("token {token}"),
            _ => String::new(),
        };
        let entry = Entry {
            who,
            known_by: String::new(),
            door: connection.door(),
            from: connection.to_string(),
            method: abridged(path.trim_start_matches('/').to_owned()),
            target: String::new(),
            outcome: refusal.reason().to_owned(),
        };
        let Entry { who, door, from, method, outcome, .. } = &entry;
        tracing::warn!(target: "torchd::audit", who, door, from, method, outcome, "a call was refused: {refusal}{more}");
        self.write(&entry);
    }

    fn write(&self, entry: &Entry) {
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let Ok(mut line) = serde_json::to_string(&Line { time, entry }) else { return };
        line.push('\n');
        let Some(lines) = &self.shared.lines else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.lines.take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Peer;

    #[test]
    fn a_line_has_its_fields_and_one_line_whatever_a_target_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let settings = AuditSettings { path: path.clone(), max_bytes: 1 << 20, files: 2, reads: false };
        let audit = Audit::open(settings).unwrap();
        let peer = Connection::Unix(Peer { uid: 7, groups: [].into(), is_of_job: false });
        let entry = Entry {
            who: "alice".into(),
            known_by: "socket".into(),
            door: peer.door(),
            from: peer.to_string(),
            method: "torchd.v1.JobService/CancelJob".into(),
            target: "jobs/a\n{\"who\":\"eve\"}".into(),
            outcome: "OK".into(),
        };
        audit.tell(&entry);
        audit.refused("/x", &peer, &Refusal::NoRole("bob".into()), "");
        drop(audit);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["who"], "alice");
        assert_eq!(lines[0]["target"], entry.target);
        assert_eq!((&lines[1]["who"], &lines[1]["outcome"]), (&"bob".into(), &"NO_ROLE".into()));
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_long_target_is_cut_between_characters() {
        assert_eq!(abridged("é".repeat(400)).len(), 300);
        assert_eq!(abridged("a".to_owned() + &"é".repeat(400)).len(), 299);
    }
}
