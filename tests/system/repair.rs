//! State folders that two want, and databases that are damaged, lost or of another version.

use super::daemon::{Daemon, Setup};

/// The exit code and the words of a daemon that should not start.
fn refused(setup: Setup) -> (i32, String) {
    let output = setup.run();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_daemon_names_the_process_of_the_first() {
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let (code, words) = refused(Setup::in_state(&daemon.state_dir));
    assert!(code == 69 && words.contains(&format!("another torchd uses it, with pid {pid};")), "{code} {words}");
    let lock = daemon.state_dir.join("torchd.lock");
    assert!(torchd::journal::is_held(&lock).unwrap());

    let (state_dir, _guard) = daemon.crash();
    assert!(!torchd::journal::is_held(&lock).unwrap(), "a daemon that is gone holds nothing");
    let (status, _, _) = Setup::in_state(&state_dir).start().stop();
    assert_eq!(status.code(), Some(0));
}
