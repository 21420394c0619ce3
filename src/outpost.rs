//! The outpost: stands for the daemon beside a rank on another machine. An engine starts it, as
//! `torchd --rank`, with the contract of `torchrun` in the environment.
//!
//! It takes the rank's place in the launch, makes a job's folder on this machine, and has a shim
//! and a runner started there as the daemon would. It holds the lock by which they know that
//! somebody looks after them, brings home what they write, and hands on the daemon's wishes. Where
//! it dies, they save a checkpoint and leave.

mod contract;
mod courier;
mod error_file;
mod folder;
mod told;
mod way;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::Code;

use crate::access::SealKey;
use crate::cli::{AccessArguments, Connection, Failure};
use crate::config::{self, Flags, Settings};
use crate::daemon::runner_settings;
use crate::job::JobId;
use crate::job::end::Exit;
use crate::job::order::{Lease, LeasedDevice, Order};
use crate::journal::ExitNote;
use crate::launches::VERSION;
use crate::mailbox::Mailbox;
use crate::proto::v1;
use crate::proto::v1::JobEndReason;
use crate::proto::v1::launch_service_client::LaunchServiceClient;
use crate::supervisor::{RunnerHandle, RunnerKind, RunnerNews, Start, Supervisor};
use crate::umask;
use contract::Contract;
use courier::{Courier, Lost};
use error_file::ErrorFile;
use folder::LocalFolder;
use way::{Pace, Way};

/// The first argument of an outpost.
pub const MODE: &str = "--rank";

/// The daemon is looked for this long at the start.
const CONNECT: Duration = Duration::from_secs(60);
/// Bytes of an answer: an order, or a piece of a file.
const LARGEST_ANSWER: usize = 64 << 20;
/// Time until a call that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// An engine that wants the rank to end waits so long for the rest to be brought home.
const LAST_TIME: Duration = Duration::from_secs(20);
/// The lease is renewed so many times in its time.
const BEATS: u32 = 5;

/// The arguments of an outpost.
#[derive(Debug, Parser)]
#[command(
    name = "torchd --rank",
    about = "Runs a rank of a launch; an engine such as torchrun starts it, not a person"
)]
struct Arguments {
    /// A folder of this machine for the rank's files, in place of the system's for temporary ones
    #[arg(long, env = "TORCHD_RANK_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The folder of the launch's calls, for a rank that has no route to the daemon
    #[arg(long, env = "TORCHD_RANK_MAILBOX", value_name = "DIR")]
    mailbox: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArguments,
}

/// The client of the daemon's service.
type Client = LaunchServiceClient<Way>;

/// Why a rank did not run to its end, in words.
type Stopped = String;

/// Runs an outpost, and tells how its rank ended: 0 where it finished or was stopped in order, else
/// 1; 64 where the engine or a person started it wrongly.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    arguments.remove(1);
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .init();
    let contract = match Contract::read(|name| std::env::var(name).ok()) {
        Ok(contract) => contract,
        Err(why) => {
            tracing::error!("{why}");
            return ExitCode::from(64);
        }
    };
    // An engine that dies, or kills the program that started us alone, takes the rank along in
    // order.
    if let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM) {
        tracing::warn!(%error, "the rank goes on where its engine dies");
    }
    umask::make_private();
    let errors = ErrorFile::of_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(&arguments, &contract));
            runtime.shutdown_timeout(Duration::from_millis(100));
            ended
        }
        Err(error) => Err(format!("threads cannot be started: {error}")),
    };
    match ended {
        Ok(Outcome::InOrder) => ExitCode::SUCCESS,
        Ok(Outcome::PeerLost(words)) => {
            // The cause is with another rank, whose own words the engine is to show.
            tracing::error!("{words}");
            ExitCode::FAILURE
        }
        Ok(Outcome::Failed(words)) | Err(words) => {
            tracing::error!("{words}");
            errors.write(&words);
            ExitCode::FAILURE
        }
    }
}

/// How a rank ended.
enum Outcome {
    /// It finished, or was stopped.
    InOrder,
    /// It lost the other ranks.
    PeerLost(String),
    /// It failed, in words.
    Failed(String),
}

