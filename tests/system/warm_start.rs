//! Jobs that begin with what another one has learnt.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::warm_start::Source;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

pub(crate) fn warm(source: Source, resume: bool, spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { warm_start: Some(v1::WarmStart { source: Some(source), resume, ..Default::default() }), ..spec }
}

/// The first training loss and the last step of a job.
async fn first_loss(daemon: &Daemon, name: &str) -> v1::ScalarPoint {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: "loss/train".into(), ..Default::default() };
    daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points[0]
}

#[tokio::test]
async fn a_job_begins_with_the_weights_of_another_which_may_be_deleted_meanwhile() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let teacher = daemon.create(spec::mnist(v1::training::Length::Epochs(4))).await;
    daemon.watch_to_end(&teacher.name).await;
    let cold = daemon.create(spec::short()).await;
    let blocks = daemon.create(spec::endless()).await;
    let result = daemon.create(warm(Source::Checkpoint(teacher.name.clone()), false, spec::short())).await;
    let step = Source::Checkpoint(format!("{}/checkpoints/step-189", teacher.name));
    let checkpoint = daemon.create(warm(step, false, spec::short())).await;
    daemon.watch_to_end(&cold.name).await;
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: teacher.name.clone() }).await.unwrap();
    let cancel = v1::CancelJobRequest { name: blocks.name.clone(), now: true };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    for job in [&result, &checkpoint] {
        assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    }
    let losses = [&cold, &checkpoint, &result].map(|job| job.name.clone());
    let cold = first_loss(&daemon, &losses[0]).await.value;
    assert!(first_loss(&daemon, &losses[1]).await.value < 0.8 * cold);
    assert!(first_loss(&daemon, &losses[2]).await.value < 0.8 * cold);
    let left = fs::read_dir(daemon.state_dir.join("jobs")).unwrap();
    assert!(left.into_iter().all(|entry| !entry.unwrap().file_name().to_string_lossy().starts_with('.')));
}

#[tokio::test]
async fn a_job_goes_on_with_a_copy_of_a_checkpoint_as_on_the_machine_that_is_gone() {
    let daemon = Daemon::start();
    let length =
        |steps| v1::JobSpec { resources: Some(spec::threads(1)), ..spec::mnist(v1::training::Length::MaxSteps(steps)) };
    let whole = daemon.create(length(150)).await;
    let half = daemon.create(length(63)).await;
    for job in [&whole, &half] {
        assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    }
    // Another daemon, with nothing but a copy of the folder.
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (daemon.job_folder(&half.name).join("checkpoints/step-63"), copy.path().join("run/step-63"));
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let other = Setup::new().data_root(copy.path()).start();
    let job = other.create(warm(Source::File("run/step-63".into()), true, length(150))).await;
    let ended = other.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.attempt, ended.progress.unwrap().step), (v1::JobState::Succeeded, 1, 150));
    let result =
        |daemon: &Daemon, name: &str| fs::read(daemon.job_folder(name).join("artifacts/model.safetensors")).unwrap();
    assert!(
        result(&other, &job.name) == result(&daemon, &whole.name),
        "bit for bit what the first job would have become"
    );
    assert_eq!(first_loss(&other, &job.name).await.step, 70);
}

