//! `job.json`: a job as the database has it, both ways, so that the jobs' folders alone can rebuild
//! a lost database. The job is the message that clients get; beside it stands what the daemon keeps
//! and clients do not see. A new field of `Job` is one line in each direction, and nothing builds
//! until it has them.

use std::sync::Arc;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::View;
use crate::job::{Course, Inputs, Job, Spec, State};
use crate::journal::{JobFolder, write_whole};
use crate::proto::{json, v1};
use crate::store::Asked;

/// A job with the request that made it, if that had an id.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// The job.
    pub job: Job,
    /// The request.
    pub request: Option<Asked>,
}

/// Why a job.json tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    /// It is not there.
    #[error("job.json is missing")]
    Missing,
    /// The system refuses.
    #[error("job.json cannot be read: {0}")]
    Io(io::Error),
    /// It is cut off or overwritten.
    #[error("job.json is damaged: {0}")]
    Damaged(String),
    /// It is whole and holds something that this version does not know.
    #[error("job.json is whole and holds what this version of torchd does not know: {0}")]
    Unknown(String),
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    job: serde_json::Value,
    inputs: Inputs,
    course: Course,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
}

/// The request that made the job.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    request_id: String,
    /// To the letter: a second request is held against it.
    spec: String,
}

impl JobFile {
    /// Writes job.json. Durable when it returns.
    pub fn write(&self, folder: &JobFolder) -> io::Result<()> {
        let Self { job, request } = self;
        let message = View::of_stored(Arc::new(job.clone())).to_proto(folder);
        let form = Form {
            job: json::to_value(&message, false).map_err(io::Error::other)?,
            inputs: job.inputs.clone(),
            course: job.course.clone(),
            request: request.clone().map(|Asked { request_id, spec }| Request { request_id, spec }),
        };
        write_whole(&folder.job(), &serde_json::to_vec_pretty(&form)?)
    }

    /// Reads job.json.
    pub fn read(folder: &JobFolder) -> Result<Self, JobFileError> {
        let bytes = fs::read(folder.job()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => JobFileError::Missing,
            _ => JobFileError::Io(error),
        })?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| JobFileError::Damaged(error.to_string()))?;
        let unknown = |error: &dyn std::fmt::Display| JobFileError::Unknown(error.to_string());
        let Form { job: message, inputs, course, request } =
            serde_json::from_value(value).map_err(|error| unknown(&error))?;
        let message: v1::Job = json::from_str(&message.to_string()).map_err(|error| unknown(&error))?;
        let job = to_job(message, inputs, course).map_err(|what| unknown(&what))?;
        let request = request.map(|Request { request_id, spec }| Asked { request_id, spec });
        Ok(Self { job, request })
    }
}

/// The generation of a job as its job.json has it; None if the file is absent or damaged.
///
/// # Errors
/// The file cannot be read, so that the generation is unknown.
pub(super) fn generation_told(folder: &JobFolder) -> io::Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Glance {
        job: Told,
    }
    #[derive(Deserialize)]
    struct Told {
        generation: String,
    }
    let bytes = match fs::read(folder.job()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let glance: Option<Glance> = serde_json::from_slice(&bytes).ok();
    Ok(glance.and_then(|glance| glance.job.generation.parse().ok()))
}

