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
        Self::start_at_in("127.0.0.1:0", state, flags, settings)
    }

    /// The same that listens there, for gRPC and HTTP.
    #[allow(dead_code, reason = "not every bench comes from elsewhere")]
    pub(crate) fn start_at(listen: &str, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start_at_in(listen, tempfile::tempdir().expect("a temporary folder"), flags, settings)
    }

    fn start_at_in(listen: &str, state: tempfile::TempDir, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let ready_file = state.path().join("ready.json");
        // Of a daemon before, if there was one.
        let _ = fs::remove_file(&ready_file);
        let program = std::env::var_os("TORCHD_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_torchd").into()));
        command.args(["--config", "/dev/null", "--grpc-listen", listen, "--http-listen", listen]);
        command.args(flags).arg("--ready-file").arg(&ready_file).arg("--state-dir").arg(state.path().join("state"));
        // Where a bench is ended from outside, its runners do not go on for long.
        command.env("TORCHD__JOBS__ORPHAN_TIMEOUT", "20s");
        // Clients of benches come over TCP without a token; what a token costs has a bench of its own.
        command.env("TORCHD__SECURITY__LOOPBACK", "open");
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

    /// The port of an address.
    #[allow(dead_code, reason = "not every bench comes from elsewhere")]
    pub(crate) fn port(&self, name: &str) -> u16 {
        let address = self.ready[name].as_str().expect("an address");
        address.parse::<std::net::SocketAddr>().expect("host:port").port()
    }

    /// The path of its Unix socket.
    #[allow(dead_code, reason = "not every bench asks there")]
    pub(crate) fn unix(&self) -> &str {
        self.ready["unix"].as_str().expect("a path")
    }

    /// The token of its user.
    #[allow(dead_code, reason = "not every bench needs one")]
    pub(crate) fn token(&self) -> String {
        let file = self.ready["token_file"].as_str().expect("a path");
        fs::read_to_string(file).expect("the token is ours").trim_end().to_owned()
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
