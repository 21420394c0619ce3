//! Jobs that begin with what another one has learnt.

use std::fs;

use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::warm_start::Source;

use super::daemon::{Daemon, Setup};
use super::spec;

fn warm(source: Source, resume: bool, spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { warm_start: Some(v1::WarmStart { source: Some(source), resume }), ..spec }
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
    let validate = async |spec| daemon.jobs().await.validate_job(v1::ValidateJobRequest { spec: Some(spec) }).await;
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
    // What only the runner can read ends the job, and says why.
    let job = daemon.create(warm(Source::File("weights".into()), false, spec::short())).await;
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert!(end.reason() == v1::JobEndReason::BadData && end.message.contains("warm_start"), "{end:?}");
    assert_eq!(fs::read_dir(daemon.state_dir.join("jobs")).unwrap().count(), 2);
}
