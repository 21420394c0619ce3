//! The way of a request to a queued job: made before or not, judged, copied what it begins with,
//! and handed to the task. Nothing is copied before there is known to be room for it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::admission::Machine;
use super::file_work::Files;
use super::live::Live;
use super::owners::made_by;
use super::staging::{self, Copies, Staged};
use super::task::{Task, blocking};
use super::{Admitted, Author, Command, JobError, Manager, ManagerSettings, View, admission, gpus, trained};
use crate::dataset;
use crate::gate::Wanted;
use crate::job::probe::{Found, ProbeReport};
use crate::job::{DataInputs, Inputs, Job, JobId, State, spec};
use crate::judging::model::OperatorList;
use crate::proto::{json, v1};
use crate::store::{Asked, Store};
use crate::uploads::Owner;

/// The operators of a libtorch that the runner finds.
#[derive(Debug)]
pub(super) struct Listed {
    libtorch: Found,
    operators: Arc<OperatorList>,
}

impl Manager {
    /// Judges a request and queues its job. A request that was made before under this id gets the
    /// job of then, whatever has become of the data since; an empty id is none.
    pub async fn create(&self, spec: &v1::JobSpec, request_id: String, author: Author) -> Result<Arc<View>, JobError> {
        let asked = if request_id.is_empty() {
            None
        } else {
            let text = json::to_string(spec, false).map_err(|error| {
                JobError::folder("the spec cannot be written")(std::io::Error::other(error.to_string()))
            })?;
            Some(Asked { request_id, spec: text })
        };
        if let Some(asked) = &asked
            && let Some(id) = made_before(&self.store, asked).await?
        {
            return self.get(&id).await.and_then(|view| made_by(&author.owner, asked, view));
        }
        self.room()?;
        self.room_of(&author.owner).await?;
        let copies = spec.warm_start.is_some() || has_model_files(spec);
        let line = copies.then(|| self.copy_line.try_acquire());
        let _in_line = line.transpose().map_err(|_| {
            let (most, what) = (staging::COPY_LINE, "requests wait for the copies that their jobs begin with");
            JobError::FilesUnavailable(format!("{most} {what}"))
        })?;
        let mut admitted = Box::new(self.admit(spec, author.uploads).await?);
        let copies = std::mem::take(&mut admitted.copies);
        let staged = if copies.is_empty() { None } else { Some(self.stage(copies).await?) };
        let owner = author.owner;
        self.ask(|reply| Command::Create { admitted, owner, asked, staged, reply }).await?
    }

    /// Copies what a job will begin with, once it is known that there is room for it and for the
    /// job.
    pub(super) async fn stage(&self, copies: Copies) -> Result<Staged, JobError> {
        let limit = self.settings.max_queued;
        let is_queued = |view: &&watch::Receiver<Arc<View>>| view.borrow().job.state == State::Queued;
        if self.live.borrow().values().filter(is_queued).count() >= limit {
            return Err(JobError::QueueFull { limit });
        }
        let left = self.settings.max_state_bytes.unwrap_or(u64::MAX).saturating_sub(self.held_bytes());
        let (jobs_dir, number) = (self.settings.jobs_dir.clone(), RandomState::new().build_hasher().finish());
        let places = copies.places();
        let names: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let words = format!("the files in {:?}", names.join(", "));
        let parts = |place: &Path| self.settings.data_roots.parts(&place.to_string_lossy());
        let mut files = Files::new(words, places.iter().flat_map(|place| parts(place)));
        for place in places.iter().filter(|place| parts(place).is_empty()) {
            files = files.and_in_folder(place.to_path_buf());
        }
        let promised = self.promised.clone();
        let copy = move |wanted: &Wanted| staging::stage(&copies, &jobs_dir, number, left, &promised, wanted);
        self.copying.run(files, copy).await?
    }

    /// Refuses what would grow where the jobs' folders hold more than they may.
    pub(super) fn room(&self) -> Result<(), JobError> {
        let held = self.held_bytes();
        match self.settings.max_state_bytes.filter(|limit| held > *limit) {
            Some(limit) => Err(JobError::StateFull { held, limit }),
            None => Ok(()),
        }
    }

    /// Judges a request, which may name the uploads of `owner`.
    pub async fn admit(&self, spec: &v1::JobSpec, owner: Owner) -> Result<Admitted, JobError> {
        let probe = match spec.program {
            Some(_) => ProbeReport::default(),
            None => self.probed().await?.map_err(JobError::RunnerBroken)?,
        };
        let block = self.gpu_block.borrow().clone();
        let slots = match spec.program {
            // No probe, which takes longer, was waited for.
            Some(_) => gpus::known(self.slots.clone()).await,
            None => self.slots.borrow().clone().unwrap_or_default(),
        };
        let operators = match has_model_files(spec) || trained::is_of_job(spec) {
            true => Some(self.operators(&probe).await?),
            false => None,
        };
        let unmet = self.judge_dependencies(&spec.after).await?;
        let (settings, known) = (self.settings_for(owner), self.known.clone());
        let machine = Machine { probe, gpu_block: block, slots, operators };
        match admission::admit(spec.clone(), settings, machine, known, &self.judging).await {
            Ok(_) if !unmet.0.is_empty() => Err(JobError::Invalid(unmet)),
            Err(JobError::Invalid(mut wrong)) => {
                wrong.0.extend(unmet.0);
                Err(JobError::Invalid(wrong))
            }
            judged => judged,
        }
    }

    /// The owner of the uploads among the files of a job; None where it reads none.
    pub(super) fn owner_of(&self, inputs: &Inputs) -> Option<Owner> {
        let DataInputs { train, validation, .. } = inputs.data()?;
        let files = validation.iter().chain([train]).flat_map(dataset::Files::paths);
        files.into_iter().find_map(|path| self.settings.uploads.owner_of(path))
    }

