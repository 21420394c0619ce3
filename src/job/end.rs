//! Why a job ended: names for programs, and what a user reads when the runner could not tell.

use serde::{Deserialize, Serialize};

use crate::proto::v1::{JobEndReason, RunnerEnded};

use super::state::Outcome;

/// How a runner's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed it because memory ran out.
    OutOfMemory,
    /// It was not our child, so nobody saw how: only that it is gone.
    Unknown,
}

impl Exit {
    /// Exit code and signal, as far as there are any.
    pub fn code_and_signal(self) -> (Option<i32>, Option<i32>) {
        match self {
            Self::Code(code) => (Some(code), None),
            Self::Signal(signal) => (None, Some(signal)),
            Self::OutOfMemory => (None, Some(nix::libc::SIGKILL)),
            Self::Unknown => (None, None),
        }
    }
}

/// Why a runner was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// A user cancelled the job.
    Cancel,
    /// A user paused the job.
    Pause,
    /// The daemon ends, and its settings say that runners end with it.
    Shutdown,
    /// A job of a higher priority needs the room.
    Preempt,
    /// The GPU that it computes on has failed.
    GpuLost,
    /// It has run as long as it may.
    MaxDuration,
    /// It has told nothing for longer than its spec allows.
    Stalled,
}

/// The consequence of a runner's end for its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// For the state machine.
    pub outcome: Outcome,
    /// For programs.
    pub reason: JobEndReason,
    /// For people.
    pub message: String,
}

/// Exit code of a runner that could not write its last word into the journal (EX_IOERR of
/// sysexits.h).
pub const EXIT_STORAGE: i32 = 74;
/// Exit code of a runner, or of a shim, for want of the machine: it lacks something for now, or a
/// program is not in its place (EX_OSERR). Its last words in the log tell what.
pub const EXIT_MACHINE: i32 = 71;

/// The ways on from data that have changed, in words.
pub const CHANGED_DATA_REMEDY: &str =
    "put them back and resume it, or take them with accept_new_data (torchctl resume --accept-new-data)";

/// The words for EACCES in the C library, in Python and in others: Landlock refuses with that.
const DENIALS: [&str; 3] = ["ermission denied", "PermissionError", "EACCES"];
/// The way on from a denial, in words.
const DENIED_HINT: &str = "its log tells of a denied permission: a program writes below $TORCHD_PROGRAM_DIR (its \
                           jobs/{id}/program) and in /dev/shm alone, and reads the system, the data roots and \
                           programs.allowed";

