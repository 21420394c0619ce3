//! Jobs that train what PyTorch exported: their numbers, what they leave, and how they go on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::model::Family;
use torchd::proto::v1::training::Length;
use torchd::proto::v1::warm_start::Source;

use super::daemon::{Daemon, Setup, wait_for};
use super::processor;
use super::resume::{Outcome, retried};
use super::spec;
use super::warm_start::{safetensors, split};

/// The models, with data and PyTorch's numbers. `README.md` there tells where they come from.
const MODELS: &str = "tests/data/exported";

/// A daemon that finds them, and what is in another folder.
pub(crate) fn start(folder: &Path) -> Daemon {
    Setup::new().data_root(Path::new(MODELS)).data_root(folder).start()
}

/// A job that trains an archive on the data of one of the models, as PyTorch did.
pub(crate) fn job(archive: &str, data: &str) -> v1::JobSpec {
    v1::JobSpec {
        seed: 7,
        model: Some(model(archive, "")),
        data: Some(v1::Data { train: Some(set(data)), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(Length::MaxSteps(20)),
            batch_size: Some(8),
            ..v1::Training::default()
        }),
        optimizer: Some(spec::sgd(0.05, 0.9)),
        resources: Some(spec::threads(1)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..v1::JobSpec::default()
    }
}

pub(crate) fn model(path: &str, eval_path: &str) -> v1::Model {
    let exported = v1::ExportedModel { path: path.into(), eval_path: eval_path.into() };
    v1::Model { family: Some(Family::Exported(exported)) }
}

fn set(data: &str) -> v1::Dataset {
    let data = v1::SafetensorsDataset { path: format!("{data}/data.safetensors"), ..Default::default() };
    v1::Dataset { format: Some(v1::dataset::Format::Safetensors(data)) }
}

/// The same, with all examples as the validation set too.
pub(crate) fn validated(data: &str, spec: v1::JobSpec) -> v1::JobSpec {
    let sets = spec.data.map(|sets| v1::Data { validation: Some(set(data)), ..sets });
    v1::JobSpec { data: sets, ..spec }
}

pub(crate) fn length(length: Length, spec: v1::JobSpec) -> v1::JobSpec {
    let training = spec.training.map(|training| v1::Training { length: Some(length), ..training });
    v1::JobSpec { training, ..spec }
}

pub(crate) async fn trained(daemon: &Daemon, spec: v1::JobSpec) -> v1::Job {
    let job = daemon.create(spec).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    ended
}

async fn scalars(daemon: &Daemon, name: &str, tag: &str) -> Vec<f64> {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    points.into_iter().map(|point| point.value).collect()
}

/// The names of the files that a job leaves, without that of its folder.
async fn artifacts(daemon: &Daemon, name: &str) -> Vec<String> {
    let request = v1::ListArtifactsRequest { name: name.into(), ..Default::default() };
    let artifacts = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner().artifacts;
    let folder = format!("{name}/artifacts/");
    artifacts.iter().filter_map(|artifact| Some(artifact.name.strip_prefix(&folder)?.to_owned())).collect()
}

/// Holds the losses of a job that trained `cnn` against those of PyTorch.
async fn assert_losses_of_pytorch(daemon: &Daemon, name: &str) {
    let reference = fs::read(Path::new(MODELS).join("cnn/reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let losses = reference["runs"]["sgd"]["losses"].as_array().unwrap();
    let expected: Vec<_> = losses.iter().map(|loss| loss.as_f64().unwrap()).collect();
    let found = scalars(daemon, name, "loss/train").await;
    if processor::is_that_of(&reference) {
        assert_eq!(found, expected);
    }
    let pairs = || found.iter().zip(&expected);
    assert_eq!(found.len(), expected.len());
    assert!(pairs().all(|(one, other)| processor::is_close(*one, *other)), "{found:?} {expected:?}");
}

#[tokio::test]
async fn a_model_is_trained_with_the_numbers_of_pytorch_and_its_result_is_trained_on() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let ended = trained(&daemon, validated("cnn", job("cnn/net.pt2", "cnn"))).await;
    assert_losses_of_pytorch(&daemon, &ended.name).await;
    let validations = scalars(&daemon, &ended.name, "loss/validation").await;
    assert_eq!(
        artifacts(&daemon, &ended.name).await,
        ["model.pt", "model.pt2", "model.safetensors", "preprocessing.json"]
    );
    let outline = ended.model_outline.unwrap();
    let layers: Vec<_> = outline.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert!(!outline.has_own_loss && layers.contains(&"features.0"), "{outline:?}");
    assert_eq!(outline.parameter_count, 375);

    // The archive holds the trained weights, and so does the file of weights: both begin alike, and
    // where the first job ended. A step so short changes no weight.
    for name in ["model.pt2", "model.safetensors"] {
        fs::copy(daemon.job_folder(&ended.name).join("artifacts").join(name), root.path().join(name)).unwrap();
    }
    let still = |archive: &str| {
        let spec = validated("cnn", job(archive, "cnn"));
        length(Length::MaxSteps(1), v1::JobSpec { optimizer: Some(spec::sgd(1e-30, 0.0)), ..spec })
    };
    let archive = trained(&daemon, still("model.pt2")).await;
    let warm = v1::WarmStart { source: Some(Source::File("model.safetensors".into())), ..Default::default() };
    let weights = trained(&daemon, v1::JobSpec { warm_start: Some(warm), ..still("cnn/net.pt2") }).await;
    let first = Outcome::of(&daemon, &archive).await;
    first.assert_same(&Outcome::of(&daemon, &weights).await);
    let cold = trained(&daemon, still("cnn/net.pt2")).await;
    let loss = |job: &v1::Job| job.name.clone();
    let (warm, cold) = (loss(&archive), loss(&cold));
    let warm = scalars(&daemon, &warm, "loss/validation").await[0];
    let cold = scalars(&daemon, &cold, "loss/validation").await[0];
    let reached = *validations.last().unwrap();
    // Its running means have moved by one batch.
    assert!((warm - reached).abs() < (cold - reached).abs(), "{warm} {cold} {reached}");
}

#[tokio::test]
async fn a_model_that_brings_its_loss_and_metrics_is_told_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(folder.path());
    let ended = trained(&daemon, validated("step_metrics", job("step_metrics/net.pt2", "step_metrics"))).await;
    for name in ["loss", "accuracy", "score_norm"] {
        for (set, least) in [("train", 20), ("validation", 1)] {
            let found = scalars(&daemon, &ended.name, &format!("{name}/{set}")).await;
            assert!(found.len() >= least && found.iter().all(|value| value.is_finite()), "{name}/{set}: {found:?}");
        }
    }
    let outline = ended.model_outline.unwrap();
    assert!(outline.has_own_loss, "{outline:?}");
    assert_eq!(outline.own_metrics, ["accuracy", "score_norm"]);
    let fitted = ended.spec.unwrap();
    assert!(fitted.loss.is_none() && fitted.metrics.is_empty(), "{fitted:?}");
}

#[tokio::test]
async fn a_job_that_stops_and_goes_on_needs_the_copy_of_its_archive_alone() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    for name in ["gpt", "cnn", "masks"] {
        let archive = root.path().join("mine.pt2");
        fs::copy(Path::new(MODELS).join(name).join("net.pt2"), &archive).unwrap();
        let spec = || {
            let spec = length(Length::MaxSteps(300), job("mine.pt2", name));
            let checkpoint = Some(v1::Checkpoint { every_steps: Some(19), ..v1::Checkpoint::default() });
            let logging = Some(v1::Logging { scalar_every_steps: Some(3) });
            v1::JobSpec { checkpoint, logging, ..retried(1, spec) }
        };
        let unbroken = daemon.create(spec()).await;
        let broken = daemon.create(spec()).await;
        fs::remove_file(&archive).unwrap();
        daemon.watch_until(&broken.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 20)).await;
        daemon.jobs().await.pause_job(v1::PauseJobRequest { name: broken.name.clone() }).await.unwrap();
        let paused = daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Paused).await;
        let at = paused.progress.unwrap().step;
        assert!((21..300).contains(&at), "{name} was paused after {at} steps");
        let resume = v1::ResumeJobRequest { name: broken.name.clone(), ..Default::default() };
        daemon.jobs().await.resume_job(resume).await.unwrap();
        daemon.watch_until(&broken.name, |job| job.progress.as_ref().is_some_and(|p| p.step > at + 40)).await;
        daemon.kill_runner(&broken.name);
        let ended = daemon.watch_to_end(&broken.name).await;
        assert_eq!((ended.state(), ended.attempt, ended.restarts), (v1::JobState::Succeeded, 3, 1), "{:?}", ended.end);
        let unbroken = daemon.watch_to_end(&unbroken.name).await;
        Outcome::of(&daemon, &ended).await.assert_same(&Outcome::of(&daemon, &unbroken).await);
    }
}

