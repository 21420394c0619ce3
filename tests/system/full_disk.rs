//! The disk of the state folder fills up while jobs run, and has room again later. Where the
//! machine does not let us mount a small one, these tests are told as skipped.

use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::small_disk::{DyingDisk, SmallDisk};
use super::{spec, tools};

/// Often writes something.
fn busy(on_storage_failure: v1::OnStorageFailure) -> v1::JobSpec {
    v1::JobSpec {
        checkpoint: Some(v1::Checkpoint { every_steps: Some(20), ..v1::Checkpoint::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        on_storage_failure: on_storage_failure.into(),
        ..spec::endless()
    }
}

async fn past(daemon: &Daemon, name: &str, step: u64) {
    daemon.watch_until(name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > step)).await;
}

#[tokio::test]
async fn a_full_disk_pauses_or_fails_jobs_as_they_want_it_harms_nothing_and_all_is_well_when_there_is_room() {
    let Some(disk) = tools::allowed("a small disk", SmallDisk::mount()) else { return };
    let daemon = Setup::in_state(&disk.path().join("state")).set("jobs.cpu_slots", "2").start();
    let pauses = daemon.create(busy(v1::OnStorageFailure::Unspecified)).await;
    let fails = daemon.create(busy(v1::OnStorageFailure::Fail)).await;
    for job in [&pauses, &fails] {
        past(&daemon, &job.name, 100).await;
    }
    let runners = [&pauses, &fails].map(|job| daemon.signed(&job.name, "lock"));
    disk.fill();
    wait_for("the ends of the runners", || runners.iter().all(|pid| super::daemon::is_gone(*pid)).then_some(()));

    // The daemon answers, and says what it knows, whether it could write it down or not.
    let says_so = |job: &v1::Job| {
        let told = [&job.end, &job.last_attempt_end];
        told.iter().any(|end| end.as_ref().is_some_and(|end| end.reason() == v1::JobEndReason::Storage))
            || job.waiting_reason.contains("cannot be written down")
    };
    for job in [&pauses, &fails] {
        daemon.watch_until(&job.name, says_so).await;
    }
    assert_eq!(daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs.len(), 2);
    // The ends of the runners have left some room.
    disk.fill();
    let refused = v1::CreateJobRequest { spec: Some(spec::short()), ..v1::CreateJobRequest::default() };
    let refused = daemon.jobs().await.create_job(refused).await.unwrap_err();
    assert!(refused.message().contains("No space left") || refused.message().contains("full"), "{refused}");
    let scalars = v1::ReadScalarsRequest { name: pauses.name.clone(), tag: "loss/train".into(), ..Default::default() };
    assert!(daemon.jobs().await.read_scalars(scalars).await.unwrap().into_inner().points.len() >= 100);

    disk.free();
    let failed = daemon.watch_to_end(&fails.name).await;
    assert_eq!((failed.state(), failed.end.unwrap().reason()), (v1::JobState::Failed, v1::JobEndReason::Storage));
    let paused = daemon.watch_until(&pauses.name, |job| job.state() == v1::JobState::Paused).await;
    assert_eq!(paused.last_attempt_end.unwrap().reason(), v1::JobEndReason::Storage);
    let from = paused.resume_from.unwrap().step;
    assert!(from >= 80 && paused.waiting_reason.is_empty(), "{from} {}", paused.waiting_reason);
    daemon
        .jobs()
        .await
        .resume_job(v1::ResumeJobRequest { name: pauses.name.clone(), ..Default::default() })
        .await
        .unwrap();
    past(&daemon, &pauses.name, from + 100).await;
    let cancel = v1::CancelJobRequest { name: pauses.name.clone(), now: false };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&pauses.name).await;
    let steps = &super::resume::event_steps(&daemon.job_folder(&pauses.name))["loss/train"];
    assert!(steps.iter().copied().eq(1..=steps.len() as i64), "no step is missing or doubled: {steps:?}");
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn a_job_can_be_deleted_to_make_room_on_a_full_disk() {
    let Some(disk) = tools::allowed("a small disk", SmallDisk::mount()) else { return };
    let daemon = Setup::in_state(&disk.path().join("state")).start();
    let job = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    let other = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    disk.fill();
    let delete = v1::DeleteJobRequest { name: job.name.clone() };
    daemon.jobs().await.delete_job(delete).await.unwrap();
    assert!(daemon.log().contains("the database has no room to delete the job"), "{}", daemon.log());
    let get = v1::GetJobRequest { name: job.name.clone() };
    assert_eq!(daemon.jobs().await.get_job(get).await.unwrap_err().code(), tonic::Code::NotFound);
    assert!(!daemon.job_folder(&job.name).exists());
    assert_eq!(daemon.get(&other.name).await.end, other.end);
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_ends_the_attempt_and_the_job_goes_on_once_it_is_mended() {
    let Some(disk) = tools::allowed("a disk that fails", DyingDisk::mount()) else { return };
    let state = disk.path().join("state");
    let daemon = Setup::in_state(&state).start();
    let job = daemon.create(busy(v1::OnStorageFailure::Unspecified)).await;
    past(&daemon, &job.name, 100).await;
    let runner = daemon.signed(&job.name, "lock");
    disk.fail();
    wait_for("the end of the runner", || super::daemon::is_gone(runner).then_some(()));
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("cannot be written down")).await;
    assert_eq!(daemon.page("/healthz").0, 200);
    let (status, ..) = daemon.stop();
    assert!(status.success(), "{status}");

    disk.mend();
    let daemon = Setup::in_state(&state).start();
    let again = daemon.watch_until(&job.name, |job| job.attempt == 2 && job.state() == v1::JobState::Running).await;
    let from = again.resume_from.unwrap().step;
    assert!(from >= 80, "{from}");
    past(&daemon, &job.name, from + 40).await;
    let cancel = v1::CancelJobRequest { name: job.name.clone(), now: false };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let steps = &super::resume::event_steps(&daemon.job_folder(&job.name))["loss/train"];
    assert!(steps.iter().copied().eq(1..=steps.len() as i64), "no step is missing or doubled: {steps:?}");
    assert!(daemon.stop().0.success());
}
