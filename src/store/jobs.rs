//! Jobs in the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::Odd;
use super::requests::Asked;
use super::rows::{Encoded, columns, decode, micros};
use super::{Store, StoreError};
use crate::job::{Job, JobId, State};

/// A row and its place in the order of all jobs.
pub(super) struct Stored {
    /// Rises from job to job.
    pub(super) seq: i64,
    /// The job. A later version may have written a row that this one cannot read.
    pub(super) job: Result<Job, Odd>,
}

/// Jobs that have not ended.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The jobs whose rows cannot be read.
    pub odd: Vec<(JobId, Odd)>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only these states; empty for all.
    pub states: Vec<State>,
    /// Only jobs with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only jobs of this owner; empty for all.
    pub owner: String,
    /// Only jobs before that place; None from the newest on.
    pub before: Option<i64>,
    /// The most jobs; fewer are returned where they are large.
    pub limit: usize,
}

/// Jobs, newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins; None at the end.
    pub next: Option<i64>,
}

/// The specs of a page hold no more, in bytes as they are sent: clients take messages of 4 MB.
const MOST_PAGE_BYTES: usize = 2 << 20;

const COLUMNS: &str =
    "seq, id, state, generation, attempt, created, started, ended, spec, inputs, end, final_progress, course, owner";

