//! Where a paused job goes on, as far as its folder tells. The runner judges the checkpoint once
//! more when it loads it.

use super::{JobError, Manager, task};
use crate::job::length::Place;
use crate::job::{JobId, State};
use crate::journal::Survey;
use crate::proto::v1;

impl Manager {
    /// Where a paused job goes on; the beginning where it has no checkpoint. Refused where it has
    /// some and none can be used. Their files are read where the last attempt ended because of
    /// them: somebody may have mended one since.
    pub(super) async fn place_to_go_on(&self, id: &JobId) -> Result<Place, JobError> {
        let job = self.get(id).await?.job.clone();
        if job.state != State::Paused {
            return Ok(Place::default());
        }
        let reason = job.course.last_end.as_ref().map(v1::JobEnd::reason);
        let is_suspect = reason == Some(v1::JobEndReason::BadCheckpoint);
        let folder = self.folder(id);
        let survey = task::blocking(move || {
            let mut survey = Survey::of(&folder)?;
            if is_suspect {
                survey.verify()?;
            }
            Ok(survey)
        });
        let survey =
            survey.await.map_err(JobError::folder(format!("the checkpoints of {} cannot be read", id.name())))?;
        match (survey.whole.first(), survey.damaged) {
            (Some(newest), _) => Ok(newest.manifest.place),
            (None, damaged) if damaged.is_empty() => Ok(Place::default()),
            (None, damaged) => Err(JobError::BadCheckpoints { id: id.clone(), damaged }),
        }
    }
}
