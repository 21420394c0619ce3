//! A state folder that the programs of 0ff50a1 have left: `tests/data/README.md` says how.
//! Databases, `job.json`, orders, journals and checkpoints of that version are read and gone on
//! from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use torchd::proto::v1;
use torchd::proto::v1::{JobEndReason, JobState};

use super::daemon::{Daemon, Setup, wait_for};
use super::tools;

/// The folder in which the state was made; it stands in specs and in the database.
const MADE_IN: &str = "/tmp/torchd-0ff50a1";

/// Unpacks the state into a folder of its own, and writes that folder's path in place of the old
/// one and that of the examples in place of the data then.
fn unpack() -> Option<(TempDir, PathBuf)> {
    if !tools::is_there("xz", "apt-get install xz-utils") {
        return None;
    }
    let place = TempDir::new().unwrap();
    let archive = Path::new("tests/data/state-0ff50a1.tar.xz").canonicalize().unwrap();
    let unpacked = Command::new("tar").arg("-xJf").arg(archive).current_dir(place.path()).status().unwrap();
    assert!(unpacked.success());
    let here = place.path().canonicalize().unwrap();
    let here = here.to_str().unwrap();
    let (data_then, data_now) = (format!("{MADE_IN}/data"), Path::new("examples").canonicalize().unwrap());
    let data_now = data_now.to_str().unwrap();
    let jobs = fs::read_dir(place.path().join("state/jobs")).unwrap();
    for job in jobs.map(|job| job.unwrap().path()) {
        for name in ["spec.json", "job.json", "mirrored", "attempts/1.json", "attempts/2.json"] {
            if let Ok(text) = fs::read_to_string(job.join(name)) {
                fs::write(job.join(name), text.replace(&data_then, data_now).replace(MADE_IN, here)).unwrap();
            }
        }
    }
    let state = place.path().join("state");
    let database = rusqlite::Connection::open(state.join("torchd.db")).unwrap();
    let moved = "UPDATE job SET spec = replace(spec, ?1, ?2), inputs = replace(replace(inputs, ?3, ?4), ?1, ?2)";
    let changed = database.execute(moved, [MADE_IN, here, &data_then, data_now]).unwrap();
    assert_eq!(changed, 9);
    Some((place, state))
}

fn start(place: &Path, state: &Path) -> Daemon {
    let root = place.join("results").canonicalize().unwrap();
    Setup::in_state(state).set("output.mirror_roots", root.to_str().unwrap()).set("jobs.cpu_slots", "1").start()
}

/// The jobs by their display names.
async fn jobs(daemon: &Daemon) -> BTreeMap<String, v1::Job> {
    let listed = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    listed.into_iter().map(|job| (job.spec.as_ref().unwrap().display_name.clone(), job)).collect()
}

/// Every job of the state as it was when its daemon died, where nothing has happened to it since.
async fn as_it_was(daemon: &Daemon) -> BTreeMap<String, v1::Job> {
    let jobs = jobs(daemon).await;
    let ended = |name: &str| (jobs[name].state(), jobs[name].end.as_ref().map(v1::JobEnd::reason));
    assert_eq!(ended("succeeded"), (JobState::Succeeded, Some(JobEndReason::Finished)));
    assert_eq!(ended("warm"), (JobState::Succeeded, Some(JobEndReason::Finished)));
    assert_eq!(ended("diverged"), (JobState::Failed, Some(JobEndReason::Diverged)));
    assert_eq!(ended("cancelled"), (JobState::Cancelled, Some(JobEndReason::Cancelled)));
    assert_eq!(ended("crashed"), (JobState::Failed, Some(JobEndReason::KilledBySignal)));
    assert_eq!(jobs["crashed"].end.as_ref().unwrap().signal, Some(6));
    assert_eq!(ended("paused"), (JobState::Paused, None));
    assert_eq!((ended("edited"), jobs["edited"].attempt), ((JobState::Paused, None), 2));
    let rate = jobs["edited"].spec.as_ref().unwrap().optimizer.as_ref().unwrap().kind;
    assert!(matches!(rate, Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate: Some(0.005), .. }))), "{rate:?}");
    jobs
}

async fn checkpoints(daemon: &Daemon, name: &str) -> Vec<u64> {
    let request = v1::ListCheckpointsRequest { name: name.into(), ..Default::default() };
    let listed = daemon.jobs().await.list_checkpoints(request).await.unwrap().into_inner();
    listed.checkpoints.iter().map(|checkpoint| checkpoint.step).collect()
}