/// Names in the folder of jobs that are no jobs'.
fn staged(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.state_dir.join("jobs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// A copy of the only checkpoint of a job that has ended.
fn copy_of_checkpoint(daemon: &Daemon, name: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(daemon.job_folder(name).join("checkpoints/step-20")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_copy_of_a_checkpoint_has_its_files_alone_and_shares_none_of_them() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Setup::new().data_root(root.path()).start();
    let teacher = daemon.create(spec::short()).await;
    daemon.watch_to_end(&teacher.name).await;
    let place = root.path().join("run");
    copy_of_checkpoint(&daemon, &teacher.name, &place);
    fs::write(outside.path().join("secret"), "of somebody else").unwrap();
    symlink(outside.path().join("secret"), place.join("secret")).unwrap();
    fs::write(place.join("more"), "not of the checkpoint").unwrap();
    mkfifo(&place.join("pipe"), Mode::S_IRWXU).unwrap();
    let step = format!("{}/checkpoints/step-20", teacher.name);
    let longer = || spec::mnist(v1::training::Length::MaxSteps(30));
    let mut pupils = Vec::new();
    for source in [Source::File("run".into()), Source::Checkpoint(step)] {
        let job = daemon.create(warm(source, true, longer())).await;
        let copy = daemon.job_folder(&job.name).join("checkpoints/step-20");
        let found = fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> = found.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["checkpoint.json", "model.safetensors", "state.safetensors"]);
        for name in names {
            let about = fs::symlink_metadata(copy.join(&name)).unwrap();
            assert!(about.is_file() && about.nlink() == 1, "{name} is its own");
        }
        pupils.push(job.name);
    }
    // Weights alone are a copy too.
    let job = daemon.create(warm(Source::Checkpoint(teacher.name.clone()), false, spec::short())).await;
    let about = fs::symlink_metadata(daemon.job_folder(&job.name).join("warm_start.safetensors")).unwrap();
    assert!(about.is_file() && about.nlink() == 1);
    assert_eq!(daemon.watch_to_end(&pupils[0]).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn links_and_pipes_in_the_place_of_a_checkpoints_files_are_refused_at_once() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Setup::new().data_root(root.path()).start();
    let teacher = daemon.create(spec::short()).await;
    daemon.watch_to_end(&teacher.name).await;
    let put = |folder: &str, name: &str, put: &dyn Fn(&Path)| {
        copy_of_checkpoint(&daemon, &teacher.name, &root.path().join(folder));
        let path = root.path().join(folder).join(name);
        fs::rename(&path, outside.path().join(format!("{folder}-{name}"))).unwrap();
        put(&path);
    };
    let pipe = |path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap();
    put("linked", "model.safetensors", &|path| {
        symlink(outside.path().join("linked-model.safetensors"), path).unwrap();
    });
    put("linked-manifest", "checkpoint.json", &|path| {
        symlink(outside.path().join("linked-manifest-checkpoint.json"), path).unwrap();
    });
    put("piped", "state.safetensors", &pipe);
    put("piped-manifest", "checkpoint.json", &pipe);
    put("endless-manifest", "checkpoint.json", &|path| File::create(path).unwrap().set_len(1 << 40).unwrap());
    pipe(&root.path().join("pipe"));
    let cases = [
        ("linked", "model.safetensors is a link"),
        ("linked-manifest", "holds no checkpoint.json"),
        ("piped", "state.safetensors is a pipe"),
        ("piped-manifest", "checkpoint.json is a pipe"),
        ("endless-manifest", "more than 1048576 bytes"),
        ("pipe", "is a pipe, socket or device, and a file is needed"),
    ];
    for ((path, words), resume) in cases.into_iter().zip([true, false].into_iter().cycle()) {
        let spec = Some(warm(Source::File(path.into()), resume, spec::short()));
        let request = v1::CreateJobRequest { spec, ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations.remove(0);
        assert!(wrong.field == "spec.warm_start.file" && wrong.description.contains(words), "{path}: {wrong:?}");
    }
    assert!(staged(&daemon).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_copied_for_a_client_that_has_left_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let waits = root.path().join("waits");
    File::create(&waits).unwrap();
    fs::copy("tests/data/golden/mnist_cnn_init.safetensors", root.path().join("weights")).unwrap();
    let fault = format!("staging@{}", waits.display());
    let daemon = Setup::new().data_root(root.path()).env("TORCHD_FAULT", fault).start();
    let mut jobs = daemon.jobs().await;
    let spec = Some(warm(Source::File("weights".into()), false, spec::short()));
    let request = v1::CreateJobRequest { spec, ..Default::default() };
    let client = tokio::spawn(async move { jobs.create_job(request).await });
    let begun = || (!staged(&daemon).is_empty()).then_some(());
    wait_for("a copy that has begun", begun);
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    fs::remove_file(waits).unwrap();
    wait_for("the end of the copy", || staged(&daemon).is_empty().then_some(()));
    let listed = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert!(listed.jobs.is_empty());
}

#[tokio::test]
async fn nothing_is_copied_for_a_job_that_is_refused_for_want_of_room() {
    let root = tempfile::tempdir().unwrap();
    fs::copy("tests/data/golden/mnist_cnn_init.safetensors", root.path().join("weights")).unwrap();
    // The point is passed by a copy that begins, and kills the daemon.
    let setup = || Setup::new().data_root(root.path()).env("TORCHD_FAULT", "staging");
    let request = || {
        let spec = Some(warm(Source::File("weights".into()), false, spec::short()));
        v1::CreateJobRequest { spec, ..Default::default() }
    };
    let daemon = setup().set("jobs.max_state_bytes", "1000").start();
    let status = daemon.jobs().await.create_job(request()).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "STATE_FULL", "{status:?}");
    assert!(status.message().contains("1000 are left"), "{}", status.message());
    drop(daemon);
    let daemon = setup().set("jobs.cpu_slots", "1").set("jobs.max_queued", "1").start();
    let running = daemon.create(spec::endless()).await;
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    daemon.create(spec::endless()).await;
    let status = daemon.jobs().await.create_job(request()).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "QUEUE_FULL", "{status:?}");
    assert!(staged(&daemon).is_empty());
}

#[tokio::test]
async fn a_job_needs_its_copy_and_not_the_source() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let teacher = daemon.create(spec::short()).await;
    daemon.watch_to_end(&teacher.name).await;
    let blocks = daemon.create(spec::endless()).await;
    let pupil = daemon.create(warm(Source::Checkpoint(teacher.name.clone()), false, spec::short())).await;
    let bereft = daemon.create(warm(Source::Checkpoint(teacher.name.clone()), false, spec::short())).await;
    fs::remove_file(daemon.job_folder(&bereft.name).join("warm_start.safetensors")).unwrap();
    let name = || pupil.name.clone();
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name() }).await.unwrap();
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: teacher.name }).await.unwrap();
    let edits = Some(v1::JobEdits { learning_rate: Some(0.02), ..Default::default() });
    daemon.jobs().await.resume_job(v1::ResumeJobRequest { name: name(), edits, ..Default::default() }).await.unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: blocks.name, now: true }).await.unwrap();
    assert_eq!(daemon.watch_to_end(&name()).await.state(), v1::JobState::Succeeded);
    let end = daemon.watch_to_end(&bereft.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData);
    assert!(end.message.contains("is gone from the job's folder"), "{}", end.message);
}

