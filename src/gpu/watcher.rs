//! The thread that watches GPUs, and the handle on what it has seen.
//!
//! The thread connects, samples at the interval and publishes snapshots; where it cannot connect it
//! tries again, after 1 s, 2 s, ... up to 30 s, so that a driver that comes later is found. A
//! second thread waits for events. A call that hangs holds back nobody: readers see that the newest
//! snapshot is old, and that the driver does not answer. Both threads end when the last handle is
//! gone, or at `stop`; one that hangs in the driver is left behind.

mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::events::{self, EventLog};
use super::health::Mark;
use super::holders::Holder;
use super::snapshot::Snapshot;
use super::{Driver, DriverEvent, Unavailable};
use crate::proto::v1::{self, GpuEventKind, GpuHealthState, GpuSourceState as State};
use thread::Thread;

/// A call that takes longer hangs, and readings that are older are stale.
const HANGS_AFTER: Duration = Duration::from_secs(5);
/// At the end the threads get this long.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Jobs that have ended and may have left memory behind.
const MAX_ENDED: usize = 64;

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
    /// Dropping the last clone ends the thread.
    stop: Arc<Mutex<Option<mpsc::Sender<()>>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// State that the threads and the handles share.
struct Shared {
    begun: Instant,
    interval: Duration,
    /// When the call in hand began, in milliseconds since `begun`, plus one; 0 while there is none.
    busy_since: AtomicU64,
    events: EventLog,
    holders: watch::Sender<Arc<Vec<Holder>>>,
    /// Marks of GPUs, by uuid.
    marks: Mutex<BTreeMap<String, Marks>>,
}

/// The events of a GPU that still count.
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

    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// The snapshots as they change.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.latest.clone()
    }

    /// The events so far.
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

    /// Tells which jobs hold GPUs now. Those that held some and do not any more are remembered
    /// while they still have processes there, of these `MAX_ENDED` that held some last: where NVML
    /// does not answer, nobody can tell which have none.
    pub fn hold(&self, now: Vec<Holder>) {
        self.shared.holders.send_if_modified(|holders| {
            let gone = holders.iter().filter(|before| !now.iter().any(|holder| holder.job == before.job));
            let ended = SystemTime::now();
            let gone: Vec<_> = gone
                .map(|holder| Holder { ended: Some(holder.ended.unwrap_or(ended)), ..holder.clone() })
                .filter(|holder| !holder.process_groups.is_empty())
                .collect();
            // Behind those of now come those that have ended, the newest first.
            let all: Vec<_> = now.iter().cloned().chain(gone.into_iter().take(MAX_ENDED)).collect();
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
