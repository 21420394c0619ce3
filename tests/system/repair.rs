//! State folders that two want, and databases that are damaged, lost or of another version.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use torchd::proto::v1;
use torchd::proto::v1::system_service_client::SystemServiceClient;
use torchd::proto::v1::token_service_client::TokenServiceClient;

use super::credentials::{Headers, over_tcp, token};
use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

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
        VALUES ('20261123-171455-k7qm', 'cancelled', 2, 0, 1795454095000000, 1795454096000000,
                '{"display_name":"of old","seed":"1","model":{"mnist_cnn":{"dropout":0.5}},
                  "data":{"train":{"idx":{"images":"i","labels":"l"}},"normalize":{"mean":[0.1307],"std":[0.3081]},"shuffle":true},
                  "training":{"epochs":1,"batch_size":64},"optimizer":{"sgd":{"learning_rate":0.01,"momentum":0.5}}}',
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

/// `torchd doctor`, as the words of a daemon that refuses to start tell it.
pub(crate) fn doctor(state_dir: &Path, flags: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchd"));
    command
        .env_clear()
        .env("TORCHD__DATA__ROOTS", "examples")
        .arg("doctor")
        .args(flags)
        .arg("--state-dir")
        .arg(state_dir);
    let output = command.args(["--config", "/dev/null"]).output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), words)
}

/// A daemon that can start nothing: jobs that wait stay as they are.
fn idle(state_dir: &Path) -> Daemon {
    let runner = state_dir.join("broken-runner");
    fs::write(&runner, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
    Setup::in_state(state_dir).set("runner.path", runner.to_str().unwrap()).start()
}

async fn list(daemon: &Daemon) -> Vec<v1::Job> {
    let mut jobs = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    // Said anew by each daemon.
    jobs.iter_mut().for_each(|job| job.waiting_reason.clear());
    jobs
}

fn one_core() -> v1::JobSpec {
    v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }
}

/// A request that can be told apart from others.
fn asked() -> v1::CreateJobRequest {
    v1::CreateJobRequest { spec: Some(one_core()), request_id: "once".into() }
}

/// A state folder with a job in each state that a job can stay in while no daemon runs.
async fn lived_in() -> (PathBuf, Option<TempDir>) {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let succeeded = daemon.jobs().await.create_job(asked()).await.unwrap().into_inner();
    let diverged = daemon.create(v1::JobSpec { optimizer: Some(spec::sgd(1e30, 0.0)), ..one_core() }).await;
    let running = daemon.create(spec::endless()).await;
    let cancelled = daemon.create(one_core()).await;
    let waiting = daemon.create(one_core()).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: cancelled.name.clone(), now: false }).await.unwrap();
    assert_eq!(daemon.watch_to_end(&succeeded.name).await.state(), v1::JobState::Succeeded);
    assert_eq!(daemon.watch_to_end(&diverged.name).await.state(), v1::JobState::Failed);
    daemon.watch_until(&running.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 5)).await;
    assert_eq!(list(&daemon).await[0].name, waiting.name);
    let (status, state_dir, guard) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    (state_dir, guard)
}

