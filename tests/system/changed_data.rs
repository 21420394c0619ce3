//! Data that are not those of the checkpoint that a job goes on from.

use std::fs;
use std::path::Path;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::spec;

/// Black images, and as many labels.
fn write_set(root: &Path, count: u32) {
    let size = [count, 28, 28].map(u32::to_be_bytes).concat();
    fs::write(root.join("images"), [&[0, 0, 8, 3][..], &size, &vec![0; count as usize * 784]].concat()).unwrap();
    let labels = [&[0, 0, 8, 1][..], &count.to_be_bytes(), &vec![3; count as usize]].concat();
    fs::write(root.join("labels"), labels).unwrap();
}

/// A job that is paused in the midst of an epoch of 10,000 steps.
async fn paused(daemon: &Daemon) -> v1::Job {
    let mut spec = spec::endless();
    spec.data = Some(v1::Data { train: Some(spec::idx("images", "labels")), ..v1::Data::default() });
    let length = Some(v1::training::Length::MaxSteps(1_000_000));
    spec.training = Some(v1::Training { length, batch_size: Some(1), ..v1::Training::default() });
    let job = daemon.create(spec).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|told| told.step >= 10)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await
}

/// The state of a job after its next attempt: it runs, or is paused again.
async fn resumed(daemon: &Daemon, name: &str) -> v1::Job {
    let request = v1::ResumeJobRequest { name: name.into(), ..Default::default() };
    let attempt = daemon.jobs().await.resume_job(request).await.unwrap().into_inner().attempt + 1;
    let is_settled = |state| matches!(state, v1::JobState::Running | v1::JobState::Paused | v1::JobState::Failed);
    daemon.watch_until(name, |job| job.attempt == attempt && is_settled(job.state())).await
}

fn assert_changed(job: &v1::Job, words: &str) {
    let end = job.last_attempt_end.clone().unwrap();
    assert_eq!((job.state(), end.reason()), (v1::JobState::Paused, v1::JobEndReason::DataChanged), "{end:?}");
    assert!(end.message.contains(words), "{}", end.message);
}

#[tokio::test]
async fn a_job_goes_on_with_its_own_data_alone() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 10_000);
    let daemon = Setup::new().data_root(root.path()).start();
    let job = paused(&daemon).await;
    let at = job.resume_from.unwrap().step;
    assert!((1..10_000).contains(&at), "{at}");

    // Fewer than the steps of the epoch that are done: what is left of it would be negative.
    write_set(root.path(), 1);
    assert_changed(&resumed(&daemon, &job.name).await, "the training set had 10000 examples and has 1");
    write_set(root.path(), 10_000);
    let labels = fs::read(root.path().join("labels")).unwrap();
    fs::write(root.path().join("labels"), gzip(&labels)).unwrap();
    assert_changed(&resumed(&daemon, &job.name).await, "labels had 10008 bytes and has");

    // A volume that is not mounted is no bad data.
    let (labels, aside) = (root.path().join("labels"), root.path().join("aside"));
    fs::rename(&labels, &aside).unwrap();
    assert_changed(&resumed(&daemon, &job.name).await, "labels cannot be read: No such file");
    fs::rename(&aside, &labels).unwrap();

    // A checkpoint of an earlier version tells nothing of its data.
    let told = daemon.job_folder(&job.name).join(format!("checkpoints/step-{at}/checkpoint.json"));
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    let trained_on = manifest.as_object_mut().unwrap().remove("trained_on").unwrap();
    assert_eq!(trained_on["train"]["examples"], 10_000);
    fs::write(&told, manifest.to_string()).unwrap();
    write_set(root.path(), 1);
    assert_changed(&resumed(&daemon, &job.name).await, "examples of an epoch, and the training set has 1");
    write_set(root.path(), 10_000);
    let running = resumed(&daemon, &job.name).await;
    assert_eq!((running.state(), running.resume_from.unwrap().step), (v1::JobState::Running, at));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, bytes).unwrap();
    packer.finish().unwrap()
}
