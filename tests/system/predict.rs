//! Jobs that apply the model of another job.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::dataset::Format;
use torchd::proto::v1::warm_start::Source;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

/// A job that applies the model of `source` to the validation images of the examples.
pub(super) fn apply(mode: v1::Mode, source: Source) -> v1::JobSpec {
    let test = spec::short().data.unwrap().validation;
    v1::JobSpec {
        mode: mode.into(),
        data: Some(v1::Data { test, ..v1::Data::default() }),
        warm_start: Some(v1::WarmStart { source: Some(source), ..v1::WarmStart::default() }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    }
}

pub(super) fn of_job(name: &str) -> Source {
    Source::Checkpoint(name.to_owned())
}

/// A short job on one thread, so that its numbers come out the same.
fn short() -> v1::JobSpec {
    v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }
}

/// The newest values of the scalars of a set, by their names, at that step where one is given.
async fn scalars(daemon: &Daemon, name: &str, set: &str, step: Option<u64>) -> BTreeMap<String, u64> {
    let request = v1::ListScalarTagsRequest { name: name.to_owned(), ..Default::default() };
    let tags = daemon.jobs().await.list_scalar_tags(request).await.unwrap().into_inner().tags;
    let mut found = BTreeMap::new();
    for tag in tags.into_iter().map(|tag| tag.tag).filter(|tag| tag.ends_with(set)) {
        let request = v1::ReadScalarsRequest { name: name.to_owned(), tag: tag.clone(), ..Default::default() };
        let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
        let point = points.iter().rfind(|point| step.is_none_or(|step| point.step == step)).unwrap();
        found.insert(tag.trim_end_matches(set).to_owned(), point.value.to_bits());
    }
    found
}

pub(super) async fn succeed(daemon: &Daemon, spec: v1::JobSpec) -> v1::Job {
    let job = daemon.create(spec).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{ended:?}");
    ended
}

pub(super) fn artifact(daemon: &Daemon, job: &v1::Job, name: &str) -> Vec<u8> {
    fs::read(daemon.job_folder(&job.name).join("artifacts").join(name)).unwrap()
}

#[tokio::test]
async fn an_evaluation_gives_bit_for_bit_what_the_validation_of_the_trained_job_gave() {
    let daemon = Daemon::start();
    let mut spec = v1::JobSpec {
        metrics: vec!["accuracy".into(), "f1_macro".into(), "confusion_matrix".into()],
        ..v1::JobSpec { resources: Some(spec::threads(1)), ..spec::mnist(v1::training::Length::Epochs(2)) }
    };
    let training = spec.training.as_mut().unwrap();
    // The result has the averaged weights, and validation took them.
    (training.validation_batch_size, training.ema_decay) = (Some(300), Some(0.9));
    let trained = succeed(&daemon, spec).await;
    let evaluated = succeed(&daemon, apply(v1::Mode::Evaluate, of_job(&trained.name))).await;
    let told = scalars(&daemon, &trained.name, "/validation", None).await;
    assert_eq!((told.len(), &told), (3, &scalars(&daemon, &evaluated.name, "/test", None).await));
    let spec = evaluated.spec.as_ref().unwrap();
    let training = spec.training.as_ref().unwrap();
    assert_eq!((training.batch_size, training.ema_decay, &spec.optimizer), (Some(300), None, &None));
    assert_eq!((&spec.model, spec.metrics.len()), (&trained.spec.as_ref().unwrap().model, 3));
    let file: serde_json::Value = serde_json::from_slice(&artifact(&daemon, &evaluated, "evaluation.json")).unwrap();
    assert_eq!(file["metrics"]["accuracy"].as_f64().unwrap().to_bits(), told["accuracy"]);
    assert_eq!((file["examples"].as_u64(), file["loss"].as_f64().map(f64::to_bits)), (Some(1000), Some(told["loss"])));
    let end = evaluated.end.unwrap().message;
    assert!(end.starts_with("evaluated on 1000 examples: loss ") && end.contains(", accuracy 0."), "{end}");
    let matrix = |job: &v1::Job| {
        let file: serde_json::Value = serde_json::from_slice(&artifact(&daemon, job, "confusion_matrix.json")).unwrap();
        file["matrix"].clone()
    };
    assert_eq!(matrix(&trained), matrix(&v1::Job { name: evaluated.name, ..v1::Job::default() }));
}

