//! The ways of training: early stopping, the best checkpoint, averages, divergence, the search for
//! a learning rate; and what is refused of them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::training::Length;

use super::daemon::{Daemon, Setup};
use super::spec;

/// Examples of the sets that are made here, and those in a batch.
const EXAMPLES: usize = 40;
const BATCH: u32 = 10;

/// Rows of two numbers, with a number each that is `slope` times their sum. `spoiled` is a row of
/// numbers so large that their loss is infinite.
fn write_numbers(path: &Path, slope: f32, spoiled: Option<usize>) {
    let x: Vec<f32> = (0..EXAMPLES)
        .flat_map(|row| if spoiled == Some(row) { [3e38, 3e38] } else { [row as f32 / 40.0, 0.5] })
        .collect();
    let y: Vec<f32> = x.chunks(2).map(|row| if row[0] > 1e30 { 0.0 } else { slope * (row[0] + row[1]) }).collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let (x, y) = (bytes(&x), bytes(&y));
    let view = |shape, bytes| TensorView::new(Dtype::F32, shape, bytes).unwrap();
    let views = [("x", view(vec![EXAMPLES, 2], &x)), ("y", view(vec![EXAMPLES], &y))];
    std::fs::write(path, safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()).unwrap();
}

/// A linear model of such numbers.
fn linear(folder: &Path, epochs: u32, rate: f64, training: v1::Training) -> v1::JobSpec {
    let set = |name: &str| v1::Dataset {
        format: Some(v1::dataset::Format::Safetensors(v1::SafetensorsDataset {
            path: folder.join(name).display().to_string(),
            ..v1::SafetensorsDataset::default()
        })),
    };
    v1::JobSpec {
        seed: 1,
        model: Some(v1::Model { family: Some(v1::model::Family::Mlp(v1::Mlp::default())) }),
        data: Some(v1::Data {
            train: Some(set("train.safetensors")),
            validation: Some(set("validation.safetensors")),
            normalize: None,
            shuffle: Some(false),
            ..v1::Data::default()
        }),
        training: Some(v1::Training { length: Some(Length::Epochs(epochs)), batch_size: Some(BATCH), ..training }),
        optimizer: Some(spec::sgd(rate, 0.0)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

async fn scalars(daemon: &Daemon, name: &str, tag: &str) -> Vec<(u64, f64)> {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.into(), ..Default::default() };
    let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
    points.into_iter().map(|point| (point.step, point.value)).collect()
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[tokio::test]
async fn a_job_that_does_not_get_better_ends_early_also_after_a_break_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    write_numbers(&folder.path().join("train.safetensors"), 1.0, None);
    write_numbers(&folder.path().join("validation.safetensors"), 1.0, None);
    let stopping = v1::EarlyStopping { patience: Some(2), least_improvement: 1e9, ..Default::default() };
    let training = v1::Training { early_stopping: Some(stopping), ..Default::default() };
    let spec = linear(folder.path(), 50, 0.01, training);
    let daemon = Setup::new().data_root(folder.path()).start();
    let job = daemon.create(spec.clone()).await;
    let metric = &job.spec.as_ref().unwrap().training.as_ref().unwrap().early_stopping.as_ref().unwrap().metric;
    assert_eq!(metric, "mae/validation");
    let ended = daemon.watch_to_end(&job.name).await;
    let message = &ended.end.as_ref().unwrap().message;
    assert_eq!((ended.state(), ended.progress.as_ref().unwrap().step), (v1::JobState::Succeeded, 12), "{message}");
    assert!(
        message.starts_with("stopped early: mae/validation has not improved for 2 validation passes;"),
        "{message}"
    );
    assert!(daemon.job_folder(&job.name).join("artifacts/model.safetensors").exists());
    daemon.stop();

    // A runner that dies between the last pass and the result does not train on.
    let daemon = Setup::new().data_root(folder.path()).env("TORCHD_FAULT", "trained").start();
    let retry =
        v1::Retry { max_restarts: 1, initial_backoff: Some(prost_types::Duration::default()), ..v1::Retry::default() };
    let job = daemon.create(v1::JobSpec { retry: Some(retry), ..spec }).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.attempt, ended.progress.unwrap().step), (2, 12));
    assert_eq!(scalars(&daemon, &job.name, "mae/validation").await.len(), 3);
}

