//! Data that are not those of the checkpoint that a job goes on from.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::{formats, resume, spec, warm_start};

/// Black images, and as many labels.
fn write_set(root: &Path, count: u32) {
    let size = [count, 28, 28].map(u32::to_be_bytes).concat();
    fs::write(root.join("images"), [&[0, 0, 8, 3][..], &size, &vec![0; count as usize * 784]].concat()).unwrap();
    let labels = [&[0, 0, 8, 1][..], &count.to_be_bytes(), &vec![3; count as usize]].concat();
    fs::write(root.join("labels"), labels).unwrap();
}

/// The same set with another label at that place.
fn change_label(root: &Path, place: u64) {
    let labels = File::options().write(true).open(root.join("labels")).unwrap();
    labels.write_all_at(&[7], 8 + place).unwrap();
}

/// A job of one example a step, so that an epoch has as many steps as examples.
fn endless() -> v1::JobSpec {
    let data = v1::Data { train: Some(spec::idx("images", "labels")), ..v1::Data::default() };
    let length = Some(v1::training::Length::MaxSteps(1_000_000));
    let training = v1::Training { length, batch_size: Some(1), ..v1::Training::default() };
    resume::retried(9, v1::JobSpec { data: Some(data), training: Some(training), ..spec::endless() })
}

/// A job that is paused in the midst of its first epoch.
async fn paused(daemon: &Daemon, spec: v1::JobSpec) -> v1::Job {
    let job = daemon.create(spec).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|told| told.step >= 10)).await;
    let job = pause(daemon, &job.name).await;
    let at = job.resume_from.as_ref().unwrap().step;
    assert!((1..10_000).contains(&at), "{at}");
    job
}

async fn pause(daemon: &Daemon, name: &str) -> v1::Job {
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.into() }).await.unwrap();
    daemon.watch_until(name, |job| job.state() == v1::JobState::Paused).await
}

/// The place in its newest checkpoint.
fn place(daemon: &Daemon, job: &v1::Job) -> (u64, u64, u64) {
    let step = job.resume_from.as_ref().unwrap().step;
    let told = daemon.job_folder(&job.name).join(format!("checkpoints/step-{step}/checkpoint.json"));
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    let number = |field: &str| manifest["place"][field].as_u64().unwrap();
    (number("step"), number("epoch"), number("examples"))
}

fn request(name: &str, accept_new_data: bool) -> v1::ResumeJobRequest {
    v1::ResumeJobRequest { name: name.into(), accept_new_data, ..Default::default() }
}

/// Waits for the next attempt of a job, which trains.
async fn runs(daemon: &Daemon, name: &str, attempt: u32) -> v1::Job {
    let has_begun = |job: &v1::Job| job.attempt == attempt && job.state() != v1::JobState::Starting;
    let job = daemon.watch_until(name, has_begun).await;
    assert_eq!(job.state(), v1::JobState::Running, "{:?}", job.last_attempt_end);
    job
}

async fn resumed(daemon: &Daemon, request: v1::ResumeJobRequest) -> v1::Job {
    let (name, before) = (request.name.clone(), daemon.get(&request.name).await.attempt);
    daemon.jobs().await.resume_job(request).await.unwrap();
    runs(daemon, &name, before + 1).await
}

