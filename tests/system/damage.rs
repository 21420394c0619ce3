//! Checkpoints that are damaged: reported, passed over for an earlier one, and never a reason to
//! begin anew unasked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::job_record::What;
use torchd::proto::v1::watch_event::Event;

use super::daemon::{Daemon, Setup};
use super::spec;

/// A job that is paused with several checkpoints, and the weights in each of them, newest first.
async fn paused(daemon: &Daemon) -> (String, Vec<(u64, PathBuf)>) {
    let checkpoint = Some(v1::Checkpoint { every_steps: Some(10), ..v1::Checkpoint::default() });
    let job = daemon.create(v1::JobSpec { checkpoint, ..spec::endless() }).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|told| told.step > 20)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let folder = daemon.state_dir.clone();
    let weights = |saved: &v1::SavedCheckpoint| (saved.step, folder.join(&saved.name).join("model.safetensors"));
    let saved: Vec<_> = list(daemon, &job.name).await.checkpoints.iter().map(weights).collect();
    assert!(saved.len() >= 2, "{saved:?}");
    (job.name, saved)
}

async fn list(daemon: &Daemon, name: &str) -> v1::ListCheckpointsResponse {
    let request = v1::ListCheckpointsRequest { name: name.into(), ..Default::default() };
    daemon.jobs().await.list_checkpoints(request).await.unwrap().into_inner()
}

async fn resume(daemon: &Daemon, name: &str, from_scratch: bool) -> Result<v1::Job, tonic::Status> {
    let request = v1::ResumeJobRequest { name: name.into(), edits: None, from_scratch, accept_new_data: false };
    daemon.jobs().await.resume_job(request).await.map(tonic::Response::into_inner)
}

/// The checkpoints that the records of an attempt name: the damaged ones, and the step that it
/// begins with.
async fn told(daemon: &Daemon, name: &str, attempt: u32) -> (Vec<v1::CheckpointDamaged>, Option<u64>) {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let (mut damaged, mut from) = (Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        for event in message.events {
            let Event::Record(record) = event.event.unwrap() else { continue };
            match record.what.unwrap() {
                _ if record.attempt != attempt => {}
                What::Damaged(one) => damaged.push(one),
                What::Resumed(resumed) => from = Some(resumed.step),
                What::Started(_) | What::Ended(_) => return (damaged, from),
                What::Scalars(_) | What::Progress(_) | What::Checkpoint(_) => {}
            }
        }
    }
    panic!("the watch of {name} ended");
}

