//! The small files of a job's folder: spec, order, exit note, signatures of locks, a checkpoint's
//! manifest, `job.json`; and the names of such folders. A value that was read comes back the same
//! from being written again.
//!
//! The first byte chooses the file.

#![no_main]

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::job::JobId;
use torchd::job::end::{Exit, judge};
use torchd::journal::{
    Checkpoint, Context, ExitNote, FileSum, Holder, JobFolder, Manifest, Signature, artifact_path, artifacts,
    checkpoints,
};
use torchd::manager::{JobFile, JobFileError, View};
use torchd::proto::{json, v1};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

/// The attempt whose order is read.
const ATTEMPT: u32 = 3;

struct Place {
    folder: JobFolder,
    /// The results of the readers are written to this one.
    again: JobFolder,
    checkpoint: PathBuf,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let path = scratch::folder("job_folder");
    let [folder, again] = ["one", "other"].map(|name| {
        let folder = JobFolder::new(path.join(name));
        for inner in [folder.path().join("attempts"), folder.checkpoints(), folder.artifacts(), folder.tensorboard()] {
            fs::create_dir_all(inner).unwrap();
        }
        folder
    });
    let checkpoint = folder.checkpoints().join("step-7");
    fs::create_dir(&checkpoint).unwrap();
    fs::write(checkpoint.join("model.safetensors"), b"weights").unwrap();
    fs::write(checkpoint.join("empty"), b"").unwrap();
    fs::write(path.join("outside"), b"").unwrap();
    torchd::proto::descriptors();
    Place { folder, again, checkpoint }
});

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    LazyLock::force(&PLACE);
    bounded((2 << 20) + 512 * data.len(), || file(which % 9, bytes));
});