#[tokio::test]
async fn a_job_that_goes_on_from_a_checkpoint_is_judged_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(folder.path()).start();
    let one_core = |length| v1::JobSpec { resources: Some(spec::threads(1)), ..spec::mnist(length) };
    let teacher = daemon.create(one_core(v1::training::Length::Epochs(1))).await;
    let ended = daemon.watch_to_end(&teacher.name).await;
    assert_eq!((ended.progress.unwrap().step, ended.resume_from), (63, None), "it never went on from anywhere");
    let of = |name: &str, length, batch_size| {
        let mut spec = one_core(length);
        spec.training.as_mut().unwrap().batch_size = Some(batch_size);
        warm(Source::Checkpoint(name.into()), true, spec)
    };
    let validate = async |spec| {
        daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec), dry_run: false }).await
    };
    // Two epochs of 125 steps are left.
    let spec = of(&teacher.name, v1::training::Length::Epochs(3), 32);
    let answer = validate(spec.clone()).await.unwrap().into_inner();
    assert_eq!((answer.total_steps, answer.first_step), (63 + 2 * 125, 63));
    let job = daemon.create(spec).await;
    let progress = daemon.watch_until(&job.name, |job| job.progress.is_some()).await.progress.unwrap();
    assert_eq!(progress.total_steps, answer.total_steps, "as the runner counts them");

    let wrong = async |spec, field: &str, words: &str| {
        let status = validate(spec).await.unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations.remove(0);
        assert!(wrong.field == format!("spec.{field}") && wrong.description.contains(words), "{wrong:?}");
    };
    for length in [v1::training::Length::Epochs(1), v1::training::Length::MaxSteps(63)] {
        let field = if length == v1::training::Length::Epochs(1) { "training.epochs" } else { "training.max_steps" };
        wrong(of(&teacher.name, length, 64), field, "a number above").await;
    }
    let mut other = of(&teacher.name, v1::training::Length::Epochs(3), 64);
    other.data.as_mut().unwrap().train = other.data.as_ref().unwrap().validation.clone();
    wrong(other, "warm_start.resume", "the training set had 4000 examples and has 1000").await;

    // A damaged one is not passed over for another that nobody has named.
    let weights = daemon.job_folder(&teacher.name).join("checkpoints/step-63/model.safetensors");
    // Another file: the job above has a second name for this one.
    fs::remove_file(&weights).unwrap();
    let spec = of(&teacher.name, v1::training::Length::Epochs(4), 64);
    wrong(spec, "warm_start.checkpoint", "checkpoint of step 63 is damaged: model.safetensors is missing").await;
}

