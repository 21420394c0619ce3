//! The needs of the daemon before it can serve, and the errors when one is not met.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::listeners::Addresses;
use super::modes::GroupReads;
use super::tls::Certificates;
use crate::access::{AccessError, AuditSettings};
use crate::beneath::folder_of;
use crate::checkup::Checkup;
use crate::compat::{Catalogue, CatalogueFile};
use crate::config::{Environment, Invalid, Mistake, Security, Settings};
use crate::dataset::DataRoots;
use crate::doctor::Places;
use crate::gpu::{self, NvmlOptions, NvmlSource, Watcher, WatcherSettings};
use crate::host::JOURNAL_FACTOR;
use crate::journal::{FileLock, Holder, JobFolder, is_held, write_whole_and};
use crate::launches;
use crate::metrics::Metrics;
use crate::node::{NodeSource, unsuitable_filesystem};
use crate::store::{Store, StoreError};
use crate::supervisor::{ControlGroups, RunnerLimits, RunnerSettings};
use crate::umask::open_to_others;
use crate::uploads::{self, Uploads};

/// The settings are wrong (EX_USAGE of sysexits.h).
pub(super) const EXIT_SETTINGS: u8 = 64;
/// An address or a needed part is unavailable (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;
/// Anything else (EX_SOFTWARE).
const EXIT_INTERNAL: u8 = 70;

/// The journal of a rank on another machine may have so many bytes, however few event files may
/// have: that of a model that trains here has no limit of its own.
const LEAST_JOURNAL: u64 = 1 << 30;

/// The file of the audit, in the state folder.
pub(super) const AUDIT: &str = "audit.jsonl";

/// Why the daemon ends.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(super) code: u8,
    message: String,
}

impl StartError {
    pub(super) fn unavailable(what: &str, why: impl fmt::Display) -> Self {
        Self { code: EXIT_UNAVAILABLE, message: format!("{what}: {why}") }
    }

    pub(super) fn internal(what: &str, why: impl fmt::Display) -> Self {
        Self { code: EXIT_INTERNAL, message: format!("{what}: {why}") }
    }
}

