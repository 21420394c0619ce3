//! The ends of jobs that others wait for: recorded once, whatever becomes of the daemon, the job
//! and the database.

use std::fs;

use torchd::proto::v1::{self, DependencyCondition as Condition, JobEndReason, JobState};

use super::daemon::{Setup, wait_for};
use super::dependencies::{Gates, after, delete, failed_by, pause, program, resume, running, succeeds, then};

#[tokio::test]
async fn an_end_that_a_crash_kept_from_being_recorded_is_recorded_by_the_next_daemon() {
    // Commits: the first job is assigned, started and ended; then ends are recorded.
    for point in ["end-unrecorded", "end-unrecorded:2", "job-committed:3", "job-committed:4", "job-committed:5"] {
        let gates = Gates::new();
        let mut daemon = gates.setup(Setup::new(), "1").env("TORCHD_FAULT", point).start();
        let first = daemon.create(gates.program("first", 0)).await;
        let good = daemon.create(then(&[(&first, Condition::Succeeded)])).await;
        let bad = daemon.create(then(&[(&first, Condition::Failed)])).await;
        let last = daemon.create(then(&[(&bad, Condition::Failed), (&good, Condition::Succeeded)])).await;
        gates.open("first");
        daemon.wait();
        let log = daemon.log();
        assert!(log.contains("[fault: dies at"), "{point}: {log}");
        let (state, _guard) = daemon.crash();
        let daemon = gates.setup(Setup::in_state(&state), "1").start();
        for job in [&first, &good, &last] {
            succeeds(&daemon, job).await;
        }
        failed_by(&daemon, &bad, &first).await;
    }
}

#[tokio::test]
async fn an_end_that_was_recorded_holds_whatever_becomes_of_the_other_job() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let first = daemon.create(gates.program("first", 0)).await;
    let other = daemon.create(gates.program("other", 0)).await;
    let waits = daemon.create(then(&[(&first, Condition::Succeeded), (&other, Condition::Succeeded)])).await;
    let mut resumed = after(gates.program("resumed", 0), &[(&first, Condition::Succeeded)]);
    resumed.retry =
        Some(v1::Retry { max_restarts: 1, initial_backoff: Some(Default::default()), ..Default::default() });
    resumed.priority = 1;
    let resumed = daemon.create(resumed).await;
    gates.open("first");
    succeeds(&daemon, &first).await;
    let one_open = |job: &v1::Job| job.open_dependencies.len() == 1;
    let job = daemon.watch_until(&waits.name, one_open).await;
    assert_eq!(job.open_dependencies[0].job, other.name);
    running(&daemon, &resumed).await;
    delete(&daemon, &first).await;
    // Neither a restart nor a pause makes it wait again.
    pause(&daemon, &resumed).await;
    resume(&daemon, &resumed, None).await;
    running(&daemon, &resumed).await;
    daemon.kill_runner(&resumed.name);
    daemon.watch_until(&resumed.name, |job| job.attempt == 3 && job.state() == JobState::Running).await;
    let (state, _guard) = daemon.crash();
    let daemon = gates.setup(Setup::in_state(&state), "2").start();
    assert!(one_open(&daemon.get(&waits.name).await));
    gates.open("other");
    gates.open("resumed");
    succeeds(&daemon, &waits).await;
    assert_eq!(daemon.watch_to_end(&resumed.name).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn an_end_is_recorded_before_its_job_is_deleted() {
    let gates = Gates::new();
    let hold = gates.path("hold");
    fs::write(&hold, "").unwrap();
    let fault = format!("end-unrecorded:1@{}", hold.display());
    let setup = gates.setup(Setup::new(), "1").set("jobs.max_queued", "500");
    let daemon = setup.env("TORCHD_FAULT", fault).start();
    let first = daemon.create(gates.program("first", 0)).await;
    let never = daemon.create(gates.program("never", 0)).await;
    let mut waiting = Vec::new();
    for _ in 0..160 {
        waiting.push(daemon.create(then(&[(&first, Condition::Succeeded), (&never, Condition::Ended)])).await);
    }
    gates.open("first");
    // The ends are recorded in some of them at a time, and the deletion comes in between.
    daemon.watch_to_end(&first.name).await;
    let mut jobs = daemon.jobs().await;
    let request = v1::DeleteJobRequest { name: first.name.clone() };
    let deletion = tokio::spawn(async move { jobs.delete_job(request).await.map(drop) });
    for _ in 0..50 {
        // Meanwhile the request arrives.
        assert_eq!(daemon.get(&waiting[0].name).await.open_dependencies.len(), 2);
    }
    fs::remove_file(&hold).unwrap();
    deletion.await.unwrap().unwrap();
    for job in &waiting {
        let job = daemon.watch_until(&job.name, |job| job.open_dependencies.len() == 1 || job.end.is_some()).await;
        assert_eq!((job.state(), job.end), (JobState::Queued, None));
        assert_eq!(job.open_dependencies[0].job, never.name);
    }
}

#[tokio::test]
async fn a_job_that_expires_is_an_end_all_the_same() {
    let gates = Gates::new();
    let daemon = gates.start("1");
    let ttl_after_end = Some(prost_types::Duration { seconds: 0, nanos: 0 });
    let first = daemon.create(v1::JobSpec { ttl_after_end, ..gates.program("first", 0) }).await;
    let other = daemon.create(gates.program("other", 0)).await;
    let waits = daemon.create(then(&[(&first, Condition::Succeeded), (&other, Condition::Ended)])).await;
    gates.open("first");
    let folder = daemon.job_folder(&first.name);
    wait_for("the job to be removed", || (!folder.exists()).then_some(()));
    gates.open("other");
    succeeds(&daemon, &waits).await;
}

#[tokio::test]
async fn dependencies_survive_the_loss_of_the_database() {
    let gates = Gates::new();
    let daemon = gates.start("1");
    let first = daemon.create(gates.program("first", 0)).await;
    let gone = daemon.create(v1::JobSpec { priority: 9, ..program("true") }).await;
    let waits = daemon.create(then(&[(&first, Condition::Succeeded)])).await;
    let other = daemon.create(then(&[(&first, Condition::Failed), (&gone, Condition::Succeeded)])).await;
    let request = v1::CancelJobRequest { name: first.name.clone(), now: true };
    // A job of a higher priority does not make one leave.
    running(&daemon, &first).await;
    let (state, _guard) = daemon.crash();
    for file in ["torchd.db", "torchd.db-wal", "torchd.db-shm"] {
        let _ = fs::remove_file(state.join(file));
    }
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["doctor", "--repair", "--state-dir"])
        .arg(&state)
        .output()
        .unwrap();
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));
    let daemon = gates.setup(Setup::in_state(&state), "1").start();
    let job = daemon.get(&waits.name).await;
    assert_eq!((job.spec.clone().unwrap().after, job.open_dependencies.len()), (waits.spec.unwrap().after, 1));
    daemon.jobs().await.cancel_job(request).await.unwrap();
    daemon.watch_to_end(&first.name).await;
    assert_eq!(daemon.watch_to_end(&waits.name).await.end.unwrap().reason(), JobEndReason::DependencyFailed);
    succeeds(&daemon, &other).await;
}
