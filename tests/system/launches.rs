//! Ranks on other machines, as an engine starts them: the test is the launcher and the engine, and
//! starts the real outposts.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::Streaming;
use torchd::proto::v1;
use torchd::proto::v1::launch_service_client::LaunchServiceClient;
use torchd::proto::v1::launcher_order::Order;

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::ranks::{job, past, unbroken};
use super::resume::{Outcome, event_steps, retried};
use super::small_disk::SmallDisk;
use super::tools;

/// A job of ranks on other machines.
pub(crate) fn scaled(world_size: u32, min_world_size: u32) -> v1::JobSpec {
    let engine = v1::Engine::Torchrun.into();
    let scale = v1::Scale {
        engine,
        world_size,
        min_world_size: Some(min_world_size),
        join_timeout: None,
        storage: String::new(),
    };
    let spec = job(1);
    let resources = spec.resources.map(|all| v1::Resources { ranks: None, ..all });
    v1::JobSpec { scale: Some(scale), resources, ..spec }
}

/// A daemon whose ranks are given up soon.
pub(crate) fn setup() -> Setup {
    Setup::new().set("jobs.cpu_slots", "1").set("jobs.rank_lease", "3s")
}

/// A launcher with that many slots.
pub(crate) async fn attach(daemon: &Daemon, slots: u32) -> Launcher {
    attach_again(daemon, slots, Vec::new()).await
}

pub(crate) async fn attach_again(daemon: &Daemon, slots: u32, running: Vec<v1::LaunchName>) -> Launcher {
    let mut client = LaunchServiceClient::new(daemon.channel().await);
    let engine = v1::Engine::Torchrun.into();
    let request = v1::AttachLauncherRequest { launcher: "test".into(), engine, slots, running, ..Default::default() };
    let mut orders = client.attach_launcher(request).await.unwrap().into_inner();
    let first = orders.message().await.unwrap().unwrap();
    assert!(matches!(first.order, Some(Order::Attached(_))));
    Launcher { orders, client, place: TempDir::new().unwrap() }
}

pub(crate) struct Launcher {
    pub(crate) orders: Streaming<v1::LauncherOrder>,
    client: LaunchServiceClient<tonic::transport::Channel>,
    /// Where ranks have their files.
    place: TempDir,
}

impl Launcher {
    async fn order(&mut self) -> Order {
        self.orders.message().await.unwrap().unwrap().order.unwrap()
    }

    /// The next launch; orders to stop are passed over.
    pub(crate) async fn launch(&mut self) -> v1::Launch {
        loop {
            if let Order::Launch(launch) = self.order().await {
                return launch;
            }
        }
    }

    /// Starts a rank as an engine would.
    pub(crate) fn rank(&self, daemon: &Daemon, launch: &v1::Launch, rank: u32, port: u16) -> Rank {
        self.rank_telling(daemon, launch, rank, port, Stdio::inherit())
    }

    /// The same with another standard error.
    fn rank_telling(&self, daemon: &Daemon, launch: &v1::Launch, rank: u32, port: u16, told: Stdio) -> Rank {
        let command = Command::new(env!("CARGO_BIN_EXE_torchd"));
        self.rank_by(command, daemon, launch, (rank, port), told)
    }

    /// The same by a command that ends in that of torchd.
    pub(crate) fn rank_by(
        &self,
        mut command: Command,
        daemon: &Daemon,
        launch: &v1::Launch,
        (rank, port): (u32, u16),
        told: Stdio,
    ) -> Rank {
        command.arg("--rank").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("OMP_WAIT_POLICY", "PASSIVE").env("TMPDIR", self.place.path());
        // One way to the daemon or the other.
        match launch.mailbox.as_str() {
            "" => command.env("TORCHD_SERVER", daemon.grpc.to_string()),
            mailbox => command.env("TORCHD_RANK_MAILBOX", mailbox),
        };
        command.env("TORCHD_TOKEN", &launch.token);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", launch.world_size.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        let errors = self.place.path().join(format!("error-{}-{rank}.json", launch.attempt));
        Rank(command.env("TORCHELASTIC_ERROR_FILE", errors).stdin(Stdio::null()).stderr(told).spawn().unwrap())
    }

