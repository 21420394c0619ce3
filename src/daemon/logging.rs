//! Log lines on standard error: for people on a terminal, JSON for programs that collect them.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// From here on log lines are written. Where nobody reads them they are lost, and nothing else is.
pub(super) fn start(settings: &Settings) {
    let filter = EnvFilter::new(&settings.log_level);
    let is_human = match settings.log_format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    if is_human {
        let is_coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(is_coloured).with_target(false).init();
    } else {
        lines.json().flatten_event(true).init();
    }
}
