//! Another priority for a job that was taken already.

use std::fs;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1::{self, JobState};

use super::daemon::{Daemon, Setup};
use super::dependencies::{Gates, program};
use super::torchctl::told;

async fn set(daemon: &Daemon, job: &v1::Job, priority: i32) -> Result<v1::Job, tonic::Status> {
    let request = v1::SetJobPriorityRequest { name: job.name.clone(), priority };
    daemon.jobs().await.set_job_priority(request).await.map(tonic::Response::into_inner)
}

fn priority(job: &v1::Job) -> i32 {
    job.spec.as_ref().unwrap().priority
}

async fn running(daemon: &Daemon, job: &v1::Job) -> v1::Job {
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await
}

#[tokio::test]
async fn two_jobs_in_the_queue_swap_and_stay_so_over_a_restart() {
    let gates = Gates::new();
    let daemon = gates.start("1");
    let first = daemon.create(gates.program("first", 0)).await;
    let (one, other) = (daemon.create(program("true")).await, daemon.create(program("true")).await);
    running(&daemon, &first).await;
    assert!(daemon.get(&other.name).await.waiting_reason.contains(&one.name), "the order of arrival");
    let job = set(&daemon, &other, 7).await.unwrap();
    assert_eq!((priority(&job), job.state(), job.generation), (7, JobState::Queued, other.generation + 1));
    // The answer tells where it stands by its new priority: behind the one that runs alone.
    assert!(!job.waiting_reason.is_empty() && !job.waiting_reason.contains(&one.name), "{}", job.waiting_reason);
    daemon.watch_until(&one.name, |job| job.waiting_reason.contains(&other.name)).await;
    // Nothing is changed by what is so already.
    assert_eq!(set(&daemon, &other, 7).await.unwrap().generation, job.generation);
    let (code, out, err) = told(&daemon.ctl(&["priority", &other.name, "-9"]));
    assert!(code == 0 && out.contains("has the priority -9; it is queued"), "{out} {err}");
    set(&daemon, &other, 8).await.unwrap();
    let (state, _guard) = daemon.crash();
    let told = fs::read_to_string(state.join(&other.name).join("job.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["job"]["spec"]["priority"], 8);

    let daemon = gates.setup(Setup::in_state(&state), "1").start();
    let job = daemon.get(&other.name).await;
    let edit = v1::FieldEdit { path: "priority".into(), value: "8".into() };
    assert_eq!((priority(&job), job.edits.unwrap().set), (8, vec![edit]));
    gates.open("first");
    let [one, other] = [daemon.watch_to_end(&one.name).await, daemon.watch_to_end(&other.name).await];
    let time = |job: &v1::Job| job.start_time.map(|time| (time.seconds, time.nanos)).unwrap();
    assert!(time(&other) < time(&one), "{one:?} {other:?}");
}

#[tokio::test]
async fn a_running_job_makes_room_by_its_new_priority_or_stays() {
    let gates = Gates::new();
    let daemon = gates.setup(Setup::new(), "1").set("jobs.preemption", "true").start();
    let first = daemon.create(gates.program("first", 0)).await;
    running(&daemon, &first).await;
    let other = daemon.create(gates.program("other", 0)).await;
    // It runs with more than the other will have.
    assert_eq!(set(&daemon, &first, 20).await.unwrap().state(), JobState::Running);
    set(&daemon, &other, 10).await.unwrap();
    let job = daemon.get(&first.name).await;
    assert_eq!((job.state(), job.attempt), (JobState::Running, 1));
    set(&daemon, &first, -1000).await.unwrap();
    running(&daemon, &other).await;
    let job = daemon.get(&first.name).await;
    assert_eq!((job.state(), priority(&job)), (JobState::Queued, -1000));
    assert_eq!(job.last_attempt_end.unwrap().reason(), v1::JobEndReason::Preempted);
    gates.open("other");
    gates.open("first");
    assert_eq!(daemon.watch_to_end(&first.name).await.attempt, 2);
}

#[tokio::test]
async fn a_priority_is_refused_that_is_none_or_that_means_nothing_any_more() {
    let gates = Gates::new();
    let daemon = gates.start("1");
    let ended = daemon.create(program("true")).await;
    daemon.watch_to_end(&ended.name).await;
    let status = set(&daemon, &ended, 1).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("the job has succeeded; only a job that has not ended"), "{status}");
    assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].r#type, "JOB_ENDED");
    let paused = daemon.create(gates.program("never", 0)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: paused.name.clone() }).await.unwrap();
    daemon.watch_until(&paused.name, |job| job.state() == JobState::Paused).await;
    assert_eq!(priority(&set(&daemon, &paused, 1000).await.unwrap()), 1000);
    for wrong in [1001, -1001, i32::MAX, i32::MIN] {
        let status = set(&daemon, &paused, wrong).await.unwrap_err();
        let mistake = &status.get_details_bad_request().unwrap().field_violations[0];
        let words = format!("is {wrong}; -1000 to 1000 are right");
        assert_eq!((mistake.field.as_str(), &mistake.description), ("priority", &words));
    }
    for (name, code) in [("jobs/20200101-000000-0000", Code::NotFound), ("jobs/x", Code::InvalidArgument)] {
        let status = set(&daemon, &v1::Job { name: name.into(), ..v1::Job::default() }, 1).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    let (code, _, err) = told(&daemon.ctl(&["priority", &paused.name, "high"]));
    assert!(code == 64 && err.contains("'high'"), "{err}");
}