#[tokio::test]
async fn a_checkpoint_is_evaluated_by_its_step_and_predictions_are_right_as_often_as_was_told() {
    let daemon = Daemon::start();
    let long = v1::JobSpec { resources: Some(spec::threads(1)), ..spec::mnist(v1::training::Length::Epochs(2)) };
    let trained = succeed(&daemon, long).await;
    let first = format!("{}/checkpoints/step-63", trained.name);
    let evaluated = succeed(&daemon, apply(v1::Mode::Evaluate, of_job(&first))).await;
    let told = scalars(&daemon, &trained.name, "/validation", Some(63)).await;
    assert_eq!(told, scalars(&daemon, &evaluated.name, "/test", None).await);

    let predicted = succeed(&daemon, apply(v1::Mode::Predict, of_job(&trained.name))).await;
    let told = scalars(&daemon, &trained.name, "/validation", None).await;
    let (accuracy, loss) = (f64::from_bits(told["accuracy"]), f64::from_bits(told["loss"]));
    let table = String::from_utf8(artifact(&daemon, &predicted, "predictions.csv")).unwrap();
    let mut lines = table.lines();
    let classes: Vec<_> = (0..10).map(|class| format!("probability_{class}")).collect();
    assert_eq!(lines.next().unwrap(), format!("row,prediction,{},target,loss", classes.join(",")));
    let (mut right, mut losses) = (0, 0.0);
    for (row, line) in lines.enumerate() {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let (probabilities, target) = (&cells[2..12], cells[12] as usize);
        assert_eq!((cells.len(), cells[0] as usize), (14, row));
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{line}");
        assert!(probabilities.iter().all(|one| *one <= probabilities[cells[1] as usize]), "{line}");
        assert!((cells[13] + probabilities[target].ln()).abs() < 1e-4, "{line}");
        right += u32::from(cells[1] == cells[12]);
        losses += cells[13];
    }
    assert_eq!(f64::from(right) / 1000.0, accuracy);
    assert!((losses / 1000.0 - loss).abs() < 1e-5, "{losses} and {loss}");

    let output = Some(v1::Output { predictions: v1::Predictions::Safetensors.into(), ..v1::Output::default() });
    let arrays = v1::JobSpec { output, ..apply(v1::Mode::Predict, of_job(&trained.name)) };
    let arrays = succeed(&daemon, arrays).await;
    let bytes = artifact(&daemon, &arrays, "predictions.safetensors");
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = read.names();
    names.sort_unstable();
    assert_eq!(names, ["loss", "predictions", "probabilities", "targets"]);
    assert_eq!(read.tensor("probabilities").unwrap().shape(), [1000, 10]);
    let whole = |name: &str| {
        let tensor = read.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect::<Vec<_>>()
    };
    let column = |place: usize| {
        table.lines().skip(1).map(|line| line.split(',').nth(place).unwrap().parse().unwrap()).collect::<Vec<i64>>()
    };
    assert_eq!((whole("predictions"), whole("targets")), (column(1), column(12)));
}

