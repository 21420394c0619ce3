//! The process that reads files for the daemon: takes the question and the files, confines itself,
//! answers, ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::process::ExitCode;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde::Serialize;

use super::data::Data;
use super::model::Model;
use super::process::MOST_AT_ONCE;
use super::{Limits, Question, Told};
use crate::fault;

/// Exit code of a child that could not begin: nothing is known of the files.
pub(super) const EXIT_PROCESS: u8 = 71;
/// Exit code of a child whose answer is longer than its limit.
pub(super) const EXIT_ANSWER: u8 = 72;

/// The newest rights of Landlock that are given up. An older kernel is asked for those that it has.
const NEWEST: ABI = ABI::V10;

/// Answers the question of this kind, which comes through standard input. `torchd --judge` is not
/// meant for people.
pub fn run(kind: Option<&OsStr>) -> ExitCode {
    let answered = match kind.and_then(OsStr::to_str) {
        Some(Model::KIND) => answer::<Model>(),
        Some(Data::KIND) => answer::<Data>(),
        _ => return ExitCode::from(EXIT_PROCESS),
    };
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => ExitCode::from(EXIT_ANSWER),
        Err(_) => ExitCode::from(EXIT_PROCESS),
    }
}

fn answer<Q: Question>() -> io::Result<()> {
    let mut files = confine(&Q::LIMITS)?.into_iter();
    let mut question = files.next().ok_or(io::ErrorKind::UnexpectedEof)?;
    question.rewind()?;
    let mut text = Vec::new();
    question.read_to_end(&mut text)?;
    let question: Q = serde_json::from_slice(&text)?;
    tell(&Told::Answer(question.answer(files.collect())?))
}

/// Tells the parent which file is read from now on, so that a limit that is reached, or a read that
/// hangs, is told with the file.
pub(super) fn reads(place: usize) {
    // An answer without this is as good.
    let _ = tell(&Told::<()>::Reads(place));
    fault::point("file-judged");
}

fn tell<A: Serialize>(told: &Told<A>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&serde_json::to_vec(told)?)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Takes the files, and gives up everything else: nothing that a file contains can cost more than
/// the limits, or reach further.
fn confine(limits: &Limits) -> io::Result<Vec<File>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nix::sys::prctl::set_no_new_privs()?;
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Fsize, limits.answer_bytes),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ] {
        limit(resource, most)?;
    }
    let files = receive()?;
    // A kernel that does not enforce this leaves the other limits. It takes a descriptor.
    let _ = shut(&files);
    // Descriptors beyond the limit stay usable. Standard input, output and error are the first
    // ones. A reader of each file has one of its own.
    let has = 3 + 2 * files.len() as u64;
    limit(Resource::Nofile, if limits.more_descriptors == 0 { 0 } else { has + limits.more_descriptors })?;
    Ok(files)
}

/// By Landlock, paths lead to what lies beneath the folders that are open, and to nothing else, no
/// matter what the files contain.
fn shut(open: &[File]) -> Result<LandlockStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for folder in open.iter().filter(|file| file.metadata().is_ok_and(|about| about.is_dir())) {
        rules = rules.add_rule(PathBeneath::new(folder, AccessFs::ReadFile | AccessFs::ReadDir))?;
    }
    Ok(rules.restrict_self()?.landlock)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    // The daemon itself may have less.
    let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    // A process that is over the hard limit of time is killed by SIGKILL, like one that the system
    // ends for want of memory; over the soft one by SIGXCPU, a second before.
    let maximum = if resource == Resource::Cpu { most + 1 } else { most };
    Ok(setrlimit(resource, Rlimit { current: Some(most.min(allowed)), maximum: Some(maximum.min(allowed)) })?)
}

/// The question, and the files that the parent sends.
fn receive() -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(files);
        }
        let rights = message.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        files.extend(rights.flatten().map(File::from));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    mod skips {
        include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips/tell.rs"));
    }

    #[test]
    fn a_child_reads_what_is_open_and_what_lies_beneath_open_folders_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (inside, secret) = (place.path().join("inside"), place.path().join("secret"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("file"), "beneath").unwrap();
        fs::write(&secret, "").unwrap();
        let mut open = [tempfile::tempfile().unwrap(), File::open(&inside).unwrap()];
        open[0].write_all(b"open").unwrap();
        open[0].rewind().unwrap();
        // The rules hold for this thread alone.
        let body = || {
            let status = shut(&open).unwrap();
            assert_eq!(io::read_to_string(&open[0]).unwrap(), "open");
            assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "beneath");
            let denied =
                |done: io::Result<()>| done.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            let tried =
                [fs::read(&secret).map(drop), fs::read_dir(&place).map(drop), fs::write(inside.join("new"), "")];
            (status, tried.map(denied))
        };
        match thread::scope(|scope| scope.spawn(body).join().unwrap()) {
            (LandlockStatus::Available { .. }, denied) => assert_eq!(denied, [true; 3]),
            _ => skips::tell(skips::Skip::CannotRun, "the kernel has no Landlock"),
        }
    }
}
