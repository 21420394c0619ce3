//! The machine lacks descriptors, a program, or room for files for a moment: nothing is declared
//! that cannot be known, no job fails for it, and all goes on by itself.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tonic::transport::Channel;
use tonic_types::StatusExt;
use torchd::journal::{JobFolder, JournalTail};
use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;

use super::crash::odd_runner;
use super::daemon::{Daemon, LIMIT, Setup, is_gone, wait_for};
use super::spec;

/// A daemon that may have less than before, until this is dropped.
struct Exhausted {
    pid: Pid,
    resource: Resource,
    before: Rlimit,
}

impl Exhausted {
    fn limit(daemon: &Daemon, resource: Resource, current: Option<u64>) -> Self {
        let pid = Pid::from_raw(daemon.pid() as i32).unwrap();
        let maximum = getrlimit(resource).maximum;
        let before = prlimit(Some(pid), resource, Rlimit { current, maximum }).unwrap();
        Self { pid, resource, before }
    }

    /// A daemon that gets no further descriptor.
    fn descriptors(daemon: &Daemon) -> Self {
        let look = || -> BTreeSet<u64> {
            let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
            entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
        };
        // Some are held for a moment only, as when a lock is asked: they would be free again.
        let mut held = look();
        for _ in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            held = held.intersection(&look()).copied().collect();
        }
        // The limit is one on their numbers, of which the lowest that is free is given out first.
        Self::limit(daemon, Resource::Nofile, (0..).find(|number| !held.contains(number)))
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        prlimit(Some(self.pid), self.resource, self.before).unwrap();
    }
}

/// Asks for a job until it is as wanted. A watch would need a descriptor for the journal.
async fn until(client: &mut JobServiceClient<Channel>, name: &str, is_wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
    let begun = Instant::now();
    loop {
        let job = client.get_job(v1::GetJobRequest { name: name.into() }).await.unwrap().into_inner();
        if is_wanted(&job) {
            return job;
        }
        assert!(begun.elapsed() < LIMIT, "it did not get there: {job:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_training(job: &v1::Job) -> bool {
    job.state() == v1::JobState::Running && job.progress.as_ref().is_some_and(|progress| progress.step > 5)
}

#[tokio::test]
async fn a_queue_outlasts_a_moment_without_descriptors_and_requests_are_put_off() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let retry = v1::Retry {
        max_restarts: 1,
        initial_backoff: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..v1::Retry::default()
    };
    let waits = daemon.create(v1::JobSpec { retry: Some(retry), ..spec::endless() }).await;
    daemon.watch_until(&waits.name, is_training).await;
    let mut client = daemon.jobs().await;
    daemon.kill_runner(&waits.name);
    until(&mut client, &waits.name, |job| job.waiting_reason.contains("restart 1 of 1 follows")).await;

    let exhausted = Exhausted::descriptors(&daemon);
    let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let status = client.create_job(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some(), "{status:?}");
    assert!(status.message().contains("-ubyte.gz\" cannot be read: Too many open files"), "{status:?}");
    let held = until(&mut client, &waits.name, |job| job.waiting_reason.contains("Too many open files")).await;
    assert_eq!((held.state(), held.attempt), (v1::JobState::Queued, 1), "{held:?}");
    drop(exhausted);
    let again = until(&mut client, &waits.name, |job| job.attempt > 1 && is_training(job)).await;
    assert_eq!(again.restarts, 1, "no restart was spent");
}

#[tokio::test]
async fn jobs_wait_while_the_runner_is_not_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let runner = odd_runner(folder.path(), &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_torchd-runner")));
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).set("jobs.cpu_slots", "2").start();
    daemon
        .jobs()
        .await
        .validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false })
        .await
        .unwrap();
    let away = folder.path().join("away");
    fs::rename(&runner, &away).unwrap();
    let short = || v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() };
    let jobs = [daemon.create(short()).await, daemon.create(short()).await, daemon.create(short()).await];
    for job in &jobs {
        let words = "the machine cannot start a runner now";
        let held = daemon.watch_until(&job.name, |job| job.waiting_reason.starts_with(words)).await;
        assert!(held.waiting_reason.contains("odd-runner cannot be started: No such file"), "{}", held.waiting_reason);
        assert_eq!(held.state(), v1::JobState::Queued);
    }
    // A user may still take it off the machine.
    let cancel = v1::CancelJobRequest { name: jobs[2].name.clone(), now: false };
    assert_eq!(daemon.jobs().await.cancel_job(cancel).await.unwrap().into_inner().state(), v1::JobState::Cancelled);
    fs::rename(&away, &runner).unwrap();
    for job in &jobs[..2] {
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!((ended.state(), ended.restarts), (v1::JobState::Succeeded, 0), "{:?}", ended.end);
    }
}