    pub(crate) fn ranks(&self, daemon: &Daemon, launch: &v1::Launch) -> Vec<Rank> {
        let port = free_port();
        (0..launch.world_size).map(|rank| self.rank(daemon, launch, rank, port)).collect()
    }

    /// The engine has ended a launch.
    pub(crate) async fn ended(&mut self, launch: &v1::Launch, message: &str) {
        let request = v1::EndLaunchRequest {
            launcher: "test".into(),
            job: launch.job.clone(),
            attempt: launch.attempt,
            message: message.into(),
        };
        self.client.end_launch(request).await.unwrap();
    }

    /// The folders of outposts.
    fn left(&self) -> Vec<std::ffi::OsString> {
        let left = std::fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().file_name());
        left.filter(|name| name.to_string_lossy().contains("torchd-")).collect()
    }

    /// Nothing of any rank is left.
    pub(crate) fn assert_tidy(&self) {
        assert!(self.left().is_empty(), "{:?}", self.left());
    }
}

/// The process id of the runner of a rank, which its outpost's shim has started.
fn runner_of(launcher: &Launcher, launch: &v1::Launch, rank: u32) -> i32 {
    let id = launch.job.trim_start_matches("jobs/");
    let beginning = format!("torchd-{id}-{}-{rank}-", launch.attempt);
    wait_for("the runner of a rank", || {
        let folders = std::fs::read_dir(launcher.place.path()).unwrap().flatten();
        let own = folders
            .map(|folder| folder.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))?;
        let folder = if rank == 0 { own.join("job") } else { own.join(format!("job/ranks/{rank}")) };
        let lock = std::fs::read(folder.join("lock")).ok()?;
        let signed: serde_json::Value = serde_json::from_slice(&lock).ok()?;
        i32::try_from(signed["pid"].as_i64()?).ok()
    })
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An outpost; one that the test has forgotten is killed.
pub(crate) struct Rank(Child);

impl Rank {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        wait_for("the end of an outpost", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_engines_ranks_give_the_numbers_of_this_machine_and_everything_comes_home() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let waiting = daemon.create(scaled(2, 2)).await;
    daemon.watch_until(&waiting.name, |job| job.waiting_reason.contains("no launcher of torchrun is attached")).await;
    let mut launcher = attach(&daemon, 2).await;
    let launch = launcher.launch().await;
    assert_eq!((launch.job.as_str(), launch.attempt, launch.world_size), (waiting.name.as_str(), 1, 2));
    let cluster = daemon.ctl(&["cluster"]);
    let told = String::from_utf8(cluster.stdout).unwrap();
    assert!(told.contains("test of torchrun, 2 of 2 slots taken, for all owners"), "{told}");
    let mut ranks = launcher.ranks(&daemon, &launch);
    let ended = daemon.watch_to_end(&waiting.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Finished, "{}", end.message);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    launcher.assert_tidy();
    assert!(matches!(launcher.order().await, Order::Stop(stop) if stop.job == waiting.name));
    let whole = unbroken(&daemon).await;
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
    let (here, there) = (daemon.jobs().await, daemon.job_folder(&waiting.name));
    drop(here);
    assert!(there.join("runner.log").metadata().unwrap().len() > 0);
    assert!(there.join("ranks/1/journal").metadata().unwrap().len() > 0);
    assert!(!event_steps(&there).is_empty());
}

#[tokio::test]
async fn a_job_goes_on_with_as_many_ranks_as_there_is_room_for_to_the_same_numbers() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let whole = unbroken(&daemon).await;
    let job = daemon.create(scaled(4, 1)).await;
    let mut launcher = attach(&daemon, 3).await;
    let launch = launcher.launch().await;
    // Three do not divide four shards.
    assert_eq!(launch.world_size, 2);
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 12).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    assert_eq!(paused.last_attempt_end.unwrap().reason(), v1::JobEndReason::Paused);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    launcher.ended(&launch, "").await;
    launcher.assert_tidy();
    drop(launcher);
    let mut launcher = attach(&daemon, 4).await;
    daemon
        .jobs()
        .await
        .resume_job(v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() })
        .await
        .unwrap();
    let launch = launcher.launch().await;
    assert_eq!((launch.attempt, launch.world_size), (2, 4));
    let _ranks = launcher.ranks(&daemon, &launch);
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Finished, "{}", end.message);
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
    // All of both attempts, and what the first one told beyond its checkpoint once.
    for (tag, steps) in event_steps(&daemon.job_folder(&job.name)) {
        let request = v1::ReadScalarsRequest { name: job.name.clone(), tag: tag.clone(), ..Default::default() };
        let points = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points;
        let told: Vec<i64> = points.iter().map(|point| point.step as i64).collect();
        assert_eq!(steps, told, "{tag}");
    }
}

