//! The daemon's settings: raw in, typed out, every mistake reported at once.
//!
//! Sources, the later ones win: the settings file, `TORCHD__SECTION__KEY` in the environment,
//! flags. The `config` crate merges them and remembers where each value came from; `keys` reads the
//! values one by one, because serde would stop at the first mistake.

mod environment;
mod keys;
mod print;
mod read;
mod security;
mod sources;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use environment::{Environment, first_folder, gather};
pub use keys::Mistake;
pub use print::to_toml;
pub use read::{DEFAULT_FILE, Flags, Invalid, load};
pub use security::{Security, Tls};
pub use values::{LONGEST_SOCKET, MOST_MESSAGE_BYTES};

/// Settings that are right.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Database and job folders.
    pub state_dir: PathBuf,
    /// The group of the state folder may read event files and results.
    pub state_group_read: bool,
    /// Where gRPC is served over TCP; None for nowhere.
    pub grpc_listen: Option<SocketAddr>,
    /// Largest request that is read, in bytes.
    pub grpc_max_message_bytes: usize,
    /// Calls that a connection may have in hand at once.
    pub grpc_max_streams: u32,
    /// The interval of keepalive pings. A connection whose client does not answer one within
    /// another interval is closed.
    pub grpc_keepalive_interval: Duration,
    /// The Unix socket that serves gRPC too; None to put it into the runtime directory or the state
    /// folder.
    pub grpc_unix_socket: Option<PathBuf>,
    /// The users of that socket, as the bits of a file's mode.
    pub grpc_unix_socket_mode: u32,
    /// Where `/metrics` is served; None for nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Names by which clients ask there, as behind a proxy, besides `localhost`, addresses and the
    /// name of the machine.
    pub http_allowed_hosts: Vec<String>,
    /// The settings of access.
    pub security: Security,
    /// The audit's file is begun anew when it is larger.
    pub audit_max_file_bytes: u64,
    /// Files of the audit that stay.
    pub audit_files: usize,
    /// The audit tells calls that only read, too.
    pub audit_reads: bool,
    /// Folders that data files may lie in.
    pub data_roots: Vec<PathBuf>,
    /// The most bytes that an owner may have uploaded.
    pub uploads_quota_bytes: u64,
    /// The most files that an owner may have uploaded.
    pub uploads_max_files: usize,
    /// Jobs may run programs of clients.
    pub programs_enabled: bool,
    /// Programs, and folders of programs, that they may run.
    pub programs_allowed: Vec<PathBuf>,
    /// Variables of our environment that programs get; a trailing `*` stands for all that begin so.
    pub programs_environment: Vec<String>,
    /// The most private memory that a process of a program may map for writing, in bytes.
    pub programs_max_memory_bytes: Option<u64>,
    /// The most processes and threads of the daemon's user while a program runs.
    pub programs_max_processes: Option<u64>,
    /// The most bytes of a file that a program writes.
    pub programs_max_file_bytes: Option<u64>,
    /// Type of the virtual machine, where the environment does not tell it.
    pub cluster_node_type: Option<String>,
    /// The Python whose PyTorch is told; None for the one of PYSPARK_PYTHON, of the
    /// environment that torchd is installed in, or of the PATH.
    pub cluster_python: Option<PathBuf>,
    /// Folder with rows of the catalogue that add to ours or take their place.
    pub catalogue_dir: Option<PathBuf>,
    /// A folder with mistakes is told, and the catalogue that is built in is used; otherwise the
    /// daemon does not start.
    pub catalogue_falls_back: bool,
    /// Interval between two checks of this machine.
    pub check_interval: Duration,
    /// The library of NVML; None for the one that the loader finds.
    pub nvml_library: Option<PathBuf>,
    /// From one sample of the GPUs to the next.
    pub gpu_sample_interval: Duration,
    /// Reads PCIe throughput with each sample.
    pub gpu_pcie_throughput: bool,
    /// The profile to replay instead of watching the machine's GPUs: a name or a file.
    pub gpu_replay: Option<PathBuf>,
    /// Processes that belong to no job are shown to clients, with their numbers.
    pub gpu_show_foreign_processes: bool,
    /// GPUs on which processes of no job compute are given to jobs all the same.
    pub gpu_share_with_foreign_processes: bool,
    /// Exports the names of dcgm-exporter too.
    pub metrics_dcgm_names: bool,
    /// The name of their label for the machine: `Hostname`, or `hostname` as newer versions have
    /// it.
    pub metrics_dcgm_hostname_label: String,
    /// The folder in which dcgm-exporter looks for the jobs of GPUs.
    pub metrics_hpc_job_mapping_dir: Option<PathBuf>,
    /// Name of the Databricks runtime, where the environment does not tell it.
    pub cluster_runtime: Option<String>,
    /// The runner; None to look beside the executable and in `../lib/torchd/`.
    pub runner_path: Option<PathBuf>,
    /// Folder with the libraries of a libtorch; None for the one that the runner was built with.
    pub runner_libtorch_dir: Option<PathBuf>,
    /// From SIGTERM to SIGKILL.
    pub runner_stop_grace: Duration,
    /// A dry run that takes longer is killed.
    pub runner_dry_run_timeout: Duration,
    /// Memory that a dry run may allocate; None for half of what jobs can have.
    pub runner_dry_run_memory_bytes: Option<u64>,
    /// The largest file that the daemon itself may write, in bytes; None for no limit.
    pub daemon_max_file_bytes: Option<u64>,
    /// The address space that the daemon itself may have, in bytes; None for no limit.
    pub daemon_max_address_space_bytes: Option<u64>,
    /// The largest file that a runner may write, in bytes; None for no limit.
    pub runner_max_file_bytes: Option<u64>,
    /// The address space that a runner may have, in bytes; None for no limit.
    pub runner_max_address_space_bytes: Option<u64>,
    /// Jobs that may wait.
    pub jobs_max_queued: usize,
    /// Jobs of one owner that may wait; None for no limit.
    pub jobs_max_queued_per_owner: Option<usize>,
    /// Jobs of one owner that may run; None for no limit.
    pub jobs_max_running_per_owner: Option<u32>,
    /// No job of an owner is taken while the folders of that owner's jobs hold more, in bytes; None
    /// for no limit.
    pub jobs_max_state_bytes_per_owner: Option<u64>,
    /// CPU cores that jobs may take together.
    pub jobs_cpu_slots: u32,
    /// How threads of computation wait for each other, where specs do not say.
    pub jobs_thread_wait: String,
    /// Folders that results may be copied to.
    pub output_mirror_roots: Vec<PathBuf>,
    /// The interval at which new results of a job are copied.
    pub output_mirror_interval: Duration,
    /// Running jobs make room for one of a higher priority.
    pub jobs_preemption: bool,
    /// The kernel keeps jobs to their memory by control groups.
    pub jobs_control_groups: bool,
    /// Ended jobs are removed after this, where their specs do not say; None for never.
    pub jobs_ttl_after_end: Option<Duration>,
    /// A runner stops by itself after this time without a daemon.
    pub jobs_orphan_timeout: Duration,
    /// A rank on another machine that is not heard for this time is given up.
    pub jobs_rank_lease: Duration,
    /// The most bytes in the log of a job.
    pub jobs_log_max_bytes: u64,
    /// The most bytes in the event files of a job.
    pub jobs_max_event_bytes: u64,
    /// No job is taken while the jobs' folders together hold more, in bytes; None for no limit.
    pub jobs_max_state_bytes: Option<u64>,
    /// The fate of runners when the daemon is stopped by SIGTERM.
    pub shutdown_runners: ShutdownRunners,
    /// An ordered shutdown takes no longer.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written: a level, or directives as tracing-subscriber's EnvFilter has
    /// them.
    pub log_level: String,
}

/// The fate of runners when the daemon is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownRunners {
    /// They go on, and the next daemon looks after them.
    Leave,
    /// They save a checkpoint and end; their jobs go back to the queue.
    Stop,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Human` on a terminal, `Json` otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}
