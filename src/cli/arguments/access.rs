//! The part of the command line about access: where torchd is, how it knows the caller, and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Where torchd is, and how it knows the caller.
#[derive(Debug, Args)]
pub(crate) struct AccessArguments {
    /// Address of torchd: host:port, https://host:port, or unix: and a path. Without it the Unix
    /// socket of the user's own torchd, that of the machine's, and 127.0.0.1:7080 are tried in turn
    #[arg(long, global = true, env = "TORCHD_SERVER")]
    pub(crate) server: Option<String>,
    /// File with the token of the caller; TORCHD_TOKEN may hold the token itself
    #[arg(long, global = true, env = "TORCHD_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates in PEM that sign the server's, in place of the system's
    #[arg(long, global = true, env = "TORCHD_CA_FILE", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate of the caller in PEM, which goes with --key
    #[arg(long, global = true, env = "TORCHD_CERT_FILE", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM
    #[arg(long, global = true, env = "TORCHD_KEY_FILE", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// The commands about tokens.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Make a token and print its secret, which nobody can ask for again
    Create(CreateArguments),
    /// List the tokens, revoked and expired ones too
    List,
    /// End a token at once
    Revoke {
        /// Its name
        name: String,
    },
}

/// A token that is to be made.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArguments {
    /// The name of the token: letters, digits and . _ - @ +
    pub(in crate::cli) name: String,
    /// The role of its holder: a viewer reads, a submitter also makes jobs and changes its own, an
    /// admin does everything
    #[arg(long, value_enum)]
    pub(in crate::cli) role: RoleChoice,
    /// In whose name its holder acts, such as a user of torchd's machine; by default the name of
    /// the token
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) owner: Option<String>,
    /// How long it is good, such as 30d; by default for ever
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) ttl: Option<humantime::Duration>,
}

/// A role to give.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum RoleChoice {
    /// Reads.
    Viewer,
    /// Makes jobs, and changes its own.
    Submitter,
    /// Does everything.
    Admin,
}
