//! A job as a row of the database, in both directions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::Row;

use super::StoreError;
use super::error::Odd;
use super::jobs::Stored;
use crate::job::{Job, Spec, State};
use crate::proto::json;

/// The values of a row in the order of the table, without its place in the order of arrival.
pub(super) fn columns<'a>(job: &'a Job, row: &'a Encoded) -> impl rusqlite::Params + 'a {
    (
        job.id.as_str(),
        job.state.label(),
        job.generation as i64,
        job.attempt,
        micros(job.created),
        job.started.map(micros),
        job.ended.map(micros),
        &row.spec,
        &row.inputs,
        &row.end,
        &row.final_progress,
        &row.course,
        &*job.owner,
    )
}

/// The columns of a job that hold JSON.
pub(super) struct Encoded {
    pub(super) spec: String,
    pub(super) inputs: String,
    pub(super) end: Option<String>,
    pub(super) final_progress: Option<String>,
    pub(super) course: String,
}

impl Encoded {
    /// Writes them.
    pub(super) fn new(job: &Job) -> Result<Self, StoreError> {
        let odd = |what: String| Odd { id: job.id.to_string(), what };
        Ok(Self {
            spec: json::to_string(&job.spec.to_proto(), false).map_err(|error| odd(error.to_string()))?,
            inputs: serde_json::to_string(&job.inputs).map_err(|error| odd(error.to_string()))?,
            course: serde_json::to_string(&job.course).map_err(|error| odd(error.to_string()))?,
            end: job.end.as_ref().map(|end| json::to_string(end, false)).transpose().map_err(|e| odd(e.to_string()))?,
            final_progress: job
                .final_progress
                .as_ref()
                .map(|progress| json::to_string(progress, false))
                .transpose()
                .map_err(|error| odd(error.to_string()))?,
        })
    }
}

/// Reads a row. An error of SQLite is no word on the row.
pub(super) fn decode(row: &Row<'_>) -> Result<Stored, StoreError> {
    let job = match job(row) {
        Ok(job) => Ok(job),
        Err(StoreError::Odd(odd)) => Err(odd),
        Err(error) => return Err(error),
    };
    Ok(Stored { seq: row.get("seq")?, job })
}

fn job(row: &Row<'_>) -> Result<Job, StoreError> {
    let id: String = row.get("id")?;
    let odd = |what: &dyn std::fmt::Display| Odd::new(&id, what);
    let state: String = row.get("state")?;
    let (end, progress): (Option<String>, Option<String>) = (row.get("end")?, row.get("final_progress")?);
    let spec = json::from_str(&row.get::<_, String>("spec")?).map_err(|error| odd(&error))?;
    Ok(Job {
        id: id.parse().map_err(|error| odd(&error))?,
        owner: row.get::<_, String>("owner")?.into(),
        spec: Arc::new(Spec::stored(&spec).map_err(|error| odd(&error))?),
        inputs: serde_json::from_str(&row.get::<_, String>("inputs")?).map_err(|error| odd(&error))?,
        state: State::from_label(&state).ok_or_else(|| odd(&format!("the state {state:?}")))?,
        generation: row.get::<_, i64>("generation")? as u64,
        attempt: row.get("attempt")?,
        created: time(row.get("created")?),
        started: row.get::<_, Option<i64>>("started")?.map(time),
        ended: row.get::<_, Option<i64>>("ended")?.map(time),
        end: end.map(|text| json::from_str(&text)).transpose().map_err(|error| odd(&error))?,
        final_progress: progress.map(|text| json::from_str(&text)).transpose().map_err(|error| odd(&error))?,
        course: serde_json::from_str(&row.get::<_, String>("course")?).map_err(|error| odd(&error))?,
    })
}

/// Microseconds since 1970, the form of times in the database; 0 for earlier ones.
pub(super) fn micros(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// The time of such a number.
pub(super) fn time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.max(0) as u64)
}