#[tokio::test]
async fn the_result_is_that_of_the_best_checkpoint_and_its_average() {
    let folder = tempfile::tempdir().unwrap();
    write_numbers(&folder.path().join("train.safetensors"), -9.0, None);
    // The longer it learns the worse it gets here.
    write_numbers(&folder.path().join("validation.safetensors"), 9.0, None);
    let daemon = Setup::new().data_root(folder.path()).start();
    let train = async |training: v1::Training| {
        let job = daemon.create(linear(folder.path(), 4, 0.05, training)).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded);
        let place = daemon.job_folder(&job.name);
        (ended.end.unwrap().message, place.join("artifacts/model.safetensors"), place.join("checkpoints"))
    };
    let (words, result, checkpoints) = train(v1::Training { restore_best: true, ..Default::default() }).await;
    assert!(words.contains("the result is that of step 4, with the best mae/validation, "), "{words}");
    assert_eq!(tensors(&result), tensors(&checkpoints.join("step-4/model.safetensors")));
    assert_ne!(tensors(&result), tensors(&checkpoints.join("step-16/model.safetensors")));
    let (_, result, checkpoints) = train(v1::Training::default()).await;
    assert_eq!(tensors(&result), tensors(&checkpoints.join("step-16/model.safetensors")));

    let averaged = v1::Training { ema_decay: Some(0.9), ..Default::default() };
    for (training, step) in [(averaged.clone(), 16), (v1::Training { restore_best: true, ..averaged }, 4)] {
        let (_, result, checkpoints) = train(training).await;
        let at = |file: &str| tensors(&checkpoints.join(format!("step-{step}/{file}")));
        let averages = at("state.safetensors");
        for (name, bytes) in tensors(&result) {
            assert_eq!(averages[&format!("average.{name}")], bytes, "{name} of step {step}");
            assert_ne!(at("model.safetensors")[&name], bytes, "{name} of step {step}");
        }
    }
}

#[tokio::test]
async fn a_step_whose_numbers_are_not_finite_fails_is_skipped_or_brings_a_checkpoint_back() {
    let folder = tempfile::tempdir().unwrap();
    // In the third batch of each epoch.
    write_numbers(&folder.path().join("train.safetensors"), 1.0, Some(25));
    write_numbers(&folder.path().join("validation.safetensors"), 1.0, None);
    let daemon = Setup::new().data_root(folder.path()).start();
    let run = async |epochs, policy: v1::OnDivergence| {
        let training = v1::Training { on_divergence: policy.into(), ..Default::default() };
        let checkpoint = v1::Checkpoint { every_steps: Some(1), ..Default::default() };
        let spec = linear(folder.path(), epochs, 0.01, training);
        let job = daemon.create(v1::JobSpec { checkpoint: Some(checkpoint), ..spec }).await;
        daemon.watch_to_end(&job.name).await
    };
    let reason = |job: &v1::Job| job.end.as_ref().unwrap().reason();

    let failed = run(3, v1::OnDivergence::Fail).await;
    assert_eq!((reason(&failed), failed.progress.as_ref().unwrap().step), (v1::JobEndReason::Diverged, 3));

    let skipped = run(3, v1::OnDivergence::SkipStep).await;
    assert_eq!((reason(&skipped), skipped.progress.as_ref().unwrap().step), (v1::JobEndReason::Finished, 12));
    let steps = scalars(&daemon, &skipped.name, "skipped_steps").await;
    let steps: Vec<_> = steps.into_iter().filter(|(_, count)| *count > 0.0).collect();
    assert_eq!(steps, [(3, 1.0), (7, 1.0), (11, 1.0)]);
    assert_eq!(scalars(&daemon, &skipped.name, "loss/train").await.len(), 9);

    let restored = run(3, v1::OnDivergence::RestoreBest).await;
    assert_eq!((reason(&restored), restored.progress.as_ref().unwrap().step), (v1::JobEndReason::Finished, 12));
    let rates: Vec<_> =
        scalars(&daemon, &restored.name, "learning_rate").await.into_iter().map(|(_, rate)| rate).collect();
    assert_eq!(rates, [0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.005, 0.0025, 0.0025, 0.0025, 0.0025, 0.00125]);

    let given_up = run(6, v1::OnDivergence::RestoreBest).await;
    assert_eq!((reason(&given_up), given_up.progress.as_ref().unwrap().step), (v1::JobEndReason::Diverged, 23));
}