/// The job that the message shows.
fn to_job(message: v1::Job, inputs: Inputs, course: Course) -> Result<Job, String> {
    // Named one by one, so that nothing that is written is forgotten here.
    let v1::Job {
        name,
        spec,
        state,
        generation,
        create_time,
        start_time,
        end_time,
        // Said anew where the job waits and lies.
        waiting_reason: _,
        progress,
        end,
        directory: _,
        attempt,
        // The course, which is kept whole, has these too.
        restarts: _,
        last_attempt_end: _,
        edits: _,
        resume_from: _,
        open_dependencies: _,
        expire_time: _,
        mirror: _,
        // It is in the inputs.
        model_outline: _,
        owner,
    } = message;
    let time = |what: &str, time: prost_types::Timestamp| {
        std::time::SystemTime::try_from(time).map_err(|error| format!("{what}: {error}"))
    };
    let state = v1::JobState::try_from(state).ok().and_then(|state| State::try_from(state).ok());
    Ok(Job {
        id: name.parse().map_err(|error| format!("name: {error}"))?,
        owner: owner.into(),
        spec: Arc::new(Spec::stored(&spec.ok_or("it has no spec")?)?),
        inputs,
        state: state.ok_or("it has no state")?,
        generation,
        attempt,
        created: time("create_time", create_time.ok_or("it has no create_time")?)?,
        started: start_time.map(|start| time("start_time", start)).transpose()?,
        ended: end_time.map(|end| time("end_time", end)).transpose()?,
        end,
        final_progress: progress,
        course,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::dataset::{Files, idx};
    use crate::job::dependency::Condition;
    use crate::job::end::StopCause;
    use crate::job::outline::{Layer, Outline};
    use crate::job::spec::data::Normalize;
    use crate::job::spec::{Data, ModelWork, example, example_work};
    use crate::job::{DataInputs, Dependency, JobId};

    fn outline() -> Outline {
        let layer = Layer { name: "fc".into(), parameters: 3, kept: 1 };
        Outline { layers: vec![layer], own_metrics: Some(vec!["accuracy".into()]) }
    }

    /// A job in which no field is as it is by default.
    fn full() -> Job {
        let files = |name: &str| {
            Files::Idx(idx::Files {
                images: format!("/{name}/i").as_str().into(),
                labels: Some(format!("/{name}/l").as_str().into()),
            })
        };
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
        let other = |condition| Dependency { job: JobId::new(SystemTime::UNIX_EPOCH, 7), condition };
        Job {
            id: "20261123-171455-k7qm".parse().unwrap(),
            owner: "alice".into(),
            spec: Arc::new(Spec {
                display_name: "all of it".into(),
                labels: [("team".to_owned(), "vision".to_owned())].into(),
                after: vec![other(Condition::Ended)],
                work: ModelWork {
                    seed: u64::MAX,
                    data: Data {
                        normalize: Some(Normalize::By { mean: vec![0.1, 0.1 + 0.2], std: vec![1e-300] }),
                        ..example_work().data
                    },
                    ..example_work()
                }
                .into(),
                ..example()
            }),
            inputs: DataInputs {
                train: files("train"),
                validation: Some(files("t10k")),
                outline: Some(outline()),
                memory_bytes: Some(1 << 30),
            }
            .into(),
            state: State::Failed,
            generation: 9,
            attempt: 2,
            created: time(1_795_454_095),
            started: Some(time(1_795_454_096)),
            ended: Some(time(1_795_454_099)),
            end: Some(v1::JobEnd {
                reason: v1::JobEndReason::KilledBySignal.into(),
                message: "signal 9".into(),
                exit_code: None,
                signal: Some(9),
                log_tail: vec!["one \u{fffd}".into(), "two".into()],
            }),
            final_progress: Some(v1::JobProgress {
                step: 7,
                examples_per_second: Some(0.1 + 0.2),
                // The second comes back as another number from a reader of JSON that is in a hurry.
                latest_scalars: [("loss/train".into(), f64::NAN), ("loss/validation".into(), 2.2882074117660522)]
                    .into(),
                ..v1::JobProgress::default()
            }),
            course: Course {
                restarts: 2,
                fruitless: 1,
                ran: Duration::from_nanos(1_500_000_001),
                waits_for: vec![other(Condition::Succeeded), other(Condition::Failed)],
                not_before: Some(time(7)),
                begins_anew: true,
                accepted_data_at: Some(7),
                stop: Some(StopCause::Pause),
                was_out_of_memory: true,
                last_end: Some(v1::JobEnd { exit_code: Some(0), ..v1::JobEnd::default() }),
                edits: Some(v1::JobEdits {
                    learning_rate: Some(0.1),
                    set: vec![v1::FieldEdit { path: "priority".into(), value: "7".into() }],
                    ..v1::JobEdits::default()
                }),
                resume_from: Some(v1::ResumePoint { step: 7, checkpoint: "jobs/a/checkpoints/step-7".into() }),
            },
        }
    }

    fn in_folder() -> (tempfile::TempDir, JobFolder) {
        let folder = tempfile::tempdir().unwrap();
        let place = JobFolder::new(folder.path().into());
        (folder, place)
    }

    #[test]
    fn every_field_comes_back_from_job_json() {
        let (_guard, folder) = in_folder();
        let asked = Asked { request_id: "r-1".into(), spec: r#"{"seed":"1"}"#.into() };
        let job_file = JobFile { job: full(), request: Some(asked) };
        job_file.write(&folder).unwrap();
        let read = JobFile::read(&folder).unwrap();
        // NaN is equal to nothing, so the words are compared.
        assert_eq!(format!("{read:#?}"), format!("{job_file:#?}"));

        let plain = Job { started: None, ended: None, end: None, final_progress: None, ..full() };
        for state in State::ALL {
            let job_file = JobFile { job: Job { state, ..plain.clone() }, request: None };
            job_file.write(&folder).unwrap();
            assert_eq!(JobFile::read(&folder).unwrap(), job_file);
        }
    }

    #[test]
    fn a_job_that_is_kept_beyond_the_calendar_has_a_job_json() {
        let (_guard, folder) = in_folder();
        let mut job = full();
        let longest = Duration::from_secs(json::LONGEST_DURATION);
        job.spec = Arc::new(Spec { ttl_after_end: Some(longest), ..example() });
        let job_file = JobFile { job, request: None };
        job_file.write(&folder).unwrap();
        assert_eq!(JobFile::read(&folder).unwrap().job.spec, job_file.job.spec);
        assert_eq!(View::of_stored(Arc::new(job_file.job)).to_proto(&folder).expire_time, None);
    }

    #[test]
    fn what_is_missing_damaged_and_unknown_is_told_apart() {
        let (_guard, folder) = in_folder();
        assert!(matches!(JobFile::read(&folder), Err(JobFileError::Missing)));
        JobFile { job: full(), request: None }.write(&folder).unwrap();
        let whole = fs::read_to_string(folder.job()).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(folder.job(), &whole[..cut]).unwrap();
            assert!(matches!(JobFile::read(&folder), Err(JobFileError::Damaged(_))), "{cut}");
        }
        fs::write(folder.job(), whole.replace("generation", "regeneration")).unwrap();
        let error = JobFile::read(&folder).unwrap_err();
        assert!(matches!(&error, JobFileError::Unknown(what) if what.contains("regeneration")), "{error}");
        fs::write(folder.job(), whole.replace("JOB_STATE_FAILED", "JOB_STATE_UNSPECIFIED")).unwrap();
        assert!(matches!(JobFile::read(&folder), Err(JobFileError::Unknown(_))));
    }
}