#[tokio::test]
async fn what_cannot_be_begun_with_is_named_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("weights"), "no weights").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let daemon = Setup::new().data_root(folder.path()).start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_to_end(&job.name).await;
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    for entry in fs::read_dir(daemon.job_folder(&job.name).join("checkpoints/step-20")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if path.ends_with("state.safetensors") {
            *bytes.last_mut().unwrap() ^= 1;
        }
        fs::write(damaged.join(path.file_name().unwrap()), bytes).unwrap();
    }
    let cases = [
        (Source::File("damaged".into()), true, "spec.warm_start", "checksum"),
        (Source::Checkpoint("jobs/20200101-000000-aaaa".into()), false, "spec.warm_start.checkpoint", "no such job"),
        (
            Source::Checkpoint(format!("{}/checkpoints/step-7", job.name)),
            false,
            "spec.warm_start.checkpoint",
            "has the steps 20",
        ),
        (Source::Checkpoint("../etc".into()), false, "spec.warm_start.checkpoint", "is needed"),
        (Source::File("absent".into()), false, "spec.warm_start.file", "is not there"),
        (Source::File("/etc/passwd".into()), false, "spec.warm_start.file", "leads out of the data roots"),
        (Source::File("empty".into()), false, "spec.warm_start.file", "no checkpoint.json"),
        (Source::File("weights".into()), true, "spec.warm_start.resume", "weights alone"),
        (Source::File("weights".into()), false, "spec.warm_start.file", "looks like text"),
    ];
    for (source, resume, field, words) in cases {
        // More steps than any of these has done.
        let length = v1::training::Length::MaxSteps(40);
        let spec = Some(warm(source, resume, spec::mnist(length)));
        let request = v1::CreateJobRequest { spec, ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations.remove(0);
        assert!(wrong.field == field && wrong.description.contains(words), "{wrong:?}");
    }
    assert_eq!(fs::read_dir(daemon.state_dir.join("jobs")).unwrap().count(), 1);
}

/// The header and the values of a safetensors file.
pub(crate) fn split(file: &[u8]) -> (serde_json::Map<String, Value>, Vec<u8>) {
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Map<_, _> = serde_json::from_slice(header).unwrap();
    header.remove("__metadata__");
    (header, values.to_vec())
}

pub(crate) fn safetensors(header: &serde_json::Map<String, Value>, values: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), &header[..], values].concat()
}

