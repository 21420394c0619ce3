//! The real TensorBoard reads what we wrote, by both of its loaders: each step of each tag once,
//! whatever happened to the job.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use torchd::proto::v1::{self, JobState, training::Length};

use super::daemon::Daemon;
use super::{spec, tools};

/// Step and value of each point, by tag. TensorBoard has values of 32 bits.
type Curves = BTreeMap<String, Vec<(u64, f32)>>;
/// The same with the time of each point, as TensorBoard's HTTP API has it.
type Shown = BTreeMap<String, Vec<(f64, u64, f32)>>;

/// The example job with 63 steps an epoch, and as little work in each as can be.
fn epochs(count: u32) -> v1::JobSpec {
    let mut spec = spec::mnist(Length::Epochs(count));
    spec.data.as_mut().unwrap().limit = Some(504);
    let training = spec.training.as_mut().unwrap();
    (training.batch_size, training.validation_batch_size) = (Some(8), Some(504));
    v1::JobSpec { resources: Some(spec::threads(1)), ..spec }
}

/// Scalars and checkpoints that do not meet, so that what is told after a checkpoint has to be told
/// again.
fn seams() -> v1::JobSpec {
    v1::JobSpec {
        checkpoint: Some(v1::Checkpoint { every_steps: Some(20), ..v1::Checkpoint::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(3) }),
        ..epochs(6)
    }
}

/// A job that is paused and goes on.
async fn paused(daemon: &Daemon) -> String {
    let name = daemon.create(seams()).await.name;
    daemon.watch_until(&name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 50)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.clone() }).await.unwrap();
    daemon.watch_until(&name, |job| job.state() == JobState::Paused).await;
    daemon.jobs().await.resume_job(v1::ResumeJobRequest { name: name.clone(), ..Default::default() }).await.unwrap();
    name
}

/// A job whose runner is killed between two checkpoints, and started again.
async fn killed(daemon: &Daemon) -> String {
    let at_once = Some(prost_types::Duration::default());
    let retry = v1::Retry { max_restarts: 1, initial_backoff: at_once, ..v1::Retry::default() };
    let name = daemon.create(v1::JobSpec { retry: Some(retry), ..seams() }).await.name;
    daemon.watch_until(&name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 50)).await;
    daemon.kill_runner(&name);
    name
}

/// The scalars that the daemon returns for a job.
async fn curves(daemon: &Daemon, name: &str) -> Curves {
    let mut client = daemon.jobs().await;
    let request = v1::ListScalarTagsRequest { name: name.into(), ..Default::default() };
    let mut curves = Curves::new();
    for tag in client.list_scalar_tags(request).await.unwrap().into_inner().tags {
        let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.tag.clone(), ..Default::default() };
        let points = client.read_scalars(request).await.unwrap().into_inner().points;
        curves.insert(tag.tag, points.iter().map(|point| (point.step, point.value as f32)).collect());
    }
    curves
}

async fn read_by(loader: &str) {
    let Some(mut python) = tools::python() else { return };
    let daemon = Daemon::start();
    let jobs = [daemon.create(epochs(2)).await.name, paused(&daemon).await, killed(&daemon).await];
    let mut told = BTreeMap::new();
    for (name, (attempts, every, last)) in jobs.iter().zip([(1, 10, 126), (2, 3, 378), (2, 3, 378)]) {
        let job = daemon.watch_to_end(name).await;
        assert_eq!((job.state(), job.attempt), (JobState::Succeeded, attempts), "{:?}", job.end);
        let curves = curves(&daemon, name).await;
        let steps: Vec<_> = curves["loss/train"].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, (every..=last).step_by(every as usize).collect::<Vec<_>>(), "none missing, none twice");
        assert_eq!(curves["accuracy/validation"].len() as u64, last / 63);
        told.insert(format!("{}/tensorboard", name.strip_prefix("jobs/").unwrap()), curves);
    }

    let counts: BTreeMap<_, BTreeMap<_, _>> = told
        .iter()
        .map(|(run, curves)| (run, curves.iter().map(|(tag, points)| (tag, points.len())).collect()))
        .collect();
    let shown: BTreeMap<String, Curves> = shown(&mut python, loader, &counts, &daemon.state_dir.join("jobs"))
        .into_iter()
        .map(|(run, curves)| {
            let points = |points: Vec<(f64, u64, f32)>| points.iter().map(|point| (point.1, point.2)).collect();
            (run, curves.into_iter().map(|(tag, all)| (tag, points(all))).collect())
        })
        .collect();
    assert_eq!(shown, told);
}

/// The scalars that TensorBoard shows of a folder, once it has that many points of each run.
fn shown(python: &mut Command, loader: &str, counts: &impl serde::Serialize, folder: &Path) -> BTreeMap<String, Shown> {
    let output = python
        .arg("tests/python/tensorboard_reads.py")
        .args(["--load_fast", loader, "--counts", &serde_json::to_string(counts).unwrap(), "--logdir"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn both_of_its_loaders_show_runs_by_name_and_none_of_a_job_that_was_deleted() {
    let daemon = Daemon::start();
    let named = |name: &str| v1::JobSpec { display_name: name.into(), ..spec::short() };
    let jobs = [daemon.create(named("wide/net (2)")).await.name, daemon.create(named("gone")).await.name];
    for name in &jobs {
        assert_eq!(daemon.watch_to_end(name).await.state(), JobState::Succeeded);
    }
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: jobs[1].clone() }).await.unwrap();
    let run = format!("wide-net-2-{}", jobs[0].strip_prefix("jobs/").unwrap());
    let told = curves(&daemon, &jobs[0]).await;
    let counts: BTreeMap<_, _> = told.iter().map(|(tag, points)| (tag, points.len())).collect();
    for loader in ["true", "false"] {
        let Some(mut python) = tools::python() else { return };
        let shown = shown(&mut python, loader, &BTreeMap::from([(&run, &counts)]), &daemon.state_dir.join("runs"));
        assert_eq!(shown.keys().collect::<Vec<_>>(), [&run], "{loader}");
        assert_eq!(shown[&run]["loss/train"].len(), told["loss/train"].len());
    }
}

#[tokio::test]
async fn its_fast_loader_finds_every_tag_and_value() {
    read_by("true").await;
}

#[tokio::test]
async fn its_python_loader_finds_every_tag_and_value() {
    read_by("false").await;
}
