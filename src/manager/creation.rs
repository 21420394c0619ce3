//! The way of a request to a queued job: made before or not, judged, copied what it begins with,
//! and handed to the task. Nothing is copied before there is known to be room for it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use tokio::sync::watch;

use super::file_work::Files;
use super::staging::{self, Staged};
use super::warm_start::Warm;
use super::{Admitted, Command, JobError, Manager, View, admission, task};
use crate::gate::Wanted;
use crate::job::State;
use crate::proto::{json, v1};
use crate::store::Asked;

impl Manager {
    /// Judges a request and queues its job. A request that was made before under this id gets the
    /// job of then, whatever has become of the data since; an empty id is none.
    pub async fn create(&self, spec: &v1::JobSpec, request_id: String) -> Result<Arc<View>, JobError> {
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
        let line = spec.warm_start.is_some().then(|| self.copy_line.try_acquire());
        let _in_line = line.transpose().map_err(|_| {
            let (most, what) = (staging::COPY_LINE, "requests wait for the copies that their jobs begin with");
            JobError::FilesUnavailable(format!("{most} {what}"))
        })?;
        let mut admitted = Box::new(self.admit(spec).await?);
        let staged = match admitted.warm.take() {
            None => None,
            Some(warm) => Some(self.stage(warm).await?),
        };
        self.ask(|reply| Command::Create { admitted, asked, staged, reply }).await?
    }

    /// Copies what a job will begin with, once it is known that there is room for it and for the
    /// job.
    async fn stage(&self, warm: Warm) -> Result<Staged, JobError> {
        let limit = self.settings.max_queued;
        let is_queued = |view: &&watch::Receiver<Arc<View>>| view.borrow().job.state == State::Queued;
        if self.live.borrow().values().filter(is_queued).count() >= limit {
            return Err(JobError::QueueFull { limit });
        }
        let left = self.settings.max_state_bytes.unwrap_or(u64::MAX).saturating_sub(self.held_bytes());
        let (jobs_dir, number) = (self.settings.jobs_dir.clone(), RandomState::new().build_hasher().finish());
        let (place, words) = (warm.place(), format!("the files in {:?}", warm.place().display().to_string()));
        let parts = self.settings.data_roots.parts(&place.to_string_lossy());
        let files = match parts.is_empty() {
            true => Files::in_folder(words, place.to_owned()),
            false => Files::new(words, parts),
        };
        let promised = self.promised.clone();
        let copy = move |wanted: &Wanted| staging::stage(&warm, &jobs_dir, number, left, &promised, wanted);
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

    /// Judges a request.
    pub async fn admit(&self, spec: &v1::JobSpec) -> Result<Admitted, JobError> {
        let probe = self.probed().await?.map_err(JobError::RunnerBroken)?;
        let block = self.gpu_block.borrow().clone();
        let slots = self.slots.borrow().clone();
        let (settings, known) = (self.settings.clone(), self.known.clone());
        admission::admit(spec.clone(), settings, probe, block, slots, known, &self.judging).await
    }
}
