//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Talks to torchd: submits training jobs and shows how they go.
///
/// Exit codes: 0; 1 where a job did not succeed or a request was refused; 64 for a mistake in the request; 69 where torchd
/// cannot be reached.
#[derive(Debug, Parser)]
#[command(name = "torchctl", version = version(), about)]
pub(super) struct Arguments {
    /// Address of torchd: host:port, or unix: and a path
    #[arg(long, global = true, env = "TORCHD_SERVER", default_value = "127.0.0.1:7080")]
    pub(super) server: String,
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
        /// Follow the job; exit with 0 only if it succeeds
        #[arg(long)]
        watch: bool,
    },
    /// Judge a spec without running it
    Validate {
        /// Spec file, TOML or JSON
        spec: PathBuf,
        /// Change a field of the spec, for example training.epochs=3; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// List jobs, newest first
    Jobs {
        /// Only jobs in this state; may be given several times
        #[arg(long = "state", value_enum)]
        states: Vec<StateFilter>,
        /// At most so many
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
    /// Print what the runner of a job wrote
    Logs {
        /// jobs/{id}, or the bare id
        job: String,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
        /// Only so many of the last lines
        #[arg(long, default_value_t = 0)]
        tail: u32,
    },
    /// Ask a job to end
    Cancel {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// Remove an ended job with its folder
    Delete {
        /// jobs/{id}, or the bare id
        job: String,
    },
    /// Print the scalars of a job
    Scalars {
        /// jobs/{id}, or the bare id
        job: String,
        /// Print the points of this tag instead of the list of tags
        #[arg(long)]
        tag: Option<String>,
    },
    /// Print versions
    Version,
    /// Print what torchd knows of its machine
    Cluster,
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
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TORCHD_REVISION"), ")")
}
