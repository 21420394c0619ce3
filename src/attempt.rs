//! The beginning of an attempt, which every kind of runner has: it takes the lock of its job, reads
//! its order, and opens the journal.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::job::end::EXIT_STORAGE;
use crate::job::order::Order;
use crate::journal::{ExitNote, JobFolder, JobLock, JournalWriter, is_held};

/// Exit code of a runner that has no business here: another one holds the lock, or the attempt is
/// over. (EX_TEMPFAIL)
pub const NOT_MINE: u8 = 75;

/// Paths that every kind of runner may read: libraries and their data, and facts about the machine
/// and this process. Not the rest of /proc: a process reads there with which environment others of
/// the same user were started.
pub const READABLE: [&str; 18] = [
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/urandom",
    "/sys",
    "/proc/self",
    "/proc/sys",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/devices",
    "/proc/modules",
    "/proc/driver",
];

/// An attempt that has begun. The lock is held for as long as it lives.
pub struct Begun {
    /// Its order.
    pub order: Order,
    /// Its journal.
    pub writer: JournalWriter,
    /// The lock of the job.
    pub lock: JobLock,
}

/// Why an attempt does not begin.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub words: String,
    /// The exit code that says so.
    pub code: u8,
}

/// Begins an attempt. Call it before another thread exists.
///
/// # Errors
/// Somebody else runs the job, nobody looks after this process, or the folder cannot be used.
pub fn begin(folder: &JobFolder, attempt: u32) -> Result<Begun, Refused> {
    let refused = |words: String, code: u8| Refused { words, code };
    // A shim that dies takes us along in order: nobody else would tell how we end.
    let is_looked_after = prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from);
    match is_looked_after.and_then(|()| is_held(&folder.shim())) {
        Ok(true) => {}
        Ok(false) => {
            let what = "nobody looks after this runner; the daemon starts it, not a person";
            return Err(refused(what.into(), NOT_MINE));
        }
        Err(error) => return Err(refused(format!("{} cannot be asked: {error}", folder.shim().display()), 1)),
    }
    let lock = match JobLock::take(folder) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Err(refused("another runner holds the lock of this job".into(), NOT_MINE)),
        Err(error) => {
            return Err(refused(format!("the lock of {} cannot be taken: {error}", folder.path().display()), 1));
        }
    };
    let order = match own_order(folder, attempt) {
        Ok(Some(order)) => order,
        Ok(None) => return Err(refused(format!("attempt {attempt} of this job is over"), NOT_MINE)),
        Err(error) => return Err(refused(format!("the order of attempt {attempt} cannot be read: {error}"), 1)),
    };
    let opened = lock.sign(attempt).and_then(|_| JournalWriter::open(folder, &lock, attempt));
    let writer =
        opened.map_err(|error| refused(format!("the job's folder cannot be written: {error}"), EXIT_STORAGE as u8))?;
    Ok(Begun { order, writer, lock })
}

/// The order of this attempt; None where a later one or an exit shows that it is over.
fn own_order(folder: &JobFolder, attempt: u32) -> io::Result<Option<Order>> {
    let order = folder.read_order(attempt)?;
    let is_over =
        ExitNote::read(folder)?.is_some_and(|note| note.attempt >= attempt) || folder.order(attempt + 1).exists();
    Ok((!is_over && order.attempt == attempt).then_some(order))
}
