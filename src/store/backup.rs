//! A copy of the database before it is brought to a newer form, so that the version before can be
//! put back.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::StoreError;
use crate::beneath::folder_of;

/// Where the copy of a database of that form lies: `torchd.db.v1.bak`.
pub(super) fn path_of(database: &Path, form: usize) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".v{form}.bak"));
    database.with_file_name(name)
}

/// Copies the database of that form beside itself; a copy of the same form is replaced. Durable
/// when it returns.
pub(super) fn make(connection: &Connection, database: &Path, form: usize) -> Result<PathBuf, StoreError> {
    let path = path_of(database, form);
    let failed = |cause: &dyn std::fmt::Display| StoreError::Backup { path: path.clone(), cause: cause.to_string() };
    let aside = path.with_extension("bak.new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let name = aside.to_str().ok_or_else(|| failed(&"its path is no UTF-8, which SQLite needs"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(|error| failed(&error))?;
    // SQLite does not wait for the disk here.
    let made = File::open(&aside)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&aside, &path))
        .and_then(|()| File::open(folder_of(&path)))
        .and_then(|folder| folder.sync_all());
    made.map_err(|error| failed(&error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::{Store, migrations};
    use super::*;
    use crate::job::State;

    #[tokio::test]
    async fn a_database_of_an_earlier_form_is_copied_before_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        let copy = path_of(&path, 1);
        fs::write(&copy, "of an earlier attempt").unwrap();
        migrations::make_of_form(&path, 1);
        let earlier = Connection::open(&path).unwrap();
        let sql = "INSERT INTO job (seq, id, state, generation, attempt, created, spec, inputs)
                   VALUES (7, '20261123-171455-k7qm', 'failed', 4, 1, 5, '{}', '{\"train\": {\"images\": \"/i\", \"labels\": \"/l\"}, \"validation\": null}')";
        earlier.execute(sql, []).unwrap();
        drop(earlier);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.counts().await.unwrap(), [(State::Failed, 1)]);
        assert_eq!(copy.file_name().unwrap(), "torchd.db.v1.bak");
        let copied = Connection::open(&copy).unwrap();
        let form: u32 = copied.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let seq: i64 = copied.query_row("SELECT seq FROM job", [], |row| row.get(0)).unwrap();
        assert_eq!((form, seq), (1, 7));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
}