fn write_into(path: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[tokio::test]
async fn whatever_becomes_of_the_database_it_is_made_anew_from_the_job_folders() {
    let (state_dir, _guard) = lived_in().await;
    let database = state_dir.join("torchd.db");
    let daemon = idle(&state_dir);
    let before = list(&daemon).await;
    assert_eq!(before.len(), 5);
    token(&daemon, "ci", v1::Role::Viewer, "").await;
    // One that is killed may leave a log of writes, which hides damage to the pages below it.
    assert_eq!(daemon.stop().0.code(), Some(0));
    let (code, words) = doctor(&state_dir, &[]);
    assert!(code == 0 && words.contains("all is well") && words.contains("5 of 5"), "{code} {words}");

    let size = fs::metadata(&database).unwrap().len();
    let damages: [(&str, &str, &dyn Fn()); 5] = [
        ("a page", "SQLite says", &|| write_into(&database, size / 4096 / 2 * 4096, &[0xa5; 4096])),
        ("its end", "SQLite says", &|| {
            fs::OpenOptions::new().write(true).open(&database).unwrap().set_len(size / 2).unwrap();
        }),
        ("all of it", "empty", &|| fs::write(&database, "").unwrap()),
        ("its kind", "not a database", &|| fs::write(&database, "no database ".repeat(1000)).unwrap()),
        ("its name", "missing", &|| fs::remove_file(&database).unwrap()),
    ];
    for (lost, expected, damage) in damages {
        damage();
        let (code, words) = refused(Setup::in_state(&state_dir));
        let way_out = format!("`torchd doctor --repair --state-dir {}`", state_dir.display());
        for expected in [database.to_str().unwrap(), expected, &way_out] {
            assert!(code == 69 && words.contains(expected), "{lost}: {expected}: {code} {words}");
        }
        let (code, words) = doctor(&state_dir, &[]);
        assert!(code == 1 && words.contains(expected) && words.contains("1 problem\n"), "{lost}: {code} {words}");
        let (code, words) = doctor(&state_dir, &["--repair"]);
        assert!(code == 0 && words.contains("5 jobs rebuilt\n"), "{lost}: {code} {words}");
        assert_eq!(words.contains("the old database is now"), lost != "its name", "{lost}: {words}");
        assert!(
            words.contains("tokens: those that `torchctl token create` made are not in the new database"),
            "{lost}: {words}"
        );
        let daemon = idle(&state_dir);
        // A loss that is no number is equal to nothing.
        assert_eq!(format!("{:#?}", list(&daemon).await), format!("{before:#?}"), "{lost}");
        assert_eq!(daemon.stop().0.code(), Some(0));
        let (code, words) = doctor(&state_dir, &[]);
        assert!(code == 0 && words.contains("all is well"), "{lost}: {code} {words}");
    }
    let names = fs::read_dir(&state_dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_old =
        |name: &String| name.starts_with("torchd.db.corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm");
    assert_eq!(names.filter(is_old).count(), 4, "nothing is thrown away");

    let daemon = Setup::in_state(&state_dir).start();
    let again = daemon.jobs().await.create_job(asked()).await.unwrap().into_inner();
    assert_eq!(again.name, before[4].name, "the request is known");
    assert_eq!(daemon.watch_to_end(&before[0].name).await.state(), v1::JobState::Succeeded, "what waited runs");
}

#[tokio::test]
async fn a_repair_beside_a_whole_database_keeps_tokens_good_and_revoked() {
    let daemon = Setup::new().start();
    let lost = daemon.create(spec::short()).await;
    daemon.watch_to_end(&lost.name).await;
    let good = token(&daemon, "good", v1::Role::Viewer, "alice").await;
    let bad = token(&daemon, "bad", v1::Role::Admin, "").await;
    let revoke = v1::RevokeTokenRequest { name: "tokens/bad".into() };
    TokenServiceClient::new(daemon.channel().await).revoke_token(revoke).await.unwrap();
    let (_, state_dir, _guard) = daemon.stop();
    fs::remove_dir_all(state_dir.join(&lost.name)).unwrap();
    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 1 && words.contains("its folder is gone") && !words.contains("tokens: "), "{code} {words}");
    let daemon = Setup::in_state(&state_dir).start();
    let ask = async |secret: &str| {
        let mut client = SystemServiceClient::new(over_tcp(&daemon, Headers::token(secret)).await);
        let answer = client.get_caller(v1::GetCallerRequest {}).await;
        answer.map(|caller| caller.into_inner().owner).map_err(|status| super::credentials::refusal(&status).1)
    };
    assert_eq!(ask(&good).await, Ok("alice".to_owned()));
    assert_eq!(ask(&bad).await, Err("REVOKED_TOKEN".to_owned()));
}

#[tokio::test]
async fn a_job_without_its_job_json_is_told_by_the_rest_of_its_folder_and_none_is_made_up() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let done = daemon.create(one_core()).await;
    daemon.watch_to_end(&done.name).await;
    let running = daemon.create(spec::endless()).await;
    let pid = daemon.runner_pid(&running.name).await;
    let (waiting, lost) = (daemon.create(one_core()).await, daemon.create(one_core()).await);
    let (state_dir, _guard) = daemon.crash();
    let folder = |job: &v1::Job| state_dir.join(&job.name);
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let lock = folder(&running).join("lock");
    wait_for("the end of the runner", || (!torchd::journal::is_held(&lock).unwrap()).then_some(()));

    // A power cut leaves such files: of the right length, and without what was written.
    fs::write(folder(&done).join("job.json"), [0; 900]).unwrap();
    fs::remove_file(folder(&running).join("job.json")).unwrap();
    fs::remove_file(folder(&waiting).join("job.json")).unwrap();
    fs::write(folder(&lost).join("job.json"), "{").unwrap();
    fs::write(folder(&lost).join("spec.json"), "").unwrap();
    fs::write(state_dir.join("torchd.db"), "no database").unwrap();
    // It holds what the database lacks since the crash.
    fs::remove_file(state_dir.join("torchd.db-wal")).unwrap();

    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 1 && words.contains("3 jobs rebuilt\n") && words.contains("1 job not rebuilt"), "{code} {words}");
    for (job, expected) in [
        (&done, "from spec.json, now succeeded: job.json is damaged"),
        (&running, "from spec.json, now failed: job.json is missing"),
        (&waiting, "from spec.json, now queued: job.json is missing"),
        (&lost, "spec.json cannot be read either"),
    ] {
        let line = words.lines().find(|line| line.starts_with(&format!("  {}: ", job.name)));
        assert!(line.is_some_and(|line| line.contains(expected)), "{}: {expected}:\n{words}", job.name);
    }
    assert_eq!(fs::read(folder(&lost).join("job.json")).unwrap(), b"{", "what cannot be rebuilt is left as it is");

    let daemon = Setup::in_state(&state_dir).start();
    let names: Vec<_> = list(&daemon).await.into_iter().map(|job| job.name).collect();
    assert_eq!(
        names.iter().collect::<std::collections::BTreeSet<_>>(),
        [&done.name, &running.name, &waiting.name].into()
    );
    let (told, end) = (daemon.watch_to_end(&done.name).await, |job: &v1::Job| job.end.clone().unwrap());
    assert_eq!((told.state(), end(&told).reason()), (v1::JobState::Succeeded, v1::JobEndReason::Finished));
    assert_eq!(told.progress.unwrap().step, 20);
    let told = daemon.watch_to_end(&running.name).await;
    let reason = end(&told).reason();
    assert!(
        told.state() == v1::JobState::Failed
            && matches!(reason, v1::JobEndReason::Interrupted | v1::JobEndReason::KilledBySignal),
        "{reason:?}"
    );
    assert!(end(&told).message.contains("whose job.json was lost"), "{}", end(&told).message);
    assert_eq!(daemon.watch_to_end(&waiting.name).await.state(), v1::JobState::Succeeded);
    drop(daemon);
    assert!(folder(&lost).is_dir(), "a folder that is older than the database is not removed");
    let (code, words) = doctor(&state_dir, &[]);
    assert!(code == 1 && words.contains(&format!("! {}: job.json is damaged", lost.name)), "{code} {words}");
    assert!(words.contains("1 problem\n"), "{words}");
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_beside_a_daemon_and_repairs_nothing_then() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_to_end(&job.name).await;
    let (code, words) = doctor(&daemon.state_dir, &[]);
    let pid = daemon.pid();
    assert!(code == 0 && words.contains(&format!("the torchd with pid {pid} uses it")), "{code} {words}");
    assert!(words.contains("all is well"), "{words}");
    let (code, words) = doctor(&daemon.state_dir, &["--repair"]);
    assert!(code == 69 && words.contains(&format!("with pid {pid}")), "{code} {words}");
    let (_, state_dir, _guard) = daemon.stop();

    let before = fs::read(state_dir.join("torchd.db")).unwrap();
    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 0 && words.contains("nothing was changed"), "{code} {words}");
    assert_eq!(fs::read(state_dir.join("torchd.db")).unwrap(), before);

    let (code, words) = doctor(&state_dir.join("typo"), &["--repair"]);
    assert!(code == 69 && words.contains("typo"), "{code} {words}");
    assert!(!state_dir.join("typo").exists());
}

