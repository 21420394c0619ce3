//! Where a paused job goes on, as far as its folder and its data tell. The runner judges checkpoint
//! and data once more when it loads them.

use super::data_now::{Now, data_now};
use super::file_work::Files;
use super::{JobError, Manager};
use crate::dataset;
use crate::gate::Wanted;
use crate::job::end::CHANGED_DATA_REMEDY;
use crate::job::length::Place;
use crate::job::{DataInputs, Job, JobId, State};
use crate::journal::{Damaged, Manifest, Survey};
use crate::proto::v1;

/// The beginning of the next attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GoingOn {
    /// Where training stands.
    pub(super) place: Place,
    /// Examples of the training set, where they are others than those of the checkpoint.
    pub(super) new_examples: Option<u64>,
}

impl From<Place> for GoingOn {
    fn from(place: Place) -> Self {
        Self { place, new_examples: None }
    }
}

impl Manager {
    /// Where a paused job goes on; the beginning where it has saved nothing. Refused where it has
    /// saved something and none of it can be used. The files are read where the last attempt ended
    /// because of them: somebody may have mended one since. Refused too where its data are known to
    /// be others than those that the checkpoint was made with, unless they are accepted.
    pub(super) async fn going_on(&self, id: &JobId, accepts_new_data: bool) -> Result<GoingOn, JobError> {
        let job = self.get(id).await?.job.clone();
        // A program's own checkpoints are its own affair.
        if job.state != State::Paused || job.spec.program().is_some() {
            return Ok(GoingOn::default());
        }
        let reason = job.course.last_end.as_ref().map(v1::JobEnd::reason);
        let is_suspect = reason == Some(v1::JobEndReason::BadCheckpoint);
        let folder = self.folder(id);
        let look = move |wanted: &Wanted| {
            let mut survey = Survey::of(&folder)?;
            if is_suspect {
                survey.verify(wanted)?;
            }
            let newest = survey.newest_whole()?.map(|newest| newest.manifest.clone());
            Ok((newest, survey.damaged))
        };
        let words = format!("the checkpoints of {}", id.name());
        let files = Files::in_folder(words.clone(), self.folder(id).path().to_owned());
        let work = if is_suspect { &self.copying } else { &self.judging };
        let found = work.run(files, look).await?;
        match found.map_err(JobError::folder(format!("{words} cannot be read")))? {
            (Some(newest), _) => self.with_data(&job, newest, accepts_new_data).await,
            (None, mut damaged) => {
                if damaged.is_empty() {
                    damaged.extend(job.course.resume_from.as_ref().map(|point| Damaged::gone(point.step)));
                }
                if damaged.is_empty() {
                    return Ok(GoingOn::default());
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

    /// Where a paused job goes on from that checkpoint with the data of now.
    async fn with_data(&self, job: &Job, newest: Manifest, accepts_new_data: bool) -> Result<GoingOn, JobError> {
        let step = newest.place.step;
        let is_accepted = accepts_new_data || job.course.accepted_data_at.is_some_and(|accepted| step <= accepted);
        let (Some(inputs), Some(work)) = (job.inputs.data(), job.spec.model()) else { return Ok(newest.place.into()) };
        let DataInputs { train, validation, .. } = inputs;
        let paths = [Some(train), validation.as_ref()].into_iter().flatten().flat_map(dataset::Files::paths);
        let owner = self.owner_of(&job.inputs);
        let settings = owner.map_or_else(|| self.settings.clone(), |owner| self.settings_for(owner));
        let parts = paths.flat_map(|path| settings.data_roots.parts(&path.to_string_lossy()));
        let files = Files::new(format!("the data of {}", job.id.name()), parts);
        let (data, inputs, known) = (work.data.clone(), inputs.clone(), self.known.clone());
        let look = move |wanted: &Wanted| data_now(&data, &inputs, &settings.data_roots, &known, wanted);
        let changed = |what: String| Err(JobError::DataChanged { id: job.id.clone(), what });
        match self.judging.run(files, look).await? {
            Now::Unknown => Ok(newest.place.into()),
            Now::Unusable(what) => changed(format!("{what}; put the data back and resume it")),
            Now::Known(now) => match newest.judge_data(&now) {
                Ok(()) => Ok(newest.place.into()),
                Err(_) if is_accepted => {
                    let examples = now.train.examples;
                    // The runner alone knows the shards of now.
                    Ok(GoingOn { place: newest.place_in(examples, newest.shards()), new_examples: Some(examples) })
                }
                Err(what) => changed(format!("{what}; {CHANGED_DATA_REMEDY}")),
            },
        }
    }
}
