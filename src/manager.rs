//! The one task that changes jobs: decide, persist, act, publish, in that order. Everybody else
//! holds a cheap handle, asks by message, and observes by `watch`. The task ends when it was told
//! to shut down; runners end before it, or are left to the next daemon, as it was told.

mod admission;
mod afar;
mod attempts;
mod changes;
mod creation;
mod data_now;
mod dependencies;
mod dispatch;
mod dry_run;
mod error;
mod expiry;
mod file_work;
mod going_on;
mod gpus;
mod job_json;
mod known_data;
mod left_alone;
mod live;
mod mirrors;
mod model_files;
mod outlasting;
mod owners;
mod priority;
mod probing;
mod programs;
mod rebuild;
mod recovery;
mod requests;
mod resources;
mod room;
mod roster;
mod runs;
mod shortfall;
mod staging;
mod task;
mod trained;
mod view;
mod warm_start;
mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::compat::Catalogue;
use crate::dataset::DataRoots;
use crate::gpu::Watcher;
use crate::job::probe::ProbeReport;
use crate::job::spec::{ThreadWait, Work};
use crate::job::{Job, JobId, State};
use crate::journal::JobFolder;
use crate::launches::Launches;
use crate::metrics::Metrics;
use crate::mirror::Roots;
use crate::node::NodeSource;
use crate::proto::v1;
pub use crate::store::ListQuery;
use crate::store::{Asked, Store};
pub use crate::supervisor::PythonReport;
use crate::supervisor::{RunnerSettings, Supervisor, ask_python};
use crate::uploads::{Owner, Uploads};
pub use admission::{Admitted, AdmittedModel};
use creation::Listed;
pub use error::JobError;
use file_work::FileWork;
use going_on::GoingOn;
pub use job_json::{JobFile, JobFileError};
use known_data::KnownData;
use mirrors::Mirrors;
pub use owners::{Author, OwnerQuotas};
pub use programs::ProgramRules;
pub use rebuild::{NotRebuilt, Old, Rebuilt, rebuild};
pub use room::{FilesPlace, Promise};
use room::{HeldBytes, Promised};
pub use runs::RUNS;
use staging::Staged;
pub use view::View;

/// The result of the probe of the runner; None while it runs.
pub type ProbeState = Option<Result<ProbeReport, String>>;

type LiveViews = Arc<HashMap<JobId, watch::Receiver<Arc<View>>>>;

/// The settings of the manager.
#[derive(Clone)]
pub struct ManagerSettings {
    /// Holds one folder a job.
    pub jobs_dir: PathBuf,
    /// Jobs that may wait.
    pub max_queued: usize,
    /// How much one owner may have.
    pub quotas: OwnerQuotas,
    /// CPU cores that jobs may take together.
    pub cpu_slots: u32,
    /// How threads of computation wait for each other, where specs do not say.
    pub thread_wait: ThreadWait,
    /// Facts about this machine.
    pub node: NodeSource,
    /// Where data may lie.
    pub data_roots: DataRoots,
    /// Files that clients have sent: those of an owner are data of that owner's jobs.
    pub uploads: Uploads,
    /// The programs that jobs may run.
    pub programs: ProgramRules,
    /// How runners are started.
    pub runner: RunnerSettings,
    /// Launchers, and ranks on other machines.
    pub launches: Launches,
    /// GPUs on which processes of no job compute are given to jobs all the same.
    pub share_with_foreign: bool,
    /// The jobs' folders together hold no more when another job is taken, in bytes; None for no
    /// limit.
    pub max_state_bytes: Option<u64>,
    /// The most bytes in the event files of a job.
    pub max_event_bytes: u64,
    /// Folders that results may be copied to.
    pub mirror_roots: Arc<Roots>,
    /// The interval at which new results are copied.
    pub mirror_interval: Duration,
    /// Running jobs make room for one of a higher priority.
    pub preempts: bool,
    /// Ended jobs are removed after this, where their specs do not say.
    pub ttl_after_end: Option<Duration>,
    /// The library that tells of GPUs; None for the one that the loader finds.
    pub nvml_library: Option<PathBuf>,
    /// CUDA_VISIBLE_DEVICES of the daemon: jobs get no other GPUs.
    pub visible_devices: Option<String>,
    /// The Python whose PyTorch is told; None to look for one.
    pub python: Option<PathBuf>,
    /// The catalogue of versions, for explaining why a runner cannot begin.
    pub catalogue: Arc<Catalogue>,
}

