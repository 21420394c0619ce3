//! The unit as it is deployed, started, stopped and looked after by the real systemd, which boots
//! for the test in namespaces of its own. Where the machine does not allow that, this test is told
//! as skipped.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::daemon::wait_for;
use super::tools;

/// Longer than this it does not live, whatever becomes of the test.
const LIFE: &str = "300";

/// A machine that systemd has booted.
struct Machine {
    /// With it the kernel kills everything in there.
    child: Child,
    /// The first process in there, as it is called out here.
    init: u32,
    // Dropped last.
    _group: Group,
}

/// Its control groups, in each hierarchy that this machine has.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel takes a moment to forget those who were in there.
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-maxdepth", "2", "-type", "d", "-name", &self.0]);
        let found = find.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for group in found.unwrap_or_default().lines() {
            let remove = || {
                Command::new("find").arg(group).args("-depth -type d -exec rmdir {} +".split(' ')).output().ok()?;
                (!Path::new(group).exists()).then_some(())
            };
            wait_for("the end of the control group", remove);
        }
    }
}

impl Machine {
    fn boot() -> Option<Self> {
        let group = Group(format!("torchd-test-systemd-{}", std::process::id()));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let programs = Path::new(env!("CARGO_BIN_EXE_torchd")).parent().unwrap();
        let libtorch = std::env::var_os("LIBTORCH").map_or_else(|| here.join("libtorch"), PathBuf::from).join("lib");
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", LIFE]).arg(here.join("tests/systemd/machine.sh")).arg(&group.0);
        command.arg(programs).arg(here.join("examples")).arg(libtorch);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // `timeout` starts `unshare`, and that starts what becomes systemd; it serves its socket
        // once it has booted.
        let only_child = |pid: u32| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        };
        let booted = wait_for("systemd", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let init = only_child(only_child(child.id())?)?;
            let socket = PathBuf::from(format!("/proc/{init}/root/run/systemd/private"));
            // Before its own mounts are there, it sees ours.
            let is_ours = fs::read(format!("/proc/{init}/comm")).ok()? == b"systemd\n";
            (is_ours && socket.exists()).then_some(Ok(init))
        });
        match booted {
            Ok(init) => Some(Self { child, init, _group: group }),
            Err(status) => {
                let mut words = String::new();
                child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
                assert_eq!(status.code(), Some(77), "{words}");
                tools::allowed("a machine that systemd boots", Err(words))
            }
        }
    }

    /// A path in there.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Replaces what the test has set beside the unit.
    fn set(&self, lines: &str) {
        let programs = "ExecStart=\nExecStart=/run/programs/torchd\n";
        let settings = "Environment=TORCHD__GRPC__LISTEN=127.0.0.1:0 TORCHD__HTTP__LISTEN=127.0.0.1:0 \
                        TORCHD__DATA__ROOTS=/run/examples TORCHD__RUNNER__LIBTORCH_DIR=/run/libtorch\n";
        let log = "StandardOutput=append:/run/torchd.log\nStandardError=append:/run/torchd.log\n";
        let drop_in = self.path("/run/systemd/system/torchd.service.d/test.conf");
        fs::write(drop_in, format!("[Service]\n{programs}{settings}{log}{lines}")).unwrap();
        self.systemctl(&["daemon-reload"]);
    }

    fn systemctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--ipc", "--", "systemctl"]);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}{}", String::from_utf8_lossy(&output.stderr), self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A property of the unit.
    fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "torchd", "--value", "--property", name]).trim().to_owned()
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let server = format!("unix:{}", self.path("/run/torchd/torchd.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().args(["--server", &server]).args(arguments).output().unwrap()
    }

    /// A job, once it is as wanted.
    fn job(&self, name: &str, what: &str, is_wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait_for(what, || {
            let output = self.ctl(&["show", name, "-o", "json"]);
            let job = serde_json::from_slice(&output.stdout).ok()?;
            is_wanted(&job).then_some(job)
        })
    }

    /// The runner of a job, as it is called in there.
    fn runner(&self, name: &str) -> u64 {
        let lock = fs::read(self.path(&format!("/var/lib/torchd/{name}/lock"))).unwrap();
        serde_json::from_slice::<serde_json::Value>(&lock).unwrap()["pid"].as_u64().unwrap()
    }

    fn is_alive(&self, pid: u64) -> bool {
        self.path(&format!("/proc/{pid}/exe")).read_link().is_ok()
    }

    /// The daemon that serves, other than that one.
    fn next_daemon(&self, before: &str) -> String {
        wait_for("the next daemon", || {
            let pid = self.property("MainPID");
            (pid != before && pid != "0" && self.property("ActiveState") == "active").then_some(pid)
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("/run/torchd.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of torchd\n{}", self.log());
        }
        // With its first process everything in there goes.
        if let Ok(None) = self.child.try_wait() {
            let init = nix::unistd::Pid::from_raw(self.init as i32);
            let _ = nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn step(job: &serde_json::Value) -> u64 {
    job["progress"]["step"].as_str().and_then(|step| step.parse().ok()).unwrap_or(0)
}

#[test]
fn the_unit_keeps_its_promises_under_the_real_systemd() {
    let Some(machine) = Machine::boot() else { return };
    machine.set("");
    machine.systemctl(&["start", "torchd"]);
    assert!(machine.property("StatusText").starts_with("gRPC on 127.0.0.1:"));
    let (code, out, err) = super::torchctl::told(&machine.ctl(&[
        "submit",
        "examples/mnist.toml",
        "--set",
        "training.max_steps=10000000",
        "--set",
        "resources.cpu_threads=1",
    ]));
    assert_eq!(code, 0, "{out}{err}{}", machine.log());
    let name = out.split_whitespace().find(|word| word.starts_with("jobs/")).unwrap().to_owned();
    let mut job = machine.job(&name, "the first steps", |job| step(job) > 10);
    let runner = machine.runner(&name);

    // An upgrade, a crash, and a hang: the runner works on, and the next daemon finds it.
    let mut daemon = machine.property("MainPID");
    for (blow, lines) in [("restart", ""), ("kill -9", ""), ("kill -STOP", "WatchdogSec=2\n")] {
        machine.set(lines);
        match blow {
            "restart" => drop(machine.systemctl(&["restart", "torchd"])),
            "kill -9" => drop(machine.systemctl(&["kill", "--kill-who=main", "--signal=KILL", "torchd"])),
            // It notices once the watchdog is as short as that.
            _ => {
                machine.systemctl(&["restart", "torchd"]);
                daemon = machine.next_daemon(&daemon);
                machine.systemctl(&["kill", "--kill-who=main", "--signal=STOP", "torchd"]);
            }
        }
        daemon = machine.next_daemon(&daemon);
        let before = step(&job);
        job = machine.job(&name, blow, |job| step(job) > before + 20);
        assert!(job["attempt"] == 1 && machine.is_alive(runner), "{blow}: {job}");
    }

    // Runners that are to end with the service do so in order; their jobs go on with the next one.
    machine.set("Environment=TORCHD__SHUTDOWN__RUNNERS=stop\n");
    // The first one still stops a daemon with the settings from before.
    machine.systemctl(&["restart", "torchd"]);
    assert!(machine.is_alive(runner));
    machine.systemctl(&["restart", "torchd"]);
    let before = step(&job);
    let job =
        machine.job(&name, "the second attempt", |job| job["attempt"] == 2 && job["state"] == "JOB_STATE_RUNNING");
    let from = job["resume_from"]["step"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(from >= before && !machine.is_alive(runner), "{from} {before} {job}");
    let runner = machine.runner(&name);
    machine.systemctl(&["stop", "torchd"]);
    assert!(!machine.is_alive(runner));
    assert_eq!((machine.property("ActiveState"), machine.property("Result")), ("inactive".into(), "success".into()));
    assert_eq!(machine.property("ExecMainStatus"), "0");

    // A mistake in the settings is not tried again and again.
    machine.set("Environment=TORCHD__JOBS__MAX_QUEUED=none\n");
    let mut start = Command::new("nsenter");
    start.args([
        "--target",
        &machine.init.to_string(),
        "--mount",
        "--pid",
        "--ipc",
        "--",
        "systemctl",
        "start",
        "torchd",
    ]);
    assert!(!start.stdin(Stdio::null()).output().unwrap().status.success());
    let ended = (machine.property("ActiveState"), machine.property("ExecMainStatus"), machine.property("NRestarts"));
    assert_eq!(ended, ("failed".into(), "64".into(), "0".into()), "{}", machine.log());
}
