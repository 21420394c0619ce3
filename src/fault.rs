//! Named points at which a debug build can be made to die, or to stand still, so that tests see what a crash or a slow disk right there
//! leaves behind. A release build has none of it.
//!
//! `TORCHD_FAULT=name` or `TORCHD_FAULT=name:n` in the environment kills the process, as `kill -9` would, when it comes to that point
//! for the first, or for the n-th, time. With `TORCHD_FAULT=name@file` it stays there as long as that file is there.

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    struct Fault {
        name: String,
        what: What,
    }

    enum What {
        /// Dies when this has come down to nothing.
        Die(AtomicU32),
        /// Stays while this is there.
        Stay(PathBuf),
    }

    static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let told = std::env::var("TORCHD_FAULT").ok()?;
        if let Some((name, file)) = told.split_once('@') {
            return Some(Fault { name: name.to_owned(), what: What::Stay(file.into()) });
        }
        let (name, count) = told.split_once(':').unwrap_or((&told, "1"));
        Some(Fault { name: name.to_owned(), what: What::Die(AtomicU32::new(count.parse().ok()?)) })
    });

    pub(super) fn point(name: &str) {
        match FAULT.as_ref().filter(|fault| fault.name == name).map(|fault| &fault.what) {
            Some(What::Die(left)) if left.fetch_sub(1, Ordering::Relaxed) == 1 => {
                // For whoever counts these deaths.
                let _ = writeln!(std::io::stderr(), "[fault: dies at {name}]");
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            }
            Some(What::Stay(file)) => {
                while file.exists() {
                    std::thread::sleep(Duration::from_millis(10));
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
