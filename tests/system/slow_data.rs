//! Data that are read too slowly, or not at all: the job says so, hears a stop meanwhile, and a
//! reader that hangs is a stall.

use std::fs::{self, File};

use torchd::proto::v1;
use torchd::proto::v1::job_record::What;
use torchd::proto::v1::watch_event::Event;

use super::daemon::{Daemon, Setup};
use super::spec;

/// A job whose batches are so large that a thread reads them.
fn job() -> v1::JobSpec {
    let logging = Some(v1::Logging { scalar_every_steps: Some(1) });
    let mut spec = v1::JobSpec { logging, ..spec::endless() };
    let training = spec.training.as_mut().unwrap();
    (training.batch_size, training.validation_batch_size) = (Some(1400), None);
    spec.data.as_mut().unwrap().validation = None;
    spec
}

/// Waits until the runner of an attempt tells that it waits for its data. The step.
async fn waits(daemon: &Daemon, name: &str, attempt: u32) -> u64 {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        for event in message.events {
            let Some(Event::Record(v1::JobRecord { what: Some(What::Progress(told)), attempt: of, .. })) = event.event
            else {
                continue;
            };
            if of == attempt && told.data_wait_seconds.is_some_and(|seconds| seconds >= 1.0) {
                return told.step;
            }
        }
    }
    panic!("the watch of {name} ended");
}

#[tokio::test]
async fn a_job_that_waits_for_its_data_says_so_and_hears_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    let daemon = Setup::new().env("TORCHD_FAULT", format!("data-read@{}", hold.display())).start();
    let name = daemon.create(job()).await.name;
    let step = |job: &v1::Job| job.progress.as_ref().map_or(0, |progress| progress.step);
    daemon.watch_until(&name, |job| step(job) >= 3).await;

    File::create(&hold).unwrap();
    let waiting = daemon.watch_until(&name, |job| job.waiting_reason.contains("waiting for its data")).await;
    assert_eq!(waiting.state(), v1::JobState::Running);
    let shown = String::from_utf8(daemon.ctl(&["show", &name]).stdout).unwrap();
    assert!(shown.contains("waiting for its data for more than"), "{shown}");
    let reached = waits(&daemon, &name, 1).await;
    assert_eq!(step(&waiting), reached);

    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&name, |job| job.state() == v1::JobState::Paused).await;
    assert!(hold.exists(), "the reader still hangs");
    assert_eq!(paused.resume_from.unwrap().step, reached, "nothing that was trained is lost");

    let request = v1::ResumeJobRequest { name: name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    assert_eq!(waits(&daemon, &name, 2).await, reached);
    fs::remove_file(&hold).unwrap();
    daemon.watch_until(&name, |job| step(job) > reached + 1).await;
    let tag = "data/wait_ratio".to_owned();
    let request = v1::ReadScalarsRequest { name: name.clone(), tag, page_size: 50_000, ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    assert!(points.iter().all(|point| (0.0..=1.0).contains(&point.value)), "{points:?}");
    let first = points.iter().find(|point| point.step == reached + 1).unwrap();
    // The share is one of less time than has gone by since the job was created, and the wait was
    // told after a second of it.
    let seconds = |time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().unwrap();
        time.seconds as f64 + f64::from(time.nanos) / 1e9
    };
    let since = seconds(&first.time) - seconds(&waiting.create_time);
    assert!(first.value * since >= 1.0, "of {since} s it has waited for one at least: {first:?}");

    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: name.clone(), now: false }).await.unwrap();
    let ended = daemon.watch_to_end(&name).await;
    assert_eq!((ended.state(), ended.waiting_reason.as_str()), (v1::JobState::Cancelled, ""));
}

#[tokio::test]
async fn a_reader_that_hangs_is_a_stall() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    File::create(&hold).unwrap();
    let daemon = Setup::new().env("TORCHD_FAULT", format!("data-read@{}", hold.display())).start();
    let stall_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let retry = Some(v1::Retry { stall_timeout, ..v1::Retry::default() });
    let name = daemon.create(v1::JobSpec { retry, ..job() }).await.name;
    let ended = daemon.watch_to_end(&name).await;
    assert_eq!((ended.state(), ended.end.unwrap().reason()), (v1::JobState::Failed, v1::JobEndReason::Stalled));
    assert_eq!(waits(&daemon, &name, 1).await, 0, "it waited for data");
}