async fn run(arguments: &Arguments, contract: &Contract) -> Result<Outcome, Stopped> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("SIGINT: {error}"))?;
    let outpost = number()?;
    let way = match &arguments.mailbox {
        Some(place) => by_mailbox(place, contract.rank, outpost)?,
        None => connect(&arguments.access).await?,
    };
    let pace = way.pace();
    let mut client = LaunchServiceClient::new(way).max_decoding_message_size(LARGEST_ANSWER);
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let request = v1::JoinLaunchRequest {
        rank: contract.rank,
        outpost,
        world_size: contract.world_size,
        version: VERSION.to_owned(),
        host,
    };
    let joined = tokio::select! {
        joined = join(&mut client, request, pace.patience) => joined?,
        _ = terminate.recv() => return Err("stopped before the rank joined".into()),
        _ = interrupt.recv() => return Err("stopped before the rank joined".into()),
    };
    let id: JobId = joined.job.parse().map_err(|_| format!("the daemon names a job {:?}", joined.job))?;
    tracing::info!(job = joined.job, attempt = joined.attempt, rank = contract.rank, "joined");

    let courier = Courier::new(client.clone(), contract.rank, outpost, pace.answer);
    let rank = Rank { id, joined, courier, pace };
    let ended = rank.run(arguments, contract, client, &mut terminate, &mut interrupt).await;
    if let Err(words) = &ended {
        // Nothing has run.
        rank.tell_end(Exit::Unknown, words.clone(), CONNECT).await;
    }
    ended
}

/// A rank that has joined.
struct Rank {
    id: JobId,
    joined: v1::JoinLaunchResponse,
    courier: Courier,
    pace: Pace,
}

