//! A database that is older than the jobs' folders because its write-ahead log was lost.

use std::fs;
use std::path::Path;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::repair::doctor;
use super::spec;

fn leaving(state_dir: &Path) -> Daemon {
    Setup::in_state(state_dir).set("jobs.cpu_slots", "9").set("shutdown.runners", "leave").start()
}

/// State and generation of a job in the database file alone; None if it has no row.
fn row(state_dir: &Path, job: &v1::Job) -> Option<(String, u64)> {
    let database = rusqlite::Connection::open(state_dir.join("torchd.db")).unwrap();
    let sql = "SELECT state, generation FROM job WHERE id = ?1";
    let id = job.name.strip_prefix("jobs/").unwrap();
    database.query_row(sql, [id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).ok()
}

/// Ends a daemon as a crash does, and removes the write-ahead log of its database.
fn crash_and_lose(daemon: Daemon) {
    let (state_dir, _guard) = daemon.crash();
    fs::remove_file(state_dir.join("torchd.db-wal")).unwrap();
    fs::remove_file(state_dir.join("torchd.db-shm")).unwrap();
}

async fn started(daemon: &Daemon, job: &v1::Job) -> i32 {
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 0)).await;
    daemon.signed(&job.name, "lock")
}

#[tokio::test]
async fn a_database_without_its_write_ahead_log_takes_what_it_lacks_from_the_folders() {
    let place = tempfile::tempdir().unwrap();
    let state_dir = place.path().join("state");
    let daemon = Setup::in_state(&state_dir).set("jobs.cpu_slots", "1").start();
    let (resumed, cancelled) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    started(&daemon, &resumed).await;
    let pause = v1::PauseJobRequest { name: resumed.name.clone() };
    daemon.jobs().await.pause_job(pause).await.unwrap();
    daemon.watch_until(&resumed.name, |job| job.state() == v1::JobState::Paused).await;
    // An orderly end writes the log into the database file.
    daemon.stop();

    let daemon = leaving(&state_dir);
    let cancel = v1::CancelJobRequest { name: cancelled.name.clone(), now: true };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let cancelled = daemon.watch_to_end(&cancelled.name).await;
    let paused_json = fs::read(daemon.job_folder(&resumed.name).join("job.json")).unwrap();
    let edits = Some(v1::JobEdits { learning_rate: Some(0.001), ..v1::JobEdits::default() });
    let resume = v1::ResumeJobRequest { name: resumed.name.clone(), edits, ..Default::default() };
    daemon.jobs().await.resume_job(resume).await.unwrap();
    daemon.watch_until(&resumed.name, |job| job.state() == v1::JobState::Running && job.attempt == 2).await;
    let asked = v1::CreateJobRequest { spec: Some(spec::endless()), request_id: "once".into() };
    let new = daemon.jobs().await.create_job(asked.clone()).await.unwrap().into_inner();
    let (told_by_rest, unusable) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    let mut pids = Vec::new();
    for job in [&resumed, &new, &told_by_rest, &unusable] {
        pids.push(started(&daemon, job).await);
    }
    let cancelled_json = fs::read(daemon.job_folder(&cancelled.name).join("job.json")).unwrap();
    crash_and_lose(daemon);
    // One job.json is as old as the row; two are damaged.
    fs::write(state_dir.join(&resumed.name).join("job.json"), paused_json).unwrap();
    fs::write(state_dir.join(&told_by_rest.name).join("job.json"), "{").unwrap();
    fs::write(state_dir.join(&unusable.name).join("job.json"), "{").unwrap();
    fs::write(state_dir.join(&unusable.name).join("spec.json"), "{").unwrap();

    let old = row(&state_dir, &cancelled).unwrap();
    assert!(old.0 == "queued" && old.1 < cancelled.generation, "the fault was not provoked: {old:?}");
    assert_eq!(row(&state_dir, &resumed).unwrap().0, "paused");
    assert_eq!([&new, &told_by_rest, &unusable].map(|job| row(&state_dir, job)), [None, None, None]);
    assert!(!pids.iter().any(|pid| is_gone(*pid)), "the runners train on");
    let (code, words) = doctor(&state_dir, &[]);
    let newer = "the folder is newer, and the next start of torchd takes the job from it";
    for line in [
        format!("{}: {newer}: job.json says cancelled", cancelled.name),
        format!("{}: its folder knows of attempt 2, and job.json and the database do not; {newer}", resumed.name),
        format!("{}: the database does not have it; {newer}", new.name),
    ] {
        assert!(code == 1 && words.contains(&line), "{line}:\n{words}");
    }

    let daemon = leaving(&state_dir);
    assert_eq!(daemon.get(&cancelled.name).await, cancelled, "it does not run again");
    assert_eq!(fs::read(daemon.job_folder(&cancelled.name).join("job.json")).unwrap(), cancelled_json);
    for (job, attempt) in [(&resumed, 2), (&new, 1), (&told_by_rest, 1)] {
        let running = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
        assert_eq!(running.attempt, attempt, "{}", job.name);
    }
    let optimizer = daemon.get(&resumed.name).await.spec.unwrap().optimizer.unwrap();
    assert_eq!(optimizer, spec::sgd(0.001, 0.5), "what the resume has changed");
    assert!(!pids[..3].iter().any(|pid| is_gone(*pid)), "the same runners");
    assert_eq!(daemon.jobs().await.create_job(asked).await.unwrap().into_inner().name, new.name);
    wait_for("the end of the runner that nobody can look after", || is_gone(pids[3]).then_some(()));
    let log = daemon.log();
    for job in [&cancelled, &resumed, &new, &told_by_rest, &unusable] {
        let id = job.name.strip_prefix("jobs/").unwrap();
        let line = log.lines().find(|line| {
            line.contains(id) && (line.contains("the database is older") || line.contains("newer than the database"))
        });
        assert!(line.is_some_and(|line| line.contains("ERROR")), "{}:\n{log}", job.name);
    }
    for job in [&resumed, &new, &told_by_rest] {
        let cancel = v1::CancelJobRequest { name: job.name.clone(), now: true };
        daemon.jobs().await.cancel_job(cancel).await.unwrap();
        assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Cancelled);
    }
    assert!(pids.iter().all(|pid| is_gone(*pid)));
    let (code, words) = doctor(&state_dir, &[]);
    let rest: Vec<_> = words.lines().filter(|line| line.starts_with('!')).collect();
    assert!(code == 1 && rest.len() == 1 && rest[0].contains(&unusable.name), "{code} {words}");
}

