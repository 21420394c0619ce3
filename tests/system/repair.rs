//! State folders that two want, and databases that are damaged, lost or of another version.

use std::fs;
use std::path::Path;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};

/// The exit code and the words of a daemon that should not start.
fn refused(setup: Setup) -> (i32, String) {
    let output = setup.run();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_daemon_names_the_process_of_the_first() {
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let (code, words) = refused(Setup::in_state(&daemon.state_dir));
    assert!(code == 69 && words.contains(&format!("another torchd uses it, with pid {pid};")), "{code} {words}");
    let lock = daemon.state_dir.join("torchd.lock");
    assert!(torchd::journal::is_held(&lock).unwrap());

    let (state_dir, _guard) = daemon.crash();
    assert!(!torchd::journal::is_held(&lock).unwrap(), "a daemon that is gone holds nothing");
    let (status, _, _) = Setup::in_state(&state_dir).start().stop();
    assert_eq!(status.code(), Some(0));
}

/// A database of the first form, as the first version left it, with one job that has ended.
fn database_of_form_1(state_dir: &Path) {
    fs::create_dir_all(state_dir).unwrap();
    let connection = rusqlite::Connection::open(state_dir.join("torchd.db")).unwrap();
    let sql = r#"
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
        INSERT INTO job (id, state, generation, attempt, created, ended, spec, inputs, end)
        VALUES ('20261123-171455-k7qm', 'cancelled', 2, 0, 1795454095000000, 1795454096000000, '{"display_name":"of old"}',
                '{"train":{"images":"/i","labels":"/l"},"validation":null}', '{"reason":"JOB_END_REASON_CANCELLED"}');
        PRAGMA user_version = 1;
    "#;
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_copied_and_brought_to_the_newest_form() {
    let folder = tempfile::tempdir().unwrap();
    database_of_form_1(folder.path());
    let daemon = Setup::in_state(folder.path()).start();
    let jobs = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!((jobs.len(), jobs[0].spec.as_ref().unwrap().display_name.as_str()), (1, "of old"));
    assert!(daemon.log().contains("the database gets a newer form"), "{}", daemon.log());
    let copy = rusqlite::Connection::open(folder.path().join("torchd.db.v1.bak")).unwrap();
    let form: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let id: String = copy.query_row("SELECT id FROM job", [], |row| row.get(0)).unwrap();
    assert_eq!((form, id.as_str()), (1, "20261123-171455-k7qm"));
}

#[test]
fn a_database_of_a_later_version_is_refused_by_name() {
    let (_, state_dir, _guard) = Daemon::start().stop();
    let database = state_dir.join("torchd.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 4711).unwrap();
    let (code, words) = refused(Setup::in_state(&state_dir));
    assert!(code == 69 && words.contains(database.to_str().unwrap()) && words.contains("form 4711"), "{code} {words}");
    assert!(words.contains("start the version that wrote it") && !words.contains("--repair"), "{words}");
}