#[tokio::test]
async fn a_job_whose_copy_of_its_archive_is_gone_says_so_and_goes_on_once_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(Path::new(MODELS)).set("jobs.cpu_slots", "1").start();
    let job = daemon.create(length(Length::MaxSteps(100_000), job("cnn/net.pt2", "cnn"))).await;
    let behind = daemon.create(self::job("cnn/net.pt2", "cnn")).await;
    let copy = |name: &str| daemon.job_folder(name).join("model.pt2");
    fs::remove_file(copy(&behind.name)).unwrap();
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 5)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    let end = daemon.watch_to_end(&behind.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData, "{}", end.message);
    let words = "model.exported: its copy model.pt2 in the job's folder cannot be read: No such file";
    assert!(end.message.contains(words), "{}", end.message);

    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let away = root.path().join("away");
    fs::copy(copy(&job.name), &away).unwrap();
    fs::remove_file(copy(&job.name)).unwrap();
    let resume = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(resume.clone()).await.unwrap();
    let is_paused = |job: &v1::Job| job.state() == v1::JobState::Paused && job.attempt == 2;
    let end = daemon.watch_until(&job.name, is_paused).await.last_attempt_end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::DataChanged, "{}", end.message);
    assert!(end.message.contains(words), "{}", end.message);
    fs::copy(&away, copy(&job.name)).unwrap();
    daemon.jobs().await.resume_job(resume).await.unwrap();
    let goes_on = |job: &v1::Job| job.state() == v1::JobState::Running && job.attempt == 3;
    daemon.watch_until(&job.name, goes_on).await;
}

