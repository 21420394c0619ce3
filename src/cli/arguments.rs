//! The command line.

mod access;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::array::Array;
pub(crate) use access::AccessArguments;
pub(super) use access::{CreateArguments, RoleChoice, TokenCommand};

/// Talks to torchd: submits training jobs and shows how they go.
///
/// Exit codes: 0; 1 where a job did not succeed or a request was refused; 64 for a mistake in the
/// request; 69 where torchd cannot be reached. check and doctor: 0 where everything fits, 1 where
/// less is possible, 2 where something does not work, 3 where that is not known.
#[derive(Debug, Parser)]
#[command(name = "torchctl", version = version(), about)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) access: AccessArguments,
    /// How to print: tables for people, json for scripts
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(super) output: Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// The answer in its JSON mapping, one object a line for streams.
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put a training job into the queue
    Submit {
        /// Spec file, TOML or JSON
        spec: PathBuf,
        /// Change a field of the spec, for example training.epochs=3; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        #[command(flatten)]
        after: AfterArguments,
        /// Follow the job; exit with 0 only if it succeeds
        #[arg(long)]
        watch: bool,
        /// Make one job, however often this is asked with the same id and spec
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Run a program as a job, follow its log, and exit with its code; programs have to be allowed
    /// by torchd's settings
    Run(RunArguments),
    /// Make another job of the spec of one, ended or not, with all its edits; it waits for no job
    /// but those that are named here
    Redo(RedoArguments),
    /// Give a job that has not ended another priority
    Priority {
        /// jobs/{id}, or the bare id
        job: String,
        /// The higher the earlier, -1000 to 1000
        #[arg(allow_negative_numbers = true)]
        priority: i32,
    },
    /// Judge a spec without running it
    Validate {
        /// Spec file, TOML or JSON
        spec: PathBuf,
        /// Train on one batch as well, on one thread of the CPU, with bounded time and memory; not
        /// for a program, which is judged without it, or by `torchctl run --dry-run`
        #[arg(long)]
        dry_run: bool,
        /// Change a field of the spec, for example training.epochs=3; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// List jobs, newest first
    Jobs {
        /// Only jobs in this state; may be given several times
        #[arg(long = "state", value_enum)]
        states: Vec<StateFilter>,
        /// Only jobs with this label, for example team=vision; may be given several times
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// Only jobs of this owner
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        owner: String,
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a job
    Show {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// Follow a job to its end; exit with 0 only if it succeeds
    Watch {
        /// jobs/{id}, or the bare id
        job: String,
        /// Leave out journal records up to this number
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Print the log of a job: unchanged into a file or a pipe, with control characters escaped on
    /// a terminal
    Logs {
        /// jobs/{id}, or the bare id
        job: String,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
        /// Print only this many of the last lines
        #[arg(long, default_value_t = 0)]
        tail: u32,
    },
    /// Ask a job to end
    Cancel {
        /// jobs/{id}, or the bare id
        job: String,
        /// Kill its runner at once, without a last checkpoint
        #[arg(long)]
        now: bool,
    },
    /// Take a job off the machine; it can be resumed
    Pause {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// Put a paused job back into the queue
    Resume(ResumeArguments),
    /// List the checkpoints of a job, newest first
    Checkpoints {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// List the files that a job has left, or fetch one of them
    Download(DownloadArguments),
    /// Send data files to torchd, which jobs name like those below data.roots; goes on where an
    /// upload was interrupted
    Upload(UploadArguments),
    /// List the files that were sent, with how much room they take, or look at one or remove it
    Files {
        #[command(subcommand)]
        command: Option<FilesCommand>,
    },
    /// Remove an ended job with its folder
    Delete {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// Print the public protocol with its comments, as a FileDescriptorSet: clients in other
    /// languages make their messages of it
    #[command(hide = true)]
    Descriptors,
    /// Print the scalars of a job
    Scalars {
        /// jobs/{id}, or the bare id
        job: String,
        /// Print the points of this tag instead of the list of tags
        #[arg(long)]
        tag: Option<String>,
    },
    /// List Databricks runtimes: which PyTorch, and whether they are supported
    Runtimes {
        /// Judge support on this day, as YYYY-MM-DD, instead of today
        #[arg(long, value_name = "DATE")]
        as_of: Option<String>,
        /// Only runtimes with this PyTorch; 2.7 means every 2.7
        #[arg(long, value_name = "VERSION")]
        pytorch: Option<String>,
        /// Only runtimes that are supported
        #[arg(long)]
        supported: bool,
        /// Only runtimes with long-term support
        #[arg(long)]
        lts: bool,
    },
    /// Tell how to install PyTorch on a runtime or a bare Python
    PlanInstall(PlanArguments),
    /// Judge whether driver, CUDA and libtorch work together here, or on a machine whose facts are
    /// given
    Check {
        /// File with the facts of another machine (torchd.v1.MachineFacts), TOML or JSON
        #[arg(long, value_name = "FILE")]
        facts: Option<PathBuf>,
        /// Judge support on this day, as YYYY-MM-DD, instead of today
        #[arg(long, value_name = "DATE")]
        as_of: Option<String>,
        /// Do not ask a daemon: let `torchd --check-machine` look at this machine
        #[arg(long, conflicts_with_all = ["facts", "as_of"])]
        local: bool,
    },
    /// One page: what is wrong here and what to do, then what is here
    Doctor,
    /// Print versions
    Version {
        /// Print the licences of torchd's parts and of libtorch instead, with where to read them;
        /// asks no daemon
        #[arg(long)]
        licenses: bool,
    },
    /// Print what torchd knows of its machine
    Cluster,
    /// Make, list and revoke tokens, by which programs and people from elsewhere are known; for
    /// admins
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Tell in whose name torchd takes these calls, and what they may do
    Whoami,
    /// Tell what is in a file of weights (safetensors or .pt) or of an exported model (.pt2), and
    /// whether torchd would refuse it; reads it here and asks no daemon. Exits with 1 where it
    /// would
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Print a script that lets a shell complete commands and flags; asks no daemon
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the GPUs: how busy, how full, how hot, why their clocks are reduced, which jobs hold
    /// them
    Gpus(GpuArguments),
}

/// The jobs that a new one waits for.
#[derive(Debug, Args)]
pub(super) struct AfterArguments {
    /// Wait until this job has ended, jobs/{id} or the bare id; may be given several times
    #[arg(long, value_name = "JOB")]
    pub(super) after: Vec<String>,
    /// Wait until this job has succeeded, and fail if it does not; may be given several times
    #[arg(long, value_name = "JOB")]
    pub(super) after_success: Vec<String>,
    /// Wait until this job has failed or was cancelled, and fail if it succeeds; may be given
    /// several times
    #[arg(long, value_name = "JOB")]
    pub(super) after_failure: Vec<String>,
}

/// A job that is made once more.
#[derive(Debug, Args)]
pub(super) struct RedoArguments {
    /// jobs/{id}, or the bare id
    pub(super) job: String,
    #[command(flatten)]
    pub(super) after: AfterArguments,
    /// The priority of the new job, -1000 to 1000; that of the old one by default
    #[arg(long, allow_negative_numbers = true)]
    pub(super) priority: Option<i32>,
    /// Follow the new job; exit with 0 only if it succeeds
    #[arg(long)]
    pub(super) watch: bool,
}

/// A program and its circumstances.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// GPUs that it sees, all or none
    #[arg(long, default_value_t = 0)]
    pub(super) gpus: u32,
    /// CPU slots, and threads of computation; all of them by default, 1 with a GPU
    #[arg(long)]
    pub(super) cpus: Option<u32>,
    /// A name for people; that of the script by default
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The higher the earlier, -1000 to 1000
    #[arg(long, allow_negative_numbers = true)]
    pub(super) priority: Option<i32>,
    /// A label, for example team=vision; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,
    /// A variable of its environment; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = label)]
    pub(super) env: Vec<(String, String)>,
    /// The folder to start it in, below a data root of torchd; this one by default
    #[arg(long)]
    pub(super) cwd: Option<PathBuf>,
    /// A virtual environment whose programs it finds first
    #[arg(long)]
    pub(super) venv: Option<PathBuf>,
    /// It is ended after this time, for example 2h
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) time: Option<std::time::Duration>,
    /// Restarts after failures
    #[arg(long)]
    pub(super) retries: Option<u32>,
    /// Make one job, however often this is asked with the same id and program
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, conflicts_with = "array")]
    pub(super) request_id: String,
    #[command(flatten)]
    pub(super) after: AfterArguments,
    /// Make a job of each of these numbers, such as 0-9, which finds its own in TORCHD_ARRAY_INDEX,
    /// print their names and leave; with 0-9%2 only two of them run at a time
    #[arg(long, value_name = "NUMBERS")]
    pub(super) array: Option<Array>,
    /// Judge it without running it, as `torchctl validate` judges a spec
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the name of the job and leave
    #[arg(long)]
    pub(super) detach: bool,
    /// The program and its arguments, behind --
    #[arg(last = true, required = true)]
    pub(super) command: Vec<String>,
}

/// The changes when a job goes on.
#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// jobs/{id}, or the bare id
    pub(super) job: String,
    /// Train for this many epochs in all
    #[arg(long, conflicts_with = "max_steps")]
    pub(super) epochs: Option<u32>,
    /// Train for this many steps in all
    #[arg(long)]
    pub(super) max_steps: Option<u64>,
    /// Go on with this step size
    #[arg(long)]
    pub(super) learning_rate: Option<f64>,
    /// Go on with this many examples a step
    #[arg(long)]
    pub(super) batch_size: Option<u32>,
    /// Go on with another value of a field of the spec, such as schedule.cosine.final_ratio=0.1;
    /// null for its default
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Begin anew and remove the job's checkpoints, damaged or not
    #[arg(long)]
    pub(super) from_scratch: bool,
    /// Go on although the data are not those that the checkpoint was made with; at the beginning of
    /// the next epoch where their number has changed
    #[arg(long, conflicts_with = "from_scratch")]
    pub(super) accept_new_data: bool,
}

/// The file to fetch.
#[derive(Debug, Args)]
pub(super) struct DownloadArguments {
    /// jobs/{id}, or the bare id
    pub(super) job: String,
    /// The file, such as artifacts/model.safetensors; without it the files are listed
    pub(super) path: Option<String>,
    /// Where to put it; by default under its own name here
    #[arg(long, value_name = "FILE", requires = "path")]
    pub(super) to: Option<PathBuf>,
}

/// The files to send.
#[derive(Debug, Args)]
pub(super) struct UploadArguments {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The name by which a spec names the file, such as train/images.gz; by default its own name
    #[arg(long = "as", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Replace a file of that name
    #[arg(long)]
    pub(super) overwrite: bool,
}

/// The commands on files that were sent.
#[derive(Debug, Subcommand)]
pub(super) enum FilesCommand {
    /// List them; this is done where nothing else is asked for
    Ls,
    /// Show a file with its checksum, and how far an upload of that name has come
    Stat {
        /// Its name, as `torchctl files` prints it
        name: String,
    },
    /// Remove files, and uploads of these names that were interrupted
    Rm {
        /// Their names, as `torchctl files` prints them
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// The readings of GPUs to show.
#[derive(Debug, Args)]
pub(super) struct GpuArguments {
    /// Go on, until Ctrl-C
    #[arg(short, long)]
    pub(super) watch: bool,
    /// With --watch: from one page to the next, 100ms to 1h; by default as torchd samples
    #[arg(long, value_name = "TIME", requires = "watch")]
    pub(super) interval: Option<humantime::Duration>,
    /// List the processes on them instead
    #[arg(long, conflicts_with_all = ["watch", "events"])]
    pub(super) processes: bool,
    /// List what has happened to them instead, newest first
    #[arg(long, conflicts_with = "watch")]
    pub(super) events: bool,
}

/// The installation to plan.
#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// Version of PyTorch; without it the newest that fits
    #[arg(long, value_name = "VERSION")]
    pub(super) pytorch: Option<String>,
    /// Device to compute on
    #[arg(long, value_enum)]
    pub(super) accelerator: AcceleratorChoice,
    /// Version of Python; needed without a runtime, and with one whose Python is not known
    #[arg(long, value_name = "VERSION")]
    pub(super) python: Option<String>,
    /// Databricks runtime, such as "7.3 LTS ML" or 7.3.x-scala2.12
    #[arg(long, value_name = "NAME")]
    pub(super) runtime: Option<String>,
    /// CUDA build, such as cu126; without it the one that fits best
    #[arg(long, value_name = "VARIANT")]
    pub(super) cuda: Option<String>,
    /// Version of the NVIDIA driver there
    #[arg(long, value_name = "VERSION")]
    pub(super) driver: Option<String>,
    /// Compute capability of the GPU there, such as 8.6
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) compute: Option<String>,
}

/// The device to compute on.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum AcceleratorChoice {
    /// NVIDIA GPUs.
    Gpu,
    /// The CPU.
    Cpu,
}

/// A state to filter by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StateFilter {
    Queued,
    Starting,
    Running,
    Stopping,
    Succeeded,
    Failed,
    Cancelled,
    Paused,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is needed, for example team=vision")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TORCHD_REVISION"), ")")
}
