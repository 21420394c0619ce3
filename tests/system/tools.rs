//! Programs and rights that tests need and a machine may lack, such as the right to mount disks and
//! to make control groups. A test without them is skipped and says so. `make test` lists the
//! skipped tests at its end; in continuous integration a skip is a failure where the machine could
//! have run the test.

use std::path::Path;
use std::process::Command;

mod skips {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips/tell.rs"));
}
use skips::{Skip, tell};

/// CAP_SYS_ADMIN among the capabilities of a process. (capabilities(7), linux/capability.h)
const SYS_ADMIN: u64 = 1 << 21;

/// Whether a program is on the machine; if not, the test that asks is told as skipped.
pub(crate) fn is_there(program: &str, install: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if !found {
        skip(program, install);
    }
    found
}

/// Whether the library of ranks lies beside the runner; if not, the test that asks is told as
/// skipped.
pub(crate) fn has_ranks() -> bool {
    let library = Path::new(env!("CARGO_BIN_EXE_torchd-runner")).with_file_name("libtdranks.so");
    if !library.exists() {
        skip("libtdranks.so", "scripts/ranks --into target/debug");
    }
    library.exists()
}

/// Python with the packages of scripts/python-tools.txt; None where they are not set up.
pub(crate) fn python() -> Option<Command> {
    if !Path::new(".python/.pins").exists() {
        skip("the Python packages of the tests", "make test");
        return None;
    }
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", Path::new(".python").canonicalize().unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// The ABI of Landlock that the kernel has; None, and told as skipped, where it has none.
pub(crate) fn landlock() -> Option<u32> {
    const ONLY_VERSION: u32 = 1;
    // SAFETY: with this flag the call reads no memory, and returns a number. (landlock(7))
    let abi = unsafe {
        let nothing = std::ptr::null::<u8>();
        nix::libc::syscall(nix::libc::SYS_landlock_create_ruleset, nothing, 0_usize, ONLY_VERSION)
    };
    let abi = u32::try_from(abi).ok().filter(|abi| *abi > 0);
    if abi.is_none() {
        tell(Skip::CannotRun, "the kernel has no Landlock");
    }
    abi
}

/// Whether programs can be started as other users; if not, the test that asks is told as skipped.
pub(crate) fn is_root() -> bool {
    let is_root = nix::unistd::Uid::effective().is_root();
    if !is_root {
        tell(Skip::CannotRun, "only root starts programs as other users");
    }
    is_root
}

/// The thing that was made with a right of the machine; None, and told as skipped, where it was
/// refused. Root of the whole machine may do all that tests ask for: a skip for it is reported as
/// one that the machine could run.
pub(crate) fn allowed<T>(what: &str, made: Result<T, String>) -> Option<T> {
    made.map_err(|why| {
        let skip = if is_root_of_the_machine() { Skip::CouldRun } else { Skip::CannotRun };
        tell(skip, &format!("{what} cannot be made here: {why}"));
    })
    .ok()
}

/// Root with its capabilities, and not that of a container.
fn is_root_of_the_machine() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & SYS_ADMIN != 0
        && users.split_whitespace().eq(["0", "0", "4294967295"])
}

fn skip(what: &str, install: &str) {
    tell(Skip::CouldRun, &format!("{what} is missing. Install it with: {install}"));
}
