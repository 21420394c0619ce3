//! The forms of the database. Append-only: a migration that has been released is never changed.

use rusqlite::Connection;

use super::StoreError;

/// Times are microseconds since 1970; `spec`, `end` and `final_progress` are messages of torchd.v1 in their JSON mapping.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE job (
        seq            INTEGER PRIMARY KEY AUTOINCREMENT,
        id             TEXT    NOT NULL UNIQUE,
        state          TEXT    NOT NULL,
        generation     INTEGER NOT NULL,
        attempt        INTEGER NOT NULL,
        created        INTEGER NOT NULL,
        started        INTEGER,
        ended          INTEGER,
        spec           TEXT    NOT NULL,
        inputs         TEXT    NOT NULL,
        end            TEXT,
        final_progress TEXT
    ) STRICT;
    CREATE INDEX job_by_state ON job (state, seq);
"];

/// Brings a database to the newest form.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > MIGRATIONS.len() {
        return Err(StoreError::TooNew { found, known: MIGRATIONS.len() });
    }
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as u32)?;
    transaction.commit()?;
    Ok(())
}