/// The step from which the second attempt of a job was ordered to go on.
fn resumed_at(daemon: &Daemon, name: &str) -> u64 {
    let order = fs::read(daemon.job_folder(name).join("attempts/2.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&order).unwrap()["resume_step"].as_u64().unwrap()
}

#[tokio::test]
async fn jobs_of_an_earlier_version_are_told_as_they_were_and_go_on() {
    let Some((place, state)) = unpack() else { return };
    let database = rusqlite::Connection::open(state.join("torchd.db")).unwrap();
    let asked =
        database.query_row("SELECT asked FROM request WHERE id = 'queued-1'", [], |row| row.get::<_, String>(0));
    let asked = torchd::proto::json::from_str(&asked.unwrap()).unwrap();
    drop(database);
    let daemon = start(place.path(), &state);
    let jobs = as_it_was(&daemon).await;

    // Ended jobs can still be read.
    let succeeded = &jobs["succeeded"];
    assert_eq!(succeeded.progress.as_ref().unwrap().step, 126);
    assert!(succeeded.mirror.as_ref().unwrap().complete);
    let request = v1::ReadScalarsRequest {
        name: succeeded.name.clone(),
        tag: "accuracy/validation".into(),
        ..Default::default()
    };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    assert_eq!(points.iter().map(|point| point.step).collect::<Vec<_>>(), [63, 126]);
    assert_eq!(checkpoints(&daemon, &succeeded.name).await, [126]);
    let model = place.path().join("model.safetensors");
    let fetched =
        daemon.ctl(&["download", &succeeded.name, "artifacts/model.safetensors", "--to", model.to_str().unwrap()]);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    assert_eq!(
        fs::read(&model).unwrap(),
        fs::read(daemon.job_folder(&succeeded.name).join("artifacts/model.safetensors")).unwrap()
    );

    // A request that was answered then gets the job of then.
    let again = v1::CreateJobRequest { request_id: "queued-1".into(), spec: Some(asked) };
    let answer = daemon.jobs().await.create_job(again).await.unwrap().into_inner();
    assert_eq!(answer.name, jobs["queued"].name);

    // A queued job begins, and a job that ran when the machine went goes on from its checkpoint.
    let queued = daemon.watch_to_end(&jobs["queued"].name).await;
    assert_eq!((queued.state(), queued.attempt), (JobState::Succeeded, 1), "{:?}", queued.end);
    let interrupted = daemon.watch_to_end(&jobs["interrupted"].name).await;
    assert_eq!((interrupted.state(), interrupted.attempt), (JobState::Succeeded, 2));
    assert_eq!(resumed_at(&daemon, &interrupted.name), 79);
    assert_eq!(interrupted.progress.unwrap().step, 9 * 63);

    // A paused job is resumed where it was, and so is its copy.
    let paused = &jobs["paused"];
    assert_eq!(checkpoints(&daemon, &paused.name).await, [68, 63]);
    let request = v1::ResumeJobRequest { name: paused.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    let ended = daemon.watch_to_end(&paused.name).await;
    assert_eq!((ended.state(), ended.attempt, ended.progress.unwrap().step), (JobState::Succeeded, 2, 6 * 63));
    assert_eq!(resumed_at(&daemon, &paused.name), 68);
    let copy = place.path().join("results/volume").join(paused.name.trim_start_matches("jobs/"));
    wait_for("the copy of the result", || copy.join("artifacts/model.safetensors").exists().then_some(()));
    let (status, ..) = daemon.stop();
    assert!(status.success());
}

#[tokio::test]
async fn the_database_of_an_earlier_version_is_made_anew_from_its_folders() {
    let Some((place, state)) = unpack() else { return };
    fs::remove_file(state.join("torchd.db")).unwrap();
    let repaired = Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["doctor", "--config", "/dev/null", "--repair", "--state-dir"])
        .arg(&state)
        .output()
        .unwrap();
    assert!(repaired.status.success(), "{}", String::from_utf8_lossy(&repaired.stderr));
    let daemon = start(place.path(), &state);
    let jobs = as_it_was(&daemon).await;
    assert_eq!(jobs.len(), 9);
    let (status, ..) = daemon.stop();
    assert!(status.success());
}