#[tokio::test]
async fn weights_that_do_not_fit_are_told_before_the_job_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(folder.path()).set("jobs.cpu_slots", "1").start();
    let teacher = daemon.create(spec::short()).await;
    daemon.watch_to_end(&teacher.name).await;
    let artifact = daemon.job_folder(&teacher.name).join("artifacts/model.safetensors");
    let (header, values) = split(&fs::read(&artifact).unwrap());
    let renamed = |prefix: &str| header.iter().map(|(name, told)| (format!("{prefix}{name}"), told.clone())).collect();
    let with = |name: &str, told: Value| {
        let mut changed = header.clone();
        changed.insert(name.into(), told);
        changed
    };
    let without = |name: &str| {
        let mut changed = header.clone();
        changed.remove(name);
        changed
    };
    let end = values.len();
    let extra = |dtype: &str, shape: Value| json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + 8]});
    let longer = [&values[..], &[0; 8]].concat();
    let offsets = &header["fc2.weight"]["data_offsets"];
    let transposed = with("fc2.weight", json!({"dtype": "F32", "shape": [50, 10], "data_offsets": offsets}));
    let retyped = with("fc2.weight", json!({"dtype": "I32", "shape": [10, 50], "data_offsets": offsets}));
    let last = header.iter().max_by_key(|(_, told)| told["data_offsets"][1].as_u64()).unwrap();
    let begin = last.1["data_offsets"][0].as_u64().unwrap() as usize;
    let not_finite = |value: f32| safetensors(&header, &[&values[..4], &value.to_le_bytes(), &values[8..]].concat());
    let cases: [(&str, Vec<u8>, &[&str]); 13] = [
        ("module", safetensors(&renamed("module."), &values), &["module.conv1.bias", "needed are", "DataParallel"]),
        ("orig_mod", safetensors(&renamed("_orig_mod."), &values), &["_orig_mod.conv1.bias", "torch.compile"]),
        ("net", safetensors(&renamed("net."), &values), &["net.conv1.bias", "without it"]),
        ("type", safetensors(&retyped, &values), &["fc2.weight is I32 [10, 50], F32 [10, 50] is needed"]),
        ("transposed", safetensors(&transposed, &values), &["fc2.weight is F32 [50, 10], F32 [10, 50] is needed"]),
        ("extra", safetensors(&with("bn.batches", extra("I64", json!([]))), &longer), &["too many are bn.batches"]),
        ("missing", safetensors(&without(last.0), &values[..begin]), &["has the tensors", "needed are", last.0]),
        ("trailing", safetensors(&header, &longer), &["goes on after its end"]),
        ("cut", safetensors(&header, &values[..end - 4]), &["is cut off"]),
        ("nan", not_finite(f32::NAN), &["holds NaN", "at place 1"]),
        ("infinity", not_finite(f32::INFINITY), &["holds inf", "at place 1"]),
        ("model.pt", b"PK\x03\x04archive/data.pkl".into(), &["is a damaged zip archive", "cut off"]),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0".into(), &["Git LFS pointer"]),
    ];
    for (name, bytes, words) in cases {
        fs::write(folder.path().join(name), bytes).unwrap();
        let spec = Some(warm(Source::File(name.into()), false, spec::short()));
        let status =
            daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec, dry_run: false }).await.unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, "spec.warm_start.file"), "{name}: {wrong:?}");
        assert!(words.iter().all(|word| wrong[0].description.contains(word)), "{name}: {wrong:?}");
    }
    // The same of another job, and a file as it should be.
    fs::write(folder.path().join("same"), safetensors(&header, &values)).unwrap();
    let good = warm(Source::File("same".into()), false, spec::short());
    daemon
        .jobs()
        .await
        .validate_job(v1::ValidateJobRequest { spec: Some(good.clone()), dry_run: false })
        .await
        .unwrap();
    fs::write(&artifact, not_finite(f32::NAN)).unwrap();
    let spec = Some(warm(Source::Checkpoint(teacher.name.clone()), false, spec::short()));
    let status = daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec, dry_run: false }).await.unwrap_err();
    let wrong = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(wrong[0].field, "spec.warm_start.checkpoint");

    // A file that breaks after the job was taken ends the job with the reason.
    let blocks = daemon.create(spec::endless()).await;
    let job = daemon.create(good).await;
    fs::write(daemon.job_folder(&job.name).join("warm_start.safetensors"), not_finite(f32::NAN)).unwrap();
    let cancel = v1::CancelJobRequest { name: blocks.name, now: true };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    let first = header.iter().find(|(_, told)| told["data_offsets"][0] == 0).unwrap().0;
    assert!(end.reason() == v1::JobEndReason::BadData && end.message.contains(first), "{end:?}");
}

