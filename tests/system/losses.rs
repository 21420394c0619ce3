//! Losses and metrics: what becomes of them in a job, and what is refused of them, by its field.

use std::fs;
use std::path::Path;

use serde_json::json;
use tonic::Code;
use torchd::proto::v1::{self, loss::Kind, training::Length};

use super::daemon::{Daemon, Setup};
use super::spec;
use super::torchctl::told;
use super::warm_start::safetensors;
use super::weights::mistakes;

const EXAMPLES: usize = 12;

/// Inputs `[examples, 2]`, the first of which grows, and these targets of each example.
fn write(path: &Path, targets: &[i64]) {
    let inputs = (0..EXAMPLES).flat_map(|example| [example as f32 / 6.0 - 1.0, 0.5]).flat_map(f32::to_le_bytes);
    let values: Vec<u8> = inputs.chain(targets.iter().flat_map(|target| target.to_le_bytes())).collect();
    let (begin, shape) = (
        EXAMPLES * 8,
        match targets.len() / EXAMPLES {
            1 => vec![EXAMPLES],
            width => vec![EXAMPLES, width],
        },
    );
    let header = json!({
        "x": {"dtype": "F32", "shape": [EXAMPLES, 2], "data_offsets": [0, begin]},
        "y": {"dtype": "I64", "shape": shape, "data_offsets": [begin, values.len()]},
    });
    fs::write(path, safetensors(header.as_object().unwrap(), &values)).unwrap();
}

/// A job of one linear layer on these sets of the data root.
fn job(train: &str, validation: Option<&str>, loss: Option<Kind>, metrics: &[&str]) -> v1::JobSpec {
    let set = |name: &str| {
        let path = format!("{name}.safetensors");
        let set = v1::SafetensorsDataset { path, ..v1::SafetensorsDataset::default() };
        v1::Dataset { format: Some(v1::dataset::Format::Safetensors(set)) }
    };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Mlp(v1::Mlp::default())) }),
        data: Some(v1::Data { train: Some(set(train)), validation: validation.map(set), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(Length::Epochs(3)),
            batch_size: Some(4),
            validation_batch_size: validation.map(|_| 5),
            ..v1::Training::default()
        }),
        loss: loss.map(|kind| v1::Loss { kind: Some(kind) }),
        metrics: metrics.iter().map(|&metric| metric.into()).collect(),
        optimizer: Some(spec::sgd(0.1, 0.0)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

fn binary(positive_weights: &[f64]) -> Option<Kind> {
    Some(Kind::BinaryCrossEntropy(v1::BinaryCrossEntropy { positive_weights: positive_weights.to_vec() }))
}

fn best(metric: &str, spec: v1::JobSpec) -> v1::JobSpec {
    let keep_best = Some(v1::KeepBest { count: Some(1), metric: metric.into() });
    v1::JobSpec { checkpoint: Some(v1::Checkpoint { keep_best, ..v1::Checkpoint::default() }), ..spec }
}

/// Sets with labels: of both kinds, of one kind, of four classes, of three labels, of tokens.
fn start(root: &Path) -> Daemon {
    let both = |example: usize| i64::from(example >= EXAMPLES / 2);
    let each = |target: &dyn Fn(usize) -> i64, width: usize| (0..EXAMPLES * width).map(target).collect::<Vec<_>>();
    write(&root.join("both.safetensors"), &each(&both, 1));
    write(&root.join("one_kind.safetensors"), &each(&|_| 1, 1));
    write(&root.join("classes.safetensors"), &each(&|example| example as i64 % 4, 1));
    write(&root.join("labels.safetensors"), &each(&|place| place as i64 % 2, 3));
    write(&root.join("below.safetensors"), &each(&|example| -(example as i64 % 2), 1));
    write(&root.join("tokens.safetensors"), &each(&|place| place as i64 % 7, 5));
    // The bytes of the labels, taken for twice as many floats.
    let mut numbers = fs::read(root.join("labels.safetensors")).unwrap();
    for (whole, float) in [("I64", "F32"), (",3]", ",6]")] {
        let place = numbers.windows(3).position(|three| three == whole.as_bytes()).unwrap();
        numbers[place..place + 3].copy_from_slice(float.as_bytes());
    }
    fs::write(root.join("numbers.safetensors"), numbers).unwrap();
    Setup::new().data_root(root).start()
}

/// The values of a scalar; none of one that was never told.
async fn scalars(daemon: &Daemon, name: &str, tag: &str) -> Vec<f64> {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.into(), ..Default::default() };
    match daemon.jobs().await.read_scalars(request).await {
        Ok(answer) => answer.into_inner().points.into_iter().map(|point| point.value).collect(),
        Err(status) if status.code() == Code::NotFound => Vec::new(),
        Err(status) => panic!("{status}"),
    }
}

