//! The history of GPUs: a bounded ring of events, and a count of Xids by GPU and number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{DriverEvent, xid};
use crate::proto::v1::{self, GpuEventKind, GpuHealthState as State};

/// Events that are kept.
const KEPT: usize = 1024;

/// Xids of one number on one GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct XidCount {
    /// How often.
    pub count: u64,
    /// When the last one was.
    pub last: SystemTime,
}

/// The events; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EventLog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    ring: VecDeque<v1::GpuEvent>,
    last_sequence: u64,
    xids: BTreeMap<(String, u64), XidCount>,
    absent_reason: String,
}

impl EventLog {
    /// Puts an event in, with its number.
    pub(super) fn add(&self, mut event: v1::GpuEvent) {
        let mut inner = self.lock();
        inner.last_sequence += 1;
        event.sequence = inner.last_sequence;
        if let (GpuEventKind::Xid, Some(number)) = (event.kind(), event.xid) {
            let uuid = event.gpu.trim_start_matches("gpus/").to_owned();
            let last = SystemTime::now();
            let seen = inner.xids.entry((uuid, number)).or_insert(XidCount { count: 0, last });
            *seen = XidCount { count: seen.count + 1, last };
        }
        if inner.ring.len() == KEPT {
            inner.ring.pop_front();
        }
        inner.ring.push_back(event);
    }

    /// The number of the newest event; 0 before the first one.
    pub fn newest(&self) -> u64 {
        self.lock().last_sequence
    }

    /// Events of a GPU (of all where it is empty), newest first, from before that number on.
    pub fn list(&self, gpu: &str, before: Option<u64>, limit: usize) -> Vec<v1::GpuEvent> {
        let inner = self.lock();
        let wanted = inner.ring.iter().rev().filter(|event| {
            before.is_none_or(|before| event.sequence < before) && (gpu.is_empty() || event.gpu == gpu)
        });
        wanted.take(limit).cloned().collect()
    }

    /// Xids so far, by uuid of the GPU and number.
    pub fn xids(&self) -> BTreeMap<(String, u64), XidCount> {
        self.lock().xids.clone()
    }

    /// Why no events can be seen; empty where they can.
    pub fn absent_reason(&self) -> String {
        self.lock().absent_reason.clone()
    }

    pub(super) fn set_absent_reason(&self, reason: &str) {
        reason.clone_into(&mut self.lock().absent_reason);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half-done while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A driver's event in the words of the protocol.
pub(super) fn describe(event: &DriverEvent, jobs: Vec<String>) -> v1::GpuEvent {
    let known = (event.kind == GpuEventKind::Xid).then(|| xid(event.data)).flatten();
    let (message, remedy, effect) = match (event.kind, known) {
        (GpuEventKind::Xid, Some(known)) => {
            let remedy = match known.commands.as_slice() {
                [] => known.remedy.clone(),
                commands => format!("{} ({})", known.remedy, commands.join("; ")),
            };
            (format!("Xid {}, {}: {}", known.number, known.name, known.meaning), remedy, known.effect.into())
        }
        (GpuEventKind::Xid, None) => (
            format!("Xid {}, of which nothing is known here", event.data),
            "look into the kernel's log: sudo dmesg | grep Xid".into(),
            State::Degraded,
        ),
        (GpuEventKind::EccCorrected, _) => ("a memory error was corrected".into(), String::new(), State::Healthy),
        (GpuEventKind::EccUncorrected, _) => (
            "a memory error could not be corrected; what was computed with it is wrong".into(),
            "reset the GPU, or reboot".into(),
            State::Failed,
        ),
        (GpuEventKind::Lost, _) => ("the driver cannot reach it any more".into(), "sudo reboot".into(), State::Failed),
        (GpuEventKind::RecoveryAction, _) => (
            "the driver asks for something to make it whole again; its health tells what".into(),
            String::new(),
            State::Healthy,
        ),
        (GpuEventKind::MigChanged, _) => {
            ("its division into instances has changed".into(), String::new(), State::Healthy)
        }
        (GpuEventKind::Appeared, _) => ("it is there".into(), String::new(), State::Healthy),
        (GpuEventKind::Disappeared, _) => ("it is not there any more".into(), String::new(), State::Healthy),
        (GpuEventKind::MemoryLeftBehind, _) => {
            ("memory is still held".into(), "end the process that holds it".into(), State::Healthy)
        }
        (GpuEventKind::Driver | GpuEventKind::Unspecified, _) => {
            ("the driver has changed".into(), String::new(), State::Healthy)
        }
    };
    v1::GpuEvent {
        sequence: 0,
        time: Some(SystemTime::now().into()),
        gpu: if event.uuid.is_empty() { String::new() } else { format!("gpus/{}", event.uuid) },
        kind: event.kind.into(),
        xid: (event.kind == GpuEventKind::Xid).then_some(event.data),
        message,
        remedy,
        effect: effect.into(),
        jobs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xid_event(uuid: &str, number: u64) -> v1::GpuEvent {
        describe(&DriverEvent { uuid: uuid.into(), kind: GpuEventKind::Xid, data: number }, vec![])
    }

    #[test]
    fn the_newest_events_are_kept_and_every_xid_is_counted() {
        let log = EventLog::default();
        for _ in 0..KEPT {
            log.add(xid_event("GPU-a", 13));
        }
        log.add(xid_event("GPU-b", 79));
        log.add(xid_event("GPU-a", 31));
        let newest = log.list("", None, 2);
        assert_eq!(newest.iter().map(|event| event.xid).collect::<Vec<_>>(), [Some(31), Some(79)]);
        assert_eq!(log.list("", None, usize::MAX).len(), KEPT);
        assert_eq!(log.list("gpus/GPU-b", None, 9).len(), 1);
        assert_eq!(log.list("", Some(newest[1].sequence), 1)[0].xid, Some(13));
        let counts = log.xids();
        assert_eq!(counts[&("GPU-a".to_owned(), 13)].count, KEPT as u64);
        assert_eq!(counts[&("GPU-b".to_owned(), 79)].count, 1);
        assert_eq!(counts.len(), 3);
    }

    #[test]
    fn an_event_says_what_happened_and_what_to_do() {
        let event = xid_event("GPU-a", 79);
        assert!(event.message.starts_with("Xid 79, ") && !event.remedy.is_empty(), "{event:?}");
        assert_eq!((event.gpu.as_str(), event.effect()), ("gpus/GPU-a", State::Failed));
        assert_eq!(xid_event("GPU-a", 13).effect(), State::Healthy);
        assert_eq!(xid_event("GPU-a", 4711).effect(), State::Degraded);
    }
}
