//! A disk that is slow, or that does not answer for a while: the job says so, the daemon answers,
//! and afterwards all goes on.

use std::fs::{self, File};
use std::time::Duration;

use torchd::proto::v1;
use torchd::proto::v1::watch_event::Event;

use super::daemon::Setup;
use super::small_disk::DyingDisk;
use super::{spec, tools};

#[tokio::test]
async fn a_checkpoint_that_takes_long_to_write_is_told_by_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    File::create(&slow).unwrap();
    let fault = format!("checkpoint-file@{}", slow.display());
    let daemon = Setup::new().env("TORCHD_FAULT", fault).start();
    let checkpoint = Some(v1::Checkpoint { every_steps: Some(20), ..v1::Checkpoint::default() });
    let length = v1::training::Length::MaxSteps(60);
    let job = daemon.create(v1::JobSpec { checkpoint, ..spec::mnist(length) }).await;
    // The first one is written beside training; before it hands over the second, training has to
    // wait.
    let waits = daemon.watch_until(&job.name, |job| job.waiting_reason.contains("waiting for its checkpoint")).await;
    assert_eq!((waits.state(), waits.progress.unwrap().step), (v1::JobState::Running, 40));
    fs::remove_file(slow).unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.waiting_reason.as_str()), (v1::JobState::Succeeded, ""));

    let request = v1::WatchJobRequest { name: job.name, after_sequence: 0, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let (mut waited, mut saved) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        for event in message.events {
            let Some(Event::Record(record)) = event.event else { continue };
            match record.what {
                Some(v1::job_record::What::Progress(progress)) => waited.extend(progress.checkpoint_wait_seconds),
                Some(v1::job_record::What::Checkpoint(checkpoint)) => saved.push(checkpoint.step),
                _ => {}
            }
        }
    }
    assert_eq!(saved, [20, 40, 60]);
    // Later ones may have been waited for a little, too.
    let first: Vec<_> = waited.chunk_by(|one, next| one <= next).next().unwrap_or_default().to_vec();
    assert!(first.len() >= 2 && first[0] >= 1.0, "{waited:?}");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_told_by_the_job_and_keeps_nobody_from_asking() {
    let Some(disk) = tools::allowed("a disk that stops", DyingDisk::mount()) else { return };
    let daemon = Setup::in_state(&disk.path().join("state")).set("jobs.cpu_slots", "1").start();
    let logging = Some(v1::Logging { scalar_every_steps: Some(1) });
    let job = daemon.create(v1::JobSpec { logging, ..spec::endless() }).await;
    let step = |job: &v1::Job| job.progress.as_ref().map_or(0, |progress| progress.step);
    daemon.watch_until(&job.name, |job| step(job) > 100).await;

    let stopped = disk.stop();
    let silent = daemon.watch_until(&job.name, |job| job.waiting_reason.contains("has told nothing for")).await;
    assert_eq!(silent.state(), v1::JobState::Running);
    // A write waits for the disk, as long as its client does.
    let request = v1::CreateJobRequest { spec: Some(spec::short()), request_id: "impatient".into() };
    let mut impatient = tonic::Request::new(request.clone());
    impatient.set_timeout(Duration::from_secs(1));
    let refused = daemon.jobs().await.create_job(impatient).await.unwrap_err();
    // The daemon's word, or that of the client's own clock, whichever comes first.
    let in_time = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled];
    assert!(in_time.contains(&refused.code()), "{refused}");
    // A read does not.
    assert_eq!(step(&daemon.get(&job.name).await), step(&silent));
    assert_eq!(daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs.len(), 1);
    let scalars = v1::ReadScalarsRequest { name: job.name.clone(), tag: "loss/train".into(), ..Default::default() };
    assert!(daemon.jobs().await.read_scalars(scalars).await.unwrap().into_inner().points.len() >= 100);
    assert_eq!(daemon.page("/healthz").0, 200);
    assert_eq!(daemon.page("/metrics").0, 200);

    drop(stopped);
    let again = daemon.watch_until(&job.name, |job| step(job) > step(&silent) + 100).await;
    assert_eq!((again.attempt, again.waiting_reason.as_str()), (1, ""));
    // Asked again it is the same job, whether it was made in the end or not.
    let made = daemon.jobs().await.create_job(request.clone()).await.unwrap().into_inner();
    assert_eq!(daemon.jobs().await.create_job(request).await.unwrap().into_inner().name, made.name);
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Cancelled);
    let steps = &super::resume::event_steps(&daemon.job_folder(&job.name))["loss/train"];
    assert!(steps.iter().copied().eq(1..=steps.len() as i64), "no step is missing or doubled: {steps:?}");
    assert_eq!(daemon.watch_to_end(&made.name).await.state(), v1::JobState::Succeeded);
    assert!(daemon.stop().0.success());
}