/// A handle on the manager; cheap to clone.
#[derive(Clone)]
pub struct Manager {
    commands: mpsc::Sender<Command>,
    live: watch::Receiver<LiveViews>,
    probe: watch::Receiver<ProbeState>,
    /// The last probe failed because the machine lacked something for the moment.
    is_short: Arc<AtomicBool>,
    /// Why jobs cannot use GPUs, although the runner may see some.
    gpu_block: Arc<watch::Sender<Option<String>>>,
    /// GPUs that jobs can lease.
    slots: watch::Receiver<gpus::Slots>,
    store: Store,
    mirrors: Mirrors,
    known: Arc<KnownData>,
    judging: Arc<FileWork>,
    copying: Arc<FileWork>,
    /// Requests that may hold open what they will copy.
    copy_line: Arc<Semaphore>,
    /// Requests that are tried.
    dry_runs: Arc<Semaphore>,
    /// The bytes in the jobs' folders, as last measured.
    held_bytes: watch::Receiver<Arc<HeldBytes>>,
    /// Bytes that unfinished copies will add.
    promised: Promised,
    /// Asks the runner for its operators.
    supervisor: Supervisor,
    metrics: Metrics,
    /// None before a request has asked for operators. Held while they are listed.
    operators: Arc<tokio::sync::Mutex<Option<Listed>>>,
    settings: Arc<ManagerSettings>,
}

/// The requests that the task takes.
enum Command {
    Create {
        admitted: Box<Admitted>,
        owner: Arc<str>,
        asked: Option<Asked>,
        staged: Option<Staged>,
        reply: oneshot::Sender<Result<Arc<View>, JobError>>,
    },
    Cancel {
        id: JobId,
        now: bool,
        reply: oneshot::Sender<Result<Arc<View>, JobError>>,
    },
    Pause {
        id: JobId,
        reply: oneshot::Sender<Result<Arc<View>, JobError>>,
    },
    Resume {
        id: JobId,
        resume: Resume,
        reply: oneshot::Sender<Result<Arc<View>, JobError>>,
    },
    SetPriority {
        id: JobId,
        priority: i32,
        reply: oneshot::Sender<Result<Arc<View>, JobError>>,
    },
    Delete {
        id: JobId,
        reply: oneshot::Sender<Result<(), JobError>>,
    },
    Shutdown {
        leave_runners: bool,
        reply: oneshot::Sender<()>,
    },
    KillRunners,
    Beat {
        reply: oneshot::Sender<()>,
    },
}

/// How a paused job is to go on.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// Changes of its spec.
    pub edits: Option<v1::JobEdits>,
    /// It begins anew.
    pub from_scratch: bool,
    /// It takes other data than those that its checkpoint was made with.
    pub accepts_new_data: bool,
}

/// Jobs, newest first.
#[derive(Debug, Clone)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Arc<View>>,
    /// Where the next page begins; None at the end.
    pub next: Option<i64>,
}

impl Manager {
    /// Takes up where the last daemon stopped, and starts the task.
    pub async fn start(
        settings: ManagerSettings,
        store: Store,
        metrics: Metrics,
        watcher: Watcher,
    ) -> Result<Self, JobError> {
        let (commands, receiver) = mpsc::channel(64);
        let (events, runner_events) = mpsc::channel(256);
        let (probe_sender, probe) = watch::channel(None);
        let supervisor = Supervisor::new(settings.runner.clone(), events);
        let (prober, lister) = (supervisor.clone(), supervisor.clone());
        let is_short = Arc::<AtomicBool>::default();
        tokio::spawn(probing::keep(prober, probe_sender, is_short.clone(), settings.catalogue.clone()));
        let (slots_sender, slots) = watch::channel(None);
        let visible = settings.visible_devices.clone();
        tokio::spawn(gpus::keep(watcher.clone(), probe.clone(), visible, slots_sender));
        let (held_sender, held_bytes) = watch::channel(Arc::default());
        tokio::spawn(room::measure(settings.jobs_dir.clone(), held_sender));
        let settings = Arc::new(settings);
        let (live_sender, live) = watch::channel(LiveViews::default());
        let mirrors = Mirrors::new(settings.mirror_roots.clone(), settings.mirror_interval);
        let parts = task::Parts { supervisor, metrics: metrics.clone(), watcher, mirrors: mirrors.clone() };
        let task = task::Task::recover(settings.clone(), store.of_owner(), parts, live_sender).await?;
        let gpu_block = watch::Sender::new(None);
        let hints = task::Hints { probe: probe.clone(), gpu_block: gpu_block.subscribe(), slots: slots.clone() };
        tokio::spawn(task.run(receiver, runner_events, hints));
        let gpu_block = Arc::new(gpu_block);
        Ok(Self {
            commands,
            live,
            probe,
            is_short,
            gpu_block,
            slots,
            store,
            mirrors,
            known: Arc::default(),
            judging: Arc::new(FileWork::new(admission::JUDGING)),
            copying: Arc::new(FileWork::new(staging::COPYING)),
            copy_line: Arc::new(Semaphore::new(staging::COPY_LINE)),
            dry_runs: Arc::new(Semaphore::new(dry_run::AT_ONCE)),
            held_bytes,
            promised: Promised::default(),
            supervisor: lister,
            metrics,
            operators: Arc::default(),
            settings,
        })
    }

