//! Jobs that stop and go on: paused, killed, interrupted. Their results are those of a job that
//! nothing happened to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::tensorboard::{event, summary};
use torchd::proto::v1;
use torchd::tensorboard::EventReader;

use super::daemon::{Daemon, Setup};
use super::spec;

/// Six epochs and a part of a seventh on one core, with scalars and checkpoints that do not meet:
/// everything that could go wrong at a seam.
fn seams() -> v1::JobSpec {
    let mut spec = spec::mnist(v1::training::Length::MaxSteps(1));
    // 171 steps an epoch.
    spec.data.as_mut().unwrap().limit = Some(1368);
    v1::JobSpec {
        resources: Some(spec::threads(1)),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(1100)),
            batch_size: Some(8),
            validation_batch_size: Some(1000),
            ..v1::Training::default()
        }),
        checkpoint: Some(v1::Checkpoint { every_steps: Some(37), ..v1::Checkpoint::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(3) }),
        ..spec
    }
}

pub(crate) fn retried(max_restarts: u32, spec: v1::JobSpec) -> v1::JobSpec {
    let at_once = Some(prost_types::Duration::default());
    v1::JobSpec { retry: Some(v1::Retry { max_restarts, initial_backoff: at_once, ..v1::Retry::default() }), ..spec }
}

/// The results of a job: its model, its last checkpoint, and every scalar that does not tell of
/// time or of the machine.
#[derive(PartialEq)]
pub(crate) struct Outcome {
    result: Vec<u8>,
    state: Vec<u8>,
    scalars: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Outcome {
    pub(crate) async fn of(daemon: &Daemon, job: &v1::Job) -> Self {
        let folder = daemon.job_folder(&job.name);
        let step = job.progress.as_ref().unwrap().step;
        let mut scalars = BTreeMap::new();
        let list = v1::ListScalarTagsRequest { name: job.name.clone(), ..Default::default() };
        for tag in daemon.jobs().await.list_scalar_tags(list).await.unwrap().into_inner().tags {
            if spec::is_of_the_machine(&tag.tag) {
                continue;
            }
            let request = v1::ReadScalarsRequest {
                name: job.name.clone(),
                tag: tag.tag.clone(),
                page_size: 50_000,
                ..Default::default()
            };
            let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
            assert_eq!(points.len() as u64, tag.point_count);
            scalars.insert(tag.tag, points.iter().map(|point| (point.step, point.value.to_bits())).collect());
        }
        Self {
            result: fs::read(folder.join("artifacts/model.safetensors")).unwrap(),
            state: fs::read(folder.join(format!("checkpoints/step-{step}/state.safetensors"))).unwrap(),
            scalars,
        }
    }

    pub(crate) fn assert_same(&self, other: &Self) {
        for (tag, points) in &self.scalars {
            let theirs = &other.scalars[tag];
            let apart = points.iter().zip(theirs).find(|(one, other)| one != other);
            assert!(
                apart.is_none() && points.len() == theirs.len(),
                "{tag}: {apart:?}, {} {}",
                points.len(),
                theirs.len()
            );
        }
        assert_eq!(self.scalars.len(), other.scalars.len());
        assert!(self.result == other.result, "the weights differ");
        assert!(self.state == other.state, "the optimizer's state differs");
    }
}

/// The steps of each tag in the event files of a job, in the order in which TensorBoard reads them.
pub(crate) fn event_steps(folder: &Path) -> BTreeMap<String, Vec<i64>> {
    let mut files: Vec<_> =
        fs::read_dir(folder.join("tensorboard")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut steps: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for file in files {
        for read in EventReader::new(File::open(file).unwrap()).read_all().unwrap() {
            let Some(event::What::Summary(summary)) = read.what else { continue };
            for value in summary.value {
                assert!(matches!(value.value, Some(summary::value::Value::SimpleValue(_))));
                steps.entry(value.tag).or_default().push(read.step);
            }
        }
    }
    steps
}

/// No step twice or missing, in the journal and in the event files; these lag behind where a runner
/// was killed.
fn assert_unbroken(folder: &Path, scalars: &BTreeMap<String, Vec<(u64, u64)>>, is_whole: bool) {
    let events = event_steps(folder);
    for (tag, points) in scalars {
        let steps: Vec<_> = points.iter().map(|(step, _)| *step as i64).collect();
        assert!(steps.is_sorted_by(|one, other| one < other), "{tag} has a step twice: {steps:?}");
        let written = events.get(tag).map(Vec::as_slice).unwrap_or_default();
        assert!(written.len() <= steps.len() && written == &steps[..written.len()], "{tag}: {written:?} {steps:?}");
        assert!(!is_whole || written.len() == steps.len(), "{tag}: {written:?} {steps:?}");
    }
}

async fn pause(daemon: &Daemon, name: &str) -> Result<v1::Job, tonic::Status> {
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.into() }).await.map(tonic::Response::into_inner)
}