/// Gives a folder and what is in it to a user, and nothing that a link leads to.
fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

#[tokio::test]
async fn root_repairs_as_the_owner_of_the_state_and_touches_nothing_that_planted_links_lead_to() {
    if !nix::unistd::Uid::effective().is_root() {
        return eprintln!("only root can go on as another user");
    }
    let nobody = 65534;
    let daemon = Daemon::start();
    let job = daemon.create(one_core()).await;
    daemon.watch_to_end(&job.name).await;
    let (_, state_dir, guard) = daemon.stop();
    let guard = guard.unwrap();
    fs::set_permissions(guard.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = state_dir.join(&job.name);
    let outside = guard.path().join("outside");
    fs::write(&outside, "of root").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    let (lock, database) = (state_dir.join("torchd.lock"), state_dir.join("torchd.db"));
    fs::remove_file(&lock).unwrap();
    fs::write(&database, "no database").unwrap();
    // job.json and spec.json have to be written, and so has the database.
    fs::write(folder.join("job.json"), "").unwrap();
    for planted in [&lock, &folder.join(".job.json.new"), &state_dir.join("torchd.db.new-journal")] {
        symlink(&outside, planted).unwrap();
    }
    give(&state_dir, nobody);
    let untouched = || {
        let about = fs::metadata(&outside).unwrap();
        assert_eq!((about.uid(), fs::read_to_string(&outside).unwrap().as_str()), (0, "of root"));
    };
    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 69 && words.contains("Permission denied"), "{code} {words}");
    untouched();

    fs::remove_file(&lock).unwrap();
    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 0 && words.contains("1 job rebuilt\n"), "{code} {words}");
    untouched();
    for made in [&lock, &database, &folder.join("job.json")] {
        assert_eq!(fs::symlink_metadata(made).unwrap().uid(), nobody, "{}", made.display());
    }
}

