//! Jobs whose ranks run on other machines: they take no part of this one, and start when a launcher
//! has room for them.

use std::path::Path;

use super::dispatch::held;
use super::live::Live;
use super::task::Task;
use super::{JobError, Manager, ManagerSettings};
use crate::job::order::{Lease, LeasedDevice};
use crate::job::{Job, JobId, State, Violations};
use crate::launches::{Demand, LauncherView, Line, NoPlace, Place};
use crate::scheduler::{self, Request, Wait};

/// The part of this machine, or of others, that an attempt gets.
pub(super) enum Part {
    /// Of this one.
    Here(Lease),
    /// Slots of an engine.
    Afar(Place),
}

/// Whether a job's ranks run on other machines.
pub(super) fn is_afar(live: &Live) -> bool {
    live.job.spec.scale.is_some()
}

/// Data that lie on this machine alone are refused: ranks read them at the same paths as here.
pub(super) fn judge_files<'a>(
    files: impl IntoIterator<Item = &'a Path>,
    settings: &ManagerSettings,
    wrong: &mut Violations,
) {
    if let Some(upload) = files.into_iter().find(|path| settings.uploads.owner_of(path).is_some()) {
        let why = "which lies on this machine alone: ranks read data at the same paths as here";
        wrong.add("scale", format!("is set, and {} is an upload, {why}", upload.display()));
    }
}

impl Manager {
    /// The launchers that are attached.
    pub fn launchers(&self) -> Vec<LauncherView> {
        self.settings.launches.launchers()
    }
}

impl Task {
    /// The lease of so many ranks on other machines, each of which finds its GPU there.
    pub(super) fn lease_afar(job: &Job, ranks: u32) -> Lease {
        let resources = job.spec.resources;
        let device = if resources.gpus().is_some() { LeasedDevice::Cuda } else { LeasedDevice::Cpu };
        Lease { device, ..Lease::of_cpu(resources.cpu_threads.unwrap_or(1).saturating_mul(ranks)) }
    }

    /// Starts those of these jobs that a launcher has room for, which are in order of arrival, in
    /// their turns; and tells the others why they wait. One that waits for launchers holds back
    /// those behind it that would use the same.
    pub(super) async fn start_afar(&mut self, waiting: Vec<JobId>) {
        let waiting: Vec<_> = waiting.iter().filter_map(|id| Some(self.request(&self.live.get(id)?.job))).collect();
        let running: Vec<_> = self.live.busy().filter_map(held).collect();
        let mut line = Line::default();
        for Request { id, .. } in scheduler::in_turn(waiting, &running, &self.turns) {
            let wait = |why: String| Wait::For(why.into());
            let place = match self.owner_has_room(&id) {
                Err(why) => Err(wait(why)),
                Ok(()) => match self.find_place(&id, &line) {
                    Ok(place) => Ok(place),
                    // It holds back nobody.
                    Err(NoPlace::Nowhere(why)) => Err(wait(why)),
                    Err(NoPlace::Taken { words, launchers }) => {
                        line.add(&id, &launchers);
                        Err(wait(words))
                    }
                    Err(NoPlace::Behind(launchers)) => {
                        let (first, jobs) = line.ahead(&launchers).unwrap_or((id.clone(), 0));
                        line.add(&id, &launchers);
                        Err(Wait::Behind { first, jobs })
                    }
                },
            };
            let place = match place {
                Ok(place) => place,
                Err(wait) => {
                    if let Some(live) = self.live.get_mut(&id) {
                        live.waits_for(wait);
                    }
                    continue;
                }
            };
            let Some((arrival, mut live)) = self.live.take(&id) else { continue };
            let started = self.start(&mut live, Part::Afar(place)).await;
            if live.runner.is_some() {
                self.turns.took(&live.job.owner);
            }
            if let (Err(error), State::Queued) = (&started, live.job.state) {
                let words = format!("it could not be started and will be tried again: {error}");
                live.put_off(words.clone(), tokio::time::Instant::now());
                live.waits_for(Wait::For(words.into()));
            }
            let is_hopeless = started.as_ref().is_err_and(JobError::is_of_database);
            self.keep(arrival, live);
            self.note(&id, started);
            if is_hopeless {
                return;
            }
        }
    }

    /// A launcher with room for a job.
    fn find_place(&self, id: &JobId, line: &Line) -> Result<Place, NoPlace> {
        let gone = || NoPlace::Nowhere("its spec does not say where its ranks run".to_owned());
        let job = &self.live.get(id).ok_or_else(gone)?.job;
        let scale = job.spec.scale.as_ref().ok_or_else(gone)?;
        let shards = job.spec.model().and_then(|work| work.recipe.shards).unwrap_or(scale.world_size);
        let demand = Demand {
            engine: scale.engine,
            sizes: scale.sizes(shards).collect(),
            on_gpu: job.spec.resources.gpus().is_some(),
            by_mailbox: scale.storage.is_some(),
        };
        self.settings.launches.find_place(&job.owner, &demand, line)
    }

    /// Whether the owner of a job may run another one.
    fn owner_has_room(&self, id: &JobId) -> Result<(), String> {
        let Some((owner, most)) = self.live.get(id).map(|live| &live.job.owner).zip(self.settings.quotas.running)
        else {
            return Ok(());
        };
        let running = self.live.busy().filter(|live| live.lease.is_some() && live.job.owner == *owner).count();
        if running as u64 >= u64::from(most) {
            return Err(format!("{owner} has {running} jobs that run; jobs.max_running_per_owner is {most}"));
        }
        Ok(())
    }
}
