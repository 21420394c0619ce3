//! Named points at which a debug build can be made to die, so that tests see what a crash right there leaves behind. A release build
//! has none of it.
//!
//! `TORCHD_FAULT=name` or `TORCHD_FAULT=name:n` in the environment kills the process, as `kill -9` would, when it comes to that point
//! for the first, or for the n-th, time.

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Fault {
        name: String,
        left: AtomicU32,
    }

    static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let told = std::env::var("TORCHD_FAULT").ok()?;
        let (name, count) = told.split_once(':').unwrap_or((&told, "1"));
        Some(Fault { name: name.to_owned(), left: AtomicU32::new(count.parse().ok()?) })
    });

    pub(super) fn point(name: &str) {
        if let Some(fault) = &*FAULT
            && fault.name == name
            && fault.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // For whoever counts these deaths.
            let _ = writeln!(std::io::stderr(), "[fault: dies at {name}]");
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A point at which a test may want us to die.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