#[tokio::test]
async fn a_learning_rate_is_proposed() {
    let folder = tempfile::tempdir().unwrap();
    write_numbers(&folder.path().join("train.safetensors"), 1.0, None);
    write_numbers(&folder.path().join("validation.safetensors"), 1.0, None);
    let daemon = Setup::new().data_root(folder.path()).start();
    let search = async |highest, schedule| {
        let training = v1::Training { restore_best: true, ..Default::default() };
        let mut spec = linear(folder.path(), 1, 0.1, training);
        spec.data.as_mut().unwrap().shuffle = None;
        let request = v1::JobSpec {
            mode: v1::Mode::LrRange.into(),
            lr_range: Some(v1::LrRange { lowest: Some(1e-4), highest: Some(highest), steps: Some(60) }),
            schedule,
            ..spec
        };
        let job = daemon.create(request).await;
        let told = job.spec.as_ref().unwrap();
        assert!(told.data.as_ref().unwrap().validation.is_none() && told.schedule.is_some(), "{told:?}");
        let ended = daemon.watch_to_end(&job.name).await;
        let message = ended.end.as_ref().unwrap().message.clone();
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{message}");
        let rates = scalars(&daemon, &job.name, "learning_rate").await;
        let losses = scalars(&daemon, &job.name, "loss/train").await;
        assert_eq!((rates.len(), rates[0].1), (losses.len(), 1e-4));
        assert!(!daemon.job_folder(&job.name).join("artifacts/model.safetensors").exists());
        let proposed = message.split("fastest at a learning rate of ").nth(1).and_then(|rest| rest.split(',').next());
        let proposed: f64 = proposed.unwrap_or_else(|| panic!("{message}")).parse().unwrap();
        assert!((1e-3..2.0).contains(&proposed), "{message}");
        (message, rates.len())
    };
    // Beyond a rate of about 1 the loss grows without end.
    let cosine = v1::Schedule { kind: Some(v1::schedule::Kind::Cosine(v1::Cosine::default())) };
    let (message, steps) = search(1e4, Some(cosine)).await;
    assert!(message.starts_with(&format!("ended at step {steps}: the loss was ")) && steps < 60, "{message}");
    let (message, steps) = search(0.1, None).await;
    assert!(message.starts_with("went through all 60 learning rates; ") && steps == 60, "{message}");
}