/// Judges an end: `said` is the runner's last record if it wrote one, `stop` why it was asked to
/// end if it was.
///
/// The runner's own word counts, with two exceptions: one that ended because it was told to was
/// cancelled, paused or interrupted, also a program that then exits with a code that is not 0; and
/// one that says that it finished but did not exit with 0 did not finish. A job that cannot go on
/// from its checkpoints, or with its data, is paused unless it was to be cancelled.
pub fn judge(exit: Exit, said: Option<&RunnerEnded>, stop: Option<StopCause>, started: bool) -> Verdict {
    // How a program ends that was asked to stop is its own affair: torchrun, for one, exits with 1.
    let is_of_stop = |said: &RunnerEnded| match said.reason() {
        JobEndReason::Interrupted => true,
        JobEndReason::ProgramFailed => stop.is_some(),
        _ => false,
    };
    let own_word = said.filter(|said| !is_of_stop(said));
    match (own_word, exit) {
        // One that was killed after its last word had saved everything before it.
        (Some(said), Exit::Code(0) | Exit::Unknown | Exit::OutOfMemory | Exit::Signal(nix::libc::SIGKILL))
            if said.reason() == JobEndReason::Finished =>
        {
            return Verdict {
                outcome: Outcome::Finished,
                reason: JobEndReason::Finished,
                message: said.message.clone(),
            };
        }
        (Some(said), _) if matches!(said.reason(), JobEndReason::BadCheckpoint | JobEndReason::DataChanged) => {
            let (reason, message) = match stop {
                Some(StopCause::Cancel) => (JobEndReason::Cancelled, format!("cancelled; {}", said.message)),
                _ => (said.reason(), said.message.clone()),
            };
            // A person may mend a checkpoint, put the data back, or decide to begin anew. Nobody
            // does so for a job that was cancelled.
            let is_cancelled = reason == JobEndReason::Cancelled;
            let outcome = if is_cancelled { Outcome::Cancelled } else { Outcome::Paused };
            return Verdict { outcome, reason, message };
        }
        (Some(said), _) if said.reason() != JobEndReason::Finished => {
            return Verdict { outcome: Outcome::Failed, reason: said.reason(), message: said.message.clone() };
        }
        _ => {}
    }
    let how = match said.map(|said| (said.exit_code, said.signal)) {
        Some((Some(code), _)) => format!("stopped its program, which ended with exit code {code}"),
        Some((None, Some(signal))) => format!("stopped its program, which ended by {}", signal_name(signal)),
        Some((None, None)) => "stopped after the step in hand".to_owned(),
        None => "had to be killed".to_owned(),
    };
    let verdict = |outcome, reason, message| Verdict { outcome, reason, message };
    match (stop, exit) {
        (Some(StopCause::Cancel), _) => {
            let how = match (said, exit) {
                (Some(_), _) => &how,
                (None, Exit::Signal(nix::libc::SIGKILL)) => "was killed",
                (None, _) => "stopped before it had saved anything new",
            };
            let message = format!("cancelled; the runner {how}");
            verdict(Outcome::Cancelled, JobEndReason::Cancelled, message)
        }
        (Some(StopCause::Pause), _) => {
            verdict(Outcome::Paused, JobEndReason::Paused, format!("paused; the runner {how}"))
        }
        (Some(StopCause::Shutdown), _) => {
            let message = format!("the daemon was stopped while the job ran; the runner {how}");
            verdict(Outcome::Requeued, JobEndReason::Interrupted, message)
        }
        (Some(StopCause::Preempt), _) => {
            let message = format!("a job of a higher priority needs its place; the runner {how}");
            verdict(Outcome::Requeued, JobEndReason::Preempted, message)
        }
        (Some(StopCause::MaxDuration), _) => {
            failed(JobEndReason::MaxDuration, format!("it ran as long as its max_duration allows; the runner {how}"))
        }
        (Some(StopCause::GpuLost), _) => failed(JobEndReason::GpuLost, "the GPU has failed".into()),
        (Some(StopCause::Stalled), _) => failed(
            JobEndReason::Stalled,
            format!("the runner told nothing for longer than retry.stall_timeout allows and {how}"),
        ),
        (None, _) if said.is_some_and(|said| said.reason() == JobEndReason::Interrupted) => {
            let message =
                "somebody other than the daemon stopped the runner with SIGTERM, or the daemon was gone for too long";
            verdict(Outcome::Requeued, JobEndReason::Interrupted, message.into())
        }
        (None, Exit::OutOfMemory) => failed(
            JobEndReason::OutOfMemory,
            "the kernel killed the runner because memory ran out (SIGKILL, and its count of such kills has risen)"
                .into(),
        ),
        (None, Exit::Signal(signal)) => failed(
            JobEndReason::KilledBySignal,
            format!("signal {signal} ({}) ended the runner{}", signal_name(signal), signal_hint(signal)),
        ),
        (None, Exit::Code(EXIT_STORAGE)) => failed(
            JobEndReason::Storage,
            "the runner could not write into the job's folder; its log may tell more".into(),
        ),
        (None, Exit::Code(code)) if !started => failed(
            JobEndReason::StartFailed,
            format!("the runner exited with code {code} before it could begin; its log tells why"),
        ),
        (None, Exit::Code(code)) => failed(
            JobEndReason::Internal,
            format!("the runner exited with code {code} without saying why; its log may tell"),
        ),
        (None, Exit::Unknown) => {
            let message = "the runner was lost and nobody saw how, as when the machine goes down";
            verdict(Outcome::Requeued, JobEndReason::Interrupted, message.into())
        }
    }
}

/// The end of an attempt in which nothing ran: the machine cannot start any runner now, as `words`
/// say. That is not the job's fault.
pub fn not_started(words: String) -> Verdict {
    Verdict { outcome: Outcome::Requeued, reason: JobEndReason::StartFailed, message: words }
}

/// The end of a job whose own program could not get the memory that it asked for: Rust says so in
/// the log and aborts.
pub fn no_memory(verdict: Verdict, exit: Exit, log_tail: &[String]) -> Verdict {
    let told =
        log_tail.iter().find(|line| line.starts_with("memory allocation of ") && line.ends_with(" bytes failed"));
    match told {
        Some(line) if exit == Exit::Signal(nix::libc::SIGABRT) && verdict.reason == JobEndReason::KilledBySignal => {
            Verdict {
                reason: JobEndReason::OutOfMemory,
                message: format!("{line}; the machine has no more memory"),
                ..verdict
            }
        }
        _ => verdict,
    }
}