#[tokio::test]
async fn a_job_whose_newer_folder_cannot_be_read_is_left_alone_until_it_can() {
    let place = tempfile::tempdir().unwrap();
    let state_dir = place.path().join("state");
    let daemon = Setup::in_state(&state_dir).set("jobs.cpu_slots", "1").start();
    let ahead = daemon.create(spec::endless()).await;
    let known = daemon.create(spec::endless()).await;
    started(&daemon, &ahead).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: known.name.clone() }).await.unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: ahead.name.clone(), now: true }).await.unwrap();
    daemon.watch_to_end(&ahead.name).await;
    daemon.stop();

    let daemon = leaving(&state_dir);
    let resume = v1::ResumeJobRequest { name: known.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(resume).await.unwrap();
    let unknown = daemon.create(spec::endless()).await;
    let jobs = [&known, &unknown];
    let mut pids = Vec::new();
    for job in jobs {
        pids.push(started(&daemon, job).await);
    }
    crash_and_lose(daemon);
    assert_eq!(row(&state_dir, &known).unwrap().0, "paused", "the fault was not provoked");
    assert_eq!(row(&state_dir, &unknown), None);
    let file = |job: &v1::Job| state_dir.join(&job.name).join("job.json");
    for job in jobs {
        fs::rename(file(job), file(job).with_extension("aside")).unwrap();
        std::os::unix::fs::symlink(file(job), file(job)).unwrap();
    }

    let daemon = leaving(&state_dir);
    let words = "it is left alone, as its folder may be newer than the database and cannot be used: job.json cannot";
    daemon.watch_until(&known.name, |job| job.waiting_reason.starts_with(words)).await;
    let cancel = || v1::CancelJobRequest { name: known.name.clone(), now: true };
    let status = daemon.jobs().await.cancel_job(cancel()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    assert!(status.message().contains("Too many levels of symbolic links"), "{status:?}");
    let step = |job: &v1::Job| fs::metadata(state_dir.join(&job.name).join("journal")).unwrap().len();
    let before = jobs.map(step);
    wait_for("both to train on", || jobs.map(step).iter().zip(before).all(|(now, then)| *now > then).then_some(()));
    assert!(!pids.iter().any(|pid| is_gone(*pid)), "nobody is stopped for what cannot be read");

    for job in jobs {
        fs::remove_file(file(job)).unwrap();
        fs::rename(file(job).with_extension("aside"), file(job)).unwrap();
    }
    let taken_up = |job: &v1::Job| job.state() == v1::JobState::Running && job.waiting_reason.is_empty();
    daemon.watch_until(&known.name, taken_up).await;
    wait_for("the job that had no row", || {
        daemon
            .log()
            .lines()
            .any(|line| line.contains("can be used again") && line.contains(&unknown.name[5..]))
            .then_some(())
    });
    for (job, pid) in jobs.into_iter().zip(pids) {
        let running = daemon.watch_until(&job.name, taken_up).await;
        assert_eq!((running.attempt, daemon.signed(&job.name, "lock")), (1, pid));
    }
    daemon.jobs().await.cancel_job(cancel()).await.unwrap();
    assert_eq!(daemon.watch_to_end(&known.name).await.state(), v1::JobState::Cancelled);
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: unknown.name.clone(), now: true }).await.unwrap();
    daemon.watch_to_end(&unknown.name).await;
}