#[tokio::test]
async fn a_checkpoint_that_somebody_has_made_up_is_told_before_the_job_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Setup::new().data_root(folder.path()).start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_to_end(&job.name).await;
    let from = daemon.job_folder(&job.name).join("checkpoints/step-20");
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["model.safetensors", "state.safetensors", "checkpoint.json"] {
        fs::copy(from.join(name), copy.join(name)).unwrap();
    }
    let manifest: Value = serde_json::from_slice(&fs::read(copy.join("checkpoint.json")).unwrap()).unwrap();
    let state = fs::read(copy.join("state.safetensors")).unwrap();
    let longer = || {
        let length = v1::training::Length::MaxSteps(40);
        Some(warm(Source::File("copy".into()), true, spec::mnist(length)))
    };
    daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: longer(), dry_run: false }).await.unwrap();

    // The same velocities, and no sums behind them.
    let (header, values) = split(&state);
    let (mut without, mut kept) = (serde_json::Map::new(), Vec::new());
    for (name, told) in header.iter().filter(|(name, _)| !name.starts_with("sums.")) {
        let [from, to] = [0, 1].map(|index| told["data_offsets"][index].as_u64().unwrap() as usize);
        let mut moved = told.clone();
        moved["data_offsets"] = json!([kept.len(), kept.len() + to - from]);
        without.insert(name.clone(), moved);
        kept.extend_from_slice(&values[from..to]);
    }
    assert_eq!(values.len(), kept.len() + 3 * 8);
    let bare = safetensors(&without, &kept);
    let sum_of_bare = serde_json::to_value(torchd::journal::FileSum::of("state.safetensors", &bare)).unwrap();

    let model = manifest["files"].as_array().unwrap().iter().find(|file| file["name"] == "model.safetensors").unwrap();
    let cases: [(&str, Value, &[u8], &str); 7] = [
        ("/time/secs_since_epoch", json!(i64::MAX), &state, "beyond the year 9999"),
        ("/files", json!(vec![model; 1000]), &state, "the number of files is 1000"),
        ("/files", json!([model]), &state, "has no state.safetensors"),
        ("/place/examples", json!(u64::MAX), &state, "place.examples is 18446744073709551615"),
        ("/place/examples", json!(4001), &state, "has used 4001 examples of an epoch, and the training set has 4000"),
        ("/summed_examples", json!(u64::MAX), &state, "summed_examples is"),
        ("/files", json!([model, sum_of_bare]), &bare, "needed are sums.correct, sums.loss, velocity.conv1.bias"),
    ];
    for (at, value, state, words) in cases {
        let mut changed = manifest.clone();
        *changed.pointer_mut(at).unwrap() = value;
        fs::write(copy.join("checkpoint.json"), changed.to_string()).unwrap();
        fs::write(copy.join("state.safetensors"), state).unwrap();
        let status = daemon
            .jobs()
            .await
            .validate_job(v1::ValidateJobRequest { spec: longer(), dry_run: false })
            .await
            .unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations;
        // The checkpoint may be good, and is one of other data.
        let field = if words.contains("training set") { "spec.warm_start.resume" } else { "spec.warm_start.file" };
        assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, field), "{at}: {wrong:?}");
        assert!(wrong[0].description.contains(words), "{words}: {}", wrong[0].description);
    }
}