#[tokio::test]
async fn what_only_the_database_knows_is_put_back_into_the_folders() {
    let daemon = Daemon::start();
    let job = daemon.jobs().await.create_job(asked()).await.unwrap().into_inner();
    let ended = daemon.watch_to_end(&job.name).await;
    let (_, state_dir, _guard) = daemon.stop();
    let mirror = state_dir.join(&job.name).join("job.json");
    let whole = fs::read(&mirror).unwrap();
    fs::write(&mirror, &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(state_dir.join(&job.name).join("spec.json")).unwrap();
    let (code, words) = doctor(&state_dir, &[]);
    assert!(code == 1 && words.contains(&format!("! {}: job.json is damaged", job.name)), "{code} {words}");
    let (code, words) = doctor(&state_dir, &["--repair"]);
    assert!(code == 0 && words.contains("from the old database: job.json is damaged"), "{code} {words}");
    let (code, words) = doctor(&state_dir, &[]);
    assert!(code == 0 && words.contains("all is well"), "{code} {words}");
    let daemon = Setup::in_state(&state_dir).start();
    let told = daemon.get(&list(&daemon).await.remove(0).name).await;
    assert_eq!((told.generation, told.end, told.progress), (ended.generation, ended.end, ended.progress));
    assert_eq!(daemon.jobs().await.create_job(asked()).await.unwrap().into_inner().name, job.name);
}
