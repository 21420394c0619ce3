//! Jobs in the database by their owners.

use super::{Store, StoreError};
use crate::job::JobId;

impl Store {
    /// The jobs of an owner.
    pub async fn ids_of(&self, owner: String) -> Result<Vec<JobId>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare("SELECT id FROM job WHERE owner = ?1")?;
            let rows = statement.query_map([&owner], |row| row.get::<_, String>(0))?;
            // A row of a later version may have a name that this one cannot read.
            Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(|id| id.parse().ok()).collect())
        })
        .await
    }
}
