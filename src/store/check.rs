//! Whether a file is a whole database of jobs, judged before anything is written to it.

use rusqlite::{Connection, ErrorCode};

use super::StoreError;

/// Faults that are told; more would not say more.
const MOST_FAULTS: usize = 3;

/// Refuses a database that is damaged, and a file that is no database of jobs.
pub(super) fn sound(connection: &Connection) -> Result<(), StoreError> {
    let mut faults = quick_check(connection).map_err(damaged)?;
    if faults.is_empty() {
        faults = foreign_key_check(connection).map_err(damaged)?;
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(StoreError::Damaged { what: faults.join("; ") })
}

/// The faults that SQLite finds with pages, rows and the types of values.
fn quick_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({MOST_FAULTS})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    // One text may tell of several, a line each.
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut faults: Vec<String> = found.collect::<Result<Vec<_>, _>>()?.into_iter().flat_map(lines).collect();
    faults.retain(|fault| fault != "ok" && !fault.starts_with("***"));
    faults.truncate(MOST_FAULTS);
    Ok(faults)
}

/// Rows that refer to rows that are not there.
fn foreign_key_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let found = statement.query_map([], |row| {
        let (table, parent) = (row.get::<_, String>(0)?, row.get::<_, String>(2)?);
        Ok(format!("a row of {table} refers to a row of {parent} that is not there"))
    })?;
    found.take(MOST_FAULTS).collect()
}

/// An error of SQLite that speaks of the file and not of what was asked.
pub(super) fn damaged(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        // A disk that fails is another matter: the file may be whole on the next one.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { what: error.to_string() },
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn a_row_that_refers_to_nothing_is_named() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = OFF; CREATE TABLE job (id TEXT PRIMARY KEY);
                 CREATE TABLE request (job_id TEXT REFERENCES job (id));",
            )
            .unwrap();
        sound(&connection).unwrap();
        connection.execute("INSERT INTO request VALUES ('gone')", []).unwrap();
        let words = sound(&connection).unwrap_err().to_string();
        assert!(words.contains("a row of request refers to a row of job that is not there"), "{words}");
    }

    #[test]
    fn what_is_no_whole_database_of_jobs_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        std::fs::write(&path, "Once there was a database, and it was long enough to be one of SQLite's. ".repeat(20))
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = Store::open(&path).err().unwrap();
        assert!(
            matches!(refused, StoreError::Damaged { .. }) && refused.to_string().contains("not a database"),
            "{refused}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);

        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipe (name TEXT)").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Foreign { table }) if table == "recipe"));
    }
}
