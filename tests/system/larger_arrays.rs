//! Arrays that are larger than the memory of a job: their rows are read from the files, and train
//! as those in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use torchd::dataset::draw::mix;
use torchd::proto::v1;
use torchd::proto::v1::warm_start::Source;

use super::daemon::{Daemon, Setup};
use super::{formats, spec, warm_start};

/// Less than the file of images has, and a quarter more than a runner takes.
const LIMIT: u64 = 140 << 20;
/// Images of 28x28 pixels, 235 MB.
const IMAGES: usize = 300_000;

fn write(root: &Path) {
    let mut file = BufWriter::new(File::create(root.join("x.npy")).unwrap());
    file.write_all(&formats::npy("|u1", &format!("({IMAGES}, 28, 28)"), &[])).unwrap();
    let mut image = [0; 784];
    for row in 0..IMAGES as u64 {
        image.chunks_exact_mut(98).zip(0..).for_each(|(pixels, place)| pixels.fill(mix(row * 8 + place) as u8));
        file.write_all(&image).unwrap();
    }
    file.flush().unwrap();
    let classes: Vec<u8> = (0..IMAGES).map(|row| (row % 10) as u8).collect();
    fs::write(root.join("y.npy"), formats::npy("|u1", &format!("({IMAGES},)"), &classes)).unwrap();
}

/// A length that no job reaches in a test.
const ENDLESS: u64 = 10_000_000;

/// A job that reads with so many threads.
fn job(steps: u64, readers: u32, limit: Option<u64>) -> v1::JobSpec {
    let mut job = formats::job(formats::npy_of("x.npy", "y.npy"));
    // So few numbers that libtorch computes them on one thread.
    let length = Some(v1::training::Length::MaxSteps(steps));
    job.training = Some(v1::Training { length, batch_size: Some(20), ..v1::Training::default() });
    job.resources = Some(v1::Resources { memory_limit_bytes: limit, ..spec::threads(readers) });
    job.logging = Some(v1::Logging { scalar_every_steps: Some(1) });
    job
}

fn result(daemon: &Daemon, job: &v1::Job) -> [Vec<u8>; 2] {
    let folder = daemon.job_folder(&job.name);
    let state = format!("checkpoints/step-{}/state.safetensors", job.progress.as_ref().unwrap().step);
    ["artifacts/model.safetensors", &state].map(|file| fs::read(folder.join(file)).unwrap())
}

#[tokio::test]
async fn an_array_larger_than_the_limit_of_a_job_is_trained_within_it_to_the_same_numbers() {
    let root = tempfile::tempdir().unwrap();
    write(root.path());
    assert!(root.path().join("x.npy").metadata().unwrap().len() > LIMIT);
    let daemon = Setup::new().data_root(root.path()).set("jobs.cpu_slots", "2").start();
    let request = v1::ValidateJobRequest { spec: Some(job(ENDLESS, 1, Some(LIMIT))), dry_run: false };
    let told = daemon.jobs().await.validate_job(request).await.unwrap().into_inner();
    let words = "the training data stay in their files, and rows are read when they are needed";
    assert!(told.notes.len() == 1 && told.notes[0].starts_with(words), "{:?}", told.notes);

    let broken = daemon.create(job(ENDLESS, 1, Some(LIMIT))).await;
    daemon.watch_until(&broken.name, |job| job.progress.as_ref().is_some_and(|told| told.step >= 20)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: broken.name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Paused).await;
    let steps = paused.resume_from.unwrap().step + 100;
    // The spec of a job says how many threads read: another one takes the checkpoint up.
    let source = Source::Checkpoint(broken.name.clone());
    let other = daemon.create(warm_start::warm(source, true, job(steps, 2, Some(LIMIT)))).await;
    let other = daemon.watch_to_end(&other.name).await;
    assert_eq!(other.state(), v1::JobState::Succeeded, "{:?}", other.end);
    let whole = daemon.create(job(steps, 1, None)).await;
    let whole = daemon.watch_to_end(&whole.name).await;
    assert_eq!(whole.state(), v1::JobState::Succeeded, "{:?}", whole.end);
    for (job, is_in_files) in [(&broken, true), (&other, true), (&whole, false)] {
        let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
        assert_eq!(log.contains(words), is_in_files, "{log}");
    }
    assert!(result(&daemon, &other) == result(&daemon, &whole), "rows from files train to other numbers");

    // A file that shrinks while a job reads it pauses the job: a person puts it back.
    let endless = daemon.create(job(ENDLESS, 1, Some(LIMIT))).await;
    daemon.watch_until(&endless.name, |job| job.progress.as_ref().is_some_and(|told| told.step >= 20)).await;
    File::options().write(true).open(root.path().join("x.npy")).unwrap().set_len(1 << 20).unwrap();
    let paused = daemon.watch_until(&endless.name, |job| job.state() == v1::JobState::Paused).await;
    let end = paused.last_attempt_end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::DataChanged, "{}", end.message);
    let words = "x.npy has changed since it was opened: it has become shorter; put them back";
    assert!(end.message.contains(words), "{}", end.message);
}
