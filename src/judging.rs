//! Judges files of strangers in a child process. The daemon never parses their bytes; a file that
//! exhausts the child, and a file system that hangs, cost their own request alone.
//!
//! The child gets its files open, through a socket, and can open nothing else. Its memory, its
//! computing time and its answer are limited, and the caller bounds the time of the clock. It
//! answers in JSON. A kind of question is one file here and one line in `judging/child.rs`.
//!
//! A child that is in the midst of a read which the system cannot interrupt ends when that read
//! does. The thread that asks waits for it and keeps its share of the threads for files meanwhile,
//! so that the number of such children is bounded; its client is answered before
//! (`manager/file_work.rs`).

mod child;
pub mod data;
pub mod model;
mod process;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use child::run as run_child;

use crate::gate::Wanted;
use crate::shortage::Unjudged;

/// The first argument of a torchd that judges files. The second one is the kind of question.
pub const MODE: &str = "--judge";

/// A child that takes longer is killed. The threads for files answer a client ten seconds later:
/// until then, the answer names the field and the file.
const LONGEST: Duration = Duration::from_secs(50);

/// The limits of a child, by the kind of its question.
struct Limits {
    /// Its address space.
    memory_bytes: u64,
    /// Its computing time, in seconds.
    cpu_seconds: u64,
    /// The length of its answer.
    answer_bytes: u64,
    /// Descriptors that it may make besides those that it gets.
    more_descriptors: u64,
}

/// A graph of 64 MB of JSON takes less than a gigabyte, and its summary is a part of it.
const OF_MODELS: Limits =
    Limits { memory_bytes: 2 << 30, cpu_seconds: 30, answer_bytes: 64 << 20, more_descriptors: 0 };

/// Data are read in blocks, and up to a gigabyte of values is unpacked.
const OF_DATA: Limits = Limits { memory_bytes: 1 << 30, cpu_seconds: 30, answer_bytes: 8 << 20, more_descriptors: 64 };

/// A kind of question about files.
trait Question: Serialize + DeserializeOwned {
    /// Its name: the second argument of the child.
    const KIND: &'static str;
    /// The limits of the child.
    const LIMITS: Limits;
    /// The verdict.
    type Answer: Serialize + DeserializeOwned;

    /// Judges the files, which are open. It runs in the child.
    ///
    /// # Errors
    /// Those that say nothing about the files.
    fn answer(self, files: Vec<File>) -> io::Result<Self::Answer>;
}

/// The messages of a child, one after the other, on standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told<A> {
    /// It begins to read the file at this place among those of the question.
    Reads(usize),
    /// Its answer.
    Answer(A),
}

/// The reason why a child gave no answer.
#[derive(Debug)]
pub struct Failure {
    /// In words that follow the path of a file.
    pub what: String,
    /// The place of the file that it was reading; None where it did not tell.
    reads: Option<usize>,
    /// Nothing is known to be wrong with the files: why they could not be judged now. None where
    /// they are more than the limits allow.
    pub unjudged: Option<Unjudged>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let unjudged = Some(Unjudged::of(&error).unwrap_or(Unjudged::Shortage));
        Self { what: format!("cannot be judged: {error}"), reads: None, unjudged }
    }
}

/// Asks a child about files that are open. Blocks, and ends early where nobody waits any more.
fn ask<'a, Q: Question>(
    question: &Q,
    files: impl Iterator<Item = BorrowedFd<'a>>,
    wanted: &Wanted,
) -> Result<Q::Answer, Failure> {
    let process::Ended { status, told } =
        process::run(Q::KIND, &serde_json::to_vec(question).map_err(io::Error::from)?, files, wanted)?;
    let (mut reads, mut answer) = (None, None);
    // The last message of a child that was killed may be cut.
    for told in serde_json::Deserializer::from_slice(&told).into_iter().map_while(Result::ok) {
        match told {
            Told::Reads(place) => reads = Some(place),
            Told::Answer(given) => answer = Some(given),
        }
    }
    match (status, answer) {
        (Some(status), Some(answer)) if status.success() => Ok(answer),
        (status, _) => Err(Failure { reads, ..unanswered(status, &Q::LIMITS) }),
    }
}

/// The reason why a child with this status gave no answer; None for one that took too long.
fn unanswered(status: Option<ExitStatus>, limits: &Limits) -> Failure {
    let cannot = |what: String, unjudged| Failure { what: format!("cannot be judged: {what}"), reads: None, unjudged };
    let Some(status) = status else {
        let what = format!("the process that reads it did not end within {LONGEST:?}");
        return cannot(what, Some(Unjudged::Storage));
    };
    let Limits { memory_bytes, cpu_seconds, answer_bytes, .. } = limits;
    let what = match (status.signal().and_then(Signal::from_named_raw), status.code()) {
        _ if status.code() == Some(i32::from(child::EXIT_PROCESS)) => {
            return cannot("the process that reads it could not begin".into(), Some(Unjudged::Shortage));
        }
        // The limits of a child end it by other signals.
        (Some(Signal::KILL), _) => {
            let what = "the process that reads it was killed, as the system does when memory runs out";
            return cannot(what.into(), Some(Unjudged::Shortage));
        }
        (_, Some(code)) if code == i32::from(child::EXIT_ANSWER) => {
            let remedy = "name fewer columns in `features`, or give them, or classes and categories, shorter names";
            format!("its description takes more than {} MiB: {remedy}", answer_bytes >> 20)
        }
        (Some(Signal::XCPU), _) => "the process that read it computed for too long".into(),
        _ => match status.signal() {
            Some(signal) => format!("the process that read it was killed by signal {signal}"),
            None => format!("the process that read it ended with {status}"),
        },
    };
    cannot(format!("{what}; it has {} MiB of memory and {cpu_seconds} s", memory_bytes >> 20), None)
}
