//! The confinement of a program. Landlock (landlock(7)) keeps it, and all that it starts, to
//! reading libraries, its installation, the data roots and results of the jobs that it waited for,
//! and to writing in its own folder. It may start programs and speak to the network, as programs
//! that train on several processes do.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope, make_bitflags,
};

use super::say;
use crate::attempt::READABLE;
use crate::job::order::{Launch, Order};
use crate::node::landlock_abi;

/// The newest ABI of Landlock whose rights are asked for.
const NEWEST: ABI = ABI::V8;
/// To read and to start what lies in a folder.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
/// To use a device.
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev});

/// Paths that programs may read besides those of every runner: the programs of the system, and the
/// files by which a C library finds hosts and users.
const PROGRAMS_READ: [&str; 18] = [
    "/bin",
    "/sbin",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/dev/random",
    "/dev/zero",
];

/// Folders of a job that a program may read which waited for it.
const RESULTS: [&str; 3] = ["artifacts", "checkpoints", "program/checkpoints"];

/// The limits of a program, each with the ABI of Landlock and the kernel that brought it.
/// (Documentation/userspace-api/landlock.rst in Linux)
const LIMITS: [(i64, &str, &str); 5] = [
    (1, "5.13", "it reads only the system, its installation, the data roots and results of jobs that it waited for"),
    (1, "5.13", "it makes, writes and removes files only in its own folder and in /dev/shm"),
    (3, "6.2", "it cuts no file elsewhere"),
    (5, "6.10", "it controls no device but its GPU"),
    (6, "6.12", "it signals no process outside and connects to no abstract socket"),
];

/// The rules that a program is kept to, which may read results of the jobs before it; None where
/// the kernel takes none. The log is told which limits the kernel does not enforce.
pub(super) fn rules(place: &Path, before: &[PathBuf], order: &Order, launch: &Launch) -> Option<RulesetCreated> {
    let (rules, missing) = match (create(place, before, order, launch), landlock_abi()) {
        (Ok(rules), Ok(abi)) => (Some(rules), missing(abi)),
        (Ok(_), Err(why)) => (None, vec![why]),
        (Err(error), _) => (None, vec![format!("Landlock refuses: {error}")]),
    };
    if !missing.is_empty() {
        say(&format!("the kernel does not enforce every limit of the program: {}", missing.join("; ")));
    }
    rules
}

/// The limits that a kernel with that ABI lacks, in words.
fn missing(abi: i64) -> Vec<String> {
    let newer = LIMITS.iter().filter(|(since, ..)| *since > abi);
    newer.map(|(_, kernel, what)| format!("{what} (from Linux {kernel} on)")).collect()
}

fn create(
    place: &Path,
    before: &[PathBuf],
    order: &Order,
    launch: &Launch,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let own = AccessFs::from_all(NEWEST) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    let nvidia = || {
        let devices = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
        devices.filter(|path| path.to_string_lossy().starts_with("/dev/nvidia")).chain(["/dev/dxg".into()])
    };
    let gpus: Vec<PathBuf> = if !order.lease.gpus.is_empty() { nvidia().collect() } else { Vec::new() };
    let system = READABLE.iter().chain(&PROGRAMS_READ).map(PathBuf::from);
    let rules = [
        (READ, system.chain(launch.reads.iter().cloned()).collect::<Vec<_>>()),
        (READ, launch.executable.parent().map(Path::to_owned).into_iter().collect()),
        (
            AccessFs::ReadFile | AccessFs::ReadDir,
            before.iter().flat_map(|job| RESULTS.map(|part| job.join(part))).collect(),
        ),
        (own, vec![place.to_owned()]),
        // Processes that share tensors do so there.
        (own, vec!["/dev/shm".into()]),
        (DEVICE, vec!["/dev/null".into()]),
        (DEVICE, gpus),
    ];
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (access, paths) in &rules {
        for path in paths.iter().filter_map(|path| PathFd::new(path).ok()) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, *access))?;
        }
    }
    Ok(ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_told_by_the_limits_that_it_lacks() {
        assert_eq!(missing(i64::from(NEWEST as i32)), [] as [&str; 0]);
        assert_eq!(
            missing(5),
            ["it signals no process outside and connects to no abstract socket (from Linux 6.12 on)"]
        );
        assert_eq!(missing(2).len(), 3);
        assert_eq!(missing(0).len(), LIMITS.len());
    }
}
