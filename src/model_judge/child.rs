//! The process that reads a model: takes the files, judges them, answers, ends.

use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::process::ExitCode;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::{Answer, MOST_FILES};
use crate::exported::Bundle;
use crate::exported::bundle::{Refused, Source};
use crate::exported::operators::Operators;
use crate::tensor_file::{Positioned, ReaderAt};

/// Exit code of a child that could not begin: nothing is known of the model.
pub(super) const EXIT_PROCESS: u8 = 71;
/// Its memory: a graph of 64 MB of JSON takes less than a gigabyte.
pub(super) const MEMORY: u64 = 2 << 30;
/// Its computing time.
pub(super) const CPU_SECONDS: u64 = 30;
/// Bytes that it may write: the answer.
const ANSWER_BYTES: u64 = 64 << 20;

/// Judges the model whose files come through standard input. `torchd --judge-model` is not meant
/// for people.
pub fn judge_model() -> ExitCode {
    match confine().and_then(|files| answer(&files)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_PROCESS),
    }
}

/// Takes the files, and gives up everything else: nothing that a file contains can cost more than
/// this, or reach further.
fn confine() -> io::Result<Vec<File>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nix::sys::prctl::set_no_new_privs()?;
    for (resource, most) in [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Fsize, ANSWER_BYTES),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ] {
        limit(resource, most)?;
    }
    let files = receive()?;
    // Files that are open stay usable.
    limit(Resource::Nofile, 0)?;
    Ok(files)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    // A process that is over the hard limit of time is killed by SIGKILL, like one that the system
    // ends for want of memory; over the soft one by SIGXCPU, a second before.
    let maximum = if resource == Resource::Cpu { most + 1 } else { most };
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(maximum) })?)
}

fn answer(files: &[File]) -> io::Result<()> {
    let [operators, models @ ..] = files else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let mut schemas = vec![0; usize::try_from(operators.metadata()?.len()).map_err(io::Error::other)?];
    Positioned(operators).read_exact_at(&mut schemas, 0)?;
    let schemas = String::from_utf8(schemas).map_err(io::Error::other)?;
    let sources: Vec<_> =
        models.iter().map(|file| Ok((Positioned(file), file.metadata()?.len()))).collect::<io::Result<_>>()?;
    let mut sources = sources.iter().map(|(bytes, size_bytes)| Source { bytes, size_bytes: *size_bytes });
    let path = sources.next().ok_or(io::ErrorKind::UnexpectedEof)?;
    let judged: Result<_, Vec<Refused>> = Bundle::read(path, sources.next()).and_then(|bundle| {
        let verdict = bundle.judge(&Operators::new(schemas.lines()))?;
        bundle.judge_values(path).map_err(|refused| vec![refused])?;
        Ok(verdict.summary)
    });
    let answer = match judged {
        Ok(summary) => Answer::Model(Box::new(summary)),
        Err(refused) => Answer::Refused(refused),
    };
    let mut out = io::stdout().lock();
    out.write_all(&serde_json::to_vec(&answer)?)?;
    out.flush()
}

/// The files that the parent sends.
fn receive() -> io::Result<Vec<File>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let files = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(files.flatten().map(File::from).collect())
}
