//! The way of a request to a queued job: made before or not, judged, copied what it begins with,
//! and handed to the task. Nothing is copied before there is known to be room for it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::admission::Machine;
use super::file_work::Files;
use super::staging::{self, Copies, Staged};
use super::{Admitted, Command, JobError, Manager, ManagerSettings, View, admission, gpus, task, trained};
use crate::dataset;
use crate::gate::Wanted;
use crate::job::probe::{Found, ProbeReport};
use crate::job::{DataInputs, Inputs, State, spec};
use crate::judging::model::OperatorList;
use crate::proto::{json, v1};
use crate::store::Asked;
use crate::uploads::Owner;

/// The operators of a libtorch that the runner finds.
#[derive(Debug)]
pub(super) struct Listed {
    libtorch: Found,
    operators: Arc<OperatorList>,
}

impl Manager {
    /// Judges a request and queues its job. A request that was made before under this id gets the
    /// job of then, whatever has become of the data since; an empty id is none. The job may read
    /// the uploads of `owner`.
    pub async fn create(&self, spec: &v1::JobSpec, request_id: String, owner: Owner) -> Result<Arc<View>, JobError> {
        let asked = if request_id.is_empty() {
            None
        } else {
            let text = json::to_string(spec, false).map_err(|error| {
                JobError::folder("the spec cannot be written")(std::io::Error::other(error.to_string()))
            })?;
            Some(Asked { request_id, spec: text })
        };
        if let Some(asked) = &asked
            && let Some(id) = task::made_before(&self.store, asked).await?
        {
            return self.get(&id).await;
        }
        self.room()?;
        let copies = spec.warm_start.is_some() || has_model_files(spec);
        let line = copies.then(|| self.copy_line.try_acquire());
        let _in_line = line.transpose().map_err(|_| {
            let (most, what) = (staging::COPY_LINE, "requests wait for the copies that their jobs begin with");
            JobError::FilesUnavailable(format!("{most} {what}"))
        })?;
        let mut admitted = Box::new(self.admit(spec, owner).await?);
        let copies = std::mem::take(&mut admitted.copies);
        let staged = if copies.is_empty() { None } else { Some(self.stage(copies).await?) };
        self.ask(|reply| Command::Create { admitted, asked, staged, reply }).await?
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
        let held = *self.held_bytes.borrow();
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
        let (settings, known) = (self.settings_for(owner), self.known.clone());
        let machine = Machine { probe, gpu_block: block, slots, operators };
        admission::admit(spec.clone(), settings, machine, known, &self.judging).await
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
        match self.settings.uploads.root(owner) {
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

/// Whether the model of a request is read from files.
fn has_model_files(spec: &v1::JobSpec) -> bool {
    let model = spec::read(spec).model.and_then(|reading| reading.demands.model);
    model.is_some_and(|model| !model.files().is_empty())
}