#[tokio::test]
async fn adopted_runners_outlast_a_daemon_that_can_look_at_nothing_for_a_while() {
    let daemon = Setup::new().set("shutdown.runners", "leave").start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, is_training).await;
    let runner = daemon.signed(&job.name, "lock");
    let (state, _guard) = daemon.crash();

    let daemon = Setup::in_state(&state).start();
    daemon.watch_until(&job.name, is_training).await;
    let mut client = daemon.jobs().await;
    // Answered once the runner has been asked what it finds: the pipes to it are closed then.
    client.validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false }).await.unwrap();
    until(&mut client, &job.name, |job| job.waiting_reason.is_empty()).await;
    for _ in 0..2 {
        let exhausted = Exhausted::descriptors(&daemon);
        let words = "whether the runner still lives cannot be told: Too many open files";
        let doubted = until(&mut client, &job.name, |job| job.waiting_reason.starts_with(words)).await;
        assert_eq!(doubted.state(), v1::JobState::Running);
        drop(exhausted);
        until(&mut client, &job.name, |job| job.waiting_reason.is_empty()).await;
    }

    // Requests of this time are carried out as soon as that can be done, and in order.
    let exhausted = Exhausted::descriptors(&daemon);
    client.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    until(&mut client, &job.name, |job| {
        job.state() == v1::JobState::Stopping && job.waiting_reason.contains("Too many open files")
    })
    .await;
    assert!(!is_gone(runner));
    drop(exhausted);
    let paused = until(&mut client, &job.name, |job| job.state() == v1::JobState::Paused).await;
    let end = paused.last_attempt_end.unwrap();
    assert!(end.message.contains("stopped after the step in hand"), "{end:?}");
    assert!(is_gone(runner) && paused.resume_from.unwrap().step > 5 && paused.attempt == 1);
}