#[tokio::test]
async fn ways_of_training_that_cannot_be_are_refused_by_their_fields() {
    let daemon = Daemon::start();
    let training = |training: v1::Training| {
        let before = spec::short().training.unwrap();
        let length = Some(Length::MaxSteps(20));
        v1::JobSpec {
            training: Some(v1::Training { length, batch_size: before.batch_size, ..training }),
            ..spec::short()
        }
    };
    let default = v1::Training::default;
    let stopping = |metric: &str| v1::EarlyStopping { metric: metric.into(), ..Default::default() };
    let without_validation = |wanted: v1::Training| {
        let mut spec = training(wanted);
        spec.data.as_mut().unwrap().validation = None;
        spec
    };
    let range = |lowest, highest, steps| v1::JobSpec {
        mode: v1::Mode::LrRange.into(),
        lr_range: Some(v1::LrRange { lowest, highest, steps }),
        ..spec::short()
    };
    let freeze = |pattern: &str| {
        let optimizer = v1::Optimizer { freeze: vec![pattern.into()], ..spec::sgd(0.1, 0.0) };
        v1::JobSpec { optimizer: Some(optimizer), ..spec::short() }
    };
    let group = |parameters: &[&str]| v1::ParameterGroup {
        parameters: parameters.iter().map(|&pattern| pattern.to_owned()).collect(),
        ..Default::default()
    };
    let groups = |groups: Vec<v1::ParameterGroup>| v1::JobSpec {
        optimizer: Some(v1::Optimizer { groups, ..spec::sgd(0.1, 0.0) }),
        ..spec::short()
    };
    let cases = [
        (
            training(v1::Training { precision: v1::Precision::Float16.into(), ..default() }),
            "training.precision",
            "is float16, which needs a GPU",
        ),
        (
            training(v1::Training { cuda_graphs: true, ..default() }),
            "training.cuda_graphs",
            "is set, and the job computes on the CPU, where there are no CUDA graphs; leave it out",
        ),
        (
            training(v1::Training { cuda_graphs: true, on_divergence: v1::OnDivergence::SkipStep.into(), ..default() }),
            "training.cuda_graphs",
            "is set, and training.on_divergence is skip_step, which decides on the host after each step; take fail or",
        ),
        (
            v1::JobSpec {
                model: Some(v1::Model { family: Some(v1::model::Family::Mlp(v1::Mlp::default())) }),
                ..training(v1::Training { channels_last: true, ..default() })
            },
            "training.channels_last",
            "is set, and mlp has no layers that gain by it; leave it out",
        ),
        (
            training(v1::Training { accumulate_steps: Some(3), ..default() }),
            "training.accumulate_steps",
            "is 3, which does not divide training.batch_size, 64",
        ),
        (
            training(v1::Training { ema_decay: Some(1.0), ..default() }),
            "training.ema_decay",
            "is 1; at least 0 and below 1",
        ),
        (
            training(v1::Training { early_stopping: Some(stopping("mae/validation")), ..default() }),
            "training.early_stopping.metric",
            "is \"mae/validation\", which the job does not tell",
        ),
        (
            training(v1::Training { early_stopping: Some(stopping("accuracy")), ..default() }),
            "training.early_stopping.metric",
            "is \"accuracy\", where loss/validation is right, or that of a metric",
        ),
        (
            without_validation(v1::Training { early_stopping: Some(stopping("")), ..default() }),
            "training.early_stopping",
            "needs data.validation",
        ),
        (
            without_validation(v1::Training { restore_best: true, ..default() }),
            "training.restore_best",
            "needs data.validation",
        ),
        (range(Some(1.0), Some(0.1), None), "lr_range.highest", "is 0.1; more than lr_range.lowest, 1, is needed"),
        (range(None, None, Some(1)), "lr_range.steps", "is 1; 2 to 100000 is right"),
        (
            v1::JobSpec { mode: v1::Mode::Train.into(), ..range(None, None, None) },
            "lr_range",
            "is set, and the mode is train",
        ),
        (freeze("conv3.*"), "optimizer.freeze[0]", "is \"conv3.*\", which describes no parameter; there are conv"),
        (freeze("*"), "optimizer.freeze", "describes every parameter"),
        (groups(vec![group(&[])]), "optimizer.groups[0].parameters", "is empty"),
        (
            groups(vec![group(&["fc1.*"]), group(&["*.weight"])]),
            "optimizer.groups[1].parameters[0]",
            "describes fc1.weight, as optimizer.groups[0].parameters[0] does",
        ),
    ];
    for (spec, field, words) in cases {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        let told = status.get_details_bad_request().unwrap().field_violations;
        let found = told
            .iter()
            .find(|told| told.field.strip_prefix("spec.") == Some(field))
            .unwrap_or_else(|| panic!("{field}: {told:?}"));
        assert!(found.description.contains(words), "{field}: {}", found.description);
    }
}