/// The end of a program that the kernel keeps to its own folder, where its log tells that something
/// was denied: that may come of it.
pub fn denied(verdict: Verdict, log_tail: &[String]) -> Verdict {
    let is_denial = |line: &String| DENIALS.iter().any(|words| line.contains(words));
    if verdict.reason != JobEndReason::ProgramFailed || !log_tail.iter().any(is_denial) {
        return verdict;
    }
    let message = format!("{}; {DENIED_HINT}", verdict.message);
    Verdict { message, ..verdict }
}

/// The end of a job whose GPU has failed, as `fault` says: what looked like another failure came of
/// that.
pub fn gpu_lost(verdict: Verdict, fault: &str) -> Verdict {
    match (verdict.outcome, verdict.reason) {
        // A success stays one, and a failure that the runner has explained has another cause.
        (Outcome::Finished | Outcome::Cancelled | Outcome::Paused | Outcome::Requeued, _) => verdict,
        (
            Outcome::Failed,
            JobEndReason::BadData
            | JobEndReason::OutOfMemory
            | JobEndReason::Diverged
            | JobEndReason::Storage
            | JobEndReason::MaxDuration
            | JobEndReason::Interrupted,
        ) => verdict,
        (Outcome::Failed, JobEndReason::GpuLost) => Verdict { message: fault.to_owned(), ..verdict },
        (Outcome::Failed, _) => Verdict {
            reason: JobEndReason::GpuLost,
            message: format!("{fault}; the runner: {}", verdict.message),
            ..verdict
        },
    }
}

fn failed(reason: JobEndReason, message: String) -> Verdict {
    Verdict { outcome: Outcome::Failed, reason, message }
}

/// The name of a signal, such as `SIGKILL`.
pub fn signal_name(signal: i32) -> &'static str {
    nix::sys::signal::Signal::try_from(signal).map_or("unknown", nix::sys::signal::Signal::as_str)
}

fn signal_hint(signal: i32) -> &'static str {
    match signal {
        9 => "; the kernel does so when memory runs out, and so does `kill -9`",
        11 | 7 | 4 | 8 => "; that is a fault in native code",
        6 => "; native code aborted, the log tells why",
        _ => "",
    }
}