impl Store {
    /// Adds a job, with the request that asked for it if that had an id.
    pub async fn insert(&self, job: impl Into<Arc<Job>>, request: Option<Asked>) -> Result<(), StoreError> {
        let job = job.into();
        self.write(move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, &job, request.as_ref())?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Changes a job whose generation has risen by one; refused where the database has another one.
    pub async fn update(&self, job: impl Into<Arc<Job>>) -> Result<(), StoreError> {
        let job = job.into();
        self.write(move |connection| {
            let row = Encoded::new(&job)?;
            let expected = job.generation - 1;
            let changed = connection.execute(
                "UPDATE job SET state = ?2, generation = ?3, attempt = ?4, started = ?5, ended = ?6, end = ?7,
                     final_progress = ?8, spec = ?9, course = ?10 WHERE id = ?1 AND generation = ?11",
                params![
                    job.id.as_str(),
                    job.state.label(),
                    job.generation as i64,
                    job.attempt,
                    job.started.map(micros),
                    job.ended.map(micros),
                    row.end,
                    row.final_progress,
                    row.spec,
                    row.course,
                    expected as i64
                ],
            )?;
            if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { id: job.id.to_string(), expected }) }
        })
        .await
    }

    /// The names of all jobs.
    pub async fn ids(&self) -> Result<BTreeSet<JobId>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT id FROM job")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            let mut found = BTreeSet::new();
            for id in rows {
                let id = id?;
                let odd = |error: &dyn std::fmt::Display| Odd::new(&id, error);
                found.insert(id.parse().map_err(|error| odd(&error))?);
            }
            Ok(found)
        })
        .await
    }

    /// Replaces the row of a job, or adds one, if the database is older than the job's folder. A
    /// request that is known already stays unchanged.
    pub async fn restore(&self, job: Job, request: Option<Asked>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let transaction = connection.transaction()?;
            let row = Encoded::new(&job)?;
            // The row keeps its place in the order of arrival.
            let sql =
                "UPDATE job SET state = ?2, generation = ?3, attempt = ?4, created = ?5, started = ?6, ended = ?7,
                         spec = ?8, inputs = ?9, end = ?10, final_progress = ?11, course = ?12, owner = ?13 WHERE id = ?1";
            if transaction.execute(sql, columns(&job, &row))? == 0 {
                insert(&transaction, &job, None)?;
            }
            if let Some(Asked { request_id, spec }) = request {
                let sql = "INSERT OR IGNORE INTO request (id, job_id, asked) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![request_id, job.id.as_str(), spec])?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// The job of that id.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM job WHERE id = ?1");
            let found = connection.query_row(&sql, [id.as_str()], |row| Ok(decode(row))).optional()?;
            Ok(found.transpose()?.map(|row| row.job).transpose()?)
        })
        .await
    }

    /// Jobs, newest first.
    pub async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.read(move |connection| {
            let marks = vec!["?"; query.states.len()].join(", ");
            let states = if query.states.is_empty() { String::new() } else { format!("AND state IN ({marks})") };
            // The names cannot hold what would end a path within JSON: they have been judged.
            let label = "AND json_extract(spec, '$.labels.\"' || ? || '\"') = ?";
            let labels = vec![label; query.labels.len()].join(" ");
            let owner = if query.owner.is_empty() { "" } else { "AND owner = ?" };
            let sql =
                format!("SELECT {COLUMNS} FROM job WHERE seq < ? {owner} {states} {labels} ORDER BY seq DESC LIMIT ?");
            let mut values: Vec<rusqlite::types::Value> = vec![query.before.unwrap_or(i64::MAX).into()];
            values.extend((!query.owner.is_empty()).then(|| query.owner.clone().into()));
            values.extend(query.states.iter().map(|state| state.label().to_owned().into()));
            for (name, value) in &query.labels {
                values.extend([name.clone().into(), value.clone().into()]);
            }
            // One more than asked for tells whether there is a next page.
            values.push((query.limit as i64 + 1).into());
            let mut rows = select(connection, &sql, rusqlite::params_from_iter(values))?;
            let mut bytes = 0;
            let fits = rows.iter().take_while(|row| {
                bytes += row.job.as_ref().map_or(0, |job| job.spec.to_proto().encoded_len());
                bytes <= MOST_PAGE_BYTES
            });
            let count = fits.count().clamp(1, query.limit.max(1));
            let next = (rows.len() > count).then(|| {
                rows.truncate(count);
                rows.last().map_or(0, |last| last.seq)
            });
            Ok(Page { jobs: readable(rows), next })
        })
        .await
    }

    /// Jobs that have not ended, oldest first, and the rows among them that cannot be read.
    pub async fn unfinished(&self) -> Result<Unfinished, StoreError> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM job WHERE state IN ('queued', 'starting', 'running', 'stopping', 'paused') ORDER BY seq"
            );
            let mut found = Unfinished::default();
            for Stored { job, .. } in select(connection, &sql, [])? {
                match job {
                    Ok(job) => found.jobs.push(job),
                    Err(odd) => found.odd.push((odd.id.parse().map_err(|_| odd.clone())?, odd)),
                }
            }
            Ok(found)
        })
        .await
    }

    /// The jobs that ended last.
    pub async fn newest_ended(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM job WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT ?1");
            Ok(readable(select(connection, &sql, [limit as i64])?))
        })
        .await
    }

    /// Ended jobs that want a copy of their results.
    pub async fn ended_with_mirror(&self) -> Result<Vec<Job>, StoreError> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM job WHERE ended IS NOT NULL AND json_extract(spec, '$.output.mirror') IS NOT NULL"
            );
            Ok(readable(select(connection, &sql, [])?))
        })
        .await
    }

    /// Ended jobs whose `ttl_after_end` is over at that time, with that duration.
    pub async fn expired(&self, now: SystemTime) -> Result<Vec<(JobId, Duration)>, StoreError> {
        self.read(move |connection| {
            // A duration is seconds with an `s` behind them in the JSON mapping.
            let sql = "SELECT id, ttl FROM (SELECT id, ended,
                           CAST(rtrim(json_extract(spec, '$.ttl_after_end'), 's') AS REAL) AS ttl FROM job)
                       WHERE ended IS NOT NULL AND ttl IS NOT NULL AND ended + 1e6 * ttl <= ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?));
            let mut found = Vec::new();
            for row in statement.query_map([micros(now)], row)? {
                let (id, ttl) = row?;
                let odd = |error: &dyn std::fmt::Display| Odd::new(&id, error);
                let ttl = Duration::try_from_secs_f64(ttl).map_err(|error| odd(&error))?;
                found.push((id.parse().map_err(|error| odd(&error))?, ttl));
            }
            Ok(found)
        })
        .await
    }

    /// Jobs in each state that has any.
    pub async fn counts(&self) -> Result<Vec<(State, u64)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT state, count(*) FROM job GROUP BY state")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            let mut counts = Vec::new();
            for row in rows {
                let (label, count) = row?;
                let odd = || Odd::new("any", &format!("the state {label:?}"));
                counts.push((State::from_label(&label).ok_or_else(odd)?, count as u64));
            }
            Ok(counts)
        })
        .await
    }

    /// Removes a job.
    pub async fn delete(&self, id: JobId) -> Result<(), StoreError> {
        self.write(move |connection| {
            // Its request goes with it.
            connection.execute("DELETE FROM job WHERE id = ?1", [id.as_str()])?;
            Ok(())
        })
        .await
    }
}

