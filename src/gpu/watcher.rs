//! The thread that watches GPUs, and the handle on what it has seen.
//!
//! The thread connects, samples at the interval and publishes snapshots; where it cannot connect it tries again, after 1 s, 2 s, ...
//! up to 30 s, so that a driver that comes later is found. A second thread waits for events. A call that hangs holds back
//! nobody: readers see that the newest snapshot is old, and that the driver does not answer. Both threads end when the last
//! handle is gone, or at `stop`; one that hangs in the driver is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::events::{self, EventLog};
use super::health::{self, Mark};
use super::holders::{Holder, Seen};
use super::snapshot::Snapshot;
use super::{Driver, DriverEvent, Sample, Session, Unavailable};
use crate::proto::v1::{self, GpuEventKind, GpuHealthState, GpuRecoveryAction, GpuSourceState as State};

/// The first pause before the driver is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A call that takes longer hangs, and readings that are older are stale.
const HANGS_AFTER: Duration = Duration::from_secs(5);
/// Memory that a runner held is given back within this, or it is left behind.
const MEMORY_COMES_BACK: Duration = Duration::from_secs(5);
/// At the end the threads get this long.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How GPUs are watched.
#[derive(Debug, Clone)]
pub struct WatcherSettings {
    /// From one sample to the next.
    pub interval: Duration,
}

