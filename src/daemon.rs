//! The composition root: puts the rooms together, serves, and takes them apart again in order.
//!
//! Shutdown: health says NOT_SERVING, runners are left to the next daemon, or told to stop and
//! waited for, as the settings say, then the servers end what they have in hand. All of that within
//! `shutdown.timeout`; a second signal ends the daemon at once.

mod arguments;
mod doctor;
mod doors;
mod file_size;
mod handshake;
mod handshakes;
mod heartbeat;
mod launch;
mod limits;
mod listeners;
mod logging;
mod mailboxes;
mod modes;
mod owner;
mod slow_clients;
mod startup;
mod systemd;
mod terminal;
mod tls;
mod visitor;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Audit};
use crate::compat::Date;
use crate::config::{self, Environment, Invalid, Settings, ShutdownRunners};
use crate::exporter::{self, Exporter};
use crate::host;
use crate::job::end;
use crate::job::order::ProgramLimits;
use crate::job::spec::ThreadWait;
use crate::judging;
use crate::launches::Launches;
use crate::manager::{Manager, ManagerSettings, OwnerQuotas, ProgramRules};
use crate::metrics::Metrics;
use crate::mirror;
use crate::proto::json;
use crate::proto::v1::JobEndReason;
use crate::services::{self, AnswerLayer};
use crate::supervisor::{ShimArguments, Supervisor, shim};
use crate::umask;
use arguments::{Arguments, Command};
use heartbeat::Heartbeat;
use mailboxes::Mailboxes;
use modes::GroupReads;
pub(crate) use startup::runner_settings;
use startup::{StartError, StateDir};
use terminal::Terminal;
use tls::Certificates;

/// Once the runners are gone, answers in hand get this long to reach clients that read them.
const CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// The names that health answers for: the server, and each service.
const SERVICES: [&str; 8] = [
    "",
    "torchd.v1.JobService",
    "torchd.v1.SystemService",
    "torchd.v1.CompatibilityService",
    "torchd.v1.GpuService",
    "torchd.v1.FileService",
    "torchd.v1.TokenService",
    "torchd.v1.LaunchService",
];

