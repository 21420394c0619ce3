//! The invariants that hold after every round.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use torchd::journal::{self, JobFolder, JournalTail, is_held};
use torchd::proto::tensorboard::event;
use torchd::proto::v1::{self, JobEndReason, JobState, job_record::What};
use torchd::tensorboard::EventReader;

use super::follower::Seen;
use super::reference::{Computed, Points, Reference, SCALARS_EVERY, STEPS, scalars};
use super::round::{Round, Subject};

/// The daemon's answers are true, and agree with those that its followers got.
pub(crate) async fn check_served(round: &mut Round, seen: &[(usize, Seen)], reference: &Reference) {
    for (place, seen) in seen {
        assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
        let subject = &round.subjects[*place];
        let (name, was_full) = (subject.name.clone(), round.disk.is_some());
        if subject.is_deleted {
            continue;
        }
        let job = round.daemon().get(&name).await;
        let told = seen.job.as_ref().unwrap();
        assert_eq!((&told.end, told.generation, told.state), (&job.end, job.generation, job.state), "{name}");
        assert_is_true_end(subject, &job, was_full);
        let found = scalars(round.daemon(), &name).await;
        let computed = reference.of(subject.kind);
        assert_is_reference(&name, &found, job.state() == JobState::Succeeded, computed);
        assert_events(&round.folder(&name), &name, &found, job.state() == JobState::Succeeded);
        if job.mirror.is_some() {
            let copy = round.copied(&name).await;
            assert_copy(&round.folder(&name), &copy);
            round.count("copies of results");
        }
        let end = job.end.as_ref().unwrap();
        round.count(&format!("jobs that ended as {:?} for {:?}", job.state(), end.reason()));
        *round.attempts() += u64::from(job.attempt);
    }
}

/// A complete copy is that, byte for byte.
fn assert_copy(folder: &Path, copy: &Path) {
    let list = fs::read(copy.join("mirror.json")).unwrap();
    let list: BTreeMap<String, torchd::mirror::Copied> = serde_json::from_slice(&list).unwrap();
    for path in ["spec.json", "job.json", "journal"] {
        assert!(list.contains_key(path) || !folder.join(path).exists(), "{}: {path}", copy.display());
    }
    for (path, told) in list {
        let read = |file: PathBuf| fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (own, copied) = (read(folder.join(&path)), read(copy.join(&path)));
        // Bits that the harness has flipped may have been copied before or after.
        assert!(own == copied || path.starts_with("checkpoints/"), "{}: {path} differs", copy.display());
        assert_eq!(copied.len() as u64, told.size_bytes, "{}: {path}", copy.display());
    }
}

/// Only what was done to a job may have ended it.
fn assert_is_true_end(subject: &Subject, job: &v1::Job, was_full: bool) {
    let end = job.end.as_ref().unwrap();
    let is_true = match (job.state(), end.reason()) {
        (JobState::Succeeded, JobEndReason::Finished) => job.progress.as_ref().is_some_and(|p| p.step == STEPS),
        (JobState::Cancelled, JobEndReason::Cancelled) => subject.is_cancel_asked,
        (JobState::Failed, JobEndReason::KilledBySignal | JobEndReason::Stalled) => {
            job.restarts == subject.max_restarts
        }
        // The disk was full before it was cancelled; otherwise it would have been paused, and
        // resumed.
        (JobState::Failed, JobEndReason::Storage) => was_full && subject.is_cancel_asked,
        (JobState::Failed, JobEndReason::Interrupted) => end.message.contains("times in a row"),
        _ => false,
    };
    assert!(is_true, "{}: {:?} with {} restarts: {end:?}", job.name, job.state(), job.restarts);
}

/// The scalars are those of an unbroken job, bit for bit, or the beginning of them.
fn assert_is_reference(name: &str, found: &BTreeMap<String, Points>, is_whole: bool, reference: &Computed) {
    for (tag, points) in found {
        let expected = &reference.scalars[tag];
        assert!(
            points.len() <= expected.len() && points == &expected[..points.len()],
            "{name}: {tag} is something else"
        );
    }
    if is_whole {
        assert!(*found == reference.scalars, "{name}: scalars are missing");
    }
}

