//! A runner that is asked to stop while it validates: it gives the pass up, and is not taken for
//! one that hangs.

use std::fs::{self, File};

use torchd::proto::v1;
use torchd::proto::v1::job_record::What;
use torchd::proto::v1::watch_event::Event;

use super::daemon::{Daemon, Setup};
use super::spec;

fn job(steps: u64) -> v1::JobSpec {
    let mut spec = v1::JobSpec {
        resources: Some(spec::threads(1)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..spec::mnist(v1::training::Length::MaxSteps(steps))
    };
    spec.training.as_mut().unwrap().validation_batch_size = Some(100);
    spec
}

async fn validations(daemon: &Daemon, name: &str) -> Vec<(u64, u64)> {
    let tag = "loss/validation".to_owned();
    let request = v1::ReadScalarsRequest { name: name.into(), tag, ..Default::default() };
    let points = match daemon.jobs().await.read_scalars(request).await {
        Ok(read) => read.into_inner().points,
        Err(status) if status.code() == tonic::Code::NotFound => return Vec::new(),
        Err(status) => panic!("{status:?}"),
    };
    points.iter().map(|point| (point.step, point.value.to_bits())).collect()
}

/// Waits until the runner of a job that was asked to stop has said that it lives, that many times.
async fn alive(daemon: &Daemon, name: &str, times: usize) {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let (mut is_stopping, mut count) = (false, 0);
    while let Some(message) = stream.message().await.unwrap() {
        for event in message.events {
            match event.event.unwrap() {
                Event::Snapshot(job) => {
                    assert!(matches!(job.state(), v1::JobState::Running | v1::JobState::Stopping), "{job:?}");
                    is_stopping = job.state() == v1::JobState::Stopping;
                }
                Event::Record(record) if is_stopping && matches!(record.what, Some(What::Progress(_))) => count += 1,
                Event::Record(_) => {}
            }
        }
        if count >= times {
            return;
        }
    }
    panic!("the watch of {name} ended");
}

#[tokio::test]
async fn a_stop_gives_a_validation_pass_up_and_a_slow_batch_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    let daemon = Setup::new().env("TORCHD_FAULT", format!("validation-batch@{}", hold.display()));
    let daemon = daemon.set("runner.stop_grace", "100ms").start();
    let whole = daemon.create(job(70)).await;
    daemon.watch_to_end(&whole.name).await;

    File::create(&hold).unwrap();
    let broken = daemon.create(job(70)).await;
    daemon.watch_until(&broken.name, |job| job.progress.as_ref().is_some_and(|told| told.step == 63)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: broken.name.clone() }).await.unwrap();
    // One that is silent for 3 s after its grace time is killed.
    alive(&daemon, &broken.name, 5).await;
    fs::remove_file(&hold).unwrap();
    let paused = daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Paused).await;
    let end = paused.last_attempt_end.unwrap();
    assert!(end.message.contains("stopped after the step in hand"), "it was not killed: {}", end.message);
    assert_eq!(paused.resume_from.unwrap().step, 63);
    assert_eq!(validations(&daemon, &broken.name).await, [], "the pass was given up after its first batch");

    let request = v1::ResumeJobRequest { name: broken.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    assert_eq!(daemon.watch_to_end(&broken.name).await.state(), v1::JobState::Succeeded);
    let expected = validations(&daemon, &whole.name).await;
    assert_eq!(expected.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [63, 70]);
    assert_eq!(validations(&daemon, &broken.name).await, expected);
    let saved = v1::ListCheckpointsRequest { name: broken.name, ..Default::default() };
    let saved = daemon.jobs().await.list_checkpoints(saved).await.unwrap().into_inner().checkpoints;
    assert_eq!(saved[1].metrics["loss/validation"].to_bits(), expected[0].1, "step {}", saved[1].step);
}
