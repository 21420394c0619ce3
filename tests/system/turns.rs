//! Whose turn it is: priorities, making room, and how long jobs stay once they have ended.

use std::fs;
use std::time::Duration;

use torchd::proto::v1;

use super::crash::odd_runner;
use super::daemon::{Daemon, LIMIT, Setup, wait_for};
use super::spec;

fn with_priority(priority: i32, spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { priority, resources: Some(spec::threads(1)), ..spec }
}

async fn cancel(daemon: &Daemon, name: &str) {
    let request = v1::CancelJobRequest { name: name.into(), now: true };
    daemon.jobs().await.cancel_job(request).await.unwrap();
}

#[tokio::test]
async fn a_higher_priority_goes_first_and_nobody_is_stopped_for_it_unless_the_settings_say_so() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let running = daemon.create(with_priority(0, spec::endless())).await;
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    let low = daemon.create(with_priority(-1, spec::short())).await;
    let high = daemon.create(with_priority(7, spec::endless())).await;
    assert!(daemon.get(&low.name).await.waiting_reason.contains(&high.name));
    assert_eq!(daemon.get(&running.name).await.state(), v1::JobState::Running);
    cancel(&daemon, &running.name).await;
    daemon.watch_until(&high.name, |job| job.state() == v1::JobState::Running).await;
    assert_eq!(daemon.get(&low.name).await.state(), v1::JobState::Queued);
    cancel(&daemon, &high.name).await;
    assert_eq!(daemon.watch_to_end(&low.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_job_of_a_lower_priority_makes_room_and_goes_on_where_it_was() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").set("jobs.preemption", "true").start();
    let low = daemon.create(with_priority(0, spec::endless())).await;
    let before = daemon.watch_until(&low.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 20)).await;
    let high = daemon.create(with_priority(1, spec::short())).await;
    assert_eq!(daemon.watch_to_end(&high.name).await.state(), v1::JobState::Succeeded);
    let again = daemon.watch_until(&low.name, |job| job.attempt == 2 && job.state() == v1::JobState::Running).await;
    assert_eq!((again.restarts, again.last_attempt_end.unwrap().reason()), (0, v1::JobEndReason::Preempted));
    assert!(again.resume_from.unwrap().step >= before.progress.unwrap().step);
    // Its equals wait.
    let equal = daemon.create(with_priority(0, spec::short())).await;
    assert!(!daemon.get(&equal.name).await.waiting_reason.contains("makes room"));
}