/// Each blow at an attempt has its reason, and the next attempt gives the same numbers.
#[tokio::test]
async fn whatever_dies_the_next_attempt_gives_the_same_numbers() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = setup().start();
    let whole = unbroken(&daemon).await;
    let mut launcher = attach(&daemon, 2).await;
    for blow in ["runner", "outpost", "asked"] {
        let job = daemon.create(retried(1, scaled(2, 2))).await;
        let launch = launcher.launch().await;
        let mut ranks = launcher.ranks(&daemon, &launch);
        past(&daemon, &job.name, 12).await;
        let runner = runner_of(&launcher, &launch, 1);
        match blow {
            "runner" => kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap(),
            // Its runner saves and leaves by itself, and the daemon does not hear of it any more.
            "outpost" => ranks[1].signal(Signal::SIGKILL),
            // As an engine that is cancelled. All ranks stop after the same step.
            _ => ranks[1].signal(Signal::SIGTERM),
        }
        for rank in &mut ranks {
            rank.end();
        }
        wait_for("the end of the runner", || is_gone(runner).then_some(()));
        assert_eq!(launcher.left().len(), usize::from(blow == "outpost"), "{blow}");
        launcher.ended(&launch, "").await;
        let again = launcher.launch().await;
        assert_eq!((again.job.as_str(), again.attempt), (job.name.as_str(), 2), "{blow}");
        let last = daemon.get(&job.name).await.last_attempt_end.unwrap();
        let reason = if blow == "runner" { v1::JobEndReason::KilledBySignal } else { v1::JobEndReason::Interrupted };
        assert_eq!(last.reason(), reason, "{blow}: {}", last.message);
        assert_eq!(last.message.starts_with("rank 1: "), blow != "asked", "{blow}: {}", last.message);
        let mut ranks = launcher.ranks(&daemon, &again);
        let ended = daemon.watch_to_end(&job.name).await;
        let end = ended.end.clone().unwrap();
        assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 2), "{blow}: {}", end.message);
        assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
        // Outposts remove what one has left that was killed.
        launcher.assert_tidy();
        launcher.ended(&again, "").await;
        Outcome::of(&daemon, &ended).await.assert_same(&whole);
    }
}

#[tokio::test]
async fn ranks_go_on_without_a_daemon_and_the_next_one_takes_the_launch_over() {
    if !tools::has_ranks() {
        return;
    }
    let mut daemon = setup().start();
    let whole = unbroken(&daemon).await;
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 12).await;
    let grpc = daemon.grpc;
    let (state_dir, _state) = daemon.crash();
    daemon = Setup::at(grpc, &state_dir).set("jobs.cpu_slots", "1").set("jobs.rank_lease", "3s").start();
    // The launcher tells what it has, and is told what is over.
    let running = vec![
        v1::LaunchName { job: launch.job.clone(), attempt: launch.attempt },
        v1::LaunchName { job: launch.job.clone(), attempt: 7 },
    ];
    let mut launcher = attach_again(&daemon, 2, running).await;
    assert!(matches!(launcher.order().await, Order::Stop(stop) if stop.attempt == 7));
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 1), "{}", end.message);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
}

#[tokio::test]
async fn a_job_that_is_cancelled_leaves_nothing_on_any_machine() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 3).await;
    let runners = [0, 1].map(|rank| runner_of(&launcher, &launch, rank));
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Cancelled, "{:?}", ended.end);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    assert!(runners.iter().all(|runner| is_gone(*runner)));
    launcher.assert_tidy();
}