async fn resume(daemon: &Daemon, name: &str, edits: Option<v1::JobEdits>) -> Result<v1::Job, tonic::Status> {
    let request = v1::ResumeJobRequest { name: name.into(), edits, ..Default::default() };
    daemon.jobs().await.resume_job(request).await.map(tonic::Response::into_inner)
}

async fn past(daemon: &Daemon, name: &str, step: u64) -> v1::Job {
    daemon.watch_until(name, |job| job.progress.as_ref().is_some_and(|progress| progress.step >= step)).await
}

#[tokio::test]
async fn a_job_that_is_paused_and_resumed_gives_bit_for_bit_what_an_unbroken_one_gives() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").start();
    let whole = daemon.create(seams()).await;
    let broken = daemon.create(seams()).await;
    let mut from = 0;
    for (attempt, step) in [(1, 20), (2, 200), (3, 600)] {
        past(&daemon, &broken.name, step).await;
        pause(&daemon, &broken.name).await.unwrap();
        let paused = daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Paused).await;
        let end = paused.last_attempt_end.clone().unwrap();
        assert_eq!((paused.attempt, end.reason()), (attempt, v1::JobEndReason::Paused), "{end:?}");
        let stopped_at = paused.progress.as_ref().unwrap().step;
        assert_eq!(paused.resume_from.as_ref().unwrap().step, stopped_at, "nothing is lost");
        assert!(stopped_at >= step.max(from));
        assert_eq!(pause(&daemon, &broken.name).await.unwrap().generation, paused.generation, "twice is fine");
        let resumed = resume(&daemon, &broken.name, None).await.unwrap();
        let point = resumed.resume_from.unwrap();
        assert_eq!(point.checkpoint, format!("{}/checkpoints/step-{stopped_at}", broken.name));
        from = stopped_at;
    }
    let (whole, broken) = (daemon.watch_to_end(&whole.name).await, daemon.watch_to_end(&broken.name).await);
    assert_eq!((broken.state(), broken.attempt, broken.restarts), (v1::JobState::Succeeded, 4, 0));
    let (expected, found) = (Outcome::of(&daemon, &whole).await, Outcome::of(&daemon, &broken).await);
    found.assert_same(&expected);
    assert_eq!(expected.scalars["loss/validation"].len(), 7);
    assert_unbroken(&daemon.job_folder(&broken.name), &found.scalars, true);
    let kept = fs::read_dir(daemon.job_folder(&broken.name).join("checkpoints")).unwrap().count();
    assert_eq!(kept, 3, "checkpoint.keep_latest");
}

#[tokio::test]
async fn a_runner_that_dies_anywhere_is_started_again_and_nothing_is_doubled_or_missing() {
    let short = || {
        let mut spec = seams();
        spec.training.as_mut().unwrap().length = Some(v1::training::Length::MaxSteps(600));
        spec.data.as_mut().unwrap().limit = None;
        spec
    };
    let daemon = Setup::new().start();
    let whole = daemon.create(short()).await;
    let expected = Outcome::of(&daemon, &daemon.watch_to_end(&whole.name).await).await;
    let (_, state, _guard) = daemon.stop();
    // Each runner dies when it comes to its point; the next attempt is killed there again as long
    // as restarts are left.
    for (fault, restarts) in [
        ("step:130", 1),
        ("checkpoint-begun:3", 1),
        ("checkpoint-file:5", 1),
        ("checkpoint-manifest:2", 2),
        ("checkpoint-renamed:4", 1),
        ("checkpoint-tidied:6", 1),
        ("epoch", 1),
        ("trained", 0),
        ("result-saved", 0),
        ("resumed", 1),
    ] {
        let daemon = Setup::in_state(&state).env("TORCHD_FAULT", fault).start();
        let job = daemon.create(retried(restarts, short())).await;
        if fault == "resumed" {
            past(&daemon, &job.name, 100).await;
            kill(Pid::from_raw(daemon.runner_pid(&job.name).await), Signal::SIGKILL).unwrap();
        }
        let ended = daemon.watch_until(&job.name, |job| job.end.is_some()).await;
        let end = ended.end.clone().unwrap();
        let name = ended.name.clone();
        if ended.state() == v1::JobState::Failed {
            assert_eq!(
                (end.reason(), ended.restarts),
                (v1::JobEndReason::KilledBySignal, restarts),
                "{fault}: {end:?}"
            );
        }
        let folder = daemon.job_folder(&name);
        // Each attempt wrote into the same log, and said so when it came to its point.
        let log = fs::read_to_string(folder.join("runner.log")).unwrap();
        let point = fault.split(':').next().unwrap();
        let deaths = log.matches(&format!("[fault: dies at {point}]")).count() as u32;
        let killed_by_us = u32::from(fault == "resumed");
        assert!(deaths >= 1, "{fault} was never come to: {log}");
        let lives_on = u32::from(ended.state() == v1::JobState::Succeeded);
        assert_eq!(deaths + killed_by_us + lives_on, ended.attempt, "{fault}: each attempt dies there, or none does");
        let found: BTreeMap<_, _> = read_all(&daemon, &name).await;
        for (tag, points) in &found {
            let part = &expected.scalars[tag][..points.len()];
            assert!(points == part, "{fault}, {tag}: what is there is what an unbroken job has");
        }
        assert_unbroken(&folder, &found, ended.state() == v1::JobState::Succeeded);
        for entry in fs::read_dir(folder.join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            let is_half = path.file_name().unwrap().to_string_lossy().starts_with('.');
            assert!(is_half || path.join("checkpoint.json").exists(), "{} is not whole", path.display());
        }
        assert!(daemon.stop().0.success());
        // Without the fault it would have gone on; a new job of the same spec does, to the same
        // end.
    }
}