#[tokio::test]
async fn a_job_whose_checkpoints_cannot_be_listed_waits_and_others_do_not() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").start();
    let both = |spec| v1::JobSpec { resources: Some(spec::threads(2)), ..spec };
    let job = daemon.create(both(spec::endless())).await;
    daemon.watch_until(&job.name, is_training).await;
    let behind = daemon.create(both(spec::short())).await;
    let runner = nix::unistd::Pid::from_raw(daemon.signed(&job.name, "lock"));
    kill(runner, Signal::SIGSTOP).unwrap();
    let checkpoints = daemon.job_folder(&job.name).join("checkpoints");
    let aside = checkpoints.with_extension("aside");
    fs::rename(&checkpoints, &aside).unwrap();
    std::os::unix::fs::symlink(&checkpoints, &checkpoints).unwrap();
    // Lost, with nobody to see how.
    kill(nix::unistd::Pid::from_raw(daemon.signed(&job.name, "shim")), Signal::SIGKILL).unwrap();
    kill(runner, Signal::SIGKILL).unwrap();

    let words = "it could not be started and will be tried again";
    let waits = daemon.watch_until(&job.name, |job| job.waiting_reason.starts_with(words)).await;
    assert!(waits.waiting_reason.contains("Too many levels of symbolic links"), "{}", waits.waiting_reason);
    assert_eq!((waits.state(), waits.attempt), (v1::JobState::Queued, 1));
    assert_eq!(daemon.watch_to_end(&behind.name).await.state(), v1::JobState::Succeeded);
    let text = fs::read(daemon.job_folder(&job.name).join("job.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(file["course"]["fruitless"], 0, "whether it has saved anything is not known: {file}");
    fs::remove_file(&checkpoints).unwrap();
    fs::rename(&aside, &checkpoints).unwrap();
    daemon.watch_until(&job.name, |job| job.attempt == 2 && is_training(job)).await;
}

#[tokio::test]
async fn a_request_is_put_off_where_the_machine_cannot_even_ask_the_runner() {
    let folder = tempfile::tempdir().unwrap();
    let runner = folder.path().join("runner");
    fs::write(&runner, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&runner, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).start();
    let mut client = daemon.jobs().await;
    let request = || v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let refused = client.create_job(request()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "it does not work: {refused:?}");
    let exhausted = Exhausted::limit(&daemon, Resource::Nofile, Some(3));
    let begun = Instant::now();
    let put_off = loop {
        let status = client.create_job(request()).await.unwrap_err();
        // The runner that did not work may be told a little longer.
        if status.message().contains("cannot be started: Too many open files") {
            break status;
        }
        assert!(begun.elapsed() < LIMIT, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(put_off.code(), tonic::Code::ResourceExhausted, "{put_off:?}");
    assert!(put_off.get_details_retry_info().unwrap().retry_delay.is_some(), "{put_off:?}");
    drop(exhausted);
}

/// The length of a job's journal.
fn told(daemon: &Daemon, job: &v1::Job) -> u64 {
    fs::metadata(daemon.job_folder(&job.name).join("journal")).unwrap().len()
}

#[tokio::test]
async fn a_runner_that_the_daemon_cannot_hear_is_not_taken_for_silent() {
    let daemon = Setup::new().start();
    let stall_timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let retry = v1::Retry { stall_timeout, ..v1::Retry::default() };
    let job = daemon.create(v1::JobSpec { retry: Some(retry), ..spec::endless() }).await;
    daemon.watch_until(&job.name, is_training).await;
    let mut client = daemon.jobs().await;

    // The daemon opens the journal anew after each look at a record that is not there whole.
    let runner = nix::unistd::Pid::from_raw(daemon.signed(&job.name, "lock"));
    let journal = daemon.job_folder(&job.name).join("journal");
    let is_open = || {
        let held = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        held.filter_map(|held| fs::read_link(held.unwrap().path()).ok()).any(|held| held == journal)
    };
    assert!(is_open());
    kill(runner, Signal::SIGSTOP).unwrap();
    let whole = told(&daemon, &job);
    fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(&fs::read(&journal).unwrap()[..8]).unwrap();
    wait_for("a look at half a record", || (!is_open()).then_some(()));
    let exhausted = Exhausted::limit(&daemon, Resource::Nofile, Some(3));
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(whole).unwrap();
    kill(runner, Signal::SIGCONT).unwrap();
    let words = "the journal cannot be read: Too many open files";
    until(&mut client, &job.name, |job| job.waiting_reason.starts_with(words)).await;

    // It trains for longer than it may be silent.
    let mut tail = JournalTail::new(JobFolder::new(daemon.job_folder(&job.name)));
    let mut last = || tail.read(usize::MAX).unwrap().last().map(|record| record.time.unwrap().seconds);
    let begun = wait_for("a record", &mut last);
    wait_for("records of more than 2 s", || last().filter(|time| *time > begun + 3));
    let deaf = client.get_job(v1::GetJobRequest { name: job.name.clone() }).await.unwrap().into_inner();
    assert!(deaf.waiting_reason.starts_with(words), "the fault was not provoked: {deaf:?}");
    assert_eq!(deaf.state(), v1::JobState::Running);
    drop(exhausted);
    let heard = until(&mut client, &job.name, |job| job.waiting_reason.is_empty()).await;
    assert_eq!((heard.state(), heard.attempt), (v1::JobState::Running, 1));
    let step = heard.progress.unwrap().step;
    until(&mut client, &job.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > step)).await;
}

#[tokio::test]
async fn a_runner_whose_order_cannot_be_read_is_looked_after_and_keeps_its_part_of_the_machine() {
    let start = |state: &std::path::Path| {
        Setup::in_state(state).set("jobs.cpu_slots", "2").set("shutdown.runners", "leave").start()
    };
    let state = tempfile::tempdir().unwrap();
    let daemon = start(state.path());
    let both = |spec| v1::JobSpec { resources: Some(spec::threads(2)), ..spec };
    let job = daemon.create(both(spec::endless())).await;
    let runs = daemon.watch_until(&job.name, is_training).await;
    let runner = daemon.signed(&job.name, "lock");
    let order = daemon.job_folder(&job.name).join("attempts/1.json");
    let aside = order.with_extension("aside");
    daemon.crash();
    fs::rename(&order, &aside).unwrap();
    // Not that it is gone: that it cannot be read.
    fs::create_dir(&order).unwrap();

    let daemon = start(state.path());
    let words = "its order cannot be read: Is a directory";
    let step = |job: &v1::Job| job.progress.as_ref().map(|progress| progress.step);
    let trains_on = |job: &v1::Job| step(job) > step(&runs) && job.waiting_reason.contains(words);
    assert_eq!(daemon.watch_until(&job.name, trains_on).await.attempt, 1);
    let other = daemon.create(both(spec::short())).await;
    assert_eq!(other.waiting_reason, "needs 2 of the machine's 2 CPU slots, 0 are free");
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["doctor", "--config", "/dev/null", "--state-dir"])
        .arg(state.path())
        .output()
        .unwrap();
    let told = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{told}");
    assert!(told.contains("the order of attempt 1 cannot be read: Is a directory"), "{told}");
    assert!(told.contains("`torchctl cancel` ends it") && !told.contains("--repair"), "{told}");
    fs::remove_dir(&order).unwrap();
    fs::rename(&aside, &order).unwrap();
    daemon.watch_until(&job.name, |job| job.waiting_reason.is_empty()).await;
    assert_eq!(daemon.get(&other.name).await.state(), v1::JobState::Queued);

    // For good.
    daemon.crash();
    fs::write(&order, "").unwrap();
    let daemon = start(state.path());
    let adopted = daemon.watch_until(&job.name, |job| job.waiting_reason.contains("its order cannot be read")).await;
    assert_eq!((adopted.state(), adopted.attempt), (v1::JobState::Running, 1));
    assert_eq!(daemon.get(&other.name).await.state(), v1::JobState::Queued);
    let cancel = v1::CancelJobRequest { name: job.name.clone(), now: false };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert!(ended.state() == v1::JobState::Cancelled && is_gone(runner), "{:?}", ended.end);
    assert_eq!(daemon.watch_to_end(&other.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_daemon_outlasts_files_that_may_not_grow() {
    let daemon = Setup::new().start();
    daemon
        .jobs()
        .await
        .validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false })
        .await
        .unwrap();
    let limited = Exhausted::limit(&daemon, Resource::Fsize, Some(100));
    let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let status = daemon.jobs().await.create_job(request).await.unwrap_err();
    assert!(status.message().contains("File too large"), "{status:?}");
    assert_eq!(daemon.page("/healthz").0, 200);
    drop(limited);
    let job = daemon.create(v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
}