    /// The settings by which the requests of an owner are judged: the owner's uploads are the last
    /// data root.
    pub(super) fn settings_for(&self, owner: Owner) -> Arc<ManagerSettings> {
        match self.settings.uploads.root(&owner) {
            None => self.settings.clone(),
            Some(root) => {
                let data_roots = self.settings.data_roots.with(root);
                Arc::new(ManagerSettings { data_roots, ..ManagerSettings::clone(&self.settings) })
            }
        }
    }

    /// The operators of libtorch. The runner lists them once for each libtorch that it finds.
    async fn operators(&self, probe: &ProbeReport) -> Result<Arc<OperatorList>, JobError> {
        let mut known = self.operators.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.libtorch == probe.libtorch) {
            return Ok(known.operators.clone());
        }
        let schemas = self.supervisor.operators().await.map_err(|error| match error.is_shortage() {
            true => JobError::Shortage { what: error.to_string() },
            false => JobError::RunnerBroken(error.to_string()),
        })?;
        let short = |error| JobError::Shortage { what: format!("the list of operators cannot be kept: {error}") };
        let operators = Arc::new(OperatorList::new(&schemas).map_err(short)?);
        *known = Some(Listed { libtorch: probe.libtorch.clone(), operators: operators.clone() });
        Ok(operators)
    }
}

impl Task {
    /// Queues a job that has been judged. Whether its dependencies can be met is judged once more:
    /// they may have ended, or been deleted, since.
    pub(super) async fn create(
        &mut self,
        admitted: Admitted,
        owner: Arc<str>,
        asked: Option<Asked>,
        staged: Option<Staged>,
    ) -> Result<Arc<View>, JobError> {
        // Two of the same may have been judged at once.
        if let Some(asked) = &asked
            && let Some(id) = made_before(&self.store, asked).await?
        {
            let view = match self.live.get(&id) {
                Some(live) => live.view(),
                None => View::of_stored(Arc::new(self.stored(&id).await?)),
            };
            return made_by(&owner, asked, Arc::new(view));
        }
        if !self.closing.is_empty() {
            return Err(JobError::ShuttingDown);
        }
        let limit = self.settings.max_queued;
        if self.live.queued() >= limit {
            return Err(JobError::QueueFull { limit });
        }
        self.judge_queued_of(&owner)?;
        let Admitted { spec, inputs, .. } = admitted;
        let now = SystemTime::now();
        let id = loop {
            let id = JobId::new(now, RandomState::new().build_hasher().finish() as u32);
            let folder = self.folder(&id);
            let is_taken = blocking(move || folder.path().try_exists()).await;
            if !is_taken.map_err(JobError::folder("the jobs' folders cannot be read"))? {
                break id;
            }
        };
        let mut job = Job::queued(id, owner, spec, inputs, now);
        job.course.waits_for = self.open_dependencies(&job.spec.after).await?;
        let (folder, spec, id, runs) = (self.folder(&job.id), job.spec.clone(), job.id.clone(), self.runs.clone());
        let group_reads = self.settings.runner.group_reads;
        let made = move || {
            folder.create(&spec.to_proto())?;
            // Some file systems know no modes. The job is as good without.
            if group_reads && let Err(error) = folder.show_to_group() {
                tracing::warn!(job.id = %id, %error, "the group cannot be allowed to read what the job leaves");
            }
            runs.add(&id, &spec.display_name);
            staged.map_or(Ok(()), |staged| staged.hand_over(&folder))
        };
        let made = blocking(made).await;
        let made = made.map_err(JobError::folder(format!("the folder of {} cannot be made", job.id.name())));
        let inserted = match made {
            Ok(()) => self.store.insert(job.clone(), asked).await.map_err(JobError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = inserted {
            // Nobody was promised anything. Where the database cannot even be asked, the next start
            // tidies up.
            if let Ok(None) = self.store.get(job.id.clone()).await {
                let (folder, runs) = (self.folder(&job.id), self.runs.clone());
                let remove = move || {
                    runs.remove(&job.id, &job.spec.display_name);
                    std::fs::remove_dir_all(folder.path())
                };
                let _ = tokio::task::spawn_blocking(remove).await;
            }
            return Err(error);
        }
        tracing::info!(job.id = %job.id, job.state = %job.state, "job created");
        self.keep_copy(&job);
        let mut live = Live::new(job);
        let view = live.view.subscribe();
        // One of many: the others are told already.
        self.views.send_modify(|views| drop(Arc::make_mut(views).insert(live.job.id.clone(), live.view.subscribe())));
        let job = live.job.clone();
        self.write_job_file(&job).await;
        let has_joined = self.join_line(&mut live);
        self.live.push(live);
        if !has_joined {
            self.schedule().await;
        }
        let now = view.borrow().clone();
        Ok(now)
    }
}

/// The job that a request of this id has made; refused where that asked for another spec.
async fn made_before(store: &Store, asked: &Asked) -> Result<Option<JobId>, JobError> {
    match store.requested(asked.request_id.clone()).await? {
        Some((job, spec)) if spec != asked.spec => {
            Err(JobError::RequestTaken { request_id: asked.request_id.clone(), job })
        }
        found => Ok(found.map(|(job, _)| job)),
    }
}

/// Whether the model of a request is read from files.
fn has_model_files(spec: &v1::JobSpec) -> bool {
    let model = spec::read(spec).model.and_then(|reading| reading.demands.model);
    model.is_some_and(|model| !model.files().is_empty())
}
