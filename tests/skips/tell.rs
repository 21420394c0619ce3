// The list of tests that saw nothing on this machine, a line each, in the file that
// TORCHD_TESTS_SKIPPED names. Included by the unit tests and by the system tests, which are
// different programs. scripts/test reads it.

/// Whether this machine could have run a test, had somebody set it up.
#[allow(dead_code, reason = "not every program of the tests has a reason of each kind")]
pub(crate) enum Skip {
    /// It could: continuous integration fails.
    CouldRun,
    /// It does not allow it.
    CannotRun,
}

/// Tells that the test that asks is skipped, and why.
pub(crate) fn tell(skip: Skip, why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let kind = match skip {
        Skip::CouldRun => "could run",
        Skip::CannotRun => "cannot run",
    };
    let line = format!("{kind}: {test}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
    eprintln!("skipped, {line}");
    if let Some(list) = std::env::var_os("TORCHD_TESTS_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, format!("{line}\n").as_bytes()).unwrap();
    }
}