#[tokio::test]
async fn an_archive_that_changes_while_it_is_copied_is_told_by_its_own_field() {
    let root = tempfile::tempdir().unwrap();
    let (archive, hold) = (root.path().join("mine.pt2"), root.path().join("hold"));
    fs::copy(Path::new(MODELS).join("cnn/net.pt2"), &archive).unwrap();
    fs::write(&hold, "").unwrap();
    let setup = Setup::new().data_root(Path::new(MODELS)).data_root(root.path());
    let daemon = setup.env("TORCHD_FAULT", format!("staging@{}", hold.display())).start();
    let warm = v1::WarmStart { source: Some(Source::File("cnn/weights.safetensors".into())), ..Default::default() };
    fs::create_dir(root.path().join("cnn")).unwrap();
    fs::write(root.path().join("cnn/weights.safetensors"), weights()).unwrap();
    let spec = v1::JobSpec { warm_start: Some(warm), ..job("mine.pt2", "cnn") };
    let mut client = daemon.jobs().await;
    let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
    let asks = tokio::spawn(async move { client.create_job(request).await });
    let staged = daemon.state_dir.join("jobs");
    let is_staged = move || fs::read_dir(&staged).unwrap().next().map(drop);
    tokio::task::spawn_blocking(move || wait_for("a copy", is_staged)).await.unwrap();
    fs::OpenOptions::new().write(true).open(&archive).unwrap().set_len(100).unwrap();
    fs::remove_file(&hold).unwrap();
    let status = asks.await.unwrap().unwrap_err();
    let wrong = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, "spec.model.exported.path"), "{wrong:?}");
    assert!(wrong[0].description.ends_with("mine.pt2 changed while it was copied"), "{wrong:?}");
}

