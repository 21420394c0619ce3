//! A daemon for a test: started on free ports, ended when the test is over.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::system_service_client::SystemServiceClient;

/// Nothing takes this long; a test that waits for it has found a fault.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) unix: PathBuf,
    state: Option<TempDir>,
    pub(crate) state_dir: PathBuf,
}

/// How to start one.
pub(crate) struct Setup {
    command: Command,
    state: Option<TempDir>,
    state_dir: PathBuf,
    is_unread: bool,
}

impl Setup {
    /// The examples' data, port 0, a temporary state folder, nothing of ours in the environment.
    pub(crate) fn new() -> Self {
        let state = TempDir::new().unwrap();
        let state_dir = state.path().join("state");
        let mut setup = Self::in_state(&state_dir);
        setup.state = Some(state);
        setup
    }

    /// The same in a state folder that stays.
    pub(crate) fn in_state(state_dir: &Path) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), state_dir)
    }

    /// One that other machines can reach.
    #[allow(dead_code, reason = "the fault harness has none")]
    pub(crate) fn everywhere() -> Self {
        let state = TempDir::new().unwrap();
        let state_dir = state.path().join("state");
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let mut setup = Self::listening(any, any, &state_dir);
        setup.state = Some(state);
        setup
    }

    /// The same where another daemon was before.
    pub(crate) fn at(grpc: SocketAddr, state_dir: &Path) -> Self {
        Self::listening(grpc, "127.0.0.1:0".parse().unwrap(), state_dir)
    }

    fn listening(grpc: SocketAddr, http: SocketAddr, state_dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_torchd"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", state_dir);
        // Tests run beside each other: threads of OpenMP that spin at barriers would take the cores
        // of other tests. No result depends on it.
        command.env("OMP_WAIT_POLICY", "PASSIVE");
        command.args(["--grpc-listen", &grpc.to_string(), "--http-listen", &http.to_string()]);
        command.args(["--config", "/dev/null", "--data-root", "examples"]).arg("--state-dir").arg(state_dir);
        // Tests that want runners to go on without their daemon say so; where a test fails in
        // between, none does so for long.
        command.env("TORCHD__SHUTDOWN__RUNNERS", "stop").env("TORCHD__JOBS__ORPHAN_TIMEOUT", "60s");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { command, state: None, state_dir: state_dir.to_owned(), is_unread: false }
    }

    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.command.env(format!("TORCHD__{}", key.replace('.', "__").to_uppercase()), value);
        self
    }

    /// Callers over TCP need no token, for clients that speak HTTP/2 by hand.
    pub(crate) fn open(self) -> Self {
        self.set("security.loopback", "open")
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn data_root(mut self, folder: &Path) -> Self {
        self.command.arg("--data-root").arg(folder);
        self
    }

    /// Starts the daemon with this soft limit of descriptors.
    pub(crate) fn open_files(self, count: u64) -> Self {
        self.shell(&format!("ulimit -S -n {count}"))
    }

    /// Started by a shell that runs this command first.
    pub(crate) fn shell(mut self, before: &str) -> Self {
        let mut limited = Command::new("sh");
        let limit = format!("{before} && exec \"$0\" \"$@\"");
        limited.arg("-c").arg(limit).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        limited.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdin(Stdio::null()).stdout(Stdio::null());
        self.command = limited;
        self
    }

    /// Nobody reads its log.
    pub(crate) fn unread(mut self) -> Self {
        self.is_unread = true;
        self
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn start(mut self) -> Daemon {
        let state_dir = self.state_dir.clone();
        // Kept until the log has been told.
        let state = self.state.take();
        let mut daemon = self.try_start().unwrap_or_else(|status| {
            let log = fs::read_to_string(state_dir.join("daemon.log")).unwrap();
            panic!("torchd ended with {status}:\n{log}");
        });
        daemon.state = state;
        daemon
    }

    /// Starts the daemon and waits until it serves, or ends before it does.
    pub(crate) fn try_start(mut self) -> Result<Daemon, ExitStatus> {
        fs::create_dir_all(&self.state_dir).unwrap();
        let ready_file = self.state_dir.join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.state_dir.join("daemon.log")).unwrap();
        let stderr = if self.is_unread { Stdio::piped() } else { log.into() };
        let mut child = self.command.arg("--ready-file").arg(&ready_file).stderr(stderr).spawn().unwrap();
        drop(child.stderr.take());
        let ready: serde_json::Value = wait_for("the ready file", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            serde_json::from_slice(&fs::read(&ready_file).ok()?).ok().map(Ok)
        })?;
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Ok(Daemon {
            grpc: address("grpc"),
            http: address("http"),
            // The folder may be named by a link, which a test removes.
            unix: fs::canonicalize(ready["unix"].as_str().unwrap()).unwrap(),
            child,
            state: self.state,
            state_dir: self.state_dir,
        })
    }

    /// Starts a daemon that should end by itself.
    pub(crate) fn run(mut self) -> Output {
        self.command.stderr(Stdio::piped()).stdout(Stdio::piped()).output().unwrap()
    }

    /// Starts a daemon that should end by itself; None where it does not in that time, and had to
    /// be ended.
    #[allow(dead_code, reason = "the fault harness needs it")]
    pub(crate) fn run_for(mut self, limit: Duration) -> Option<(ExitStatus, String)> {
        use std::io::Read;
        let mut child = self.command.stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(status) = child.try_wait().unwrap() {
                let mut words = String::new();
                child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
                return Some((status, words));
            }
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        None
    }

    /// Adds a flag.
    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "{what} did not come");
        sleep(Duration::from_millis(5));
    }
}