fn same(one: &impl Debug, other: &impl Debug) {
    // NaN is equal to nothing, so the words are compared.
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

/// The job that was read agrees with the text of `job.json`.
fn shows(read: &v1::Job, bytes: &[u8]) {
    let form: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let told: v1::Job = json::from_str(&form["job"].to_string()).unwrap();
    let fields = |job: &v1::Job| {
        let v1::Job { spec, state, generation, attempt, create_time, start_time, end_time, end, progress, .. } = job;
        format!(
            "{spec:?} {state} {generation} {attempt} {create_time:?} {start_time:?} {end_time:?} {end:?} {progress:?}"
        )
    };
    assert_eq!(fields(read), fields(&told));
}

fn file(which: u8, bytes: &[u8]) {
    let Place { folder, again, checkpoint } = &*PLACE;
    match which {
        0 => {
            fs::write(folder.spec(), bytes).unwrap();
            match folder.read_spec() {
                Ok(spec) => {
                    again.create(&spec).unwrap();
                    same(&again.read_spec().unwrap(), &spec);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        1 => {
            fs::write(folder.order(ATTEMPT), bytes).unwrap();
            match folder.read_order(ATTEMPT) {
                Ok(order) => {
                    again.write_order(&order).unwrap();
                    same(&again.read_order(order.attempt).unwrap(), &order);
                    fs::remove_file(again.order(order.attempt)).unwrap();
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            fs::remove_file(folder.order(ATTEMPT)).unwrap();
        }
        2 => {
            fs::write(folder.exit(), bytes).unwrap();
            match ExitNote::read(folder) {
                Ok(note) => {
                    let note = note.unwrap();
                    assert!(folder.last_attempt().unwrap() >= note.attempt);
                    let _ = judge(note.exit(), None, None, true);
                    note.write(again).unwrap();
                    assert_eq!(ExitNote::read(again).unwrap(), Some(note));
                    match note.exit() {
                        Exit::Unknown => assert_eq!((note.code, note.signal), (None, None)),
                        Exit::Code(code) => assert_eq!((note.code, note.signal), (Some(code), None)),
                        Exit::Signal(signal) => assert!(note.signal == Some(signal) && !note.out_of_memory),
                        Exit::OutOfMemory => assert!(note.signal.is_some() && note.out_of_memory),
                    }
                    // A note of the same end reads as the same end.
                    assert_eq!(ExitNote::new(note.attempt, note.exit()).exit(), note.exit());
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            fs::remove_file(folder.exit()).unwrap();
        }
        3 => {
            fs::write(folder.lock(), bytes).unwrap();
            match Signature::read(folder) {
                Ok(runner) => {
                    assert_eq!(runner.is_none(), bytes.is_empty());
                    if let Some(runner) = runner {
                        assert!(!runner.is_running().unwrap(), "nobody is told by chance: {runner:?}");
                        assert!(folder.last_attempt().unwrap() >= runner.attempt);
                    }
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            fs::remove_file(folder.lock()).unwrap();
        }
        4 => {
            fs::write(folder.shim(), bytes).unwrap();
            if let Ok(Some(holder)) = Holder::read(&folder.shim()) {
                assert!(!holder.is_running().unwrap(), "nobody is told by chance: {holder:?}");
            }
        }
        5 => {
            fs::write(Manifest::path(checkpoint), bytes).unwrap();
            match Checkpoint::open(checkpoint) {
                Ok(opened) => {
                    for file in &opened.manifest.files {
                        let path = checkpoint.join(&file.name).canonicalize().unwrap();
                        assert!(path.parent() == checkpoint.canonicalize().ok().as_deref(), "{file:?} leads elsewhere");
                        match opened.read(&file.name) {
                            Ok(bytes) => assert_eq!(bytes.len() as u64, file.size_bytes),
                            Err(error) => assert!(error.to_string().contains(&file.name), "{error}"),
                        }
                    }
                    let written = serde_json::to_vec(&opened.manifest).unwrap();
                    same(&serde_json::from_slice::<Manifest>(&written).unwrap(), &opened.manifest);
                    let _ = opened.manifest.size_bytes();
                    assert_eq!(checkpoints(folder).unwrap().len(), usize::from(opened.step() == 7));
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    assert!(checkpoints(folder).unwrap().is_empty());
                }
            }
            for artifact in artifacts(folder).unwrap() {
                assert!(artifact_path(folder, &artifact.path).is_some_and(|path| path.is_file()), "{artifact:?}");
            }
            fs::remove_file(Manifest::path(checkpoint)).unwrap();
        }
        // A manifest that is right but for the names in it.
        8 => {
            let Ok(names) = std::str::from_utf8(bytes) else { return };
            let files: Vec<_> = names
                .split('\n')
                .map(|name| FileSum {
                    name: name.into(),
                    size_bytes: fs::metadata(checkpoint.join(name)).map_or(0, |found| found.len()),
                    sha256: "0".repeat(64),
                })
                .collect();
            let manifest = Manifest {
                place: torchd::job::length::Place { step: 7, epoch: 1, examples: 0 },
                attempt: 1,
                time: std::time::SystemTime::UNIX_EPOCH,
                summed_examples: 0,
                metrics: Default::default(),
                validation_due: false,
                context: Context::default(),
                trained_on: None,
                files,
            };
            file(5, &serde_json::to_vec(&manifest).unwrap());
        }
        6 => {
            fs::write(folder.job(), bytes).unwrap();
            match JobFile::read(folder) {
                Ok(job_file) => {
                    job_file.write(again).expect("what was read can be written");
                    same(&JobFile::read(again).unwrap(), &job_file);
                    let message = View::of_stored(std::sync::Arc::new(job_file.job)).to_proto(folder);
                    shows(&message, bytes);
                    json::to_string(&message, true).expect("and shown");
                }
                Err(JobFileError::Damaged(what) | JobFileError::Unknown(what)) => assert!(!what.is_empty()),
                Err(other) => panic!("{other}"),
            }
        }
        _ => {
            let Ok(name) = std::str::from_utf8(bytes) else { return };
            if let Ok(id) = name.parse::<JobId>() {
                let _ = id.taken();
                assert_eq!(id.name().parse::<JobId>().as_ref(), Ok(&id));
                assert!(!id.as_str().contains(['/', '.']));
            }
            if let Some(path) = artifact_path(folder, name) {
                assert!(path.starts_with(folder.path()) && path.components().all(|part| part.as_os_str() != ".."));
            }
        }
    }
}