#[tokio::test]
async fn an_engine_that_does_not_start_the_ranks_is_the_reason_of_the_end() {
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    daemon.watch_until(&job.name, |job| job.waiting_reason == "2 of 2 ranks have not joined yet").await;
    launcher.ended(&launch, "no slots for barrier tasks").await;
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::StartFailed);
    let words = "the engine ended before it had joined: no slots for barrier tasks";
    assert!(end.message.ends_with(words), "{}", end.message);

    let mut hasty = scaled(2, 2);
    hasty.scale.as_mut().unwrap().join_timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let job = daemon.create(hasty).await;
    let launch = launcher.launch().await;
    let mut first = launcher.rank(&daemon, &launch, 0, free_port());
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::StartFailed);
    assert_eq!(end.message, "rank 1: it has not joined within scale.join_timeout, 2s");
    assert_ne!(first.end(), Some(0));
    launcher.ended(&launch, "").await;
    launcher.assert_tidy();

    // An order that was lost on its way is given again, as another attempt.
    let job = daemon.create(scaled(2, 2)).await;
    launcher.launch().await;
    let mut launcher = attach(&daemon, 2).await;
    assert_eq!(launcher.launch().await.attempt, 2);
    let last = daemon.get(&job.name).await.last_attempt_end.unwrap();
    assert_eq!(last.reason(), v1::JobEndReason::Interrupted);
    assert!(last.message.ends_with("its launcher has lost the launch"), "{}", last.message);
    drop(launcher);
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("no launcher of torchrun")).await;
    let last = daemon.get(&job.name).await.last_attempt_end.unwrap();
    assert_eq!(last.reason(), v1::JobEndReason::Interrupted);
    assert!(last.message.ends_with("its launcher left before any rank had joined"), "{}", last.message);
}

#[tokio::test]
async fn a_job_that_waits_for_slots_is_not_overtaken_by_smaller_ones() {
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 2).await;
    let first = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let large = daemon.create(scaled(2, 2)).await;
    daemon.watch_until(&large.name, |job| job.waiting_reason.starts_with("needs 2 slots of torchrun")).await;
    let small = daemon.create(scaled(1, 1)).await;
    let behind = format!("1 job is ahead of it in the queue; the first is {}", large.name);
    daemon.watch_until(&small.name, |job| job.waiting_reason == behind).await;
    let cancel = |name: &str| v1::CancelJobRequest { name: name.into(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel(&first.name)).await.unwrap();
    daemon.watch_to_end(&first.name).await;
    launcher.ended(&launch, "").await;
    let launch = launcher.launch().await;
    assert_eq!((launch.job.as_str(), launch.world_size), (large.name.as_str(), 2));
    daemon.jobs().await.cancel_job(cancel(&large.name)).await.unwrap();
    daemon.watch_to_end(&large.name).await;
    launcher.ended(&launch, "").await;
    assert_eq!(launcher.launch().await.job, small.name);
}

#[tokio::test]
async fn an_outpost_whose_words_nobody_reads_trains_to_the_end() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    let port = free_port();
    let start = |rank| launcher.rank_telling(&daemon, &launch, rank, port, Stdio::piped());
    let mut ranks: Vec<_> = (0..2).map(start).collect();
    // Whatever they tell from here on fails with EPIPE.
    ranks.iter_mut().for_each(|rank| drop(rank.0.stderr.take()));
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Finished, "{}", end.message);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    launcher.assert_tidy();
}

#[tokio::test]
async fn a_full_disk_keeps_no_rank_of_a_cancelled_job() {
    let Some(disk) = tools::allowed("a small disk", SmallDisk::mount()) else { return };
    if !tools::has_ranks() {
        return;
    }
    // The folders of jobs alone are there, so that the daemon can write down what it is asked.
    let state = TempDir::new().unwrap();
    std::os::unix::fs::symlink(disk.path(), state.path().join("jobs")).unwrap();
    let setup = Setup::in_state(state.path()).set("jobs.cpu_slots", "1").set("jobs.orphan_timeout", "600s");
    let daemon = setup.set("runner.stop_grace", "2s").start();
    let mut launcher = attach(&daemon, 1).await;
    let job = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 3).await;
    disk.fill();
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("takes nothing of its ranks")).await;
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Cancelled, "{:?}", ended.end);
    for rank in &mut ranks {
        rank.end();
    }
    launcher.assert_tidy();
}