/// A handle on what was seen; cheap to clone.
#[derive(Clone)]
pub struct Watcher {
    latest: watch::Receiver<Arc<Snapshot>>,
    shared: Arc<Shared>,
    /// Whoever drops the last one ends the thread.
    stop: Arc<Mutex<Option<mpsc::Sender<()>>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the threads and the handles share.
struct Shared {
    begun: Instant,
    interval: Duration,
    /// When the call in hand began, in milliseconds since `begun`, plus one; 0 while there is none.
    busy_since: AtomicU64,
    events: EventLog,
    holders: watch::Sender<Arc<Vec<Holder>>>,
    /// What was heard of GPUs, by uuid.
    marks: Mutex<BTreeMap<String, Marks>>,
}

/// What was heard of a GPU.
#[derive(Default)]
struct Marks {
    marks: Vec<Mark>,
    /// The driver has asked for something since then; once it does no more, the GPU is whole again.
    action_asked: bool,
}

impl Watcher {
    /// Starts the thread.
    pub fn start(driver: Box<dyn Driver>, settings: WatcherSettings) -> std::io::Result<Self> {
        let (publish, latest) = watch::channel(Arc::new(Snapshot::starting()));
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            interval: settings.interval,
            busy_since: AtomicU64::new(0),
            events: EventLog::default(),
            holders: watch::Sender::new(Arc::default()),
            marks: Mutex::default(),
        });
        let (stop, stopped) = mpsc::channel();
        let thread = Thread { driver, shared: shared.clone(), publish, stopped, told: None, left: BTreeSet::new() };
        let thread = std::thread::Builder::new().name("gpu-sampler".into()).spawn(move || thread.run())?;
        Ok(Self { latest, shared, stop: Arc::new(Mutex::new(Some(stop))), thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// What was seen last.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// What is seen, as it changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.latest.clone()
    }

    /// What has happened.
    pub fn events(&self) -> &EventLog {
        &self.shared.events
    }

    /// From one sample to the next.
    pub fn interval(&self) -> Duration {
        self.shared.interval
    }

    /// The GPUs and the processes on them, with their jobs.
    pub fn joined(&self) -> (Vec<v1::Gpu>, Vec<v1::GpuProcess>) {
        let holders = self.holders();
        self.latest().joined(&holders)
    }

    /// The jobs that hold GPUs, and those that have left memory behind.
    pub fn holders(&self) -> Arc<Vec<Holder>> {
        self.shared.holders.borrow().clone()
    }

    /// The jobs that hold GPUs, as they change.
    pub fn holder_changes(&self) -> watch::Receiver<Arc<Vec<Holder>>> {
        self.shared.holders.subscribe()
    }

    /// Tells which jobs hold GPUs now. Those that held some and do not any more are remembered while they still have processes there.
    pub fn hold(&self, now: Vec<Holder>) {
        self.shared.holders.send_if_modified(|holders| {
            let gone = holders.iter().filter(|before| !now.iter().any(|holder| holder.job == before.job));
            let ended = SystemTime::now();
            let gone: Vec<_> = gone
                .map(|holder| Holder { ended: Some(holder.ended.unwrap_or(ended)), ..holder.clone() })
                .filter(|holder| holder.process_group.is_some())
                .collect();
            let all: Vec<_> = now.iter().cloned().chain(gone).collect();
            let is_news = **holders != all;
            if is_news {
                *holders = Arc::new(all);
            }
            is_news
        });
    }

    /// Where the readings come from and how old they are, now.
    pub fn source(&self) -> v1::GpuSource {
        let snapshot = self.latest();
        let age = snapshot.taken.map(|(_, at)| at.elapsed());
        let limit = HANGS_AFTER.max(self.shared.interval * 3);
        let busy = self.shared.busy_for().filter(|busy| *busy > limit);
        let mut state = snapshot.state.clone();
        if let Some(busy) = busy {
            let since = humantime::format_duration(Duration::from_secs(busy.as_secs()));
            state = Unavailable {
                state: State::NotAnswering,
                message: format!("the driver has not answered for {since}"),
                remedies: vec!["look into the kernel's log: sudo dmesg | grep -i nvrm".into(), "sudo reboot".into()],
            };
        }
        v1::GpuSource {
            state: state.state.into(),
            message: state.message,
            remedies: state.remedies,
            sample_time: snapshot.taken.map(|(time, _)| time.into()),
            age: age.and_then(|age| age.try_into().ok()),
            stale: busy.is_some() || age.is_some_and(|age| age > limit),
            driver_version: snapshot.facts.driver_version.clone(),
            nvml_version: snapshot.facts.nvml_version.clone(),
            cuda_driver_version: snapshot.facts.cuda_driver_version.clone(),
            replayed_profile: snapshot.facts.replayed_profile.clone(),
        }
    }

    /// Logs each change of what can be watched, once, until the daemon ends.
    pub async fn log_changes(self) {
        let mut known = (State::Unspecified, String::new());
        loop {
            let source = self.source();
            let words = if source.state() == State::NotAnswering { String::new() } else { source.message.clone() };
            let now = (source.state(), words);
            if now != known {
                let remedy = source.remedies.join("; ");
                match source.state() {
                    State::Watching | State::NoGpu | State::Starting | State::NoLibrary => {
                        tracing::info!(remedy, "GPUs: {}", source.message);
                    }
                    _ => tracing::error!(remedy, "GPUs: {}", source.message),
                }
                known = now;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Ends the threads, and NVML with them. One that hangs in the driver is left behind.
    pub fn stop(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let until = Instant::now() + STOP_LIMIT;
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Shared {
    /// A call begins.
    fn busy(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(now + 1, Ordering::Relaxed);
    }

    /// It has returned.
    fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// How long a call has not returned; None while there is none.
    fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Takes up what a driver told.
    fn hear(&self, event: &DriverEvent) {
        let holders = self.holders.borrow().clone();
        let holds = |holder: &&Holder| holder.ended.is_none() && holder.gpus.contains(&event.uuid);
        let jobs: Vec<_> = holders.iter().filter(holds).map(|holder| holder.job.clone()).collect();
        let told = events::describe(event, jobs.clone());
        let effect = told.effect();
        let jobs = jobs.join(", ");
        match effect {
            GpuHealthState::Failed => tracing::error!(gpu.uuid = event.uuid, jobs, "GPU: {}", told.message),
            GpuHealthState::Degraded => tracing::warn!(gpu.uuid = event.uuid, jobs, "GPU: {}", told.message),
            GpuHealthState::Healthy | GpuHealthState::Unspecified => {
                tracing::info!(gpu.uuid = event.uuid, jobs, "GPU: {}", told.message);
            }
        }
        if matches!(effect, GpuHealthState::Failed | GpuHealthState::Degraded) && !event.uuid.is_empty() {
            let code = match event.kind {
                GpuEventKind::Xid => format!("XID_{}", event.data),
                GpuEventKind::Lost => "GPU_UNAVAILABLE".into(),
                kind => kind.as_str_name().trim_start_matches("GPU_EVENT_KIND_").to_owned(),
            };
            let mark = Mark { code, state: effect, message: told.message.clone(), remedy: told.remedy.clone() };
            let mut all = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let marks = &mut all.entry(event.uuid.clone()).or_default().marks;
            marks.retain(|known| known.code != mark.code);
            marks.push(mark);
        }
        self.events.add(told);
    }
}

/// The thread that samples.
struct Thread {
    driver: Box<dyn Driver>,
    shared: Arc<Shared>,
    publish: watch::Sender<Arc<Snapshot>>,
    stopped: mpsc::Receiver<()>,
    /// The GPUs of the last sample, and whether they could be reached; None before the first.
    told: Option<BTreeSet<(String, bool)>>,
    /// Processes whose job has ended, told once: GPU and pid.
    left: BTreeSet<(String, u32)>,
}

impl Thread {
    fn run(mut self) {
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
        // What was heard of GPUs under another driver does not count under this one.
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
            // What is there from the start has not just come.
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
            processes.iter().any(|process| process.group.is_some() && process.group == holder.process_group)
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
                if *group != holder.process_group || !self.left.insert((told.gpu.clone(), told.pid)) {
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

/// What stays true of a GPU that cannot be reached.
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