async fn read_all(daemon: &Daemon, name: &str) -> BTreeMap<String, Vec<(u64, u64)>> {
    let list = v1::ListScalarTagsRequest { name: name.into(), ..Default::default() };
    let mut scalars = BTreeMap::new();
    for tag in daemon.jobs().await.list_scalar_tags(list).await.unwrap().into_inner().tags {
        if spec::is_of_the_machine(&tag.tag) {
            continue;
        }
        let request =
            v1::ReadScalarsRequest { name: name.into(), tag: tag.tag.clone(), page_size: 50_000, ..Default::default() };
        let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
        scalars.insert(tag.tag, points.iter().map(|point| (point.step, point.value.to_bits())).collect());
    }
    scalars
}

#[tokio::test]
async fn a_killed_runner_goes_on_from_its_last_checkpoint_to_the_same_numbers() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").start();
    let whole = daemon.create(seams()).await;
    let broken = daemon.create(retried(2, seams())).await;
    for (attempt, step) in [(1, 150), (2, 450)] {
        past(&daemon, &broken.name, step).await;
        let running =
            daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Running && job.attempt == attempt);
        running.await;
        daemon.kill_runner(&broken.name);
        let again = daemon.watch_until(&broken.name, |job| job.attempt == attempt + 1).await;
        let last = again.last_attempt_end.clone().unwrap();
        assert_eq!((again.restarts, last.reason()), (attempt, v1::JobEndReason::KilledBySignal), "{last:?}");
        assert!(again.resume_from.unwrap().step % 37 == 0 || attempt > 1);
    }
    let (whole, broken) = (daemon.watch_to_end(&whole.name).await, daemon.watch_to_end(&broken.name).await);
    assert_eq!((broken.state(), broken.attempt), (v1::JobState::Succeeded, 3));
    let found = Outcome::of(&daemon, &broken).await;
    found.assert_same(&Outcome::of(&daemon, &whole).await);
    assert_unbroken(&daemon.job_folder(&broken.name), &found.scalars, true);
    let (_, page) = daemon.page("/metrics");
    assert!(page.contains("\ntorchd_runner_restarts_total 2\n"), "{page}");
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let daemon = Daemon::start();
    let job = daemon.create(seams()).await;
    past(&daemon, &job.name, 200).await;
    pause(&daemon, &job.name).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let newest = paused.resume_from.unwrap().step;
    let folder = daemon.job_folder(&job.name);
    let weights = folder.join(format!("checkpoints/step-{newest}/model.safetensors"));
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    resume(&daemon, &job.name, None).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded);
    let log = fs::read_to_string(folder.join("runner.log")).unwrap();
    assert!(log.contains("a checkpoint is passed over") && log.contains("checksum"), "{log}");
    assert_unbroken(&folder, &read_all(&daemon, &job.name).await, true);
}

