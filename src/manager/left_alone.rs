//! The jobs that are left alone: their folders may be newer than the database and cannot be used,
//! or this version cannot read their rows. Nothing may be done with them. A folder that could not
//! be read is looked at again.

use super::JobError;
use super::live::Live;
use super::recovery::{self, LeftAlone, Settled};
use super::task::Task;
use crate::job::JobId;
use crate::scheduler::Wait;
use crate::store::StoreError;

impl Task {
    /// Leaves a job alone. A runner that nobody can look after saves a checkpoint and ends; no job
    /// hears of it. One whose folder cannot be read now goes on.
    pub(super) async fn leave_alone(&mut self, left: LeftAlone) -> Result<(), JobError> {
        let LeftAlone { id, why, is_unread, stray } = &left;
        tracing::error!(job.id = %id, stray, is_unread, "the job is left alone, as {why}");
        if let Some(attempt) = stray {
            let ranks =
                self.folder(id).read_order(*attempt).ok().and_then(|order| order.rank).map_or(1, |rank| rank.count);
            self.supervisor.adopt(id.clone(), self.folder(id), *attempt, ranks).stop();
        }
        let row = match self.store.get(id.clone()).await {
            // There is no job to show.
            Err(StoreError::Odd(_)) => None,
            row => row?.filter(|job| !job.state.is_final()),
        };
        if !self.live.contains(id)
            && let Some(job) = row
        {
            let mut live = Live::new(job);
            if live.job.state.is_active() {
                live.lease = Some(self.assumed_lease(&live.job));
            }
            self.live.push(live);
        }
        if let Some(live) = self.live.get_mut(id) {
            live.waits_for(Wait::For(format!("it is left alone, as {why}").into()));
        }
        self.left_alone.insert(id.clone(), left);
        Ok(())
    }

    /// Refuses what is asked of a job that is left alone.
    pub(super) fn refuse_left_alone(&self, id: &JobId) -> Result<(), JobError> {
        match self.left_alone.get(id) {
            Some(LeftAlone { why, is_unread, .. }) => {
                Err(JobError::LeftAlone { id: id.clone(), why: why.clone(), is_unread: *is_unread })
            }
            None => Ok(()),
        }
    }

    /// Looks again at the folders that could not be read, and takes up the jobs of those that can.
    pub(super) async fn look_at_unread_folders_again(&mut self) {
        let unread = self.left_alone.values().filter(|left| left.is_unread).map(|left| left.id.clone());
        for id in unread.collect::<Vec<_>>() {
            let settled = recovery::look_again(&id, self.folder(&id), &self.settings.data_roots, &self.store).await;
            let done = match settled {
                Ok(Settled::LeftAlone(left)) if left.is_unread => Ok(()),
                Ok(Settled::LeftAlone(left)) => self.leave_alone(left).await,
                Ok(Settled::Agreed { behind }) => {
                    self.unwritten.extend(behind);
                    self.take_up(&id).await
                }
                Err(error) => Err(error),
            };
            self.note(&id, done);
        }
    }

    /// Takes up a job that was left alone, as the database has it now.
    async fn take_up(&mut self, id: &JobId) -> Result<(), JobError> {
        let job = self.store.get(id.clone()).await?;
        self.left_alone.remove(id);
        let known = self.live.take(id);
        let Some(job) = job else { return Ok(()) };
        tracing::info!(job.id = %id, job.state = %job.state, "the job's folder can be used again");
        self.keep_copy(&job);
        let mut live = Live::new(job);
        let place = known.map(|(place, before)| {
            // Its watchers go on watching it.
            live.view = before.view;
            place
        });
        let adopted = if live.job.state.is_active() { self.adopt(&mut live).await } else { Ok(()) };
        live.publish();
        match place {
            Some(place) => self.keep(place, Box::new(live)),
            None if live.job.state.is_final() => {}
            None => {
                self.live.push(live);
                self.publish_all();
            }
        }
        self.tell_holders();
        self.schedule().await;
        adopted
    }
}