#[tokio::test]
async fn the_commands_of_the_readme_use_the_model_of_a_job() {
    let daemon = Daemon::start();
    let trained = succeed(&daemon, short()).await;
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("## Use the trained model\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("    torchctl ")).collect();
    let told = scalars(&daemon, &trained.name, "/validation", None).await;
    for (command, words) in
        commands.iter().zip(["answered 1000 examples: artifacts/predictions.csv", "evaluated on 1000"])
    {
        let command = command.replace("JOB", &trained.name);
        let (code, out, err) = super::torchctl::told(&daemon.ctl(&command.split(' ').collect::<Vec<_>>()));
        assert!(code == 0 && out.contains(words), "{out}{err}");
        assert!(!out.contains("epoch"), "{out}");
    }
    let command = commands[1].replace("JOB", &trained.name).replace(" --watch", "").replace("submit", "validate");
    let (code, out, err) = super::torchctl::told(&daemon.ctl(&command.split(' ').collect::<Vec<_>>()));
    let set = out.lines().find(|line| line.starts_with("test set ")).unwrap_or_default();
    assert!(code == 0 && set.ends_with(" 1000 examples, all read") && !out.contains("training"), "{out}{err}");
    let jobs = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(told, scalars(&daemon, &jobs[0].name, "/test", None).await);
    assert_eq!((commands.len(), jobs.len()), (2, 3));
}

/// Writes named arrays of 32-bit floats, and of classes as `y`.
fn write_arrays(path: &Path, x: &[f32], width: usize, y: Option<&[i64]>) {
    let (x_bytes, rows) = (x.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(), x.len() / width);
    let y_bytes = y.map(|y| y.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let view = |dtype, shape: Vec<usize>, bytes| safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
    let mut views = vec![("x", view(safetensors::Dtype::F32, vec![rows, width], &x_bytes))];
    views.extend(y_bytes.as_ref().map(|bytes| ("y", view(safetensors::Dtype::I64, vec![rows], bytes))));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn arrays(path: &str) -> v1::Dataset {
    let files = v1::SafetensorsDataset { path: path.into(), ..v1::SafetensorsDataset::default() };
    v1::Dataset { format: Some(v1::dataset::Format::Safetensors(files)) }
}

/// A small classifier of rows of three numbers into `classes`, normalized by what was measured.
fn rows(classes: i64, root: &Path) -> v1::JobSpec {
    let x: Vec<_> = (0..300).map(|place| ((place * 37) % 101) as f32).collect();
    let y: Vec<_> = (0..100).map(|row| row % classes).collect();
    write_arrays(&root.join("train.safetensors"), &x, 3, Some(&y));
    let normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
    v1::JobSpec {
        model: Some(v1::Model {
            family: Some(v1::model::Family::Mlp(v1::Mlp { hidden: vec![4], ..v1::Mlp::default() })),
        }),
        data: Some(v1::Data { train: Some(arrays("train.safetensors")), normalize, ..v1::Data::default() }),
        training: Some(v1::Training { batch_size: Some(50), ..short().training.unwrap() }),
        ..short()
    }
}

fn without_validation(spec: v1::JobSpec) -> v1::JobSpec {
    let training = v1::Training { validation_batch_size: None, ..spec.training.clone().unwrap() };
    v1::JobSpec { training: Some(training), ..spec }
}

#[tokio::test]
async fn new_rows_without_targets_and_with_fewer_classes_are_answered_as_the_training_set_taught() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let trained = succeed(&daemon, without_validation(rows(5, root.path()))).await;
    // One row of the training set, by itself: its own mean and deviation would make zeros of it.
    let train = fs::read(root.path().join("train.safetensors")).unwrap();
    let train = safetensors::SafeTensors::deserialize(&train).unwrap();
    let x: Vec<_> =
        train.tensor("x").unwrap().data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    write_arrays(&root.path().join("one.safetensors"), &x[3..6], 3, None);
    let predict = |path: &str| v1::JobSpec {
        data: Some(v1::Data { test: Some(arrays(path)), ..v1::Data::default() }),
        ..apply(v1::Mode::Predict, of_job(&trained.name))
    };
    let all = succeed(&daemon, predict("train.safetensors")).await;
    let one = succeed(&daemon, predict("one.safetensors")).await;
    let all = String::from_utf8(artifact(&daemon, &all, "predictions.csv")).unwrap();
    let one = String::from_utf8(artifact(&daemon, &one, "predictions.csv")).unwrap();
    assert_eq!(one.lines().next().unwrap(), all.lines().next().unwrap().trim_end_matches(",target,loss"));
    let numbers = |line: &str| line.split(',').map(|cell| cell.parse().unwrap()).collect::<Vec<f64>>();
    let (of_all, of_one) = (numbers(all.lines().nth(2).unwrap()), numbers(one.lines().nth(1).unwrap()));
    assert_eq!((of_one.len(), of_one[0], of_one[1]), (7, 0.0, of_all[1]));
    for (one, all) in of_one[2..].iter().zip(&of_all[2..7]) {
        assert!((one - all).abs() < 1e-6, "{of_one:?} and {of_all:?}");
    }
    // An evaluation needs them.
    let spec = v1::JobSpec { mode: v1::Mode::Evaluate.into(), ..predict("one.safetensors") };
    let told = refused(&daemon, spec).await;
    assert!(
        told[0].starts_with("spec.data.test.safetensors.path: ") && told[0].contains(r#"no array "y""#),
        "{told:?}"
    );
    // The weights alone, with all that the spec then has to tell.
    let place = daemon.job_folder(&trained.name).join("artifacts/model.safetensors");
    fs::copy(place, root.path().join("weights.safetensors")).unwrap();
    let kept = serde_json::from_slice::<serde_json::Value>(&artifact(&daemon, &trained, "preprocessing.json")).unwrap();
    let list = |name: &str| {
        kept["inputs"][0][name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let normalize = v1::Normalize { mean: list("mean"), std: list("std"), measure: false };
    let by_file = v1::JobSpec {
        model: trained.spec.as_ref().unwrap().model.clone(),
        data: Some(v1::Data {
            test: Some(arrays("train.safetensors")),
            normalize: Some(normalize),
            ..v1::Data::default()
        }),
        ..apply(v1::Mode::Evaluate, Source::File("weights.safetensors".into()))
    };
    let by_job = v1::JobSpec { mode: v1::Mode::Evaluate.into(), ..predict("train.safetensors") };
    let (by_file, by_job) = (succeed(&daemon, by_file).await, succeed(&daemon, by_job).await);
    let told = scalars(&daemon, &by_job.name, "/test", None).await;
    assert_eq!((told.len(), &told), (2, &scalars(&daemon, &by_file.name, "/test", None).await));
}

pub(super) async fn refused(daemon: &Daemon, spec: v1::JobSpec) -> Vec<String> {
    let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
    let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
    let details = refused.get_details_bad_request().unwrap_or_else(|| panic!("{refused:?}"));
    details.field_violations.into_iter().map(|one| format!("{}: {}", one.field, one.description)).collect()
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_by_its_field() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let trained = succeed(&daemon, without_validation(rows(3, root.path()))).await;
    let x: Vec<_> = (0..12).map(|value| value as f32).collect();
    write_arrays(&root.path().join("wide.safetensors"), &x, 4, Some(&[0, 1, 2]));
    write_arrays(&root.path().join("classes.safetensors"), &x, 3, Some(&[0, 1, 2, 3]));
    write_arrays(&root.path().join("good.safetensors"), &x, 3, Some(&[0, 1, 2, 0]));
    let on = |path: &str| v1::JobSpec {
        data: Some(v1::Data { test: Some(arrays(path)), ..v1::Data::default() }),
        ..apply(v1::Mode::Evaluate, of_job(&trained.name))
    };
    let with_data = |change: fn(&mut v1::Data)| {
        let mut spec = on("good.safetensors");
        change(spec.data.as_mut().unwrap());
        spec
    };
    let of = |name: &str| v1::JobSpec {
        warm_start: apply(v1::Mode::Evaluate, of_job(name)).warm_start,
        ..on("good.safetensors")
    };
    // Another job of the same moment.
    let mut unknown = trained.name.clone();
    let last = if unknown.pop() == Some('0') { '1' } else { '0' };
    unknown.push(last);
    let queued = daemon.create(spec::endless()).await;
    let running = daemon.watch_until(&queued.name, |job| job.state() == v1::JobState::Running).await;
    drop(running);
    let mut measured = on("good.safetensors");
    measured.warm_start = apply(v1::Mode::Evaluate, Source::File("good.safetensors".into())).warm_start;
    measured.data.as_mut().unwrap().normalize = Some(v1::Normalize { measure: true, ..v1::Normalize::default() });
    let other_model = v1::JobSpec { model: spec::short().model, ..on("good.safetensors") };
    for (spec, field, words) in [
        (on("wide.safetensors"), "data.test.safetensors.path", r#"has "x" as [4] of 32-bit floats"#),
        (on("classes.safetensors"), "data.test.safetensors.path", "holds the label 3 at place 3"),
        (on("none.safetensors"), "data.test.safetensors.path", "none.safetensors"),
        (with_data(|data| data.train = data.test.clone()), "data.train", "mode = evaluate trains nothing"),
        (with_data(|data| data.limit = Some(3)), "data.limit", "mode = evaluate trains nothing"),
        (
            with_data(|data| data.sampling = Some(v1::Sampling::default())),
            "data.sampling",
            "mode = evaluate trains nothing",
        ),
        (with_data(|data| data.test = None), "data.test", "is missing; name the examples to use the model on"),
        (of(&unknown), "warm_start.checkpoint", "there is no such job"),
        (of("jobs/x"), "warm_start.checkpoint", "jobs/{id} or jobs/{id}/checkpoints/step-{step} is needed"),
        (of(&format!("{}/checkpoints/step-7", trained.name)), "warm_start.checkpoint", "that job has the steps 20"),
        (other_model, "model", "is another than that of jobs/"),
        (
            v1::JobSpec { warm_start: None, model: spec::short().model, ..on("good.safetensors") },
            "warm_start",
            "is missing",
        ),
        (v1::JobSpec { optimizer: Some(spec::sgd(0.1, 0.0)), ..on("good.safetensors") }, "optimizer", "trains nothing"),
        (
            v1::JobSpec { mode: v1::Mode::Train.into(), data: on("good.safetensors").data, ..spec::short() },
            "data.train",
            "is missing",
        ),
    ] {
        let told = refused(&daemon, spec).await;
        assert!(told[0].starts_with(&format!("spec.{field}: ")) && told[0].contains(words), "{field}: {told:?}");
        let is_single = told.len() == 1 || words == "is missing";
        assert!(is_single || words.contains("[4]"), "{told:?}");
    }
    let told = refused(&daemon, measured).await;
    assert!(told[0].starts_with("spec.data.normalize.measure: ") && told[1].starts_with("spec.model: "), "{told:?}");
    let nameless = refused(&daemon, of("")).await;
    let words =
        "spec.warm_start.checkpoint: is \"\", which names nothing; jobs/{id} or jobs/{id}/checkpoints/step-{step} is";
    assert!(nameless.iter().any(|told| told.starts_with(words)), "{nameless:?}");
    // The name without `jobs/` is that of the commands.
    let request = v1::ValidateJobRequest { spec: Some(of(trained.name.trim_start_matches("jobs/"))), dry_run: false };
    assert_eq!(daemon.jobs().await.validate_job(request).await.unwrap().into_inner().test_examples, 4);
    // A dry run trains.
    let request = v1::ValidateJobRequest { spec: Some(on("good.safetensors")), dry_run: true };
    let status = daemon.jobs().await.validate_job(request).await.unwrap_err();
    assert!(status.message().contains("a dry run trains"), "{status:?}");
    let request = v1::ValidateJobRequest { spec: Some(on("good.safetensors")), dry_run: false };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    assert_eq!((told.train_examples, told.test_examples, told.total_steps), (0, 4, 1));
    // The spec tells the parts that were taken over, and can be sent again.
    let again = daemon.create(told.spec.clone().unwrap()).await;
    assert_eq!(again.spec.unwrap().model, told.spec.unwrap().model);
    // A job whose model never was written down: an earlier version trained it.
    fs::remove_file(daemon.job_folder(&trained.name).join("artifacts/preprocessing.json")).unwrap();
    let told = refused(&daemon, on("good.safetensors")).await;
    assert!(told[0].contains("has no artifacts/preprocessing.json") && told.len() == 1, "{told:?}");
}

#[tokio::test]
async fn a_pass_that_is_stopped_or_killed_leaves_nothing_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    let daemon = Setup::new().env("TORCHD_FAULT", format!("validation-batch@{}", hold.display()));
    let daemon = daemon.start();
    let trained = succeed(
        &daemon,
        without_validation(v1::JobSpec {
            data: Some(v1::Data { validation: None, ..spec::short().data.unwrap() }),
            ..short()
        }),
    )
    .await;
    let retry = Some(v1::Retry {
        max_restarts: 1,
        initial_backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..v1::Retry::default()
    });
    let training = Some(v1::Training { batch_size: Some(100), ..v1::Training::default() });
    let spec = v1::JobSpec { retry, training, ..apply(v1::Mode::Predict, of_job(&trained.name)) };
    let whole = succeed(&daemon, spec.clone()).await;
    fs::File::create(&hold).unwrap();
    let job = daemon.create(spec).await;
    let artifacts = daemon.job_folder(&job.name).join("artifacts");
    let is_held = || artifacts.join(".predictions.csv.new").exists().then_some(());
    wait_for("the file of predictions to be begun", is_held);
    // Killed: nobody else than the next attempt tells.
    let lock = fs::read_to_string(daemon.job_folder(&job.name).join("lock")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&lock).unwrap()["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    daemon.watch_until(&job.name, |job| job.attempt == 2 && job.state() == v1::JobState::Running).await;
    assert!(!artifacts.join("predictions.csv").exists());
    // Stopped: the pass is given up.
    wait_for("the file of predictions to be begun", is_held);
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    fs::remove_file(&hold).unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    assert_eq!(fs::read_dir(&artifacts).unwrap().count(), 0);
    let set = vec![v1::FieldEdit { path: "priority".into(), value: "3".into() }];
    let edits = Some(v1::JobEdits { set, ..v1::JobEdits::default() });
    let resume = v1::ResumeJobRequest { name: job.name.clone(), edits, ..Default::default() };
    daemon.jobs().await.resume_job(resume).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.spec.as_ref().unwrap().priority, 3);
    assert_eq!((ended.state(), ended.attempt, ended.progress.unwrap().step), (v1::JobState::Succeeded, 3, 10));
    assert!(artifact(&daemon, &job, "predictions.csv") == artifact(&daemon, &whole, "predictions.csv"));
}

/// A file of weights does not tell the names that training has learned, and a test set may lack some
/// of them.
#[tokio::test]
async fn weights_of_a_file_are_not_used_with_names_that_the_test_set_would_have_to_teach() {
    let root = tempfile::tempdir().unwrap();
    for class in ["ash", "elm"] {
        let folder = root.path().join("trees").join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0.png"), super::formats::png(4, 4)).unwrap();
    }
    fs::write(root.path().join("table.csv"), "a,b,y\n1,x,2\n2,z,3\n").unwrap();
    fs::write(root.path().join("text.txt"), "to be or not to be").unwrap();
    write_arrays(&root.path().join("weights.safetensors"), &[1.0], 1, None);
    let daemon = Setup::new().data_root(root.path()).start();
    let on = |format, outputs| {
        let mlp = v1::Mlp { outputs, ..v1::Mlp::default() };
        v1::JobSpec {
            model: Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) }),
            data: Some(v1::Data { test: Some(v1::Dataset { format: Some(format) }), ..v1::Data::default() }),
            ..apply(v1::Mode::Evaluate, Source::File("weights.safetensors".into()))
        }
    };
    let images = v1::ImageFolderDataset { path: "trees".into(), ..v1::ImageFolderDataset::default() };
    let text = v1::TextDataset {
        path: "text.txt".into(),
        unit: v1::TextUnit::Character.into(),
        context: 4,
        ..v1::TextDataset::default()
    };
    let csv = v1::CsvDataset { path: "table.csv".into(), target: "y".into(), ..v1::CsvDataset::default() };
    let categories = v1::CsvDataset { categorical: vec!["b".into()], ..csv.clone() };
    let mean = v1::MissingValues { by: v1::MissingBy::Mean.into(), ..v1::MissingValues::default() };
    let means = v1::CsvDataset { ignore: vec!["b".into()], missing: vec![mean], ..csv };
    for (format, outputs, field, words) in [
        (
            Format::ImageFolder(images),
            Some(3),
            "data.test.image_folder",
            "has 2 classes by name, and the model answers 3",
        ),
        (Format::Csv(categories), None, "data.test.csv", "needs the categories of columns that the model was trained"),
        (Format::Text(text), None, "data.test.text", "needs the characters of a text that the model was trained with"),
        (Format::Csv(means), None, "data.test", "takes the mean, which the training set has taught"),
    ] {
        let told = refused(&daemon, on(format, outputs)).await;
        let found = told.iter().find(|told| told.starts_with(&format!("spec.{field}: ")));
        let found = found.unwrap_or_else(|| panic!("{words}: {told:?}"));
        assert!(found.contains(words) && found.contains("warm_start.checkpoint"), "{found}");
    }
}
