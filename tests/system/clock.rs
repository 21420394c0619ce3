//! A clock that is set while the daemon works, or between two daemons: durations go on, and nothing is deleted for it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

const HOUR: i64 = 3600;

/// A clock of the daemon's own, which a test can set. Runners have that of the machine.
struct Clock {
    folder: TempDir,
    library: PathBuf,
}

impl Clock {
    /// One that is right.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("clock.so");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O1", "-shared", "-fPIC", "-o"]).arg(&library);
        assert!(compiler.arg("tests/native/clock.cpp").status().unwrap().success());
        let clock = Self { folder, library };
        clock.set(0);
        clock
    }

    /// From now on it is wrong by so many seconds.
    fn set(&self, seconds: i64) {
        let aside = self.folder.path().join("aside");
        fs::write(&aside, seconds.to_string()).unwrap();
        fs::rename(aside, self.folder.path().join("offset")).unwrap();
    }

    /// A daemon that looks at it.
    fn of(&self, setup: Setup) -> Setup {
        setup.env("LD_PRELOAD", &self.library).env("CLOCK_FAKE", self.folder.path().join("offset"))
    }
}

/// How far the clock of the daemon is from the right one, in seconds, as a job tells that it has just taken.
fn error(job: &v1::Job) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    job.create_time.unwrap().seconds - i64::try_from(now).unwrap()
}

/// Takes a job that waits, to see the clock and to make the daemon plan anew.
async fn assert_wrong_by(daemon: &Daemon, seconds: i64) {
    let job = daemon.create(spec::endless()).await;
    assert!((error(&job) - seconds).abs() < 60, "the fault was not provoked: {}", error(&job));
    cancel(daemon, &job).await;
}

async fn cancel(daemon: &Daemon, job: &v1::Job) {
    let request = v1::CancelJobRequest { name: job.name.clone(), now: true };
    daemon.jobs().await.cancel_job(request).await.unwrap();
}

fn duration(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_restart_waits_its_back_off_and_no_longer_when_the_clock_goes_back() {
    let clock = Clock::new();
    let daemon = clock.of(Setup::new().set("jobs.cpu_slots", "1")).start();
    let retry =
        v1::Retry { max_restarts: 2, initial_backoff: duration(2), max_backoff: duration(2), ..Default::default() };
    let job = daemon.create(v1::JobSpec { retry: Some(retry), ..spec::endless() }).await;
    let running = |attempt| move |job: &v1::Job| job.attempt == attempt && job.state() == v1::JobState::Running;
    daemon.watch_until(&job.name, running(1)).await;
    daemon.kill_runner(&job.name);
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("restart 1 of 2 follows in")).await;
    clock.set(-HOUR);
    assert_eq!(daemon.get(&job.name).await.attempt, 1, "it still waits");
    daemon.watch_until(&job.name, running(2)).await;
    assert_wrong_by(&daemon, -HOUR).await;

    daemon.kill_runner(&job.name);
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("restart 2 of 2 follows in")).await;
    let (state_dir, _guard) = daemon.crash();
    clock.set(-2 * HOUR);
    let daemon = clock.of(Setup::in_state(&state_dir).set("jobs.cpu_slots", "1")).start();
    daemon.watch_until(&job.name, running(3)).await;
    assert_wrong_by(&daemon, -2 * HOUR).await;
}

#[tokio::test]
async fn max_duration_counts_the_time_for_which_a_job_runs_and_not_what_the_clock_says() {
    let clock = Clock::new();
    let setup = |setup: Setup| clock.of(setup.set("jobs.cpu_slots", "2").set("shutdown.runners", "leave"));
    let daemon = setup(Setup::new()).start();
    let job = daemon.create(v1::JobSpec { max_duration: duration(1000), ..spec::endless() }).await;
    let has_got_on = |attempt: u32, step: u64| {
        move |job: &v1::Job| {
            let is_on = job.progress.as_ref().is_some_and(|progress| progress.step > step);
            job.end.is_some() || (job.attempt == attempt && job.state() == v1::JobState::Running && is_on)
        }
    };
    daemon.watch_until(&job.name, has_got_on(1, 5)).await;
    clock.set(HOUR);
    assert_wrong_by(&daemon, HOUR).await;
    // Interrupted, it goes on in another attempt, which may take what the first one has left.
    kill(Pid::from_raw(daemon.signed(&job.name, "lock")), Signal::SIGTERM).unwrap();
    let second = daemon.watch_until(&job.name, has_got_on(2, 5)).await;
    assert_eq!(second.state(), v1::JobState::Running, "{:?}", second.end);
    let (state_dir, _guard) = daemon.crash();
    clock.set(3 * HOUR);
    let daemon = setup(Setup::in_state(&state_dir)).start();
    assert_wrong_by(&daemon, 3 * HOUR).await;
    let step = second.progress.unwrap().step;
    let adopted = daemon.watch_until(&job.name, has_got_on(2, step + 5)).await;
    assert_eq!(adopted.state(), v1::JobState::Running, "{:?}", adopted.end);
    cancel(&daemon, &job).await;
    daemon.watch_to_end(&job.name).await;
}

/// A job that has ended, and is to be removed after so many seconds.
async fn ended(daemon: &Daemon, seconds: i64) -> v1::Job {
    let job = daemon.create(v1::JobSpec { ttl_after_end: duration(seconds), ..spec::endless() }).await;
    cancel(daemon, &job).await;
    daemon.watch_to_end(&job.name).await
}

/// Waits until the daemon has looked which jobs have expired, by one that has: it is removed at that look. How far the clock was from the
/// right one.
async fn look_for_expired(daemon: &Daemon) -> i64 {
    let canary = ended(daemon, 0).await;
    wait_for("an expired job to be removed", || (!daemon.job_folder(&canary.name).exists()).then_some(()));
    error(&canary)
}

#[tokio::test]
async fn nothing_is_removed_because_the_clock_is_wrong_for_a_while() {
    let clock = Clock::new();
    let daemon = clock.of(Setup::new()).start();
    let kept = ended(&daemon, HOUR).await;
    clock.set(24 * HOUR);
    assert!(look_for_expired(&daemon).await > 23 * HOUR, "the fault was not provoked");
    assert!(daemon.get(&kept.name).await.end.is_some());
    clock.set(0);
    let (_, state_dir, _guard) = daemon.stop();

    // The clock of a machine that starts may be wrong until it has asked others.
    clock.set(24 * HOUR);
    let daemon = clock.of(Setup::in_state(&state_dir)).start();
    assert!(look_for_expired(&daemon).await > 23 * HOUR, "the fault was not provoked");
    assert!(daemon.get(&kept.name).await.end.is_some());
}