    /// A job as it is now.
    pub async fn get(&self, id: &JobId) -> Result<Arc<View>, JobError> {
        if let Some(view) = self.live.borrow().get(id) {
            return Ok(view.borrow().clone());
        }
        self.stored(id).await
    }

    /// Observes a job. The sender is gone once the job has ended; the last value is its end.
    pub async fn observe(&self, id: &JobId) -> Result<watch::Receiver<Arc<View>>, JobError> {
        let mut live = self.live.clone();
        loop {
            if let Some(view) = live.borrow_and_update().get(id) {
                return Ok(view.clone());
            }
            let stored = self.stored(id).await?;
            if stored.job.state.is_final() {
                return Ok(watch::channel(stored).1);
            }
            // It was committed a moment ago and is about to be told.
            live.changed().await.map_err(|_| JobError::Gone)?;
        }
    }

    /// The jobs that are asked for, newest first.
    pub async fn list(&self, query: ListQuery) -> Result<JobPage, JobError> {
        let page = self.store.list(query).await?;
        let live = self.live.borrow();
        let stored = |job: Job| Arc::new(View::of_stored(Arc::new(job)));
        let view = |job: Job| match live.get(&job.id) {
            Some(view) => view.borrow().clone(),
            None => stored(job),
        };
        Ok(JobPage { jobs: page.jobs.into_iter().map(view).collect(), next: page.next })
    }

    /// Jobs in each state.
    pub async fn counts(&self) -> Result<Vec<(State, u64)>, JobError> {
        Ok(self.store.counts().await?)
    }

    /// Jobs that have not ended.
    pub fn live(&self) -> Vec<Arc<View>> {
        self.live.borrow().values().map(|view| view.borrow().clone()).collect()
    }

    /// Asks a job to end, in order or at once.
    pub async fn cancel(&self, id: JobId, now: bool) -> Result<Arc<View>, JobError> {
        self.ask(|reply| Command::Cancel { id, now, reply }).await?
    }

    /// Takes a job off the machine, with a checkpoint if it runs.
    pub async fn pause(&self, id: JobId) -> Result<Arc<View>, JobError> {
        self.ask(|reply| Command::Pause { id, reply }).await?
    }

    /// Puts a paused job back into the queue, to begin anew where that is wanted. With edits it is
    /// judged as a new job would be.
    pub async fn resume(&self, id: JobId, resume: Resume, caller: Owner) -> Result<Arc<View>, JobError> {
        self.room()?;
        let begins_anew = resume.from_scratch || self.get(&id).await?.job.course.begins_anew;
        let GoingOn { place, new_examples } = match begins_anew {
            true => GoingOn::default(),
            false => self.going_on(&id, resume.accepts_new_data).await?,
        };
        if let Some(edits) = &resume.edits {
            let view = self.get(&id).await?;
            // An edit by another caller keeps the data that the job was made with.
            let owner = self.owner_of(&view.job.inputs).unwrap_or(caller);
            let mut spec = view.job.spec.edited(edits).map_err(JobError::Invalid)?;
            // A job that applies a model has copies of all that it takes from the trained job,
            // which may be gone, and no edit reaches its data.
            if let Work::Model(work) = &mut spec.work
                && !work.mode.applies()
            {
                // The job has a copy of the weights that it began with; the source may be gone.
                work.warm_start = None;
                // The jobs that it waits for, or has waited for, may be gone.
                spec.after.clear();
                let admitted = self.admit(&spec.to_proto(), owner).await?;
                let examples = admitted.model.as_ref().map_or(0, |model| model.facts.train.examples);
                admission::judge_rest(&admitted.spec, examples, place)?;
            }
        } else if let Some(examples) = new_examples {
            admission::judge_rest(&self.get(&id).await?.job.spec, examples, place)?;
        }
        self.ask(|reply| Command::Resume { id, resume, reply }).await?
    }

    /// Removes an ended job and its folder.
    pub async fn delete(&self, id: JobId) -> Result<(), JobError> {
        self.ask(|reply| Command::Delete { id, reply }).await?
    }

