//! The threads behind the watcher: one samples, one waits for events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::{Marks, Shared};
use crate::gpu::health;
use crate::gpu::holders::{Holder, Seen};
use crate::gpu::snapshot::Snapshot;
use crate::gpu::{Driver, DriverEvent, Sample, Session, Unavailable};
use crate::proto::v1::{self, GpuEventKind, GpuHealthState, GpuRecoveryAction, GpuSourceState as State};

/// The first pause before the driver is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Memory that a runner held is given back within this, or it is left behind.
const MEMORY_COMES_BACK: Duration = Duration::from_secs(5);

/// The thread that samples.
pub(super) struct Thread {
    pub(super) driver: Box<dyn Driver>,
    pub(super) shared: Arc<Shared>,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    pub(super) stopped: mpsc::Receiver<()>,
    /// The GPUs of the last sample, and whether they could be reached; None before the first.
    pub(super) told: Option<BTreeSet<(String, bool)>>,
    /// Processes whose job has ended, told once: GPU and pid.
    pub(super) left: BTreeSet<(String, u32)>,
}

impl Thread {
    pub(super) fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut last_success = None;
        loop {
            self.shared.busy();
            let opened = self.driver.open();
            self.shared.idle();
            let (state, is_over) = match opened {
                Ok(session) => {
                    pause = FIRST_PAUSE;
                    self.watch(session, &mut last_success)
                }
                Err(unavailable) => (Some(unavailable), false),
            };
            if let Some(state) = state {
                self.publish.send_replace(Arc::new(Snapshot { last_success, ..Snapshot::unavailable(state) }));
            }
            if is_over || self.wait(pause) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits; whether we have to end.
    fn wait(&self, time: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Samples until the connection breaks, which is told, or we have to end.
    fn watch(
        &mut self,
        mut session: Box<dyn Session>,
        last_success: &mut Option<SystemTime>,
    ) -> (Option<Unavailable>, bool) {
        // Events of GPUs under another driver do not count under this one.
        self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let facts = session.facts();
        let _events = EventThread::start(session.as_ref(), &self.shared);
        let mut known: BTreeMap<String, v1::Gpu> = BTreeMap::new();
        loop {
            let begun = Instant::now();
            self.shared.busy();
            let sampled = session.sample();
            self.shared.idle();
            let sample = match sampled {
                Ok(sample) => sample,
                Err(unavailable) => return (Some(unavailable), false),
            };
            let took = begun.elapsed();
            let taken = (SystemTime::now(), Instant::now());
            *last_success = Some(taken.0);
            let snapshot = self.snapshot(sample, &mut known);
            let replayed = match facts.replayed_profile.as_str() {
                "" => String::new(),
                profile => format!(" (replayed from the profile {profile}: not the GPUs of this machine)"),
            };
            let state = match snapshot.gpus.len() {
                0 => Unavailable {
                    state: State::NoGpu,
                    message: format!("driver {} is there, and no GPU{replayed}", facts.driver_version),
                    remedies: vec!["lspci -d 10de: tells whether the machine has one".into()],
                },
                1 => watching(format!("1 GPU is watched, driver {}{replayed}", facts.driver_version)),
                count => watching(format!("{count} GPUs are watched, driver {}{replayed}", facts.driver_version)),
            };
            let snapshot = Snapshot {
                state,
                facts: facts.clone(),
                taken: Some(taken),
                took,
                last_success: *last_success,
                ..snapshot
            };
            self.publish.send_replace(Arc::new(snapshot));
            if self.wait(self.shared.interval.saturating_sub(begun.elapsed())) {
                return (None, true);
            }
        }
    }

    /// A sample with health, and events for what has changed in it.
    fn snapshot(&mut self, sample: Sample, known: &mut BTreeMap<String, v1::Gpu>) -> Snapshot {
        let Sample { mut gpus, lost, processes } = sample;
        for gpu in &gpus {
            known.insert(gpu.uuid.clone(), identity(gpu));
        }
        for uuid in &lost {
            let unknown = || v1::Gpu { uuid: uuid.clone(), name: format!("gpus/{uuid}"), ..v1::Gpu::default() };
            gpus.push(known.get(uuid).cloned().unwrap_or_else(unknown));
        }
        known.retain(|uuid, _| gpus.iter().any(|gpu| gpu.uuid == *uuid));
        gpus.sort_by_key(|gpu| gpu.index);
        {
            let mut all = self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
            for gpu in &mut gpus {
                let marks = all.entry(gpu.uuid.clone()).or_default();
                match gpu.recovery_action.map(GpuRecoveryAction::try_from) {
                    Some(Ok(GpuRecoveryAction::None)) if marks.action_asked => *marks = Marks::default(),
                    Some(Ok(GpuRecoveryAction::None)) | None => {}
                    Some(_) => marks.action_asked = !marks.marks.is_empty(),
                }
                gpu.health = Some(health::judge(gpu, &marks.marks, lost.contains(&gpu.uuid)));
            }
        }
        let now: BTreeSet<_> = gpus.iter().map(|gpu| (gpu.uuid.clone(), !lost.contains(&gpu.uuid))).collect();
        let before = self.told.take();
        let is_first = before.is_none();
        let before = before.unwrap_or_default();
        for (uuid, is_reached) in now.difference(&before) {
            let kind = if *is_reached { GpuEventKind::Appeared } else { GpuEventKind::Lost };
            // A GPU that is there from the start has not appeared.
            if !(is_first && *is_reached) {
                self.shared.hear(&DriverEvent { uuid: uuid.clone(), kind, data: 0 });
            }
        }
        for (uuid, _) in &before {
            if !now.iter().any(|(known, _)| known == uuid) {
                self.shared.hear(&DriverEvent { uuid: uuid.clone(), kind: GpuEventKind::Disappeared, data: 0 });
            }
        }
        self.told = Some(now);
        let processes: Vec<Seen> = processes.into_iter().map(Seen::look).collect();
        self.look_for_memory_left_behind(&processes);
        Snapshot { gpus, processes, ..Snapshot::starting() }
    }

    /// Tells of memory that the runners of ended jobs still hold, and forgets jobs that hold none.
    fn look_for_memory_left_behind(&mut self, processes: &[Seen]) {
        let now = SystemTime::now();
        let has_processes = |holder: &Holder| {
            processes.iter().any(|process| process.group.is_some_and(|group| holder.process_groups.contains(&group)))
        };
        self.shared.holders.send_if_modified(|holders| {
            let is_gone = |holder: &Holder| holder.ended.is_some_and(|at| at < now) && !has_processes(holder);
            let is_news = holders.iter().any(is_gone);
            if is_news {
                *holders = Arc::new(holders.iter().filter(|holder| !is_gone(holder)).cloned().collect());
            }
            is_news
        });
        let holders = self.shared.holders.borrow().clone();
        for holder in holders.iter() {
            let is_late = |at: SystemTime| now.duration_since(at).is_ok_and(|since| since > MEMORY_COMES_BACK);
            if !holder.ended.is_some_and(is_late) {
                continue;
            }
            for Seen { told, group } in processes {
                let is_theirs = group.is_some_and(|group| holder.process_groups.contains(&group));
                if !is_theirs || !self.left.insert((told.gpu.clone(), told.pid)) {
                    continue;
                }
                let bytes = told.used_memory_bytes.unwrap_or(0);
                let message = format!(
                    "process {} of {}, which has ended, still holds {} MiB of memory",
                    told.pid,
                    holder.job,
                    bytes >> 20
                );
                tracing::warn!(gpu.uuid = told.gpu.trim_start_matches("gpus/"), "GPU: {message}");
                self.shared.events.add(v1::GpuEvent {
                    time: Some(now.into()),
                    gpu: told.gpu.clone(),
                    kind: GpuEventKind::MemoryLeftBehind.into(),
                    message,
                    remedy: format!("sudo kill -9 {}", told.pid),
                    effect: GpuHealthState::Healthy.into(),
                    jobs: vec![holder.job.clone()],
                    ..v1::GpuEvent::default()
                });
            }
        }
        self.left.retain(|(gpu, pid)| processes.iter().any(|seen| seen.told.gpu == *gpu && seen.told.pid == *pid));
    }
}

fn watching(message: String) -> Unavailable {
    Unavailable { state: State::Watching, message, remedies: Vec::new() }
}

/// The facts that stay true of a GPU that cannot be reached.
fn identity(gpu: &v1::Gpu) -> v1::Gpu {
    v1::Gpu {
        name: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        index: gpu.index,
        minor_number: gpu.minor_number,
        model: gpu.model.clone(),
        serial: gpu.serial.clone(),
        pci_bus_id: gpu.pci_bus_id.clone(),
        board_part_number: gpu.board_part_number.clone(),
        vbios_version: gpu.vbios_version.clone(),
        compute_capability: gpu.compute_capability.clone(),
        architecture: gpu.architecture.clone(),
        sample_time: gpu.sample_time,
        ..v1::Gpu::default()
    }
}

/// The thread that waits for events. It ends soon after it is dropped.
struct EventThread {
    stop: Arc<AtomicBool>,
}

impl EventThread {
    fn start(session: &dyn Session, shared: &Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, shared) = (stop.clone(), shared.clone());
        match session.events() {
            Ok(mut source) => {
                shared.events.set_absent_reason("");
                let hearer = shared.clone();
                let started = std::thread::Builder::new().name("gpu-events".into()).spawn(move || {
                    if let Err(reason) = source.watch(&flag, &mut |event| hearer.hear(&event)) {
                        tracing::warn!("events of GPUs cannot be seen: {reason}");
                        hearer.events.set_absent_reason(&reason);
                    }
                });
                if let Err(error) = started {
                    shared.events.set_absent_reason(&format!("a thread for them cannot be started: {error}"));
                }
            }
            Err(reason) => shared.events.set_absent_reason(&reason),
        }
        Self { stop }
    }
}

impl Drop for EventThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    mod skips {
        include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips/tell.rs"));
    }