#[tokio::test]
async fn nobody_makes_room_while_the_machine_can_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runner = odd_runner(folder.path(), &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_torchd-runner")));
    let daemon = Setup::new().set("jobs.cpu_slots", "2").set("jobs.preemption", "true");
    let daemon = daemon.set("runner.path", runner.to_str().unwrap()).start();
    let low = daemon.create(with_priority(0, spec::endless())).await;
    daemon.watch_until(&low.name, |job| job.state() == v1::JobState::Running).await;
    let away = folder.path().join("away");
    std::fs::rename(&runner, &away).unwrap();
    let first = daemon.create(with_priority(0, spec::endless())).await;
    daemon.watch_until(&first.name, |job| job.waiting_reason.contains("tried again every 1s")).await;
    let high = v1::JobSpec { priority: 1, resources: Some(spec::threads(2)), ..spec::short() };
    let high = daemon.create(high).await;
    // That is its reason once a try is due, and nobody can be started for want of room.
    let words = "needs 2 of the machine's 2 CPU slots, 1 are free";
    daemon.watch_until(&high.name, |job| job.waiting_reason == words).await;
    let kept = daemon.get(&low.name).await;
    assert_eq!((kept.state(), kept.attempt), (v1::JobState::Running, 1));
    std::fs::rename(&away, &runner).unwrap();
    cancel(&daemon, &low.name).await;
    assert_eq!(daemon.watch_to_end(&high.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_job_is_removed_when_its_time_after_its_end_is_over() {
    let daemon = Setup::new().set("jobs.ttl_after_end", "1h").start();
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let kept = daemon.create(spec::short()).await;
    assert_eq!(kept.spec.as_ref().unwrap().ttl_after_end, ttl(3600), "the default is part of the spec");
    let removed = daemon.create(v1::JobSpec { ttl_after_end: ttl(0), ..spec::short() }).await;
    let folder = daemon.job_folder(&removed.name);
    let ended = daemon.watch_to_end(&kept.name).await;
    let (end, expires) = (ended.end_time.unwrap(), ended.expire_time.unwrap());
    assert_eq!(expires.seconds - end.seconds, 3600);
    // The row goes after the folder, so that a deletion that is interrupted is finished by the next
    // start.
    until_not_found(&daemon, &removed.name).await;
    assert!(!folder.exists());
    assert!(daemon.job_folder(&kept.name).exists());
}

async fn until_not_found(daemon: &Daemon, name: &str) {
    let mut client = daemon.jobs().await;
    let gone = async {
        loop {
            match client.get_job(v1::GetJobRequest { name: name.into() }).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(status) => return assert_eq!(status.code(), tonic::Code::NotFound, "{status}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the job is removed");
}

#[tokio::test]
async fn a_deletion_that_a_crash_interrupts_is_finished_by_the_next_start() {
    let mut daemon = Setup::new().env("TORCHD_FAULT", "job-set-aside").start();
    let job = daemon.create(v1::JobSpec { display_name: "first try".into(), ..spec::short() }).await;
    daemon.watch_to_end(&job.name).await;
    let (folder, id) = (daemon.job_folder(&job.name), job.name.strip_prefix("jobs/").unwrap());
    let link = daemon.state_dir.join(format!("runs/first-try-{id}"));
    assert!(link.join(".").is_dir(), "TensorBoard finds the job by its name");
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap_err();
    daemon.wait();
    let (state, _guard) = daemon.crash();
    let aside = state.join(format!("jobs/.deleted-{id}"));
    assert!(aside.exists() && !folder.exists(), "it died in between");
    let daemon = Setup::in_state(&state).start();
    until_not_found(&daemon, &job.name).await;
    assert!(!aside.exists() && link.symlink_metadata().is_err());
}

#[tokio::test]
async fn the_rest_of_an_earlier_deletion_prevents_nothing() {
    let daemon = Setup::new().start();
    let (deleted, kept) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    for job in [&deleted, &kept] {
        cancel(&daemon, &job.name).await;
        daemon.watch_to_end(&job.name).await;
    }
    let left =
        |job: &v1::Job| daemon.state_dir.join("jobs").join(job.name.replace("jobs/", ".deleted-")).join("artifacts");
    let (of_deleted, of_kept) = (left(&deleted), left(&kept));
    fs::create_dir_all(&of_deleted).unwrap();
    fs::create_dir_all(&of_kept).unwrap();
    let request = v1::DeleteJobRequest { name: deleted.name.clone() };
    daemon.jobs().await.delete_job(request).await.unwrap();
    assert!(!daemon.job_folder(&deleted.name).exists());
    wait_for("the rest of the deleted job to go", || (!of_deleted.exists()).then_some(()));

    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    assert!(!of_kept.exists(), "it is removed by the start");
    assert!(!daemon.log().contains("the database is older"), "its row was never gone: {}", daemon.log());
    assert_eq!(daemon.get(&kept.name).await.state(), v1::JobState::Cancelled);
}

#[tokio::test]
async fn priorities_and_times_that_cannot_be_are_named() {
    use tonic_types::StatusExt;
    let daemon = Daemon::start();
    let wrong = v1::JobSpec {
        priority: 1001,
        ttl_after_end: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        on_storage_failure: 9,
        ..spec::short()
    };
    let request = v1::CreateJobRequest { spec: Some(wrong), ..Default::default() };
    let status = daemon.jobs().await.create_job(request).await.unwrap_err();
    let fields: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|wrong| wrong.field).collect();
    assert_eq!(fields, ["spec.priority", "spec.ttl_after_end", "spec.on_storage_failure"]);
}
