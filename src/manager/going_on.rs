//! Where a paused job goes on, as far as its folder tells. The runner judges the checkpoint once
//! more when it loads it.

use super::file_work::Files;
use super::{JobError, Manager};
use crate::gate::Wanted;
use crate::job::length::Place;
use crate::job::{JobId, State};
use crate::journal::{Damaged, Survey};
use crate::proto::v1;

impl Manager {
    /// Where a paused job goes on; the beginning where it has saved nothing. Refused where it has
    /// saved something and none of it can be used. The files are read where the last attempt ended
    /// because of them: somebody may have mended one since.
    pub(super) async fn place_to_go_on(&self, id: &JobId) -> Result<Place, JobError> {
        let job = self.get(id).await?.job.clone();
        if job.state != State::Paused {
            return Ok(Place::default());
        }
        let reason = job.course.last_end.as_ref().map(v1::JobEnd::reason);
        let is_suspect = reason == Some(v1::JobEndReason::BadCheckpoint);
        let folder = self.folder(id);
        let look = move |wanted: &Wanted| {
            let mut survey = Survey::of(&folder)?;
            if is_suspect {
                survey.verify(wanted)?;
            }
            let newest = survey.newest_whole()?.map(|newest| newest.manifest.place);
            Ok((newest, survey.damaged))
        };
        let words = format!("the checkpoints of {}", id.name());
        let files = Files::in_folder(words.clone(), self.folder(id).path().to_owned());
        let work = if is_suspect { &self.copying } else { &self.judging };
        let found = work.run(files, look).await?;
        match found.map_err(JobError::folder(format!("{words} cannot be read")))? {
            (Some(newest), _) => Ok(newest),
            (None, mut damaged) => {
                if damaged.is_empty() {
                    damaged.extend(job.course.resume_from.as_ref().map(|point| Damaged::gone(point.step)));
                }
                if damaged.is_empty() {
                    return Ok(Place::default());
                }
                // No runner will tell of them, unless one has when it paused the job.
                if !is_suspect {
                    for damaged in &damaged {
                        self.metrics.checkpoints_damaged.inc();
                        tracing::error!(job.id = %id, "a checkpoint is damaged: {damaged}");
                    }
                }
                Err(JobError::BadCheckpoints { id: id.clone(), damaged })
            }
        }
    }
}