/// Adds a job, with the request that asked for it if that had an id.
pub(super) fn insert(connection: &Connection, job: &Job, request: Option<&Asked>) -> Result<(), StoreError> {
    let row = Encoded::new(job)?;
    connection.execute(
        "INSERT INTO job (id, state, generation, attempt, created, started, ended, spec, inputs, end, final_progress, course, owner)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        columns(job, &row),
    )?;
    if let Some(Asked { request_id, spec }) = request {
        let sql = "INSERT INTO request (id, job_id, asked) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![request_id, job.id.as_str(), spec])?;
    }
    Ok(())
}

/// Every job in order of arrival, with the request that made it if that had an id.
pub(super) fn all(connection: &Connection) -> Result<Vec<(Job, Option<Asked>)>, StoreError> {
    let mut statement = connection.prepare("SELECT job_id, id, asked FROM request")?;
    let requests = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, Asked { request_id: row.get(1)?, spec: row.get(2)? })))?;
    let mut requests: HashMap<String, Asked> = requests.collect::<Result<_, _>>()?;
    let rows = select(connection, &format!("SELECT {COLUMNS} FROM job ORDER BY seq"), [])?;
    let with_request = |row: Stored| {
        let job = row.job?;
        let request = requests.remove(job.id.as_str());
        Ok((job, request))
    };
    rows.into_iter().map(with_request).collect()
}

/// The jobs of the rows that can be read. Each other one is logged once.
fn readable(rows: Vec<Stored>) -> Vec<Job> {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let note = |odd: Odd| {
        if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(odd.id.clone()) {
            tracing::error!(job.id = %odd.id, "{odd}; the job is left out of lists");
        }
    };
    rows.into_iter().filter_map(|row| row.job.map_err(note).ok()).collect()
}

