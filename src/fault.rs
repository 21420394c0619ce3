//! Named points at which a debug build can be made to die, or to stand still, so that tests see
//! what a crash or a slow disk right there leaves behind. A release build has none of it.
//!
//! `TORCHD_FAULT=name` or `TORCHD_FAULT=name:n` in the environment kills the process, as `kill -9`
//! would, when it comes to that point for the first, or for the n-th, time. With
//! `TORCHD_FAULT=name@file` each thread that comes there stays as long as that file is there; with
//! `TORCHD_FAULT=name:n@file` the first n of them.

/// The variable that names a point.
#[cfg(debug_assertions)]
const VARIABLE: &str = "TORCHD_FAULT";

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::runtime::{Handle, RuntimeFlavor};

    struct Fault {
        name: String,
        what: What,
    }

    enum What {
        /// Dies when this has come down to nothing.
        Die(AtomicU32),
        /// So many that come stay while this is there.
        Stay(AtomicU32, PathBuf),
    }

    static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let told = std::env::var(super::VARIABLE).ok()?;
        let (point, file) = told.split_once('@').map_or((told.as_str(), None), |(point, file)| (point, Some(file)));
        let (name, count) = point.split_once(':').map_or((point, None), |(name, count)| (name, Some(count)));
        let count = count.map(|count| count.parse().ok());
        let what = match file {
            Some(file) => What::Stay(AtomicU32::new(count.unwrap_or(Some(u32::MAX))?), file.into()),
            None => What::Die(AtomicU32::new(count.unwrap_or(Some(1))?)),
        };
        Some(Fault { name: name.to_owned(), what })
    });

    /// Waits while a file is there. A thread of the runtime hands its other tasks over first: what
    /// waits is the caller alone, as it would for a disk, and not what happened to be next to it.
    fn stay(file: &Path) {
        let wait = || {
            while file.exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }

    pub(super) fn point(name: &str) {
        match FAULT.as_ref().filter(|fault| fault.name == name).map(|fault| &fault.what) {
            Some(What::Die(left)) if left.fetch_sub(1, Ordering::Relaxed) == 1 => {
                // The fault harness counts these lines.
                let _ = writeln!(std::io::stderr(), "[fault: dies at {name}]");
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            }
            Some(What::Stay(left, file)) => {
                let takes = |left: u32| left.checked_sub(1);
                let stays = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).is_ok();
                if stays {
                    stay(file);
                }
            }
            Some(What::Die(_)) | None => {}
        }
    }
}

/// A point at which a test may want us to die or to wait.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The variable, with its value, for a child whose environment is cleared.
pub fn environment() -> Option<(&'static str, std::ffi::OsString)> {
    #[cfg(debug_assertions)]
    return std::env::var_os(VARIABLE).map(|value| (VARIABLE, value));
    #[cfg(not(debug_assertions))]
    None
}