/// A resume that is refused, and changes nothing.
async fn assert_refused(daemon: &Daemon, request: v1::ResumeJobRequest, words: &str) {
    let before = daemon.get(&request.name).await;
    let refusal = daemon.jobs().await.resume_job(request).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition, "{refusal}");
    assert!(refusal.message().contains(words), "{words}: {}", refusal.message());
    let told = refusal.get_error_details().precondition_failure().unwrap().violations[0].clone();
    assert_eq!((told.r#type.as_str(), &told.subject), ("DATA_CHANGED", &before.name));
    assert_eq!(daemon.get(&before.name).await, before);
}

fn assert_changed(job: &v1::Job, words: &str) {
    let end = job.last_attempt_end.clone().unwrap();
    assert_eq!((job.state(), end.reason()), (v1::JobState::Paused, v1::JobEndReason::DataChanged), "{end:?}");
    assert!(end.message.contains(words), "{words}: {}", end.message);
}

#[tokio::test]
async fn a_job_is_not_resumed_with_other_data_than_its_own() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 10_000);
    let daemon = Setup::new().data_root(root.path()).start();
    let job = paused(&daemon, endless()).await;
    let at = job.resume_from.as_ref().unwrap().step;
    let plain = || request(&job.name, false);

    // Fewer than the steps of the epoch that are done: what is left of it would be negative.
    write_set(root.path(), 1);
    assert_refused(&daemon, plain(), "the training set had 10000 examples and has 1; ").await;
    write_set(root.path(), 10_000);
    let labels = fs::read(root.path().join("labels")).unwrap();
    fs::write(root.path().join("labels"), gzip(&labels)).unwrap();
    assert_refused(&daemon, plain(), "labels had 10008 bytes and has").await;
    fs::write(root.path().join("labels"), &labels).unwrap();
    change_label(root.path(), 9_999);
    let words = "labels has other contents, of the same size of 10008 bytes; put them back and resume it, or take them";
    assert_refused(&daemon, plain(), words).await;

    // Data that nobody can train on are not accepted either.
    fs::write(root.path().join("labels"), &labels[..10_007]).unwrap();
    assert_refused(&daemon, request(&job.name, true), "labels is cut off").await;
    // A volume that is not mounted is no bad data.
    fs::remove_file(root.path().join("labels")).unwrap();
    assert_refused(&daemon, request(&job.name, true), "labels\" is not there").await;
    fs::write(root.path().join("labels"), &labels).unwrap();

    // Nor does another job go on from its checkpoint with other data.
    let source = v1::warm_start::Source::Checkpoint(job.name.clone());
    let spec = || Some(warm_start::warm(source.clone(), true, endless()));
    let create = || v1::CreateJobRequest { spec: spec(), ..Default::default() };
    change_label(root.path(), 0);
    let refusal = daemon.jobs().await.create_job(create()).await.unwrap_err();
    let told = refusal.get_error_details().bad_request().unwrap().field_violations[0].clone();
    assert_eq!(told.field, "spec.warm_start.resume", "{refusal}");
    assert!(told.description.contains("labels has other contents"), "{told:?}");
    fs::write(root.path().join("labels"), &labels).unwrap();
    let validate = v1::ValidateJobRequest { spec: spec(), ..Default::default() };
    let judged = daemon.jobs().await.validate_job(validate).await.unwrap().into_inner();
    assert_eq!(judged.first_step, at);

    // A checkpoint of an earlier version tells nothing of its data.
    let told = daemon.job_folder(&job.name).join(format!("checkpoints/step-{at}/checkpoint.json"));
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    let trained_on = manifest.as_object_mut().unwrap().remove("trained_on").unwrap();
    assert_eq!(trained_on["train"]["examples"], 10_000);
    fs::write(&told, manifest.to_string()).unwrap();
    write_set(root.path(), 1);
    assert_refused(&daemon, plain(), "examples of an epoch, and the training set has 1").await;
    write_set(root.path(), 10_000);
    let running = resumed(&daemon, plain()).await;
    assert_eq!(running.resume_from.unwrap().step, at);
}

#[tokio::test]
async fn a_job_whose_data_have_changed_pauses_when_it_is_started_again_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let (labels, hold) = (root.path().join("labels"), root.path().join("hold"));
    let restore = || write_set(root.path(), 10_000);
    restore();
    let fault = format!("job-assigned@{}", hold.display());
    let daemon = Setup::new().data_root(root.path()).env("TORCHD_FAULT", fault).start();
    let job = paused(&daemon, endless()).await;
    let name = job.name.clone();
    let is_over = |attempt: u32, now: &v1::Job| {
        now.attempt == attempt && matches!(now.state(), v1::JobState::Paused | v1::JobState::Failed)
    };

    // They change while nothing runs, after the resume was judged.
    let cut = || fs::write(&labels, &fs::read(&labels).unwrap()[..9_000]).unwrap();
    let gone = || fs::remove_file(&labels).unwrap();
    let in_the_way = || {
        fs::remove_file(&labels).unwrap();
        fs::create_dir(&labels).unwrap();
    };
    let cases: [(&dyn Fn(), &str); 3] = [
        (&cut, "labels had 10008 bytes and has 9000; "),
        (&gone, "labels cannot be read: No such file"),
        (&in_the_way, "labels is a folder now, and a file is needed"),
    ];
    for (attempt, (change, words)) in (2..).zip(cases) {
        fs::write(&hold, "").unwrap();
        daemon.jobs().await.resume_job(request(&name, false)).await.unwrap();
        change();
        fs::remove_file(&hold).unwrap();
        assert_changed(&daemon.watch_until(&name, |now| is_over(attempt, now)).await, words);
        if labels.is_dir() {
            fs::remove_dir(&labels).unwrap();
        }
        restore();
    }

    // A runner that dies is followed by another one, and that finds them.
    resumed(&daemon, request(&name, false)).await;
    change_label(root.path(), 5);
    daemon.kill_runner(&name);
    let job = daemon.watch_until(&name, |now| is_over(6, now)).await;
    let words = "labels has other contents, of the same size of 10008 bytes; put them back and resume it, or take them";
    assert_changed(&job, words);
    assert_eq!(job.restarts, 1);
    restore();

    // So it is where the machine goes down with the daemon.
    resumed(&daemon, request(&name, false)).await;
    let runner = daemon.signed(&name, "lock");
    let (state, _guard) = daemon.crash();
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    change_label(root.path(), 5);
    let daemon = Setup::in_state(&state).data_root(root.path()).start();
    assert_changed(&daemon.watch_until(&name, |now| is_over(8, now)).await, "labels has other contents");
}