fn select(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Stored>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        jobs.push(decode(row)?);
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::super::rows::time;
    use super::*;
    use crate::dataset::{Files, idx};
    use crate::job::end::StopCause;
    use crate::job::spec::{ModelWork, example, example_work};
    use crate::job::{Course, DataInputs, Dependency, Spec};
    use crate::proto::v1;

    fn job(number: u32) -> Job {
        let train = Files::Idx(idx::Files { images: "/i".into(), labels: Some("/l".into()) });
        let work = ModelWork { seed: u64::MAX, ..example_work() }.into();
        Job {
            id: JobId::new(time(1_795_454_095_000_000), number),
            owner: if number.is_multiple_of(2) { "alice".into() } else { "bob".into() },
            spec: Arc::new(Spec { display_name: format!("job {number}"), work, ..example() }),
            inputs: DataInputs { train, validation: None, outline: None, memory_bytes: None }.into(),
            state: State::Queued,
            generation: 1,
            attempt: 0,
            created: time(1_795_454_095_123_456),
            started: None,
            ended: None,
            end: None,
            final_progress: None,
            course: Course::default(),
        }
    }

    #[tokio::test]
    async fn a_job_comes_back_after_the_database_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        let mut expected = job(1);
        {
            let store = Store::open(&path).unwrap();
            store.insert(expected.clone(), None).await.unwrap();
            expected.state = State::Failed;
            expected.generation = 2;
            expected.end = Some(v1::JobEnd { message: "no".into(), signal: Some(9), ..v1::JobEnd::default() });
            expected.final_progress = Some(v1::JobProgress { examples_per_second: Some(2.5), ..Default::default() });
            expected.course = Course {
                restarts: 2,
                fruitless: 1,
                ran: Duration::from_nanos(1_500_000_001),
                waits_for: vec![Dependency { job: job(7).id, condition: Default::default() }],
                not_before: Some(time(1_795_454_095_123_457)),
                begins_anew: true,
                accepted_data_at: Some(7),
                stop: Some(StopCause::Pause),
                was_out_of_memory: true,
                last_end: Some(v1::JobEnd { exit_code: Some(0), ..v1::JobEnd::default() }),
                edits: Some(v1::JobEdits { learning_rate: Some(0.1), ..v1::JobEdits::default() }),
                resume_from: Some(v1::ResumePoint { step: 7, checkpoint: "jobs/a/checkpoints/step-7".into() }),
            };
            store.update(expected.clone()).await.unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get(expected.id.clone()).await.unwrap(), Some(expected));
        assert_eq!(store.counts().await.unwrap(), [(State::Failed, 1)]);
    }

    #[tokio::test]
    async fn a_change_that_is_not_based_on_the_newest_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("torchd.db")).unwrap();
        store.insert(job(1), None).await.unwrap();
        let changed = Job { generation: 2, state: State::Starting, ..job(1) };
        store.update(changed.clone()).await.unwrap();
        assert!(matches!(store.update(changed).await, Err(StoreError::Conflict { expected: 1, .. })));
    }

    #[tokio::test]
    async fn a_page_of_large_jobs_is_shorter_and_pages_cover_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("torchd.db")).unwrap();
        // One is more than a page may hold, and is told all the same.
        for (number, bytes) in [(0, 900_000), (1, 900_000), (2, 900_000), (3, 3_000_000), (4, 10)] {
            let spec = Arc::new(Spec { mirror: Some("x".repeat(bytes)), ..example() });
            store.insert(Job { spec, ..job(number) }, None).await.unwrap();
        }
        let (mut before, mut counts) = (None, Vec::new());
        loop {
            let page = store.list(ListQuery { before, limit: 1000, ..ListQuery::default() }).await.unwrap();
            counts.push(page.jobs.len());
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(counts, [1, 1, 2, 1]);
    }

    #[tokio::test]
    async fn pages_cover_every_job_once_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("torchd.db")).unwrap();
        for number in 0..7 {
            store.insert(job(number), None).await.unwrap();
        }
        let (mut names, mut before) = (Vec::new(), None);
        loop {
            let page = store
                .list(ListQuery { states: vec![State::Queued], before, limit: 3, ..ListQuery::default() })
                .await
                .unwrap();
            names.extend(page.jobs.into_iter().map(|job| job.spec.display_name.clone()));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(names, (0..7).rev().map(|number| format!("job {number}")).collect::<Vec<_>>());
        assert_eq!(store.unfinished().await.unwrap().jobs[0].spec.display_name, "job 0");
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_hides_no_other_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        let store = Store::open(&path).unwrap();
        for number in 0..4 {
            store.insert(job(number), None).await.unwrap();
        }
        let odd = job(2).id;
        let later = "UPDATE job SET spec = json_set(spec, '$.of_a_later_version', 1) WHERE id = ?1";
        assert_eq!(Connection::open(&path).unwrap().execute(later, [odd.as_str()]).unwrap(), 1);

        let page = |before| store.list(ListQuery { before, limit: 2, ..ListQuery::default() });
        let names = |page: &Page| page.jobs.iter().map(|job| job.spec.display_name.clone()).collect::<Vec<_>>();
        let first = page(None).await.unwrap();
        assert_eq!((names(&first), first.next.is_some()), (vec!["job 3".to_owned()], true));
        let second = page(first.next).await.unwrap();
        assert_eq!((names(&second), second.next), (vec!["job 1".to_owned(), "job 0".to_owned()], None));

        let unfinished = store.unfinished().await.unwrap();
        assert_eq!((unfinished.jobs.len(), &unfinished.odd[0].0), (3, &odd));
        let refused = store.get(odd).await.unwrap_err().to_string();
        assert!(refused.contains("of_a_later_version"), "{refused}");
        assert!(super::super::look(&path).is_err());
    }

    #[test]
    fn a_database_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::TooNew { found: 99, .. })));
    }
}