#[tokio::test]
async fn a_metric_that_has_no_value_is_left_out_in_words_and_nothing_else_changes() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let spec = best("auc/validation", job("both", Some("one_kind"), binary(&[]), &["auc", "accuracy", "f1_macro"]));
    let job = daemon.watch_to_end(&daemon.create(spec).await.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{:?}", job.end);
    assert_eq!(scalars(&daemon, &job.name, "auc/validation").await, [0.0; 0]);
    // Of validation alone, and it could be told of training.
    assert_eq!(scalars(&daemon, &job.name, "auc/train").await, [0.0; 0]);
    assert_eq!(scalars(&daemon, &job.name, "accuracy/validation").await.len(), 3);
    assert_eq!(scalars(&daemon, &job.name, "f1_macro/train").await.len(), 9);
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    let words = "auc of the validation set is left out: the targets are all of one kind, and it compares two";
    assert_eq!(log.matches(words).count(), 3, "{log}");
    let request = v1::ListCheckpointsRequest { name: job.name.clone(), ..Default::default() };
    let checkpoints = daemon.jobs().await.list_checkpoints(request).await.unwrap().into_inner().checkpoints;
    let steps: Vec<_> = checkpoints.iter().map(|checkpoint| checkpoint.step).collect();
    assert_eq!((steps.len(), checkpoints[0].metrics.contains_key("auc/validation")), (3, false), "{checkpoints:?}");
}

#[tokio::test]
async fn the_confusion_matrix_of_the_last_validation_pass_is_a_file_of_the_job() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let spec = job("classes", Some("classes"), None, &["confusion_matrix", "top_2", "accuracy", "perplexity"]);
    let job = daemon.watch_to_end(&daemon.create(best("", spec)).await.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded, "{:?}", job.end);
    let keep_best = job.spec.unwrap().checkpoint.unwrap().keep_best.unwrap();
    assert_eq!(keep_best.metric, "top_2/validation", "the first that is a scalar");
    let name = format!("{}/artifacts/confusion_matrix.json", job.name);
    let request = v1::ListArtifactsRequest { name: job.name.clone(), ..Default::default() };
    let listed = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner().artifacts;
    assert!(listed.iter().any(|artifact| artifact.name == name), "{listed:?}");
    let to = root.path().join("downloaded");
    let path = "artifacts/confusion_matrix.json";
    let (code, _, err) = told(&daemon.ctl(&["download", &job.name, path, "--to", to.to_str().unwrap()]));
    assert_eq!(code, 0, "{err}");
    let matrix: serde_json::Value = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
    let classes = json!(["0", "1", "2", "3"]);
    assert_eq!(
        (&matrix["step"], &matrix["target_classes"], &matrix["answer_classes"]),
        (&json!(9), &classes, &classes)
    );
    let rows: Vec<Vec<u64>> = serde_json::from_value(matrix["matrix"].clone()).unwrap();
    let sums: Vec<u64> = rows.iter().map(|row| row.iter().sum()).collect();
    assert_eq!(sums, [3; 4], "three of each class");
    let right: u64 = (0..4).map(|class| rows[class][class]).sum();
    let accuracy = *scalars(&daemon, &job.name, "accuracy/validation").await.last().unwrap();
    assert_eq!(accuracy, right as f64 / 12.0);
    assert_eq!(scalars(&daemon, &job.name, "confusion_matrix/validation").await, [0.0; 0]);
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert_eq!(log.matches("artifacts/confusion_matrix.json has confusion_matrix over 12 targets").count(), 3, "{log}");
}