#[tokio::test]
async fn new_data_that_are_accepted_are_taken_up_at_the_same_place_where_there_are_as_many() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 10_000);
    // The daemon dies as soon as the resume is in its database.
    let daemon = Setup::new().data_root(root.path()).env("TORCHD_FAULT", "resume-committed").start();
    let job = paused(&daemon, endless()).await;
    let name = job.name.clone();
    let (at, ..) = place(&daemon, &job);
    change_label(root.path(), 5);
    daemon.jobs().await.resume_job(request(&name, true)).await.unwrap_err();
    let (state, _guard) = daemon.crash();
    let daemon = Setup::in_state(&state).data_root(root.path()).start();
    let job = runs(&daemon, &name, 2).await;
    assert_eq!(job.resume_from.unwrap().step, at);
    // It holds until something is saved.
    daemon.kill_runner(&name);
    runs(&daemon, &name, 3).await;
    let log = fs::read_to_string(daemon.job_folder(&name).join("runner.log")).unwrap();
    let words =
        "labels has other contents, of the same size of 10008 bytes; they were accepted: training goes on at its place";
    assert_eq!(log.matches(words).count(), 2, "{log}");
    daemon.watch_until(&name, |job| job.progress.as_ref().is_some_and(|told| told.step > at)).await;
    let job = pause(&daemon, &name).await;
    let (step, epoch, examples) = place(&daemon, &job);
    assert!(step > at, "{step} {at}");
    assert_eq!((epoch, examples), (0, step));

    // The data of the new checkpoint are the new ones.
    write_set(root.path(), 10_000);
    assert_refused(&daemon, request(&name, false), "labels has other contents").await;
    change_label(root.path(), 5);
    resumed(&daemon, request(&name, false)).await;

    // The model does not take images of another shape: a person decides, and nothing is lost.
    pause(&daemon, &name).await;
    let images = File::options().write(true).open(root.path().join("images")).unwrap();
    images.write_all_at(&[14u32, 56].map(u32::to_be_bytes).concat(), 8).unwrap();
    daemon.jobs().await.resume_job(request(&name, true)).await.unwrap();
    let job = daemon.watch_until(&name, |job| job.attempt == 5 && job.state() != v1::JobState::Starting).await;
    assert_changed(&job, "images has other contents");
    assert!(job.last_attempt_end.unwrap().message.contains("28"));
}

#[tokio::test]
async fn an_epoch_of_another_number_of_examples_is_given_up_for_the_next() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 10_000);
    let daemon = Setup::new().data_root(root.path()).start();
    let mut spec = endless();
    spec.training.as_mut().unwrap().length = Some(v1::training::Length::Epochs(1));
    let job = paused(&daemon, spec).await;
    let (at, epoch, examples) = place(&daemon, &job);
    assert_eq!((epoch, examples), (0, at));
    write_set(root.path(), 9_000);
    let refusal = daemon.jobs().await.resume_job(request(&job.name, true)).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    let told = refusal.get_error_details().bad_request().unwrap().field_violations[0].clone();
    assert!(told.field.ends_with("training.epochs"), "{told:?}");
    assert!(told.description.contains("a number above 1 is needed"), "{told:?}");

    let plain = daemon.ctl(&["resume", &job.name, "--epochs", "2"]);
    let told = String::from_utf8(plain.stderr).unwrap();
    assert!(!plain.status.success() && told.contains("torchctl resume --accept-new-data"), "{told}");
    let accepted = daemon.ctl(&["resume", &job.name, "--epochs", "2", "--accept-new-data"]);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    runs(&daemon, &job.name, 2).await;
    let job = daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|told| told.step > at)).await;
    assert_eq!(job.progress.unwrap().total_steps, at + 9_000);
    let job = pause(&daemon, &job.name).await;
    let (step, epoch, examples) = place(&daemon, &job);
    assert_eq!((epoch, examples), (1, step - at));
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(log.contains("they were accepted: training goes on with epoch 2"), "{log}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, bytes).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_job_goes_on_with_its_folder_of_images_and_not_with_one_that_has_changed() {
    let root = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        fs::create_dir_all(root.path().join("set").join(class)).unwrap();
        for number in 0..40 {
            fs::write(root.path().join(format!("set/{class}/{number}.png")), formats::png(28, 28)).unwrap();
        }
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let mut job = endless();
    let set = v1::ImageFolderDataset { path: "set".into(), ..v1::ImageFolderDataset::default() };
    let train = Some(v1::Dataset { format: Some(v1::dataset::Format::ImageFolder(set)) });
    job.data = Some(v1::Data { train, ..v1::Data::default() });
    job.model = formats::job(formats::npy_of("", "")).model;
    let job = paused(&daemon, job).await;
    // A note beside the images is none of them.
    fs::write(root.path().join("set/cat/notes.txt"), "of cats").unwrap();
    resumed(&daemon, request(&job.name, false)).await;
    pause(&daemon, &job.name).await;

    let image = root.path().join("set/dog/7.png");
    let mut bytes = fs::read(&image).unwrap();
    let whole = bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&image, bytes).unwrap();
    assert_refused(&daemon, request(&job.name, false), "set has other contents, of the same size of").await;
    fs::write(&image, &whole).unwrap();
    fs::remove_file(&image).unwrap();
    assert_refused(&daemon, request(&job.name, false), "the training set had 80 examples and has 79; ").await;
    fs::write(&image, &whole).unwrap();
    resumed(&daemon, request(&job.name, false)).await;
}

