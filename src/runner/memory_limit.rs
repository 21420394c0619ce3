//! Keeps the runner within `resources.memory_limit_bytes`: a thread looks at the peak of the
//! memory that the process has of its own, and ends the attempt once it is above.
//!
//! No limit of the kernel fits. Those of an address space (RLIMIT_AS, RLIMIT_DATA) count what is
//! mapped, of which libtorch and the stacks of its threads touch a part, and an allocation that
//! they refuse aborts a program in Rust without a word. A control group of its own is not to be had
//! in every container. What the data take is bounded before, by reading them in shards.

use std::io;
use std::thread;
use std::time::Duration;

use torchd::proto::v1::JobEndReason;

use crate::memory::own_peak_bytes;
use crate::pulse::Journal;

/// The interval at which it looks. The kernel keeps the peak, so that hardly any between is missed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts to look.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn watch(limit: u64, journal: Journal) -> io::Result<()> {
    let look = move || {
        loop {
            let peak = own_peak_bytes();
            if peak > limit {
                let remedy = "a smaller batch or model needs less";
                let what =
                    format!("the runner took {peak} bytes of memory, and resources.memory_limit_bytes is {limit}");
                journal.end_process(JobEndReason::OutOfMemory, format!("{what}; {remedy}"));
            }
            thread::sleep(LOOK_EVERY);
        }
    };
    thread::Builder::new().name("memory-limit".into()).spawn(look).map(drop)
}