fn flip_a_bit(file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn cut(file: &PathBuf) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

fn count(daemon: &Daemon) -> String {
    let (_, page) = daemon.page("/metrics");
    page.lines().find_map(|line| line.strip_prefix("torchd_checkpoints_damaged_total ")).unwrap().to_owned()
}

#[tokio::test]
async fn a_damaged_checkpoint_is_reported_and_passed_over() {
    let daemon = Daemon::start();
    let (name, saved) = paused(&daemon).await;
    assert_eq!(count(&daemon), "0");
    cut(&saved[0].1);
    let damaged = list(&daemon, &name).await.damaged;
    assert_eq!(damaged[0].path, format!("checkpoints/step-{}", saved[0].0));
    assert!(damaged.len() == 1 && damaged[0].problem.contains("bytes and should have"), "{damaged:?}");
    for command in ["show", "checkpoints"] {
        let words = String::from_utf8(daemon.ctl(&[command, &name]).stdout).unwrap();
        assert!(words.contains(&damaged[0].path) && words.contains(&damaged[0].problem), "{words}");
    }

    assert_eq!(resume(&daemon, &name, false).await.unwrap().resume_from.unwrap().step, saved[1].0);
    assert_eq!(told(&daemon, &name, 2).await, (damaged.clone(), Some(saved[1].0)));
    let running = |job: &v1::Job| job.attempt == 2 && job.state() == v1::JobState::Running;
    assert_eq!(daemon.watch_until(&name, running).await.resume_from.unwrap().step, saved[1].0);
    assert_eq!(count(&daemon), "1");
    assert!(daemon.log().contains("a checkpoint is damaged"), "{}", daemon.log());
}

#[tokio::test]
async fn checkpoints_that_are_cut_are_counted_where_no_runner_gets_to_see_them() {
    let daemon = Daemon::start();
    let (name, saved) = paused(&daemon).await;
    saved.iter().for_each(|(_, weights)| cut(weights));
    let status = resume(&daemon, &name, false).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    assert_eq!(count(&daemon), saved.len().to_string());
    assert!(daemon.log().contains("a checkpoint is damaged"), "{}", daemon.log());
}

#[tokio::test]
async fn a_job_whose_checkpoints_are_all_damaged_waits_for_a_person() {
    let daemon = Daemon::start();
    let (name, saved) = paused(&daemon).await;
    // The sizes are right, so that only the runner can tell.
    let whole = fs::read(&saved[1].1).unwrap();
    saved.iter().for_each(|(_, weights)| flip_a_bit(weights));
    resume(&daemon, &name, false).await.unwrap();
    let refused =
        |job: &v1::Job| job.last_attempt_end.as_ref().map(v1::JobEnd::reason) == Some(v1::JobEndReason::BadCheckpoint);
    let again = daemon.watch_until(&name, refused).await;
    let end = again.last_attempt_end.clone().unwrap();
    assert_eq!((again.state(), again.attempt), (v1::JobState::Paused, 2));
    assert!(saved.iter().all(|(step, _)| end.message.contains(&format!("checkpoints/step-{step}"))), "{end:?}");
    assert_eq!(count(&daemon), saved.len().to_string());
    let (damaged, from) = told(&daemon, &name, 2).await;
    assert_eq!((damaged.len(), from), (saved.len(), None), "what was told before still counts");

    // The files are all there still, and are named.
    let status = resume(&daemon, &name, false).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    let named = status.get_details_precondition_failure().unwrap().violations;
    let expected: Vec<_> = saved.iter().map(|(step, _)| format!("{name}/checkpoints/step-{step}")).collect();
    assert_eq!(named.iter().map(|violation| violation.subject.clone()).collect::<Vec<_>>(), expected);
    assert!(
        named.iter().all(|one| one.r#type == "BAD_CHECKPOINT" && one.description.contains("checksum")),
        "{named:?}"
    );
    let refused = daemon.ctl(&["resume", &name]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--from-scratch"), "{refused:?}");

    // One that is mended is gone on from.
    fs::write(&saved[1].1, whole).unwrap();
    resume(&daemon, &name, false).await.unwrap();
    assert_eq!(told(&daemon, &name, 3).await.1, Some(saved[1].0));
}

#[tokio::test]
async fn a_job_whose_checkpoints_are_gone_waits_for_a_person() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (name, saved) = paused(&daemon).await;
    let (place, aside) = (daemon.job_folder(&name).join("checkpoints"), daemon.state_dir.join("aside"));
    let take_away = || {
        fs::rename(&place, &aside).unwrap();
        fs::create_dir(&place).unwrap();
    };
    let put_back = || {
        fs::remove_dir(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
    };
    let is_refused = async || {
        let status = resume(&daemon, &name, false).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        let named = status.get_details_precondition_failure().unwrap().violations.remove(0);
        assert_eq!(named.subject, format!("{name}/checkpoints/step-{}", saved[0].0));
        assert!(named.r#type == "BAD_CHECKPOINT" && named.description.contains("not there any more"), "{named:?}");
    };
    take_away();
    is_refused().await;
    put_back();

    // They go while the job waits for its turn.
    let before = daemon.create(spec::endless()).await;
    daemon.watch_until(&before.name, |job| job.state() == v1::JobState::Running).await;
    assert_eq!(resume(&daemon, &name, false).await.unwrap().state(), v1::JobState::Queued);
    take_away();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: before.name, now: true }).await.unwrap();
    let again = daemon.watch_until(&name, |job| job.attempt == 2 && job.state() == v1::JobState::Paused).await;
    let end = again.last_attempt_end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadCheckpoint, "{end:?}");
    assert!(end.message.contains("not there any more"), "{end:?}");
    assert_eq!(told(&daemon, &name, 2).await, (vec![], None), "what was told before still counts");
    is_refused().await;

    resume(&daemon, &name, true).await.unwrap();
    assert_eq!(told(&daemon, &name, 3).await, (vec![], Some(0)));
}

#[tokio::test]
async fn a_job_whose_checkpoints_are_gone_before_its_runner_ends_does_not_begin_anew() {
    let daemon = Daemon::start();
    let checkpoint = Some(v1::Checkpoint { every_steps: Some(10), ..v1::Checkpoint::default() });
    let retry = Some(v1::Retry { max_restarts: 1, ..v1::Retry::default() });
    let job = daemon.create(v1::JobSpec { checkpoint, retry, ..spec::endless() }).await;
    let place = daemon.job_folder(&job.name).join("checkpoints");
    let runner = Pid::from_raw(daemon.runner_pid(&job.name).await);
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|told| told.step > 20)).await;
    kill(runner, Signal::SIGSTOP).unwrap();
    assert!(fs::read_dir(&place).unwrap().count() > 0, "it has saved something");
    fs::remove_dir_all(&place).unwrap();
    fs::create_dir(&place).unwrap();
    kill(runner, Signal::SIGKILL).unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let end = paused.last_attempt_end.unwrap();
    assert_eq!((paused.attempt, end.reason()), (2, v1::JobEndReason::BadCheckpoint), "{end:?}");
}