impl Rank {
    async fn run(
        &self,
        arguments: &Arguments,
        contract: &Contract,
        mut client: Client,
        terminate: &mut Signal,
        interrupt: &mut Signal,
    ) -> Result<Outcome, Stopped> {
        let Self { id, joined, courier, pace } = self;
        let place = arguments.dir.clone().unwrap_or_else(std::env::temp_dir);
        let settings = settings(&place)?;
        let order = self.order(contract, &settings)?;
        let local = LocalFolder::make(&place, id, joined.attempt, contract.rank, courier.outpost())
            .map_err(|error| format!("a folder for the rank in {}: {error}", place.display()))?;
        let beside = local.clone();
        // It takes its time where much was left, and nobody waits for it.
        tokio::task::spawn_blocking(move || beside.clear_away());
        let orphan_timeout = duration(joined.orphan_timeout, Duration::from_secs(3600));
        let beat = (duration(joined.lease, Duration::from_secs(30)) / BEATS).min(pace.slowest_beat);
        let fetching = local.fetch(&mut client, joined, &order, pace.patience);
        // Nothing has run.
        let fetched = tokio::select! {
            fetched = fetching => fetched,
            why = unwanted(courier, beat) => Err(why),
            _ = terminate.recv() => Err("stopped before the rank began".into()),
            _ = interrupt.recv() => Err("stopped before the rank began".into()),
        };
        if fetched.is_err() {
            local.remove();
        }
        fetched?;

        let (supervisor, mut news) = supervisor(joined, &local, &settings)?;
        let start = Start {
            kind: RunnerKind::Runner,
            visible: order.lease.gpus.into_iter().map(|gpu| gpu.visible).collect(),
            memory_bytes: joined.memory_limit_bytes,
            ranks: 1,
            nccl_interface: contract.nccl_interface(joined.may_leave_machine),
        };
        let runner = Arc::new(supervisor.start(id.clone(), local.rank().clone(), joined.attempt, start));
        let beating = tokio::spawn(keep_lease(courier.clone(), runner.clone(), beat, orphan_timeout));
        let carrying = tokio::spawn(courier.clone().carry(local.clone()));
        let mut last_step = 0;
        let ended = loop {
            tokio::select! {
                told = news.recv() => match told.map(|event| event.what) {
                    Some(RunnerNews::Ended { exit, fault, said, .. }) => break (exit, fault, said),
                    Some(RunnerNews::Progress { fold, .. }) => {
                        last_step = fold.saved(joined.attempt).unwrap_or(last_step);
                    }
                    Some(RunnerNews::Spawned { .. } | RunnerNews::Doubt(_)) => {}
                    None => return Err("the runner is not looked after any more".into()),
                },
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: the rank is asked to stop");
                    runner.stop();
                }
                _ = interrupt.recv() => {
                    tracing::info!("SIGINT: the rank is asked to stop");
                    runner.stop();
                }
            }
        };
        let (exit, fault, said) = ended;
        tracing::info!(?exit, step = last_step, "the runner has ended");
        courier.finish();
        // It brings the rest; an engine that ends for good kills us meanwhile.
        let mut carrying = carrying;
        let carried = tokio::select! {
            carried = tokio::time::timeout(orphan_timeout, &mut carrying) => carried,
            _ = terminate.recv() => tokio::time::timeout(LAST_TIME, &mut carrying).await,
            _ = interrupt.recv() => tokio::time::timeout(LAST_TIME, &mut carrying).await,
        };
        let is_home = matches!(carried, Ok(Ok(Ok(()))));
        beating.abort();
        if is_home {
            let words = fault.as_ref().map(|fault| fault.words.clone()).unwrap_or_default();
            self.tell_end(exit, words, orphan_timeout).await;
            local.remove();
        } else {
            local.keep();
            tracing::error!(folder = %local.path().display(), "not everything could be brought to the daemon; it stays here");
        }
        let reason = said.as_ref().map(v1::RunnerEnded::reason);
        let words = said.map(|said| said.message).or(fault.map(|fault| fault.words));
        let words = words.unwrap_or_else(|| format!("the runner ended by {exit:?}"));
        Ok(match (exit, reason) {
            (Exit::Code(0), _) => Outcome::InOrder,
            (_, Some(JobEndReason::PeerLost)) => Outcome::PeerLost(words),
            _ => Outcome::Failed(words),
        })
    }

    /// The order of the daemon, with what this machine has for the rank.
    fn order(&self, contract: &Contract, settings: &Settings) -> Result<Order, Stopped> {
        let joined = &self.joined;
        let meeting = contract.meeting(joined.may_leave_machine)?;
        let order: Order = serde_json::from_slice(&joined.order).map_err(|error| format!("the order: {error}"))?;
        let gpus = match order.lease.device {
            LeasedDevice::Cpu => Vec::new(),
            LeasedDevice::Cuda => vec![contract.gpu(joined.may_leave_machine)?],
        };
        let lease = Lease { gpus, ..order.lease };
        // The log begins here.
        Ok(Order { meeting, lease, log_begins: 0, nvml_library: settings.nvml_library.clone(), ..order })
    }

    /// Tells the end, and tries for as long as that.
    async fn tell_end(&self, exit: Exit, fault: String, limit: Duration) {
        let note = ExitNote::new(self.joined.attempt, exit);
        self.courier.until_told(serde_json::to_vec(&note).unwrap_or_default(), fault, limit).await;
    }
}