/// The event files hold what ReadScalars tells, each step once; of a runner that was killed perhaps
/// not the last steps.
fn assert_events(folder: &Path, name: &str, found: &BTreeMap<String, Points>, is_whole: bool) {
    let mut files: Vec<_> =
        fs::read_dir(folder.join("tensorboard")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut written: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for file in files {
        for event in EventReader::new(File::open(file).unwrap()).read_all().unwrap() {
            let Some(event::What::Summary(summary)) = event.what else { continue };
            for value in summary.value {
                written.entry(value.tag).or_default().push(event.step as u64);
            }
        }
    }
    for (tag, points) in found {
        let steps: Vec<u64> = points.iter().map(|(step, _)| *step).collect();
        let written = written.get(tag).map(Vec::as_slice).unwrap_or_default();
        let is_there = written.len() <= steps.len() && written == &steps[..written.len()];
        assert!(is_there && (!is_whole || written.len() == steps.len()), "{name}: {tag}: {written:?} {steps:?}");
    }
}

/// The folders are whole and agree with the database, and no process works there any more.
pub(crate) fn check_left(round: &mut Round, seen: &[(usize, Seen)], reference: &Reference) {
    let processes = round.processes();
    assert!(processes.is_empty(), "left behind: {processes:#?}");
    for (place, seen) in seen {
        let subject = &round.subjects[*place];
        let folder = JobFolder::new(round.folder(&subject.name));
        if !folder.path().exists() {
            assert!(subject.is_deleted, "{} is gone", subject.name);
            continue;
        }
        if !subject.is_deleted {
            let last = assert_journal(&subject.name, &folder);
            assert_eq!(seen.sequence, last, "{}: its follower has every record", subject.name);
        }
        let locks = subject.kind.runners().iter().chain(subject.kind.shims());
        // The folder of another rank is made with its first attempt.
        let is_made = |lock: &&&str| !lock.starts_with("ranks/") || folder.path().join(lock).exists();
        for lock in locks.filter(is_made).map(|lock| folder.path().join(lock)) {
            assert!(!is_held(&lock).unwrap(), "{} is held", lock.display());
        }
        assert_nothing_half_written(folder.path());
        assert_checkpoints(&folder);
        let result = folder.artifacts().join("model.safetensors");
        if result.exists() {
            assert!(
                fs::read(&result).unwrap() == reference.of(subject.kind).result,
                "{}: the weights differ",
                subject.name
            );
        }
    }
    let doctor = Command::new(env!("CARGO_BIN_EXE_torchd"))
        .args(["doctor", "--config", "/dev/null", "--state-dir"])
        .arg(&round.state_dir)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && words.ends_with("all is well\n"), "{words}");
}

/// No step twice, none missing; returns the number of the last record.
fn assert_journal(name: &str, folder: &JobFolder) -> u64 {
    let mut tail = JournalTail::new(folder.clone());
    let mut steps: Vec<u64> = Vec::new();
    let mut attempt = 0;
    loop {
        let records = tail.read(1000).unwrap();
        if records.is_empty() {
            return tail.sequence();
        }
        for record in records {
            assert!(record.attempt >= attempt, "{name}: a record of attempt {} after {attempt}", record.attempt);
            attempt = record.attempt;
            match record.what.unwrap() {
                What::Resumed(resumed) => steps.retain(|step| *step <= resumed.step),
                What::Scalars(scalars) if scalars.values.iter().any(|value| value.tag == "loss/train") => {
                    let last = steps.last().copied().unwrap_or(0);
                    let sequence = record.sequence;
                    assert_eq!(scalars.step, last + u64::from(SCALARS_EVERY), "{name}, record {sequence}");
                    steps.push(scalars.step);
                }
                _ => {}
            }
        }
    }
}

/// No temporary file is left, and every file under its final name can be read.
fn assert_nothing_half_written(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with('.'), "{} was left", path.display());
        if path.is_dir() {
            assert_nothing_half_written(&path);
        } else if name.ends_with(".json") {
            let text = fs::read(&path).unwrap();
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            assert!(read.is_ok(), "{}: {}", path.display(), String::from_utf8_lossy(&text));
        }
    }
}

/// Every folder of a checkpoint is one. Bits that the harness has flipped are in the weights alone.
fn assert_checkpoints(folder: &JobFolder) {
    let found = journal::checkpoints(folder).unwrap();
    let folders = fs::read_dir(folder.checkpoints()).unwrap().count();
    assert_eq!(found.len(), folders, "{}: not all are whole", folder.checkpoints().display());
    for checkpoint in found {
        checkpoint.read("state.safetensors").unwrap();
    }
}