#[tokio::test]
async fn a_paused_job_can_be_edited_and_other_jobs_cannot_be_resumed() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let job = daemon.create(spec::endless()).await;
    let waiting = daemon.create(spec::endless()).await;
    let refused = resume(&daemon, &job.name, None).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refusal}", refusal = refused.message());

    let paused = pause(&daemon, &waiting.name).await.unwrap();
    assert_eq!((paused.state(), paused.resume_from), (v1::JobState::Paused, None));
    past(&daemon, &job.name, 70).await;
    pause(&daemon, &job.name).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let at = paused.resume_from.unwrap().step;

    let edits =
        |length, learning_rate, batch_size| Some(v1::JobEdits { length, learning_rate, batch_size, set: vec![] });
    for (wrong, field) in [
        (edits(Some(v1::job_edits::Length::Epochs(0)), None, None), "spec.training.epochs"),
        (edits(None, Some(f64::NAN), None), "spec.optimizer.sgd.learning_rate"),
        (edits(None, None, Some(4001)), "spec.training.batch_size"),
        // A number of steps that is done already.
        (edits(Some(v1::job_edits::Length::MaxSteps(at)), None, None), "spec.training.max_steps"),
    ] {
        use tonic_types::StatusExt;
        let status = resume(&daemon, &job.name, wrong).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    let last = at + 100;
    let edited = edits(Some(v1::job_edits::Length::MaxSteps(last)), Some(0.5), Some(32));
    let resumed = resume(&daemon, &job.name, edited).await.unwrap();
    assert_eq!(resumed.spec.unwrap().training.unwrap().batch_size, Some(32));
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.progress.as_ref().unwrap().step), (v1::JobState::Succeeded, last));
    let rates = &read_all(&daemon, &job.name).await["learning_rate"];
    let rate = |step: u64| rates.iter().find(|(at, _)| *at == step).map(|(_, bits)| f64::from_bits(*bits));
    assert_eq!((rate(10), rate(last / 10 * 10)), (Some(0.01), Some(0.5)));
    let original: serde_json::Value =
        serde_json::from_slice(&fs::read(daemon.job_folder(&job.name).join("spec.json")).unwrap()).unwrap();
    assert_eq!(original["training"]["batch_size"], 64, "what was asked for stays as it was");

    let name = v1::CancelJobRequest { name: waiting.name.clone(), now: false };
    let cancelled = daemon.jobs().await.cancel_job(name).await.unwrap().into_inner();
    assert_eq!(
        (cancelled.state(), cancelled.end.unwrap().message.as_str()),
        (v1::JobState::Cancelled, "cancelled while it was paused")
    );
    assert!(pause(&daemon, &waiting.name).await.unwrap_err().message().contains("only a job that has not ended"));
}

#[tokio::test]
async fn checkpoints_stay_as_large_as_they_were_over_ten_resumes() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let job = daemon.create(spec::endless()).await;
    let mut sizes = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let before = daemon.get(&job.name).await.progress.map_or(0, |progress| progress.step);
        past(&daemon, &job.name, before + 1).await;
        pause(&daemon, &job.name).await.unwrap();
        daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
        let list = v1::ListCheckpointsRequest { name: job.name.clone(), ..Default::default() };
        let saved = daemon.jobs().await.list_checkpoints(list).await.unwrap().into_inner().checkpoints;
        assert!(!saved.is_empty() && saved.len() <= 3);
        sizes.insert(saved[0].size_bytes);
        resume(&daemon, &job.name, None).await.unwrap();
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

#[tokio::test]
async fn the_best_checkpoints_are_kept_and_told_with_their_metrics() {
    let daemon = Daemon::start();
    let keep_best = Some(v1::KeepBest { count: Some(2), metric: "loss/validation".into() });
    let checkpoint = Some(v1::Checkpoint { keep_latest: Some(1), keep_best, ..v1::Checkpoint::default() });
    let job = v1::JobSpec {
        checkpoint,
        // Far too large, so that what it has learnt is lost again.
        optimizer: Some(spec::sgd(0.6, 0.5)),
        ..spec::mnist(v1::training::Length::Epochs(6))
    };
    let job = daemon.create(job).await;
    daemon.watch_to_end(&job.name).await;
    let list = v1::ListCheckpointsRequest { name: job.name.clone(), ..Default::default() };
    let kept = daemon.jobs().await.list_checkpoints(list).await.unwrap().into_inner().checkpoints;
    let losses = &read_all(&daemon, &job.name).await["loss/validation"];
    let mut by_loss: Vec<(u64, f64)> = losses.iter().map(|(step, bits)| (*step, f64::from_bits(*bits))).collect();
    by_loss.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut expected: Vec<u64> = by_loss[..2].iter().map(|(step, _)| *step).collect();
    expected.push(6 * 63);
    expected.sort_unstable_by_key(|step| std::cmp::Reverse(*step));
    expected.dedup();
    assert_eq!(kept.iter().map(|saved| saved.step).collect::<Vec<_>>(), expected);
    for saved in &kept {
        let told = by_loss.iter().find(|(step, _)| *step == saved.step).unwrap().1;
        assert_eq!(saved.metrics["loss/validation"], told);
        assert_eq!(u64::from(saved.epochs) * 63, saved.step);
    }
}