impl StartError {
    pub(super) fn of_access(error: AccessError) -> Self {
        match error {
            AccessError::Settings(message) => Self { code: EXIT_SETTINGS, message },
            error @ (AccessError::Store(_) | AccessError::TokenFile { .. }) => {
                Self { code: EXIT_UNAVAILABLE, message: error.to_string() }
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The folder of all state, held by one daemon.
pub(super) struct StateDir {
    path: PathBuf,
    _lock: FileLock,
}

impl StateDir {
    /// Makes the folder where needed and takes it.
    pub(super) fn open(path: &Path, group: GroupReads) -> Result<Self, StartError> {
        let cannot = |error: std::io::Error| StartError::unavailable(&format!("state_dir = {}", path.display()), error);
        std::fs::create_dir_all(path.join("jobs"))
            .map_err(|error| std::io::Error::new(error.kind(), format!("the folder cannot be made: {error}")))
            .map_err(cannot)?;
        // Relative paths would mean something else to runners, which work in their jobs' folders.
        let path = path.canonicalize().map_err(cannot)?;
        let file = lock_file(&path);
        let Some(lock) = FileLock::take(&file).map_err(cannot)? else {
            let why = if is_held(&file).map_err(cannot)? {
                let who = holder(&file).map_or_else(String::new, |pid| format!(", with pid {pid}"));
                format!("another torchd uses it{who}; stop that one, or give this one a --state-dir of its own")
            } else {
                // It was opened while an earlier version let others read it.
                format!("a program that is no torchd holds a shared lock on {}; `lslocks` tells which", file.display())
            };
            return Err(StartError::unavailable(&format!("state_dir = {}", path.display()), why));
        };
        Holder::this_process().and_then(|this| lock.sign(&this)).map_err(cannot)?;
        // Not before the lock: the folder of another daemon keeps the mode that this one wants.
        group.close(&path);
        group.settle(&path).map_err(cannot)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn jobs(&self) -> PathBuf {
        places(&self.path).jobs
    }

    /// Remembers what marks the folders that copies may go to.
    pub(super) fn mirror_roots(&self) -> PathBuf {
        self.path.join("mirror_roots.json")
    }

    /// Lists the mailboxes of launches.
    pub(super) fn mailboxes(&self) -> PathBuf {
        self.path.join("mailboxes.json")
    }

    /// The file with the token of the daemon's user.
    pub(super) fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    /// Where the audit goes.
    pub(super) fn audit(&self, settings: &Settings) -> AuditSettings {
        AuditSettings {
            path: self.path.join(AUDIT),
            max_bytes: settings.audit_max_file_bytes,
            files: settings.audit_files,
            reads: settings.audit_reads,
        }
    }

    /// Opens the folder of uploads.
    pub(super) fn open_uploads(&self, settings: &Settings) -> Result<Uploads, StartError> {
        let path = self.path.join(uploads::FOLDER);
        let limits =
            uploads::Limits { quota_bytes: settings.uploads_quota_bytes, max_files: settings.uploads_max_files };
        Uploads::open(&path, limits).map_err(|error| StartError::unavailable(&path.display().to_string(), error))
    }

    /// Opens the database. One that is damaged, and one that is gone while jobs are there, has to
    /// be rebuilt first.
    pub(super) fn open_store(&self) -> Result<Store, StartError> {
        let Places { database: path, jobs } = places(&self.path);
        let cannot = |why: &dyn fmt::Display| StartError::unavailable(&path.display().to_string(), why);
        let way_out = format!("{} rebuilds it from the job folders", way_out(&self.path));
        if std::fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
            // An empty one would be made, and the jobs forgotten.
            let folders = JobFolder::all(&jobs).map_err(|error| cannot(&error))?.len();
            if folders > 0 {
                let found = if path.exists() { "empty" } else { "missing" };
                return Err(cannot(&format!("{found}, and {} holds {folders} job folders; {way_out}", jobs.display())));
            }
        }
        Store::open(&path).map_err(|error| match &error {
            StoreError::Damaged { .. } | StoreError::Foreign { .. } => cannot(&format!("{error}; {way_out}")),
            _ => cannot(&error),
        })
    }
}

/// Where things lie in a state folder.
pub(super) fn places(state_dir: &Path) -> Places {
    Places { database: state_dir.join("torchd.db"), jobs: state_dir.join("jobs") }
}

/// The command that mends a state folder.
pub(super) fn way_out(state_dir: &Path) -> String {
    format!("`torchd doctor --repair --state-dir {}`", state_dir.display())
}

/// Held by the daemon of a state folder as long as it lives.
pub(super) fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("torchd.lock")
}

/// The process that holds the lock; None where it does not say.
pub(super) fn holder(lock: &Path) -> Option<u32> {
    // Between the taking of the lock and its signature, the words of the holder before stand in it,
    // or none.
    for _ in 0..100 {
        if let Some(holder) = Holder::read(lock).ok().flatten().filter(|holder| holder.is_running().unwrap_or(false)) {
            return Some(holder.pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// SQLite, locks and synced appends need a local file system.
pub(super) fn check_state_dir(settings: &Settings) -> Result<(), Invalid> {
    match unsuitable_filesystem(&settings.state_dir) {
        None => Ok(()),
        Some(kind) => Err(Invalid(vec![Mistake {
            key: "state_dir".into(),
            origin: String::new(),
            what: format!("is {}, on {kind}; a local file system is needed", settings.state_dir.display()),
        }])),
    }
}

/// The runner: the one of the settings, else beside this program, else where packages put it.
pub(super) fn find_runner(chosen: Option<&Path>) -> Result<PathBuf, StartError> {
    let own =
        std::env::current_exe().map_err(|error| StartError::internal("the path of this program is unknown", error))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let places = match chosen {
        Some(path) => vec![path.to_owned()],
        None => vec![folder.join("torchd-runner"), folder.join("../lib/torchd/torchd-runner")],
    };
    let found = places.iter().find(|place| place.is_file());
    let found = found.and_then(|place| place.canonicalize().ok());
    found.ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        StartError::unavailable(
            "torchd-runner is missing",
            format!("looked for {}; set runner.path", looked.join(" and ")),
        )
    })
}

/// How runners are started, with `open_files` as their limit of descriptors if it is given.
pub(crate) fn runner_settings(settings: &Settings, open_files: Option<u64>) -> Result<RunnerSettings, StartError> {
    let shim =
        std::env::current_exe().map_err(|error| StartError::internal("the path of this program is unknown", error))?;
    // Runners look for our lock there as long as they live, and the links of a path may go before
    // that.
    let state_dir = settings.state_dir.canonicalize().or_else(|_| std::path::absolute(&settings.state_dir));
    let state_dir =
        state_dir.map_err(|error| StartError::internal("the path of the state folder is unknown", error))?;
    Ok(RunnerSettings {
        shim,
        daemon_lock: lock_file(&state_dir),
        orphan_timeout: settings.jobs_orphan_timeout,
        log_max_bytes: settings.jobs_log_max_bytes,
        limits: RunnerLimits {
            file_bytes: settings.runner_max_file_bytes,
            address_space_bytes: settings.runner_max_address_space_bytes,
        },
        program_environment: settings.programs_environment.clone(),
        group_reads: settings.state_group_read,
        open_files,
        program: find_runner(settings.runner_path.as_deref())?,
        control_groups: None,
        libtorch_dir: settings.runner_libtorch_dir.clone(),
        stop_grace: settings.runner_stop_grace,
        dry_run_timeout: settings.runner_dry_run_timeout,
        dry_run_memory_bytes: settings.runner_dry_run_memory_bytes,
    })
}

/// The limits of ranks on other machines.
pub(super) fn launch_limits(settings: &Settings) -> launches::Limits {
    launches::Limits {
        lease: settings.jobs_rank_lease,
        orphan_timeout: settings.jobs_orphan_timeout,
        stop_grace: settings.runner_stop_grace,
        log_max_bytes: settings.jobs_log_max_bytes,
        max_event_bytes: settings.jobs_max_event_bytes,
        journal_bytes: settings.jobs_max_event_bytes.saturating_mul(JOURNAL_FACTOR).max(LEAST_JOURNAL),
        may_leave_machine: settings.security.allow_unencrypted_ranks,
        group_reads: settings.state_group_read,
    }
}

/// The control groups by which the kernel keeps jobs to their memory, or why there are none.
pub(super) fn control_groups(settings: &Settings, node: &NodeSource) -> Result<ControlGroups, String> {
    if !settings.jobs_control_groups {
        return Err("jobs.control_groups in the settings is not set".to_owned());
    }
    ControlGroups::find(node).inspect_err(|why| {
        tracing::warn!(why, "jobs.control_groups is set, and the kernel keeps no job to its memory");
    })
}

/// The name of this machine.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The node that we are on.
pub(super) fn node(settings: &Settings, environment: Environment) -> NodeSource {
    NodeSource::new(environment, settings.cluster_runtime.clone()).with_node_type(settings.cluster_node_type.clone())
}

/// The watcher of GPUs: those of this machine, or a profile.
pub(super) fn watcher(settings: &Settings) -> Result<Watcher, StartError> {
    let driver: Box<dyn gpu::Driver> = match &settings.gpu_replay {
        Some(profile) => {
            let replay = gpu::Replay::load(profile)
                .map_err(|error| StartError { code: EXIT_SETTINGS, message: format!("gpu.replay: {error}") })?;
            tracing::warn!(profile = %profile.display(), "GPUs are replayed from a profile: they are not those of this machine");
            Box::new(replay)
        }
        None => Box::new(gpu::Nvml::new(NvmlOptions {
            library: settings.nvml_library.clone(),
            pcie_throughput: settings.gpu_pcie_throughput,
        })),
    };
    Watcher::start(driver, WatcherSettings { interval: settings.gpu_sample_interval })
        .map_err(|error| StartError::internal("the thread that watches GPUs cannot be started", error))
}

/// The checkup of this machine.
pub(super) fn checkup(settings: &Settings, environment: Environment, catalogue: Arc<Catalogue>) -> Checkup {
    Checkup::new(catalogue, node(settings, environment), NvmlSource::new(settings.nvml_library.clone()))
}

/// The catalogue, with the operator's files over ours. It is taken whole, or as the settings say.
pub(super) fn catalogue(settings: &Settings) -> Result<Arc<Catalogue>, StartError> {
    let key = "compatibility.catalogue_dir";
    let files = match &settings.catalogue_dir {
        Some(folder) => catalogue_files(folder)
            .map_err(|error| StartError::unavailable(&format!("{key} = {}", folder.display()), error))?,
        None => Vec::new(),
    };
    match Catalogue::load(&files) {
        Ok(catalogue) => Ok(Arc::new(catalogue)),
        Err(error) if settings.catalogue_falls_back => {
            tracing::error!(%error, "the files of {key} are not used; the catalogue that is built in is");
            let embedded =
                Catalogue::load(&[]).map_err(|error| StartError::internal("the catalogue that is built in", error))?;
            Ok(Arc::new(embedded))
        }
        Err(error) => Err(StartError { code: EXIT_SETTINGS, message: format!("{key}: {error}") }),
    }
}

fn catalogue_files(folder: &Path) -> std::io::Result<Vec<CatalogueFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(CatalogueFile { name, text: std::fs::read_to_string(&path)? });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// The certificates of the settings, if there are any.
pub(super) fn certificates(settings: &Settings, metrics: &Metrics) -> Result<Option<Arc<Certificates>>, StartError> {
    let Some(tls) = settings.security.tls.clone() else { return Ok(None) };
    let opened = Certificates::open(tls, metrics.clone());
    opened.map(|opened| Some(Arc::new(opened))).map_err(|message| StartError { code: EXIT_SETTINGS, message })
}

/// Says which settings let callers in whom nobody knows.
pub(super) fn tell_open_doors(settings: &Settings, addresses: &Addresses) {
    let Security { loopback_is_open, allow_unauthenticated_remote, http_behind_proxy, .. } = &settings.security;
    let on = |address: Option<SocketAddr>, is_loopback| address.filter(|at| at.ip().is_loopback() == is_loopback);
    if let Some(address) = on(addresses.grpc, true).filter(|_| *loopback_is_open) {
        tracing::warn!(%address, "security.loopback = \"open\": every program on this machine is an admin there");
    }
    if *allow_unauthenticated_remote {
        for address in [on(addresses.grpc, false), on(addresses.http, false)].into_iter().flatten() {
            tracing::warn!(%address, "security.allow_unauthenticated_remote: everybody who reaches this address is an admin there");
        }
    }
    if let Some(address) = on(addresses.http, false).filter(|_| *http_behind_proxy && settings.security.tls.is_none()) {
        tracing::warn!(%address, "http.behind_proxy: tokens and passwords come in clear there; nobody but the proxy may reach it");
    }
    if settings.grpc_unix_socket_mode & 0o006 != 0 {
        tracing::warn!(
            mode = format!("{:04o}", settings.grpc_unix_socket_mode),
            "grpc.unix_socket_mode lets every user of this machine connect; those with a role or a token may call"
        );
    }
}

/// The data roots as canonical paths.
pub(super) fn data_roots(settings: &Settings) -> Result<DataRoots, StartError> {
    DataRoots::new(settings.data_roots.iter().cloned())
        .map_err(|(root, error)| StartError::unavailable(&format!("data.roots names {}", root.display()), error))
}

/// Removes the ready file of an earlier daemon. A path that cannot be written later is refused now,
/// before jobs run, and so is a device or a pipe, such as /dev/null: root could remove it.
pub(super) fn remove_ready_file(path: &Path) -> Result<(), StartError> {
    let cannot = |error: std::io::Error| StartError::unavailable(&format!("--ready-file {}", path.display()), error);
    let folder = folder_of(path);
    std::fs::read_dir(folder).map_err(cannot)?;
    if std::fs::symlink_metadata(path).is_ok_and(|about| !about.is_file() && !about.is_symlink()) {
        let what = "is there and no regular file; name one, which is removed and written anew";
        return Err(cannot(std::io::Error::new(std::io::ErrorKind::AlreadyExists, what)));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cannot(error)),
        _ => Ok(()),
    }
}

/// Writes the addresses of the daemon. Those that the settings switch off are null.
pub(super) fn write_ready_file(path: &Path, addresses: &Addresses, token_file: &Path) -> Result<(), StartError> {
    let ready = serde_json::json!({
        "grpc": addresses.grpc.map(|address| address.to_string()),
        "http": addresses.http.map(|address| address.to_string()),
        "unix": addresses.unix,
        "token_file": token_file,
        "pid": std::process::id(),
    });
    // A program that waits for the file reads it the moment that it is there.
    write_whole_and(path, ready.to_string().as_bytes(), open_to_others)
        .map_err(|error| StartError::unavailable(&format!("--ready-file {}", path.display()), error))
}