/// Runs the daemon and tells how it ended: 0, 64 (settings), 69 (an address or a part is
/// unavailable), 70 (internal).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Err(error) = file_size::outlive_limit() {
        let _ = writeln!(std::io::stderr(), "torchd: SIGXFSZ cannot be ignored: {error}");
    }
    if arguments.get(1).is_some_and(|first| first == "--shim") {
        return run_shim(arguments);
    }
    if arguments.get(1).is_some_and(|first| first == host::MODE) {
        return host::main(arguments);
    }
    // All that follows is for the launcher, also flags that a daemon has.
    if arguments.get(1).is_some_and(|first| first == launch::MODE) {
        return launch::main(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|first| first == judging::MODE) {
        return judging::run_child(arguments.get(2).map(OsString::as_os_str));
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { startup::EXIT_SETTINGS } else { 0 });
        }
    };
    if let Some(Command::Launch { arguments }) = &arguments.command {
        let given: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let _ = writeln!(std::io::stderr(), "torchd: launch comes first: torchd launch {}", given.join(" "));
        return ExitCode::from(startup::EXIT_SETTINGS);
    }
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    let (settings, environment) = match config::gather(&arguments.flags(), std::env::vars_os(), cpus) {
        Ok(gathered) => gathered,
        Err(invalid) => return refuse(&invalid),
    };
    if let Err(invalid) = startup::check_state_dir(&settings) {
        return refuse(&invalid);
    }
    if arguments.check_config {
        // A reader that has closed the pipe has seen enough.
        let _ = std::io::stdout().write_all(config::to_toml(&settings).as_bytes());
        return ExitCode::SUCCESS;
    }
    if arguments.check_machine {
        return check_machine(&settings, environment);
    }
    umask::make_private();
    if let Some(Command::Doctor { repair }) = arguments.command {
        return doctor::main(&settings, repair);
    }
    logging::start(&settings);
    limits::forbid_core_dumps();
    let open_files = limits::raise_open_files();
    limits::tell_address_space();
    limits::limit_ourselves(&settings);
    // A daemon mostly waits; two threads keep it small on machines with many cores.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("torchd").enable_all().build();
    let ended = runtime
        .map_err(|error| StartError::internal("the threads of the daemon cannot be started", error))
        .and_then(|runtime| {
            let ended = runtime.block_on(run(settings, environment, cpus, open_files, &arguments));
            // Calls that still block had their time.
            runtime.shutdown_timeout(Duration::from_millis(100));
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// We are not the daemon but the parent of one runner.
fn run_shim(mut arguments: Vec<OsString>) -> ExitCode {
    arguments.remove(1);
    match ShimArguments::try_parse_from(arguments) {
        Ok(arguments) => shim(arguments),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(startup::EXIT_SETTINGS)
        }
    }
}

/// Judges this machine without serving anything, for `torchctl check` where no daemon runs.
fn check_machine(settings: &Settings, environment: Environment) -> ExitCode {
    let judged = async {
        let checkup = startup::checkup(settings, environment, startup::catalogue(settings)?);
        let probe = match startup::runner_settings(settings, None) {
            Ok(runner) => {
                Supervisor::new(runner, tokio::sync::mpsc::channel(1).0).probe().await.map_err(|e| e.to_string())
            }
            Err(failure) => Err(failure.to_string()),
        };
        let report = checkup.judge(&probe, Date::of(SystemTime::now())).await;
        json::to_string(&report, true).map_err(|error| StartError::internal("the report cannot be written", error))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let printed = runtime
        .map_err(|error| StartError::internal("the threads cannot be started", error))
        .and_then(|runtime| runtime.block_on(judged))
        .map(|report| writeln!(std::io::stdout(), "{report}"));
    match printed {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "torchd: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Goes through the task that looks after the jobs. One that is gone stands nowhere: the daemon
/// leaves then.
async fn beat(manager: Manager) {
    let _ = manager.beat().await;
}

/// Returns when the terminal that the daemon was started in is gone. Any other SIGHUP means that
/// certificates are to be read again.
async fn closed(hangup: &mut Signal, started_in: &Terminal, certificates: Option<&Arc<Certificates>>) {
    loop {
        if hangup.recv().await.is_none() {
            return std::future::pending().await;
        }
        if started_in.is_gone() {
            return;
        }
        match certificates.cloned() {
            Some(certificates) => drop(tokio::task::spawn_blocking(move || certificates.renew()).await),
            None => tracing::info!("SIGHUP: there are no certificates to be read again"),
        }
    }
}

fn refuse(invalid: &Invalid) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "torchd: {invalid}");
    ExitCode::from(startup::EXIT_SETTINGS)
}

async fn run(
    settings: Settings,
    environment: Environment,
    cpus: u32,
    open_files: Option<u64>,
    arguments: &Arguments,
) -> Result<(), StartError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| StartError::internal("SIGTERM cannot be received", error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| StartError::internal("SIGINT cannot be received", error))?;
    // Closing the terminal ends a daemon that was started there, in order.
    let mut hangup =
        signal(SignalKind::hangup()).map_err(|error| StartError::internal("SIGHUP cannot be received", error))?;
    let started_in = Terminal::of_this_process();
    let catalogue = startup::catalogue(&settings)?;
    let state = StateDir::open(&settings.state_dir, GroupReads(settings.state_group_read))?;
    if let Some(path) = &arguments.ready_file {
        // A file of an earlier daemon: a program that waits for the file waits for this daemon.
        startup::remove_ready_file(path)?;
    }
    let socket_dir = config::first_folder(&environment, "RUNTIME_DIRECTORY");
    let socket_dir = socket_dir.map_or(settings.state_dir.as_path(), Path::new);
    let listeners = listeners::bind(&settings, socket_dir).await?;
    let mut runner = startup::runner_settings(&settings, open_files)?;
    let reasons: Vec<_> = (1..).map_while(|number| JobEndReason::try_from(number).ok()).map(end::label).collect();
    let methods = services::methods();
    let metrics =
        Metrics::new(&reasons, &methods).map_err(|error| StartError::internal("metrics cannot be made", error))?;
    let store = state.open_store()?;
    let certificates = startup::certificates(&settings, &metrics)?;
    if let Some(certificates) = &certificates {
        tokio::spawn(certificates.clone().watch());
    }
    let audit =
        Audit::open(state.audit(&settings)).map_err(|error| StartError::unavailable("the file of the audit", error))?;
    let access = Access::open(&settings.security, store.clone(), &state.token_file(), metrics.clone(), audit).await;
    let access = access.map_err(StartError::of_access)?;
    startup::tell_open_doors(&settings, &listeners.addresses);
    let watcher = startup::watcher(&settings)?;
    tokio::spawn(watcher.clone().log_changes());
    if let Some(folder) = &settings.metrics_hpc_job_mapping_dir {
        tokio::spawn(exporter::keep_job_mapping(watcher.clone(), folder.clone()));
    }
    let uploads = state.open_uploads(&settings)?;
    tokio::spawn(uploads.clone().remove_expired_at_intervals());
    let node = startup::node(&settings, environment.clone());
    let control_groups = startup::control_groups(&settings, &node);
    runner.control_groups = control_groups.clone().ok();
    let launches = Launches::new(startup::launch_limits(&settings), access.launch_tokens().clone());
    let mirror_roots = Arc::new(mirror::Roots::new(settings.output_mirror_roots.clone(), state.mirror_roots()));
    let manager_settings = ManagerSettings {
        node: node.clone(),
        jobs_dir: state.jobs(),
        max_queued: settings.jobs_max_queued,
        quotas: OwnerQuotas {
            queued: settings.jobs_max_queued_per_owner,
            running: settings.jobs_max_running_per_owner,
            bytes: settings.jobs_max_state_bytes_per_owner,
        },
        cpu_slots: settings.jobs_cpu_slots,
        thread_wait: ThreadWait::named(&settings.jobs_thread_wait),
        data_roots: startup::data_roots(&settings)?,
        uploads: uploads.clone(),
        programs: ProgramRules {
            enabled: settings.programs_enabled,
            allowed: settings.programs_allowed.clone(),
            search_path: std::env::var_os("PATH"),
            limits: ProgramLimits {
                memory_bytes: settings.programs_max_memory_bytes,
                processes: settings.programs_max_processes,
                file_bytes: settings.programs_max_file_bytes,
            },
        },
        runner,
        launches: launches.clone(),
        share_with_foreign: settings.gpu_share_with_foreign_processes,
        preempts: settings.jobs_preemption,
        max_state_bytes: settings.jobs_max_state_bytes,
        max_event_bytes: settings.jobs_max_event_bytes,
        mirror_roots: mirror_roots.clone(),
        mirror_interval: settings.output_mirror_interval,
        ttl_after_end: settings.jobs_ttl_after_end,
        nvml_library: settings.nvml_library.clone(),
        visible_devices: environment.get("CUDA_VISIBLE_DEVICES").cloned(),
        python: settings.cluster_python.clone(),
        catalogue: catalogue.clone(),
    };
    let manager = Manager::start(manager_settings, store, metrics.clone(), watcher.clone())
        .await
        .map_err(|error| StartError::unavailable("what the last daemon left behind", error))?;

    let checkup = startup::checkup(&settings, environment, catalogue);
    tokio::spawn(checkup.clone().watch(manager.clone(), settings.check_interval));
    let clients = services::Clients::default();
    let parts = services::Parts {
        manager: manager.clone(),
        uploads,
        checkup: checkup.clone(),
        watcher: watcher.clone(),
        show_foreign_processes: settings.gpu_show_foreign_processes,
        node,
        cpus,
        max_message_bytes: settings.grpc_max_message_bytes,
        clients: clients.clone(),
        tokens: access.tokens().clone(),
        launches: launches.clone(),
        control_groups: control_groups.map(drop),
    };
    let (routes, health) =
        services::routes(parts).await.map_err(|error| StartError::internal("reflection cannot be served", error))?;
    let beating = manager.clone();
    let heartbeat = Heartbeat::start(
        vec![
            ("managing jobs", Box::new(move || Box::pin(beat(beating.clone())))),
            ("blocking work", Box::new(|| Box::pin(async { drop(tokio::task::spawn_blocking(|| ()).await) }))),
        ],
        clients.gates(),
    );
    let beats = heartbeat.clone();
    let dcgm = settings.metrics_dcgm_names.then(|| settings.metrics_dcgm_hostname_label.clone());
    let exporter = Exporter::new(
        manager.clone(),
        checkup,
        watcher.clone(),
        metrics.clone(),
        dcgm,
        &startup::hostname(),
        &settings.http_allowed_hosts,
        Arc::new(move || beats.standstill()),
        access.clone(),
        settings.security.http_behind_proxy,
    );
    let addresses = listeners.addresses.clone();
    let stop = CancellationToken::new();
    let layer = AnswerLayer::new(metrics, methods, clients, access);
    let mailboxes = Mailboxes { launches, roots: mirror_roots, list: state.mailboxes(), jobs: state.jobs() };
    let by_mailboxes = mailboxes.serve(routes.clone(), layer.clone(), stop.clone());
    let mut servers = listeners.serve(routes, layer, exporter.clone().router(), certificates.as_ref(), stop.clone());
    servers.spawn(by_mailboxes);

    for service in SERVICES {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    exporter.set_ready(true);
    if let Some(path) = &arguments.ready_file {
        startup::write_ready_file(path, &addresses, &state.token_file())?;
    }
    tracing::info!(grpc = addresses.grpc.map(tracing::field::display), http = addresses.http.map(tracing::field::display), state_dir = %settings.state_dir.display(), "torchd serves");
    systemd::ready(&addresses, heartbeat);

    // A person at a terminal who ends the daemon wants everything to end; a service manager wants
    // what the settings say.
    let leave_runners = tokio::select! {
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: shutting down");
            settings.shutdown_runners == ShutdownRunners::Leave
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: shutting down");
            false
        }
        () = closed(&mut hangup, &started_in, certificates.as_ref()) => {
            tracing::info!("SIGHUP, and the terminal is gone: shutting down");
            false
        }
        () = manager.gone() => {
            return Err(StartError::internal("the jobs are looked after no more", "their task ended by itself"));
        }
        Some(ended) = servers.join_next() => {
            let error = ended.map_err(|error| error.to_string()).and_then(|served| served).err();
            return Err(StartError::internal("a server ended by itself", error.unwrap_or_else(|| "without an error".into())));
        }
    };
    systemd::stopping(settings.shutdown_timeout + 2 * CONNECTION_GRACE);
    exporter.set_ready(false);
    for service in SERVICES {
        health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
    }
    let begun = tokio::time::Instant::now();
    let orderly = async {
        if let Err(error) = manager.shutdown(leave_runners).await {
            tracing::error!(%error, "runners could not be stopped in order");
        }
        // A driver's disk goes with its cluster, and with it the last checkpoints.
        let left = settings.shutdown_timeout.saturating_sub(begun.elapsed() + 2 * CONNECTION_GRACE);
        if tokio::time::timeout(left, manager.copy_results()).await.is_err() {
            tracing::error!(
                "the copies of results are not up to date: writing them takes longer than shutdown.timeout allows"
            );
        }
        // Ends NVML before we leave: a driver may wait for those who go without a word.
        let watching = watcher.clone();
        let _ = tokio::task::spawn_blocking(move || watching.stop()).await;
        stop.cancel();
        if let Some(path) = &addresses.unix {
            // A client that connected from now on would wait for nobody.
            let _ = std::fs::remove_file(path);
        }
        let drained = async { while servers.join_next().await.is_some() {} };
        if tokio::time::timeout(CONNECTION_GRACE, drained).await.is_err() {
            tracing::info!("a client keeps its connection open; it is cut");
        }
    };
    let ended = tokio::select! {
        () = orderly => {
            tracing::info!("torchd has shut down");
            return Ok(());
        }
        () = tokio::time::sleep(settings.shutdown_timeout) => {
            Err(StartError::internal("shutdown took longer than shutdown.timeout", settings.shutdown_timeout.as_secs_f64()))
        }
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if ended.is_ok() {
        tracing::warn!("a second signal: leaving at once");
    }
    if !leave_runners {
        manager.kill_runners().await;
        let _ = tokio::time::timeout(CONNECTION_GRACE, manager.gone()).await;
    }
    ended
}
