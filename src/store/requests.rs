//! Requests that clients gave ids, and the jobs that they have made.

use rusqlite::{OptionalExtension, Row};

use super::error::Odd;
use super::{Store, StoreError};
use crate::job::JobId;

/// A request that can be told apart from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The id that the client gave it.
    pub request_id: String,
    /// The spec as it was asked for, in its JSON mapping.
    pub spec: String,
}

impl Store {
    /// The job that a request of that id has made, and the spec that it asked for.
    pub async fn requested(&self, request_id: String) -> Result<Option<(JobId, String)>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT job_id, asked FROM request WHERE id = ?1";
            let row = connection.query_row(sql, [&request_id], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
            let Some((id, asked)) = row.optional()? else { return Ok(None) };
            let odd = |error: &dyn std::fmt::Display| Odd::new(&id, error);
            Ok(Some((id.parse().map_err(|error| odd(&error))?, asked)))
        })
        .await
    }

    /// The request that made a job, if that had an id.
    pub async fn request_of(&self, id: JobId) -> Result<Option<Asked>, StoreError> {
        self.read(move |connection| {
            let sql = "SELECT id, asked FROM request WHERE job_id = ?1";
            let asked = |row: &Row<'_>| Ok(Asked { request_id: row.get(0)?, spec: row.get(1)? });
            Ok(connection.query_row(sql, [id.as_str()], asked).optional()?)
        })
        .await
    }
}