/// Joins, and tries again for a while where the daemon does not answer now.
async fn join(
    client: &mut Client,
    request: v1::JoinLaunchRequest,
    patience: Duration,
) -> Result<v1::JoinLaunchResponse, Stopped> {
    let begun = Instant::now();
    loop {
        match client.join_launch(request.clone()).await {
            Ok(joined) => return Ok(joined.into_inner()),
            Err(status) if is_final(status.code()) => {
                return Err(format!("the daemon refuses: {}", status.message()));
            }
            Err(status) if begun.elapsed() > patience => {
                return Err(format!("the daemon does not answer: {}", status.message()));
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Renews the lease of a rank that has not begun, until it is not wanted any more. Returns why.
async fn unwanted(courier: &Courier, beat: Duration) -> Stopped {
    loop {
        match courier.beat().await {
            Ok(v1::RankWish::Unspecified) | Err(Lost::Daemon(_)) => tokio::time::sleep(beat).await,
            Ok(v1::RankWish::Stop | v1::RankWish::Kill) => return "stopped before the rank began".into(),
            Err(Lost::Place(words)) => return format!("the daemon has given the rank up: {words}"),
        }
    }
}

/// Renews the lease until it is aborted, and hands on the daemon's wishes. A rank whose place is
/// another's ends at once; one that has no daemon for too long saves what it has.
async fn keep_lease(courier: Courier, runner: Arc<RunnerHandle>, beat: Duration, orphan_timeout: Duration) {
    let mut heard = Instant::now();
    loop {
        match courier.beat().await {
            Ok(v1::RankWish::Unspecified) => heard = Instant::now(),
            Ok(v1::RankWish::Stop) => {
                heard = Instant::now();
                runner.stop();
            }
            Ok(v1::RankWish::Kill) => {
                heard = Instant::now();
                courier.give_up();
                runner.kill();
            }
            Err(Lost::Place(words)) => {
                tracing::error!("the daemon has given the rank up: {words}; it is killed");
                runner.kill();
                return;
            }
            Err(Lost::Daemon(words)) if heard.elapsed() > orphan_timeout => {
                tracing::error!("there has been no daemon for {orphan_timeout:?}: {words}; the rank is asked to stop");
                runner.stop();
                heard = Instant::now();
            }
            Err(Lost::Daemon(words)) => tracing::debug!("the daemon does not answer: {words}"),
        }
        tokio::time::sleep(beat).await;
    }
}

/// Connects, and tries again for a while: all ranks come at once.
async fn connect(access: &AccessArguments) -> Result<Way, Stopped> {
    let begun = Instant::now();
    loop {
        match Connection::open(access).await {
            Ok(connection) => return Ok(Way::Connection(connection.link())),
            Err(Failure::Unreachable { server, cause }) if begun.elapsed() > CONNECT => {
                return Err(format!("{server} cannot be reached: {cause}; TORCHD_SERVER names the daemon"));
            }
            Err(Failure::Unreachable { .. }) => tokio::time::sleep(AGAIN).await,
            Err(Failure::Mistake(words) | Failure::Other(words)) => return Err(words),
            Err(other) => return Err(format!("{other:?}")),
        }
    }
}

/// The way by a mailbox, whose seals the token of the launch makes.
fn by_mailbox(place: &Path, rank: u32, outpost: u64) -> Result<Way, Stopped> {
    let token = std::env::var("TORCHD_TOKEN").ok();
    let key = token.as_deref().and_then(SealKey::of_token).ok_or("TORCHD_TOKEN does not hold the token of a launch")?;
    if !place.is_absolute() {
        return Err(format!("TORCHD_RANK_MAILBOX is {}; an absolute path is needed", place.display()));
    }
    Ok(Way::Mailbox(Mailbox::new(place.to_owned(), key, rank, outpost)))
}

/// The settings of this machine, from the environment.
fn settings(place: &Path) -> Result<Settings, Stopped> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    // Nothing is kept there.
    let flags = Flags { state_dir: Some(place.to_owned()), ..Flags::default() };
    let (settings, _) = config::gather(&flags, std::env::vars_os(), cpus).map_err(|wrong| wrong.to_string())?;
    Ok(settings)
}

/// Runs shims and runners as the daemon would, with its limits and our lock.
fn supervisor(
    joined: &v1::JoinLaunchResponse,
    local: &LocalFolder,
    settings: &Settings,
) -> Result<(Supervisor, mpsc::Receiver<crate::supervisor::RunnerEvent>), Stopped> {
    let mut runner = runner_settings(settings, None).map_err(|error| error.to_string())?;
    runner.daemon_lock = local.lock();
    // The lock is free once we are dead.
    runner.orphan_timeout = Duration::from_secs(1);
    runner.stop_grace = duration(joined.stop_grace, runner.stop_grace);
    runner.log_max_bytes = joined.log_max_bytes;
    runner.group_reads = false;
    let (events, news) = mpsc::channel(64);
    Ok((Supervisor::new(runner, events), news))
}

fn duration(told: Option<prost_types::Duration>, otherwise: Duration) -> Duration {
    told.and_then(|told| told.try_into().ok()).unwrap_or(otherwise)
}

/// A number that no other outpost has.
fn number() -> Result<u64, Stopped> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("no number can be drawn: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Whether a refusal will stay one.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::NotFound
            | Code::OutOfRange
            | Code::InvalidArgument
            | Code::Unimplemented
    )
}