#[tokio::test]
async fn rows_of_a_later_version_are_left_alone_and_hide_no_other_job() {
    let place = tempfile::tempdir().unwrap();
    let state_dir = place.path().join("state");
    let daemon = leaving(&state_dir);
    let (ended, running) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    let cancel = |job: &v1::Job| v1::CancelJobRequest { name: job.name.clone(), now: true };
    daemon.jobs().await.cancel_job(cancel(&ended)).await.unwrap();
    daemon.watch_to_end(&ended.name).await;
    let pid = started(&daemon, &running).await;
    daemon.stop();
    let database = rusqlite::Connection::open(state_dir.join("torchd.db")).unwrap();
    let later = "UPDATE job SET spec = json_set(spec, '$.of_a_later_version', 1)";
    assert_eq!(database.execute(later, []).unwrap(), 2);
    drop(database);

    let daemon = leaving(&state_dir);
    let known = daemon.create(spec::endless()).await;
    started(&daemon, &known).await;
    let listed = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(listed.iter().map(|job| &job.name).collect::<Vec<_>>(), [&known.name]);
    let get = v1::GetJobRequest { name: ended.name.clone() };
    let status = daemon.jobs().await.get_job(get).await.unwrap_err();
    assert!(status.message().contains("of_a_later_version"), "{status:?}");
    let status = daemon.jobs().await.cancel_job(cancel(&running)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("of_a_later_version"), "{status:?}");
    // Nobody can look after its runner: that saves a checkpoint and ends.
    wait_for("the runner to end", || is_gone(pid).then_some(()));
    assert!(state_dir.join(&running.name).join("job.json").exists());
    daemon.jobs().await.cancel_job(cancel(&known)).await.unwrap();
    daemon.watch_to_end(&known.name).await;
}