    /// Ends the task: leaves all runners to the next daemon, or stops them and waits until they are
    /// gone. Nothing is started any more.
    pub async fn shutdown(&self, leave_runners: bool) -> Result<(), JobError> {
        self.ask(|reply| Command::Shutdown { leave_runners, reply }).await
    }

    /// Copies what is new of all jobs to where they want it, and returns when that was tried.
    pub async fn copy_results(&self) {
        self.mirrors.flush().await;
    }

    /// Kills what a shutdown waits for. Their jobs go back to the queue all the same.
    pub async fn kill_runners(&self) {
        // A task that is gone has none.
        let _ = self.commands.send(Command::KillRunners).await;
    }

    /// Returns once the task that owns the jobs has come to this, behind everything that it was
    /// asked before.
    pub async fn beat(&self) -> Result<(), JobError> {
        self.ask(|reply| Command::Beat { reply }).await
    }

    /// Returns when the task that owns the jobs is gone, which it may only be after a shutdown.
    pub async fn gone(&self) {
        self.commands.closed().await;
    }

    /// The result of the probe, as it changes.
    pub fn probes(&self) -> watch::Receiver<ProbeState> {
        self.probe.clone()
    }

    /// Keeps jobs that need a GPU out of the queue and those in it waiting, for that reason; None
    /// lets them on.
    pub fn block_gpus(&self, reason: Option<String>) {
        self.gpu_block.send_if_modified(|now| {
            let is_news = *now != reason;
            *now = reason;
            is_news
        });
    }

    /// The result of the probe so far.
    pub fn probe(&self) -> ProbeState {
        self.probe.borrow().clone()
    }

    /// The result of the probe, once there is one.
    ///
    /// # Errors
    /// `Shortage` where the machine could not start it for now, which says nothing about the
    /// runner.
    pub async fn probed(&self) -> Result<Result<ProbeReport, String>, JobError> {
        let mut probe = self.probe.clone();
        let told = probe.wait_for(Option::is_some).await.map_err(|_| JobError::Gone)?.clone();
        match told.ok_or(JobError::Gone)? {
            Err(what) if self.is_short.load(Ordering::Relaxed) => Err(JobError::Shortage { what }),
            told => Ok(told),
        }
    }

    /// Python and PyTorch of this machine, asked anew.
    pub async fn python(&self) -> PythonReport {
        ask_python(self.settings.python.as_deref()).await
    }

    /// Cores that jobs may take together.
    pub fn cpu_slots(&self) -> u32 {
        self.settings.cpu_slots
    }

    /// Whether the message of a job needs its folder: its copy was complete before this daemon
    /// began.
    pub fn message_blocks(&self, view: &View) -> bool {
        view.has_copy() && self.mirrors.state(&view.job.id).is_none()
    }

    /// The message that clients get of a job. It may block.
    pub fn message(&self, view: &View) -> v1::Job {
        let folder = self.folder(&view.job.id);
        let state = || self.mirrors.state(&view.job.id).or_else(|| mirrors::complete(&folder));
        v1::Job { mirror: view.has_copy().then(state).flatten(), ..view.to_proto(&folder) }
    }

    /// The folder of a job.
    pub fn folder(&self, id: &JobId) -> JobFolder {
        folder(&self.settings.jobs_dir, id)
    }

    /// Refuses a job whose folder is gone because it is deleted; somebody may have removed the
    /// folder by hand.
    pub async fn refuse_deleted(&self, id: &JobId) -> Result<(), JobError> {
        // It is set aside before the database forgets the job, and removed after that.
        let (aside, folder) = (recovery::set_aside(&self.settings.jobs_dir, id), self.folder(id));
        let is_deleted = task::blocking(move || Ok(aside.try_exists()? && !folder.path().try_exists()?)).await;
        if is_deleted.map_err(JobError::folder(format!("the folder of {} cannot be read", id.name())))? {
            return Err(JobError::Unknown(id.clone()));
        }
        self.stored(id).await.map(drop)
    }

    async fn stored(&self, id: &JobId) -> Result<Arc<View>, JobError> {
        let job = self.store.get(id.clone()).await?;
        job.map(|job| Arc::new(View::of_stored(Arc::new(job)))).ok_or_else(|| JobError::Unknown(id.clone()))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, JobError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| JobError::Gone)?;
        answer.await.map_err(|_| JobError::Gone)
    }
}

fn folder(jobs_dir: &Path, id: &JobId) -> JobFolder {
    JobFolder::new(jobs_dir.join(id.as_str()))
}
