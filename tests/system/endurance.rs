//! Faults around the daemon, and its reaction: no job is lost, and none stands still for ever.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1;

use super::daemon::{Setup, is_gone, wait_for};
use super::{spec, tools};

#[tokio::test]
async fn a_daemon_whose_log_nobody_reads_goes_on() {
    let daemon = Setup::new().unread().start();
    for _ in 0..2 {
        let job = daemon.create(spec::short()).await;
        assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    }
}

#[tokio::test]
async fn what_a_locked_database_refuses_is_told_to_it_later() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let running = daemon.create(spec::endless()).await;
    let mut next = spec::short();
    next.resources = Some(spec::threads(1));
    let waiting = daemon.create(next).await;
    let pid = daemon.runner_pid(&running.name).await;

    let database = rusqlite::Connection::open(daemon.state_dir.join("torchd.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    daemon.watch_until(&running.name, |job| job.waiting_reason.contains("on its way into the database")).await;
    assert_eq!(daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs.len(), 2);
    wait_for("the refusal", || daemon.log().contains("will be tried again").then_some(()));
    let delete = v1::DeleteJobRequest { name: running.name.clone() };
    let refusal = daemon.jobs().await.delete_job(delete.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition, "{refusal}");
    database.execute_batch("ROLLBACK").unwrap();

    let ended = daemon.watch_to_end(&running.name).await;
    assert_eq!(ended.end.unwrap().reason(), v1::JobEndReason::KilledBySignal);
    assert_eq!(daemon.watch_to_end(&waiting.name).await.state(), v1::JobState::Succeeded);
    daemon.jobs().await.delete_job(delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_folder_was_removed_does_not_keep_the_daemon_from_starting() {
    let daemon = Setup::new().start();
    let job = daemon.create(spec::endless()).await;
    let pid = daemon.runner_pid(&job.name).await;
    let folder = daemon.job_folder(&job.name);
    let (state_dir, _guard) = daemon.crash();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // The shim may be writing down how its runner has ended.
    tokio::task::block_in_place(|| wait_for("the removal", || fs::remove_dir_all(&folder).ok()));
    let daemon = Setup::in_state(&state_dir).start();
    let get = v1::GetJobRequest { name: job.name };
    let end = daemon.jobs().await.get_job(get).await.unwrap().into_inner().end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Interrupted);
    assert!(end.message.contains("folder cannot be used"), "{}", end.message);
}

#[tokio::test]
async fn jobs_wait_for_a_runner_that_does_not_work_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mended) = (folder.path().join("runner"), folder.path().join("mended"));
    let script = |broken: &str| {
        let runner = env!("CARGO_BIN_EXE_torchd-runner");
        fs::write(&path, format!("#!/bin/sh\n[ -e {} ] && exec {runner} \"$@\"\n{broken}\n", mended.display()))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script(&format!("[ \"$1\" = probe ] && exec {} probe\nexec sleep 1000", env!("CARGO_BIN_EXE_torchd-runner")));
    let daemon = Setup::new().set("runner.path", path.to_str().unwrap()).set("jobs.cpu_slots", "1").start();
    let resources = Some(spec::threads(1));
    daemon.create(v1::JobSpec { resources, ..spec::short() }).await;
    let waiting = daemon.create(v1::JobSpec { resources, ..spec::short() }).await;
    let (_, state_dir, _guard) = daemon.stop();

    script("echo 'libtorch_cpu.so: cannot open shared object file' >&2; exit 127");
    let daemon = Setup::in_state(&state_dir).set("runner.path", path.to_str().unwrap()).start();
    let held = daemon.watch_until(&waiting.name, |job| job.waiting_reason.contains("libtorch_cpu.so")).await;
    assert_eq!(held.state(), v1::JobState::Queued);
    fs::write(&mended, "").unwrap();
    assert_eq!(daemon.watch_to_end(&waiting.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_job_is_watched_from_the_moment_that_it_is_listed() {
    let daemon = Setup::new().start();
    let mut jobs = daemon.jobs().await;
    let mut watched = std::collections::HashSet::new();
    let created = tokio::spawn({
        let mut jobs = daemon.jobs().await;
        async move {
            for _ in 0..8 {
                jobs.create_job(v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() })
                    .await
                    .unwrap();
            }
        }
    });
    while watched.len() < 8 {
        for job in jobs.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs {
            if watched.insert(job.name.clone()) {
                let watch = v1::WatchJobRequest { name: job.name, after_sequence: 0, ..Default::default() };
                let mut stream = jobs.watch_job(watch).await.unwrap().into_inner();
                stream.message().await.unwrap().unwrap();
            }
        }
    }
    created.await.unwrap();
}

#[test]
fn a_terminal_that_is_closed_ends_the_daemon_in_order_and_another_hangup_does_not() {
    if !tools::is_there("script", "apt-get install bsdutils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (state, ready, log) = (place.path().join("state"), place.path().join("ready"), place.path().join("log"));
    // `script` gives it a terminal, which goes with `script`.
    let command = format!(
        "exec {} --config /dev/null --grpc-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --state-dir {} --ready-file {} 2>{}",
        env!("CARGO_BIN_EXE_torchd"),
        state.display(),
        ready.display(),
        log.display()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut script = script.spawn().unwrap();
    let told: serde_json::Value = wait_for("the ready file", || serde_json::from_slice(&fs::read(&ready).ok()?).ok());
    let pid = i32::try_from(told["pid"].as_i64().unwrap()).unwrap();
    let words = || fs::read_to_string(&log).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    wait_for("the hangup", || words().contains("there are no certificates to be read again").then_some(()));
    script.kill().unwrap();
    script.wait().unwrap();
    wait_for("the end of torchd", || is_gone(pid).then_some(()));
    assert!(words().contains("the terminal is gone") && words().contains("torchd has shut down"), "{}", words());
}

#[tokio::test]
async fn a_job_whose_folder_is_removed_while_it_runs_is_over_with_its_runner() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").set("shutdown.runners", "leave").start();
    let (moved, removed) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    let mut processes = Vec::new();
    for job in [&moved, &removed] {
        daemon.runner_pid(&job.name).await;
        processes.extend([daemon.signed(&job.name, "lock"), daemon.signed(&job.name, "shim")]);
    }
    let is_told = |job: &v1::Job, processes: &[i32]| {
        let end = job.end.clone().unwrap();
        assert_eq!((job.state(), end.reason()), (v1::JobState::Failed, v1::JobEndReason::Interrupted));
        assert!(end.message.contains("somebody has removed"), "{}", end.message);
        assert!(is_gone(processes[0]), "before the job is told to be over");
        wait_for("the end of the shim", || is_gone(processes[1]).then_some(()));
    };
    fs::rename(daemon.job_folder(&moved.name), daemon.state_dir.join("moved")).unwrap();
    is_told(&daemon.watch_to_end(&moved.name).await, &processes[..2]);
    // By a daemon that has not started it, too.
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    daemon.watch_until(&removed.name, |job| job.state() == v1::JobState::Running).await;
    fs::rename(daemon.job_folder(&removed.name), daemon.state_dir.join("removed")).unwrap();
    fs::remove_dir_all(daemon.state_dir.join("removed")).unwrap();
    is_told(&daemon.watch_to_end(&removed.name).await, &processes[2..]);
    assert_eq!(daemon.watch_to_end(&daemon.create(spec::short()).await.name).await.state(), v1::JobState::Succeeded);
}
