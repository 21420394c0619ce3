//! The daemon's flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{DEFAULT_FILE, Flags};

/// A training daemon for one machine.
#[derive(Debug, Parser)]
#[command(name = "torchd", version = version(), about)]
pub(super) struct Arguments {
    /// Settings file, instead of /etc/torchd/torchd.toml
    #[arg(long, global = true, value_name = "FILE", help = format!("Settings file, instead of {DEFAULT_FILE}"))]
    config: Option<PathBuf>,
    /// Where to keep the database and the jobs' folders
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where to serve gRPC, as host:port; port 0 for a free one, empty for the Unix socket alone
    #[arg(long, value_name = "ADDR")]
    grpc_listen: Option<String>,
    /// Where to serve /metrics, as host:port; port 0 for a free one, empty for nowhere
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,
    /// A folder that data files may lie in; may be given several times
    #[arg(long = "data-root", global = true, value_name = "DIR")]
    data_roots: Vec<PathBuf>,
    /// Write the bound addresses to this file once the daemon serves
    #[arg(long, value_name = "PATH")]
    pub(super) ready_file: Option<PathBuf>,
    /// Print the effective settings and leave
    #[arg(long)]
    pub(super) check_config: bool,
    /// Check whether driver, CUDA and libtorch work together here, print the report as JSON and
    /// leave
    #[arg(long)]
    pub(super) check_machine: bool,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// The commands besides serving.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    /// Look over the database and the jobs' folders; the exit code is 0 if all is well and 1 if not
    Doctor {
        /// Make the database anew from the jobs' folders if something is wrong; the old one is set
        /// aside
        #[arg(long)]
        repair: bool,
    },
    /// Attach a launcher, by which torchrun or another command starts ranks; `torchd launch --help`
    /// tells how
    #[command(disable_help_flag = true)]
    Launch {
        /// The arguments of `python -m torchd launch`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

impl Arguments {
    /// The settings that the flags give.
    pub(super) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            grpc_listen: self.grpc_listen.clone(),
            http_listen: self.http_listen.clone(),
            data_roots: self.data_roots.clone(),
        }
    }
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TORCHD_REVISION"), ")")
}
