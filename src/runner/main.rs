//! torchd-runner: trains one job and leaves. It is started by the daemon with a job's folder, and
//! tells what happens in the journal there; nothing but signals comes back: SIGTERM means
//! checkpoint and stop.
//!
//! This tree alone names libtorch. It may crash, leak or run out of memory: that ends one job and
//! nothing else.

mod apply;
mod assemble;
mod augment;
mod average;
mod capture;
mod checkpoint;
mod confine;
mod cuda;
mod dispatcher;
mod divergence;
mod dry_run;
mod early_stopping;
mod exported;
mod failure;
mod feed;
mod graph;
mod inputs;
mod layer;
mod library;
mod loss;
mod lr_range;
mod memory;
mod memory_limit;
mod metric;
mod model;
mod optimizer;
mod precision;
mod probe;
mod pulse;
mod ranks;
mod report;
mod run;
mod schedule;
mod script;
mod seed;
mod shards;
mod stateful;
mod step;
mod stop;
mod sums;
mod team;
mod telling;
mod together;
mod train;
mod validation;
mod warm_start;

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use nix::libc;

#[derive(Parser)]
#[command(version, about = "Trains one job for torchd; not meant to be started by hand")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the job in a folder
    Run {
        /// The job's folder
        #[arg(long)]
        job: PathBuf,
        /// Which attempt; its order must be there
        #[arg(long)]
        attempt: u32,
    },
    /// Train on one batch of the job in a folder, and tell what came of it as JSON
    DryRun {
        /// The job's folder
        #[arg(long)]
        job: PathBuf,
        /// The most memory that it may allocate
        #[arg(long)]
        most_memory_bytes: u64,
    },
    /// Load libtorch, and CUDA if it is there, and tell what was found as JSON
    Probe,
    /// Load libtorch, and tell the schema of every operator of aten, one a line
    Operators,
}

/// Exit codes that tell nothing more.
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

fn main() {
    memory::keep_freed();
    let code = match Arguments::parse().command {
        Command::Run { job, attempt } => run::run(job, attempt),
        Command::DryRun { job, most_memory_bytes } => dry_run::run(job, most_memory_bytes),
        Command::Probe => probe::probe(),
        Command::Operators => probe::operators(),
    };
    // Nobody is left to read it where this fails.
    let _ = stdout().flush();
    // libtorch's destructors take back every operator one by one, as long as a third of its start.
    // SAFETY: it ends the process at once. Ours have run, and the kernel frees the rest.
    unsafe { libc::_exit(code.into()) }
}
