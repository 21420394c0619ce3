//! Memory that runs out under a runner: its allocator is refused some, or the kernel kills it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::{spec, tools};

/// More than a validation pass over 1,000 images may take from now on is not to be had, 86 MB for
/// the first layer's output alone.
const LIMIT: u64 = 16 << 20;

/// Lets a runner have little more memory than it has between its validation passes, until it ends.
fn refuse_memory(runner: i32) {
    let mut least = u64::MAX;
    wait_for("the end of a runner without memory", || {
        let status = fs::read_to_string(format!("/proc/{runner}/status")).unwrap_or_default();
        let Some(size) = status.lines().find_map(|line| line.strip_prefix("VmSize:")) else { return Some(()) };
        let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
        // A size in the midst of a pass leaves room for the next one.
        if kib < least {
            least = kib;
            let limit = format!("--as={}", (kib << 10) + LIMIT);
            let prlimit = Command::new("prlimit").args(["--pid", &runner.to_string(), &limit]).output().unwrap();
            assert!(prlimit.status.success() || is_gone(runner), "{prlimit:?}");
        }
        None
    });
}

/// A control group in which memory runs out early.
pub(crate) struct Group(PathBuf);

impl Group {
    /// # Errors
    /// Why none can be made, in version 2 and in version 1.
    pub(crate) fn make(name: &str) -> Result<Self, String> {
        let name = format!("torchd-test-{name}-{}", std::process::id());
        let make = |root: &str, limit: &str| -> std::io::Result<Self> {
            let group = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0)?;
            // A file that is not there is not made: the kernel has them all.
            fs::OpenOptions::new().write(true).open(group.0.join(limit))?;
            fs::write(group.0.join(limit), LIMIT.to_string())?;
            // Nothing goes to the swap instead, where there is any.
            for swap in ["memory.swap.max", "memory.swappiness"].map(|name| group.0.join(name)) {
                if swap.exists() {
                    fs::write(swap, "0")?;
                }
            }
            Ok(group)
        };
        make("/sys/fs/cgroup", "memory.max").or_else(|second| {
            let first = make("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
            first.map_err(|first| format!("version 2: {second}; version 1: {first}"))
        })
    }

    pub(crate) fn take_in(&self, process: i32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn job(retry: v1::Retry) -> v1::JobSpec {
    let retry = v1::Retry { max_restarts: 5, initial_backoff: Some(prost_types::Duration::default()), ..retry };
    let checkpoint = Some(v1::Checkpoint { every_steps: Some(20), ..v1::Checkpoint::default() });
    v1::JobSpec { retry: Some(retry), checkpoint, ..spec::endless() }
}

/// The runner of an attempt, once it trains.
async fn runner(daemon: &Daemon, name: &str, attempt: u32) -> i32 {
    let trains = |job: &v1::Job| {
        let has_begun = job.progress.as_ref().is_some_and(|progress| progress.examples_per_second.is_some());
        job.attempt == attempt && job.state() == v1::JobState::Running && has_begun
    };
    daemon.watch_until(name, trains).await;
    daemon.signed(name, "lock")
}

#[tokio::test]
async fn a_job_that_runs_out_of_memory_is_restarted_once_also_where_it_is_paused_in_between() {
    let daemon = Setup::new().start();
    let job = daemon.create(job(v1::Retry::default())).await;
    refuse_memory(runner(&daemon, &job.name, 1).await);
    let second = runner(&daemon, &job.name, 2).await;
    let after = daemon.get(&job.name).await;
    let end = after.last_attempt_end.unwrap();
    assert_eq!((end.reason(), after.restarts), (v1::JobEndReason::OutOfMemory, 1), "{}", end.message);
    assert!(end.message.contains("memory"), "{}", end.message);

    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    assert!(is_gone(second));
    daemon
        .jobs()
        .await
        .resume_job(v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() })
        .await
        .unwrap();
    refuse_memory(runner(&daemon, &job.name, 3).await);
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), end.reason(), ended.attempt), (v1::JobState::Failed, v1::JobEndReason::OutOfMemory, 3));
}

#[tokio::test]
async fn a_runner_that_the_kernel_kills_for_want_of_memory_is_told_from_one_that_was_killed_otherwise() {
    let Some(group) = tools::allowed("a control group", Group::make("alone")) else { return };
    let daemon = Setup::new().start();
    let never = vec![v1::JobEndReason::OutOfMemory.into()];
    let job = daemon.create(job(v1::Retry { never_on: never, ..v1::Retry::default() })).await;
    group.take_in(runner(&daemon, &job.name, 1).await);
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    let told = (ended.state(), end.reason(), end.signal, ended.attempt);
    assert_eq!(told, (v1::JobState::Failed, v1::JobEndReason::OutOfMemory, Some(9), 1), "{}", end.message);
}

#[tokio::test]
async fn a_spec_can_say_what_is_restarted_besides_the_rules() {
    let daemon = Setup::new().start();
    // The rules would let it end at the second time.
    let also = vec![v1::JobEndReason::OutOfMemory.into()];
    let patient = daemon.create(job(v1::Retry { also_on: also, ..v1::Retry::default() })).await;
    for attempt in 1..=3 {
        refuse_memory(runner(&daemon, &patient.name, attempt).await);
    }
    runner(&daemon, &patient.name, 4).await;
    assert_eq!(daemon.get(&patient.name).await.restarts, 3);
}

#[tokio::test]
async fn a_runner_that_passes_the_limit_of_its_spec_ends_with_both_figures() {
    let daemon = Daemon::start();
    let limited = |limit| {
        let never = vec![v1::JobEndReason::OutOfMemory.into()];
        let resources = v1::Resources { memory_limit_bytes: Some(limit), ..spec::threads(1) };
        v1::JobSpec { resources: Some(resources), ..job(v1::Retry { never_on: never, ..v1::Retry::default() }) }
    };
    // A runner without data would not stay within less than this.
    let told = super::predict::refused(&daemon, limited(67 << 20)).await;
    let words = "is 70254592; a runner takes 70254592 before it has any data, so that more is needed";
    assert_eq!(told, [format!("spec.resources.memory_limit_bytes: {words}")]);
    // Enough by what is known before, and less than libtorch takes.
    let limit = 100 << 20;
    let job = daemon.create(limited(limit)).await;
    assert_eq!(job.spec.unwrap().resources.unwrap().memory_limit_bytes, Some(limit));
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::OutOfMemory, "{}", end.message);
    let words = format!("bytes of memory, and resources.memory_limit_bytes is {limit}");
    assert!(end.message.starts_with("the runner took ") && end.message.contains(&words), "{}", end.message);
    let taken: u64 = end.message.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(taken > limit, "{}", end.message);

    let enough = v1::JobSpec { training: spec::short().training, ..limited(4 << 30) };
    let job = daemon.create(enough).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    // The data may have half of what the runner leaves, in every attempt.
    let order = fs::read(daemon.job_folder(&job.name).join("attempts/1.json")).unwrap();
    let order: serde_json::Value = serde_json::from_slice(&order).unwrap();
    assert_eq!(order["inputs"]["memory_bytes"], ((4u64 << 30) - (67 << 20)) / 2);
}