#[tokio::test]
async fn a_job_goes_on_with_its_table_of_images_and_not_with_one_that_has_changed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("set")).unwrap();
    let mut table = String::from("path,kind\n");
    for number in 0..80 {
        fs::write(root.path().join(format!("set/{number}.png")), formats::png(28, 28)).unwrap();
        table += &format!("{number}.png,{}\n", ["cat", "dog"][number % 2]);
    }
    let place = root.path().join("table.csv");
    fs::write(&place, &table).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let mut job = endless();
    let listing = v1::CsvDataset { path: "table.csv".into(), target: "kind".into(), ..v1::CsvDataset::default() };
    let (path, table_of) = ("set".into(), Some(listing));
    let set = v1::ImageFolderDataset { path, table: table_of, ..v1::ImageFolderDataset::default() };
    let train = Some(v1::Dataset { format: Some(v1::dataset::Format::ImageFolder(set)) });
    job.data = Some(v1::Data { train, ..v1::Data::default() });
    job.model = formats::job(formats::npy_of("", "")).model;
    let job = paused(&daemon, job).await;
    resumed(&daemon, request(&job.name, false)).await;
    pause(&daemon, &job.name).await;

    fs::write(&place, table.replacen("cat", "dog", 1)).unwrap();
    assert_refused(&daemon, request(&job.name, false), "table.csv has other contents, of the same size of").await;
    fs::write(&place, &table).unwrap();
    let image = root.path().join("set/7.png");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, formats::png(28, 27)).unwrap();
    assert_refused(&daemon, request(&job.name, false), "7.png is an image of 28x27 pixels").await;
    fs::write(&image, &whole).unwrap();
    resumed(&daemon, request(&job.name, false)).await;
}

#[tokio::test]
async fn fewer_data_that_are_accepted_need_no_other_size_of_a_validation_step() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 1000);
    let daemon = Setup::new().data_root(root.path()).start();
    let mut spec = endless();
    spec.data.as_mut().unwrap().split =
        Some(v1::Split { by: Some(v1::split::By::Fraction(0.2)), ..Default::default() });
    let job = paused(&daemon, spec).await;
    assert_eq!(job.spec.as_ref().unwrap().training.as_ref().unwrap().validation_batch_size, Some(200));
    write_set(root.path(), 700);
    let resumed = resumed(&daemon, request(&job.name, true)).await;
    assert_eq!(resumed.state(), v1::JobState::Running);
}

#[tokio::test]
async fn labels_that_do_not_begin_at_0_are_noted() {
    let root = tempfile::tempdir().unwrap();
    write_set(root.path(), 10);
    let daemon = Setup::new().data_root(root.path()).start();
    let spec = endless();
    let notes = async || {
        let request = v1::ValidateJobRequest { spec: Some(spec.clone()), dry_run: false };
        daemon.jobs().await.validate_job(request).await.unwrap().into_inner().notes
    };
    let words = "the lowest label is 3; labels count from 0, so that no example has the first output";
    assert!(notes().await.iter().any(|note| note == words), "{:?}", notes().await);
    File::options().write(true).open(root.path().join("labels")).unwrap().write_all_at(&[0], 8).unwrap();
    assert!(!notes().await.iter().any(|note| note.contains("lowest label")), "{:?}", notes().await);
}