#[tokio::test]
async fn losses_and_metrics_that_do_not_fit_are_refused_by_their_fields() {
    let root = tempfile::tempdir().unwrap();
    let daemon = start(root.path());
    let weights = |count| {
        let entropy = v1::CrossEntropy { class_weights: vec![1.0; count], ..v1::CrossEntropy::default() };
        Some(Kind::CrossEntropy(entropy))
    };
    let next = || Some(Kind::NextToken(v1::NextToken::default()));
    let auc = |validation| job("both", validation, binary(&[]), &["auc"]);
    let path = "data.train.safetensors.path";
    for (spec, field, words) in [
        (job("classes", None, weights(3), &[]), "loss.cross_entropy.class_weights", "has 3 entries, and mlp tells 4"),
        (
            job("classes", None, binary(&[]), &[]),
            path,
            "holds 3 at place 3, counted from 0 among the labels; for mlp each is 0 or 1",
        ),
        (job("below", None, binary(&[]), &[]), path, "holds -1 among the labels; for mlp each is 0 or 1"),
        (
            job("labels", None, binary(&[1.0, 2.0]), &[]),
            "loss.binary_cross_entropy.positive_weights",
            r#"has 2 entries, and "y" has 3 labels"#,
        ),
        (
            job("labels", None, binary(&[-1.0]), &[]),
            "loss.binary_cross_entropy.positive_weights[0]",
            "is -1; a finite number of at least 0",
        ),
        (
            job("both", None, Some(Kind::Huber(v1::Huber { delta: Some(f64::NAN) })), &[]),
            "loss.huber.delta",
            "is NaN; a finite number above 0",
        ),
        (job("both", None, Some(Kind::L1(v1::L1 {})), &[]), "loss.l1", "needs numbers, and \"y\" has classes"),
        (
            job("both", None, Some(Kind::KlDivergence(v1::KlDivergence {})), &[]),
            "loss.kl_divergence",
            "needs numbers, and \"y\" has classes",
        ),
        (job("tokens", None, next(), &[]), "model.mlp", "the loss needs scores at each token, [5, vocabulary]"),
        (job("both", None, next(), &[]), "loss.next_token", "needs the tokens of a text"),
        // The number of outputs would follow from the target.
        (
            job("numbers", None, Some(Kind::CrossEntropy(v1::CrossEntropy::default())), &[]),
            "loss.cross_entropy",
            "needs classes, and \"y\" has 32-bit floats; mse takes those",
        ),
        (job("classes", Some("classes"), None, &["top_4"]), "metrics[0]", "takes all of 4 classes for right"),
        (job("classes", None, None, &["mae"]), "metrics[0]", "needs numbers, and the target has classes"),
        (
            job("labels", None, binary(&[]), &["accuracy", "perplexity"]),
            "metrics[1]",
            "needs classes, and the target has labels",
        ),
        (job("classes", None, None, &["acuracy"]), "metrics[0]", "is no metric; the nearest is accuracy"),
        (job("labels", Some("labels"), binary(&[]), &["auc"]), "metrics[0]", "the target has 3 labels"),
        (auc(None), "metrics[0]", "is told of a validation set alone; name one as data.validation"),
        (
            best("accuracy/validation", auc(Some("both"))),
            "checkpoint.keep_best.metric",
            "it can be loss/validation or auc/validation",
        ),
        (
            best("confusion_matrix/validation", job("classes", Some("classes"), None, &["confusion_matrix"])),
            "checkpoint.keep_best.metric",
            "which is no scalar",
        ),
    ] {
        let wrong = mistakes(&daemon, spec).await;
        let field = format!("spec.{field}");
        assert!(wrong.len() == 1 && wrong[0].0 == field, "{field}: {wrong:?}");
        assert!(wrong[0].1.contains(words), "{words}: {wrong:?}");
    }
    for spec in [
        best("auc/validation", auc(Some("both"))),
        best("top_3/validation", job("classes", Some("classes"), None, &["top_3"])),
        job("labels", None, binary(&[2.0]), &[]),
    ] {
        daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await.unwrap();
    }
}
