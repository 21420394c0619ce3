//! The blows of a round.

use super::random::Random;

/// The process that comes to a named point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Daemon,
    /// A runner, or its shim.
    Runner,
    /// A process that judges files for the daemon.
    Judge,
}

/// The named points of the programs, with how often each may be passed before it is died at.
pub(crate) const POINTS: [(&str, (Who, u64)); 34] = [
    ("checkpoint-begun", (Who::Runner, 8)),
    ("checkpoint-file", (Who::Runner, 16)),
    ("checkpoint-manifest", (Who::Runner, 8)),
    ("checkpoint-renamed", (Who::Runner, 8)),
    ("checkpoint-tidied", (Who::Runner, 8)),
    ("client-read", (Who::Daemon, 16)),
    ("data-read", (Who::Runner, 300)),
    ("end-unrecorded", (Who::Daemon, 4)),
    ("epoch", (Who::Runner, 1)),
    ("exit-noted", (Who::Runner, 1)),
    ("file-judged", (Who::Judge, 2)),
    ("job-assigned", (Who::Daemon, 4)),
    ("job-committed", (Who::Daemon, 16)),
    ("judging", (Who::Daemon, 8)),
    ("job-file-late", (Who::Daemon, 4)),
    ("job-set-aside", (Who::Daemon, 1)),
    ("order-written", (Who::Daemon, 4)),
    ("program-kept", (Who::Runner, 8)),
    ("program-started", (Who::Runner, 1)),
    ("result-saved", (Who::Runner, 1)),
    ("resume-committed", (Who::Daemon, 1)),
    ("resumed", (Who::Runner, 1)),
    ("runner-buried", (Who::Runner, 1)),
    ("runner-ended", (Who::Runner, 1)),
    ("shim-locked", (Who::Runner, 1)),
    ("shim-started", (Who::Daemon, 4)),
    ("staging", (Who::Daemon, 1)),
    ("step", (Who::Runner, 300)),
    ("store-question", (Who::Daemon, 16)),
    ("trained", (Who::Runner, 1)),
    ("upload-checked", (Who::Daemon, 1)),
    ("upload-piece", (Who::Daemon, 1)),
    ("upload-renamed", (Who::Daemon, 1)),
    ("validation-batch", (Who::Runner, 2)),
];

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    KillDaemon,
    StopDaemon,
    FreezeDaemon,
    SecondDaemon,
    KillRunner,
    TermRunner,
    FreezeRunner,
    KillShim,
    TermShim,
    FreezeShim,
    FreezeClient,
    Pause,
    Resume,
    Cancel,
    CancelNow,
    Delete,
    Create,
    Rot,
    FillDisk,
    FreeDisk,
}

/// As often as they should happen, compared with each other.
const WEIGHTS: [(Blow, u64); 20] = [
    (Blow::KillDaemon, 8),
    (Blow::StopDaemon, 3),
    (Blow::FreezeDaemon, 2),
    (Blow::SecondDaemon, 1),
    (Blow::KillRunner, 8),
    (Blow::TermRunner, 4),
    (Blow::FreezeRunner, 2),
    (Blow::KillShim, 4),
    (Blow::TermShim, 2),
    (Blow::FreezeShim, 1),
    (Blow::FreezeClient, 1),
    (Blow::Pause, 5),
    (Blow::Resume, 5),
    (Blow::Cancel, 2),
    (Blow::CancelNow, 1),
    (Blow::Delete, 1),
    (Blow::Create, 3),
    (Blow::Rot, 1),
    // Where there is a small disk.
    (Blow::FillDisk, 8),
    (Blow::FreeDisk, 8),
];

impl Blow {
    pub(crate) fn any(random: &mut Random) -> Self {
        let mut place = random.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (blow, weight) in WEIGHTS {
            if place < weight {
                return blow;
            }
            place -= weight;
        }
        Self::KillDaemon
    }
}
