//! A daemon for a bench: on free ports, with a state folder of its own, ended with the bench.
//! TORCHD_PROGRAM names another program than the one that was built with the bench.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    ready: serde_json::Value,
    state: Option<tempfile::TempDir>,
}

impl Daemon {
    /// Starts one with these flags and settings, and waits until it serves.
    pub(crate) fn start(flags: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), flags, settings)
    }

    /// The same in a state folder that is there already.
    pub(crate) fn start_in(state: tempfile::TempDir, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let ready_file = state.path().join("ready.json");
        // Of a daemon before, if there was one.
        let _ = fs::remove_file(&ready_file);
        let program = std::env::var_os("TORCHD_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_torchd").into()));
        command.args(["--config", "/dev/null", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.args(flags).arg("--ready-file").arg(&ready_file).arg("--state-dir").arg(state.path().join("state"));
        // Where a bench is ended from outside, its runners do not go on for long.
        command.env("TORCHD__JOBS__ORPHAN_TIMEOUT", "20s");
        for (key, value) in settings {
            command.env(format!("TORCHD__{}", key.replace('.', "__").to_uppercase()), value);
        }
        let child = command.stderr(Stdio::null()).spawn().expect("torchd starts");
        let ready = loop {
            if let Some(ready) = fs::read(&ready_file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                break ready;
            }
            sleep(Duration::from_millis(5));
        };
        Self { child, ready, state: Some(state) }
    }

    /// Ends it as a crash would, and returns its state folder.
    #[allow(dead_code, reason = "not every bench lets it crash")]
    pub(crate) fn crash(mut self) -> tempfile::TempDir {
        self.child.kill().expect("torchd is ours");
        self.child.wait().expect("torchd ends");
        self.state.take().expect("it has a state folder")
    }

    /// Where it serves gRPC.
    pub(crate) fn grpc(&self) -> String {
        format!("http://{}", self.ready["grpc"].as_str().expect("an address"))
    }

    /// Where it serves HTTP, as `host:port`.
    #[allow(dead_code, reason = "not every bench asks for pages")]
    pub(crate) fn http(&self) -> String {
        self.ready["http"].as_str().expect("an address").to_owned()
    }

    /// Its process.
    #[allow(dead_code, reason = "not every bench looks at the process")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.state.is_none() {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("torchd is ours");
        self.child.wait().expect("torchd ends");
    }
}