#[tokio::test]
async fn a_job_begins_anew_where_that_is_asked_for_and_its_checkpoints_are_gone() {
    let daemon = Daemon::start();
    let (name, saved) = paused(&daemon).await;
    saved.iter().for_each(|(_, weights)| cut(weights));
    assert_eq!(list(&daemon, &name).await.damaged.len(), saved.len());
    assert_eq!(resume(&daemon, &name, false).await.unwrap_err().code(), tonic::Code::FailedPrecondition);

    let begun = daemon.ctl(&["resume", &name, "--from-scratch", "--max-steps", "30"]);
    assert!(String::from_utf8_lossy(&begun.stdout).contains("it begins anew"), "{begun:?}");
    let ended = daemon.watch_to_end(&name).await;
    assert_eq!((ended.state(), ended.attempt, ended.resume_from), (v1::JobState::Succeeded, 2, None));
    assert_eq!(told(&daemon, &name, 2).await, (vec![], Some(0)));
    let kept = list(&daemon, &name).await;
    assert_eq!(kept.checkpoints.iter().map(|saved| saved.step).collect::<Vec<_>>(), [30, 20, 10]);
    assert!(kept.damaged.is_empty(), "{:?}", kept.damaged);
    let request = v1::ReadScalarsRequest { name, tag: "loss/train".into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    assert_eq!(
        points.iter().map(|point| point.step).collect::<Vec<_>>(),
        [10, 20, 30],
        "what was before does not count"
    );
}

#[tokio::test]
async fn a_job_that_has_nothing_but_a_checkpoint_to_begin_with_does_not_begin_anew() {
    let daemon = Daemon::start();
    let (teacher, saved) = paused(&daemon).await;
    let source = Some(v1::warm_start::Source::Checkpoint(teacher));
    let warm_start = Some(v1::WarmStart { source, resume: true, ..Default::default() });
    let job = daemon.create(v1::JobSpec { warm_start, ..spec::endless() }).await;
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let status = resume(&daemon, &job.name, true).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("warm_start.resume"), "{}", status.message());
    let kept: Vec<_> = list(&daemon, &job.name).await.checkpoints.iter().map(|saved| saved.step).collect();
    assert!(
        kept.contains(&saved[0].0) && kept.contains(&paused.resume_from.unwrap().step),
        "nothing was removed: {kept:?}"
    );
}

#[tokio::test]
async fn a_job_that_is_to_begin_anew_loses_nothing_before_that_is_written_down_and_then_does() {
    let daemon = Setup::new().env("TORCHD_FAULT", "resume-committed").start();
    let (name, saved) = paused(&daemon).await;
    resume(&daemon, &name, true).await.unwrap_err();
    let (state, _guard) = daemon.crash();
    assert!(saved.iter().all(|(_, weights)| weights.exists()), "the fault was not provoked");

    let crashed = SystemTime::now();
    let daemon = Setup::in_state(&state).start();
    let began = daemon.watch_until(&name, |job| job.attempt == 2 && job.state() == v1::JobState::Running).await;
    assert_eq!((began.resume_from, told(&daemon, &name, 2).await.1), (None, Some(0)));
    // It may have come to the same steps again.
    let is_old = |weights: &Path| fs::metadata(weights).is_ok_and(|about| about.modified().unwrap() < crashed);
    assert!(!saved.iter().any(|(_, weights)| is_old(weights)));
}