/// Whether a process has ended, reaped or not.
pub(crate) fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    stat.is_none_or(|stat| stat.contains(") Z "))
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    /// A channel over the Unix socket, on which the kernel says who calls: an admin.
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.server()).unwrap().connect().await.unwrap()
    }

    /// The address of the Unix socket, as clients write it.
    pub(crate) fn server(&self) -> String {
        format!("unix:{}", self.unix.display())
    }

    pub(crate) async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel().await)
    }

    pub(crate) async fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel().await)
    }

    /// Runs torchctl against this daemon.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().env("TORCHD_SERVER", self.server()).args(arguments).output().unwrap()
    }

    /// A page of its HTTP server.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Whether the daemon has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the daemon has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the end of torchd", || self.child.try_wait().unwrap())
    }

    /// Ends the daemon in order; its state folder stays as long as the returned guard.
    pub(crate) fn stop(mut self) -> (ExitStatus, PathBuf, Option<TempDir>) {
        if !self.has_ended() {
            self.signal(Signal::SIGTERM);
        }
        let status = self.wait();
        (status, self.state_dir.clone(), self.state.take())
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn crash(mut self) -> (PathBuf, Option<TempDir>) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        (self.state_dir.clone(), self.state.take())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.state_dir.join("daemon.log")).unwrap()
    }

    pub(crate) fn job_folder(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }

    /// Queues a job.
    pub(crate) async fn create(&self, spec: v1::JobSpec) -> v1::Job {
        self.jobs()
            .await
            .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
            .await
            .unwrap()
            .into_inner()
    }

    /// Follows a job until a snapshot is as wanted.
    pub(crate) async fn watch_until(&self, name: &str, is_wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
        let mut stream = self.jobs().await.watch_job(request).await.unwrap().into_inner();
        let follow = async {
            while let Some(message) = stream.message().await.unwrap() {
                for event in message.events {
                    if let Some(v1::watch_event::Event::Snapshot(job)) = event.event
                        && is_wanted(&job)
                    {
                        return job;
                    }
                }
            }
            panic!("the watch of {name} ended");
        };
        tokio::time::timeout(LIMIT, follow)
            .await
            .unwrap_or_else(|_| panic!("{name} did not get there:\n{}", self.log()))
    }

    /// Follows a job to its end.
    pub(crate) async fn watch_to_end(&self, name: &str) -> v1::Job {
        self.watch_until(name, |job| job.end.is_some()).await
    }

    /// A job as it is now.
    pub(crate) async fn get(&self, name: &str) -> v1::Job {
        self.jobs().await.get_job(v1::GetJobRequest { name: name.into() }).await.unwrap().into_inner()
    }

    /// The process that has signed a lock of a job.
    pub(crate) fn signed(&self, name: &str, lock: &str) -> i32 {
        wait_for("a signature", || {
            let text = fs::read(self.job_folder(name).join(lock)).ok()?;
            let signed: serde_json::Value = serde_json::from_slice(&text).ok()?;
            i32::try_from(signed["pid"].as_i64()?).ok()
        })
    }

    /// Kills the runner of a job that runs.
    pub(crate) fn kill_runner(&self, name: &str) {
        kill(Pid::from_raw(self.signed(name, "lock")), Signal::SIGKILL).unwrap();
    }

    /// The process id of a job's runner.
    pub(crate) async fn runner_pid(&self, name: &str) -> i32 {
        self.started(name).await.pid as i32
    }

    /// The beginning of a job's first attempt.
    pub(crate) async fn started(&self, name: &str) -> v1::RunnerStarted {
        let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
        let mut stream = self.jobs().await.watch_job(request).await.unwrap().into_inner();
        while let Some(message) = stream.message().await.unwrap() {
            for event in message.events {
                if let Some(v1::watch_event::Event::Record(record)) = event.event
                    && let Some(v1::job_record::What::Started(started)) = record.what
                {
                    return started;
                }
            }
        }
        panic!("the runner of {name} has not begun");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of torchd\n{}", self.log());
        }
    }
}
