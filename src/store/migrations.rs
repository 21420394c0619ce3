//! The forms of the database. Append-only: a migration that has been released is never changed.

use rusqlite::{Connection, OptionalExtension};

use super::StoreError;

/// Times are microseconds since 1970; `spec`, `end`, `final_progress` and `asked` are messages of
/// torchd.v1 in their JSON mapping.
const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    CREATE TABLE request (
        id     TEXT NOT NULL PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE REFERENCES job (id) ON DELETE CASCADE,
        asked  TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // The course of a job, which it carries from one attempt to the next, as JSON.
    "
    ALTER TABLE job ADD COLUMN course TEXT NOT NULL DEFAULT '{}';
",
    // Tokens by the hashes of their secrets, and the owner of a job: empty for one of an earlier
    // version.
    "
    CREATE TABLE token (
        name    TEXT    NOT NULL PRIMARY KEY,
        hash    TEXT    NOT NULL,
        role    TEXT    NOT NULL,
        owner   TEXT    NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        revoked INTEGER
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE job ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    CREATE INDEX job_by_owner ON job (owner, seq);
",
];

/// The newest form.
pub(super) const NEWEST: usize = MIGRATIONS.len();

/// The form of a database, 0 where it holds nothing yet; refused where it is not ours or of a later
/// version.
pub(super) fn form(connection: &Connection) -> Result<usize, StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > NEWEST {
        return Err(StoreError::TooNew { found, known: NEWEST });
    }
    if found == 0 {
        let first = "SELECT name FROM sqlite_schema ORDER BY name LIMIT 1";
        if let Some(table) = connection.query_row(first, [], |row| row.get(0)).optional()? {
            return Err(StoreError::Foreign { table });
        }
    }
    Ok(found)
}

/// Brings a database to the newest form.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found = form(&transaction)?;
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST as u32)?;
    transaction.commit()?;
    Ok(())
}

/// Makes a database as an earlier version left it.
#[cfg(test)]
pub(super) fn make_of_form(path: &std::path::Path, form: usize) {
    let connection = Connection::open(path).unwrap();
    for migration in &MIGRATIONS[..form] {
        connection.execute_batch(migration).unwrap();
    }
    connection.pragma_update(None, "user_version", form as u32).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_each_earlier_form_is_brought_to_the_newest_and_keeps_its_jobs() {
        for earlier in 1..MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            for migration in &MIGRATIONS[..earlier] {
                connection.execute_batch(migration).unwrap();
            }
            connection.pragma_update(None, "user_version", earlier as u32).unwrap();
            let job = "INSERT INTO job (id, state, generation, attempt, created, spec, inputs)
                       VALUES ('a', 'queued', 1, 0, 1, '{}', '{}')";
            connection.execute(job, []).unwrap();
            apply(&mut connection).unwrap();
            let jobs: u32 = connection.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).unwrap();
            let form: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!((jobs, form as usize), (1, MIGRATIONS.len()), "from {earlier}");
            connection.execute("INSERT INTO request (id, job_id, asked) VALUES ('r', 'a', '{}')", []).unwrap();
        }
    }
}