    use super::*;
    use crate::gpu::{DriverFacts, EventSource, Watcher, WatcherSettings, process};

    /// A driver with one GPU, on which this process holds memory.
    struct OneGpu;

    impl Driver for OneGpu {
        fn open(&self) -> Result<Box<dyn Session>, Unavailable> {
            Ok(Box::new(Self))
        }
    }

    impl Session for OneGpu {
        fn facts(&self) -> DriverFacts {
            DriverFacts::default()
        }

        fn sample(&mut self) -> Result<Sample, Unavailable> {
            let gpu = v1::Gpu { uuid: "GPU-a".into(), name: "gpus/GPU-a".into(), ..v1::Gpu::default() };
            let process = v1::GpuProcess {
                gpu: gpu.name.clone(),
                pid: std::process::id(),
                used_memory_bytes: Some(3 << 20),
                ..v1::GpuProcess::default()
            };
            Ok(Sample { gpus: vec![gpu], lost: Vec::new(), processes: vec![process] })
        }

        fn events(&self) -> Result<Box<dyn EventSource>, String> {
            Err("there are none".into())
        }
    }

    #[test]
    fn memory_that_an_ended_job_still_holds_is_told_once_and_an_ended_job_that_holds_none_is_forgotten() {
        if !process::numbers_are_ours() {
            // In a container nobody can tell whose memory it is.
            return skips::tell(skips::Skip::CannotRun, "the numbers of processes are not those of the machine");
        }
        let watcher = Watcher::start(Box::new(OneGpu), WatcherSettings { interval: Duration::from_millis(1) }).unwrap();
        let holder = |job: &str, process_groups| Holder {
            job: job.into(),
            gpus: vec!["GPU-a".into()],
            process_groups,
            ended: Some(SystemTime::now() - 2 * MEMORY_COMES_BACK),
        };
        let ours = u32::try_from(nix::unistd::getpgrp().as_raw()).into_iter().collect();
        watcher.hold(vec![holder("jobs/leaks", ours), holder("jobs/clean", vec![u32::MAX])]);
        let mut samples = 0;
        let mut last = watcher.latest().taken;
        while samples < 5 || watcher.events().list("", None, 9).is_empty() {
            let now = watcher.latest().taken;
            samples += usize::from(now != last);
            last = now;
            std::thread::yield_now();
        }
        let events = watcher.events().list("", None, 9);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(
            (events[0].kind(), events[0].jobs.as_slice()),
            (GpuEventKind::MemoryLeftBehind, &["jobs/leaks".into()][..])
        );
        assert!(events[0].message.contains("still holds 3 MiB"), "{}", events[0].message);
        let holders = watcher.holders();
        assert_eq!(holders.iter().map(|holder| holder.job.as_str()).collect::<Vec<_>>(), ["jobs/leaks"]);
        let (gpus, processes) = watcher.joined();
        assert!(processes[0].left_behind && gpus[0].jobs.is_empty());
        watcher.stop();
    }

    /// No driver at all.
    struct Nothing;

    impl Driver for Nothing {
        fn open(&self) -> Result<Box<dyn Session>, Unavailable> {
            Err(watching("there is none".into()))
        }
    }

    #[test]
    fn without_a_driver_only_the_newest_ended_jobs_are_remembered() {
        let watcher = Watcher::start(Box::new(Nothing), WatcherSettings { interval: Duration::from_secs(1) }).unwrap();
        let holder = |number: usize| Holder {
            job: format!("jobs/{number}"),
            gpus: vec!["GPU-a".into()],
            process_groups: vec![number as u32 + 1],
            ended: None,
        };
        // One after the other has the GPU.
        for number in 0..1_000 {
            watcher.hold(vec![holder(number)]);
        }
        let jobs: Vec<_> = watcher.holders().iter().map(|holder| holder.job.clone()).collect();
        assert_eq!(jobs, (935..1_000).rev().map(|number| format!("jobs/{number}")).collect::<Vec<_>>());
        watcher.stop();
    }
}
