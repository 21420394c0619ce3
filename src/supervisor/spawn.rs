//! Starts a shim, and by it the runner of an attempt.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::limits::RunnerLimits;
use super::runner::Charge;
use super::{Fault, FaultKind, Supervisor, environment, is_of_machine, shim};
use crate::shortage::is_shortage;

/// Memory that the control group of a runner has besides the job's limit, in bytes: pages of
/// libtorch's code, and of data.
const BEYOND_RUNNER: u64 = 256 << 20;

/// The program that runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerKind {
    /// torchd-runner, for a model.
    Runner,
    /// torchd itself, as the host of a program.
    Host,
}

/// The way in which a runner is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program.
    pub kind: RunnerKind,
    /// The GPUs that CUDA shows, if any: of several ranks each sees its own.
    pub visible: Vec<String>,
    /// The memory that it may take, in bytes; None for no limit.
    pub memory_bytes: Option<u64>,
    /// How many ranks its job has here.
    pub ranks: u32,
    /// The network interface by which NCCL speaks to the other ranks on GPUs; None for the one that
    /// NCCL picks.
    pub nccl_interface: Option<String>,
}

impl Supervisor {
    /// Starts a shim, which starts the runner.
    pub(super) fn spawn(&self, charge: &Charge, start: Start) -> Result<Child, Fault> {
        let Charge { id, folder, attempt, rank, .. } = charge;
        let rank = *rank;
        let Start { kind, visible, memory_bytes, ranks: _, nccl_interface } = start;
        let gpu = visible.get(rank as usize).filter(|_| kind == RunnerKind::Runner);
        let settings = &self.settings;
        let what = format!("{} cannot be started", settings.shim.display());
        let search = self.libtorch();
        if let Some(words) = search.refusal().filter(|_| kind == RunnerKind::Runner) {
            return Err(Fault { kind: FaultKind::Machine, words });
        }
        let of_machine = |error: &std::io::Error| Fault { kind: FaultKind::Machine, words: format!("{what}: {error}") };
        let group = settings.control_groups.as_ref().zip(memory_bytes).map(|(groups, bytes)| match kind {
            // It keeps to its limit by itself, of which pages of files are no part.
            RunnerKind::Runner => (groups.of(id, rank), bytes.saturating_add(BEYOND_RUNNER)),
            RunnerKind::Host => (groups.of(id, rank), bytes),
        });
        let log = shim::log_for_shim(&folder.log());
        let log = log.map_err(|error| match is_shortage(&error) {
            true => of_machine(&error),
            false => Fault::of("the log of the job cannot be opened", &error),
        })?;
        let spawned = Command::new(&settings.shim)
            .arg("--shim")
            .arg("--job")
            .arg(folder.path())
            .args(["--attempt", &attempt.to_string()])
            .arg("--daemon-lock")
            .arg(&settings.daemon_lock)
            .args(["--orphan-timeout", &settings.orphan_timeout.as_secs_f64().to_string()])
            .args(["--grace", &settings.stop_grace.as_secs_f64().to_string()])
            .args(["--log-max-bytes", &settings.log_max_bytes.to_string()])
            .args(settings.open_files.iter().flat_map(|count| ["--open-files".to_owned(), count.to_string()]))
            .args(
                match kind {
                    RunnerKind::Runner => settings.limits,
                    // A program has limits of its own.
                    RunnerKind::Host => RunnerLimits::default(),
                }
                .arguments(),
            )
            .args(group.iter().flat_map(|(path, bytes)| {
                [
                    OsStr::new("--control-group").to_owned(),
                    path.into(),
                    "--memory-bytes".into(),
                    bytes.to_string().into(),
                ]
            }))
            .args(settings.group_reads.then_some("--group-reads"))
            .args(match kind {
                RunnerKind::Runner => &[][..],
                RunnerKind::Host => &["--host"],
            })
            .arg("--runner")
            .arg(match kind {
                RunnerKind::Runner => &settings.program,
                RunnerKind::Host => &settings.shim,
            })
            .env_clear()
            .envs(match kind {
                RunnerKind::Runner => environment::of_runner(std::env::vars_os(), search.folder()),
                RunnerKind::Host => environment::of_host(std::env::vars_os(), &settings.program_environment),
            })
            // A host takes the GPUs from its order, and a program brings its own libraries.
            .envs(gpu.into_iter().flat_map(|gpu| environment::of_gpu(gpu, folder)))
            .envs(gpu.into_iter().flat_map(|_| environment::of_nccl(nccl_interface.as_deref())))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A terminal that ends the daemon does not end it.
            .process_group(0)
            .spawn();
        spawned.map_err(|error| match is_of_machine(&error, folder.path()) {
            true => of_machine(&error),
            false => Fault::of(&what, &error),
        })
    }
}
