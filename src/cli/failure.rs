//! Failures in words for people: the cause and the remedy.

use std::error::Error;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connection::root;
use super::output::tell;

/// The request has a mistake (EX_USAGE of sysexits.h).
pub(super) const EXIT_MISTAKE: u8 = 64;
/// The daemon cannot be reached (EX_UNAVAILABLE).
const EXIT_UNREACHABLE: u8 = 69;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A mistake that shows before the daemon is asked.
    Mistake(String),
    /// Mistakes in a spec.
    Spec { file: String, mistakes: Vec<String> },
    /// The daemon cannot be reached.
    Unreachable { server: String, cause: String },
    /// The connection was made, and brought no answer.
    BrokenOff { cause: String },
    /// The daemon refused.
    Refused(Box<Status>),
    /// Anything else.
    Other(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status of the daemon has no source; a fault of the connection has one.
        match status.source() {
            Some(source) => Self::BrokenOff { cause: root(source) },
            None => Self::Refused(Box::new(status)),
        }
    }
}

/// A flag of the command line, with the field of the request that it sets, and a way on where the
/// field is refused; empty where the refusal tells it.
pub(super) struct Flag(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

impl Failure {
    /// The failure with each field by the flag that set it, where one did.
    pub(super) fn with_flags(self, flags: &[Flag]) -> Self {
        let Self::Refused(status) = self else { return self };
        let fields = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
        if status.code() != Code::InvalidArgument || fields.is_empty() {
            return Self::Refused(status);
        }
        let mistakes = fields.into_iter().map(|wrong| {
            let field = wrong.field.trim_start_matches("spec.");
            let is_of = |Flag(_, whole, _): &&Flag| {
                field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            match flags.iter().find(is_of) {
                Some(Flag(flag, _, remedy)) => format!("{flag} ({field}) {}{remedy}", wrong.description),
                None => format!("{field} {}", wrong.description),
            }
        });
        Self::Spec { file: "the request".into(), mistakes: mistakes.collect() }
    }

    /// Prints the failure; the exit code that it means.
    pub(super) fn print(&self) -> ExitCode {
        match self {
            Self::Mistake(message) => {
                tell(&format!("torchctl: {message}"));
                ExitCode::from(EXIT_MISTAKE)
            }
            Self::Spec { file, mistakes } => {
                tell(&format!("torchctl: {file} has {}:", count(mistakes.len())));
                mistakes.iter().for_each(|mistake| tell(&format!("  {mistake}")));
                ExitCode::from(EXIT_MISTAKE)
            }
            Self::Unreachable { server, cause } => {
                tell(&format!("torchctl: torchd cannot be reached at {server}: {cause}"));
                tell(
                    "  is it running? `systemctl status torchd` tells; another address is given by --server or TORCHD_SERVER",
                );
                ExitCode::from(EXIT_UNREACHABLE)
            }
            Self::BrokenOff { cause } => {
                tell(&format!("torchctl: the server gave no answer of gRPC: {cause}"));
                tell("  does --server name the HTTP port, that of /metrics? gRPC is on 127.0.0.1:7080 by default");
                ExitCode::from(EXIT_UNREACHABLE)
            }
            Self::Refused(status) => print_status(status),
            Self::Other(message) => {
                tell(&format!("torchctl: {message}"));
                ExitCode::FAILURE
            }
        }
    }
}

fn print_status(status: &Status) -> ExitCode {
    let fields = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    if status.code() == Code::InvalidArgument && !fields.is_empty() {
        tell(&format!("torchctl: the request has {}:", count(fields.len())));
        for field in fields {
            tell(&format!("  {} {}", field.field.trim_start_matches("spec."), field.description));
        }
        return ExitCode::from(EXIT_MISTAKE);
    }
    tell(&format!("torchctl: {}", status.message()));
    if let Some(delay) = status.get_details_retry_info().and_then(|retry| retry.retry_delay) {
        tell(&format!("  try again in {} seconds", delay.as_secs()));
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ExitCode::from(EXIT_MISTAKE),
        Code::Unavailable => ExitCode::from(EXIT_UNREACHABLE),
        _ => ExitCode::FAILURE,
    }
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "a mistake".into() } else { format!("{mistakes} mistakes") }
}