/// The weights of `cnn` that PyTorch trained, without what else is in their file.
fn weights() -> Vec<u8> {
    let (header, values) = split(&fs::read(Path::new(MODELS).join("cnn/sgd.safetensors")).unwrap());
    let (mut kept, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, told) in &header {
        let Some(name) = name.strip_prefix("state.") else { continue };
        let [from, to] = [0, 1].map(|index| told["data_offsets"][index].as_u64().unwrap() as usize);
        let mut moved = told.clone();
        moved["data_offsets"] = json!([bytes.len(), bytes.len() + to - from]);
        bytes.extend(&values[from..to]);
        kept.insert(name.to_owned(), moved);
    }
    safetensors(&kept, &bytes)
}

#[tokio::test]
async fn a_model_of_two_files_is_trained_and_without_the_second_not_validated() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(folder.path());
    let spec = |eval_path: &str| {
        let spec = job("", "mlp");
        validated("mlp", v1::JobSpec { model: Some(model("plain/train.pt2", eval_path)), ..spec })
    };
    let ended = trained(&daemon, spec("plain/eval.pt2")).await;
    assert_eq!(scalars(&daemon, &ended.name, "loss/validation").await.len(), 5);
    assert_eq!(
        artifacts(&daemon, &ended.name).await,
        ["model-eval.pt2", "model.pt", "model.pt2", "model.safetensors", "preprocessing.json"]
    );
    let alone = v1::JobSpec { data: job("", "mlp").data, ..spec("") };
    trained(&daemon, alone).await;
}

#[tokio::test]
async fn archives_of_other_versions_of_pytorch_give_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(folder.path());
    let newest = trained(&daemon, job("torch-2.15.0/cnn.pt2", "cnn")).await;
    assert_losses_of_pytorch(&daemon, &newest.name).await;
    assert_eq!(
        artifacts(&daemon, &newest.name).await,
        ["model.pt", "model.pt2", "model.safetensors", "preprocessing.json"]
    );
    let oldest = trained(&daemon, job("torch-2.7.0/cnn.pt2", "cnn")).await;
    assert_losses_of_pytorch(&daemon, &oldest.name).await;
    // `torch.export.save` of 2.7 writes another container.
    let oldest = trained(&daemon, job("torch-2.7.0/plain/train.pt2", "mlp")).await;
    let same = trained(&daemon, job("plain/train.pt2", "mlp")).await;
    let losses = scalars(&daemon, &same.name, "loss/train").await;
    assert_eq!(scalars(&daemon, &oldest.name, "loss/train").await, losses);
    assert_eq!(artifacts(&daemon, &oldest.name).await, ["model.pt", "model.safetensors", "preprocessing.json"]);
    let log = fs::read_to_string(daemon.job_folder(&oldest.name).join("runner.log")).unwrap();
    assert!(log.contains("WARN") && log.contains("the container of PyTorch 2.7, which is not written"), "{log}");
}

/// The files below a folder with their sizes.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.display().to_string(), path.metadata().unwrap().len())),
        }
    }
    found
}

#[tokio::test]
async fn a_request_that_is_only_judged_gets_the_same_judgement_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(folder.path());
    let judge = async |spec: v1::JobSpec| {
        let request = v1::ValidateJobRequest { spec: Some(spec), dry_run: false };
        daemon.jobs().await.validate_job(request).await.map(|answer| answer.into_inner())
    };
    let good = validated("cnn", job("cnn/net.pt2", "cnn"));
    // The list of operators is made once, for the first that asks.
    judge(good.clone()).await.unwrap();
    let is_job = |(path, _): &(&String, &u64)| path.contains("/jobs/");
    let before = files(&daemon.state_dir);
    let fitted = judge(good.clone()).await.unwrap().spec.unwrap();
    assert!(judge(job("bad/static_batch.pt2", "cnn")).await.is_err());
    let after = files(&daemon.state_dir);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_eq!(after.iter().filter(is_job).count(), 0);
    let created = daemon.create(good).await;
    assert_eq!(created.spec.unwrap(), fitted);
}