/// The name of a reason in metrics and logs, such as `out_of_memory`.
pub fn label(reason: JobEndReason) -> String {
    reason.as_str_name().trim_start_matches("JOB_END_REASON_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reason: JobEndReason) -> RunnerEnded {
        RunnerEnded { reason: reason.into(), message: "word".into(), step: 1, ..RunnerEnded::default() }
    }

    #[test]
    fn the_end_of_a_runner_is_judged() {
        use JobEndReason::{
            BadCheckpoint, BadData, Cancelled, DataChanged, Finished, Internal, Interrupted, KilledBySignal,
            MaxDuration, OutOfMemory, Paused, Preempted, ProgramFailed, Stalled, StartFailed, Storage,
        };
        let cases = [
            (Exit::Code(0), Some(Finished), None, Finished),
            (Exit::Code(0), Some(Finished), Some(StopCause::Cancel), Finished),
            (Exit::Signal(11), Some(Finished), None, KilledBySignal),
            (Exit::Signal(9), Some(Finished), None, Finished),
            (Exit::Signal(9), Some(Finished), Some(StopCause::Stalled), Finished),
            (Exit::Code(1), Some(BadData), None, BadData),
            (Exit::Code(1), Some(BadData), Some(StopCause::Cancel), BadData),
            (Exit::Code(0), Some(Interrupted), Some(StopCause::Cancel), Cancelled),
            (Exit::Signal(9), None, Some(StopCause::Cancel), Cancelled),
            (Exit::Code(0), Some(Interrupted), Some(StopCause::Shutdown), Interrupted),
            (Exit::Code(0), Some(Interrupted), None, Interrupted),
            (Exit::Signal(9), None, None, KilledBySignal),
            (Exit::Code(0), Some(Interrupted), Some(StopCause::MaxDuration), MaxDuration),
            (Exit::Signal(9), None, Some(StopCause::MaxDuration), MaxDuration),
            (Exit::Code(0), Some(Finished), Some(StopCause::MaxDuration), Finished),
            (Exit::Code(0), Some(Interrupted), Some(StopCause::Pause), Paused),
            (Exit::Signal(9), None, Some(StopCause::Pause), Paused),
            (Exit::Code(0), Some(Finished), Some(StopCause::Pause), Finished),
            (Exit::Code(0), Some(Interrupted), Some(StopCause::Preempt), Preempted),
            (Exit::Signal(9), None, Some(StopCause::Stalled), Stalled),
            (Exit::Code(1), Some(ProgramFailed), None, ProgramFailed),
            (Exit::Code(1), Some(ProgramFailed), Some(StopCause::Cancel), Cancelled),
            (Exit::Code(1), Some(ProgramFailed), Some(StopCause::Pause), Paused),
            (Exit::Code(1), Some(ProgramFailed), Some(StopCause::Preempt), Preempted),
            (Exit::Code(1), Some(ProgramFailed), Some(StopCause::MaxDuration), MaxDuration),
            (Exit::OutOfMemory, None, None, OutOfMemory),
            (Exit::Code(74), None, None, Storage),
            (Exit::Code(101), None, None, Internal),
            (Exit::Unknown, None, None, Interrupted),
        ];
        for (exit, word, stop, reason) in cases {
            let verdict = judge(exit, word.map(said).as_ref(), stop, true);
            assert_eq!(verdict.reason, reason, "{exit:?} {word:?} {stop:?}");
        }
        assert_eq!(judge(Exit::Code(127), None, None, false).reason, StartFailed);
        for reason in [BadCheckpoint, DataChanged] {
            for stop in [None, Some(StopCause::Shutdown), Some(StopCause::MaxDuration)] {
                let verdict = judge(Exit::Code(1), Some(&said(reason)), stop, false);
                assert_eq!((verdict.outcome, verdict.reason), (Outcome::Paused, reason), "{stop:?}");
            }
            let verdict = judge(Exit::Code(1), Some(&said(reason)), Some(StopCause::Cancel), false);
            assert_eq!((verdict.outcome, verdict.reason), (Outcome::Cancelled, Cancelled));
        }
    }

    #[test]
    fn a_failure_on_a_failed_gpu_is_that_of_the_gpu() {
        let verdict = |exit, word: Option<JobEndReason>, stop| judge(exit, word.map(said).as_ref(), stop, true);
        let lost = |verdict| gpu_lost(verdict, "Xid 79");
        let told = lost(verdict(Exit::Signal(6), None, None));
        assert_eq!(told.reason, JobEndReason::GpuLost);
        assert!(told.message.starts_with("Xid 79; the runner: signal 6"), "{}", told.message);
        let stopped = lost(verdict(Exit::Signal(9), None, Some(StopCause::GpuLost)));
        assert_eq!((stopped.reason, stopped.message.as_str()), (JobEndReason::GpuLost, "Xid 79"));
        let finished = lost(verdict(Exit::Code(0), Some(JobEndReason::Finished), Some(StopCause::GpuLost)));
        assert_eq!(finished.reason, JobEndReason::Finished);
        let memory = lost(verdict(Exit::Code(1), Some(JobEndReason::OutOfMemory), None));
        assert_eq!(memory.reason, JobEndReason::OutOfMemory);
    }

    #[test]
    fn a_program_that_aborts_for_want_of_memory_is_out_of_memory() {
        let judged = |exit, line: &str| no_memory(judge(exit, None, None, true), exit, &[line.to_owned()]).reason;
        let line = "memory allocation of 8000000000 bytes failed";
        assert_eq!(judged(Exit::Signal(6), line), JobEndReason::OutOfMemory);
        assert_eq!(judged(Exit::Signal(6), "terminate called"), JobEndReason::KilledBySignal);
        assert_eq!(judged(Exit::Signal(9), line), JobEndReason::KilledBySignal);
    }

    #[test]
    fn a_program_that_was_denied_something_is_told_where_it_may_write() {
        let message = |reason, line: &str| {
            let verdict = judge(Exit::Code(1), Some(&said(reason)), None, true);
            denied(verdict, &["Traceback".to_owned(), line.to_owned()]).message
        };
        for line in ["sh: 1: cannot create x: Permission denied", "PermissionError: [Errno 13] x", "Error: EACCES"] {
            let told = message(JobEndReason::ProgramFailed, line);
            assert!(told.starts_with("word; ") && told.contains("below $TORCHD_PROGRAM_DIR"), "{told}");
        }
        assert_eq!(message(JobEndReason::ProgramFailed, "KeyError: 'x'"), "word");
        assert_eq!(message(JobEndReason::OutOfMemory, "Permission denied"), "word");
    }

    #[test]
    fn a_signal_is_told_by_number_and_name() {
        let message = judge(Exit::Signal(9), None, None, true).message;
        assert!(message.contains("signal 9 (SIGKILL)"), "{message}");
    }

    #[test]
    fn reasons_have_short_labels() {
        assert_eq!(label(JobEndReason::OutOfMemory), "out_of_memory");
    }
}
