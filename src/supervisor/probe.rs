//! Asks a runner which libraries it finds.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::{Supervisor, environment};
use crate::job::probe::ProbeReport;
use crate::shortage::is_shortage;

/// A probe that takes longer hangs, in a driver most likely.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a runner could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It could not be started.
    #[error("{program} cannot be started: {cause}")]
    Start {
        /// The program.
        program: String,
        /// The system's words.
        cause: std::io::Error,
    },
    /// It did not answer in time.
    #[error("{program} {what} did not answer within {LIMIT:?}")]
    Silent {
        /// The program.
        program: String,
        /// Its argument.
        what: &'static str,
    },
    /// It ended otherwise than with an answer.
    #[error("{program} {what} ended with {status}: {words}")]
    Failed {
        /// The program.
        program: String,
        /// Its argument.
        what: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        words: String,
    },
}

impl ProbeError {
    /// Whether the machine lacks something for the moment, so that nothing is known of the runner.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Start { cause, .. } => is_shortage(cause),
            Self::Silent { .. } | Self::Failed { .. } => false,
        }
    }
}

impl Supervisor {
    /// What a runner finds now.
    pub async fn probe(&self) -> Result<ProbeReport, ProbeError> {
        let answer = self.ask("probe").await?;
        let mut report: ProbeReport = serde_json::from_slice(&answer.stdout)
            .map_err(|error| self.failed("probe", &answer, format!("its answer is not understood: {error}")))?;
        report.libtorch.found_by = self.found_by(&report.libtorch.path);
        Ok(report)
    }

    /// The schemas of the operators that a runner finds, one a line.
    pub async fn operators(&self) -> Result<Vec<u8>, ProbeError> {
        let answer = self.ask("operators").await?;
        // By a list that is none every model would be refused.
        if !answer.stdout.starts_with(b"aten::") {
            return Err(self.failed("operators", &answer, "its answer is no list of operators".into()));
        }
        Ok(answer.stdout)
    }

    /// The answer of a runner that is asked something.
    async fn ask(&self, what: &'static str) -> Result<Output, ProbeError> {
        let program = self.settings.program.display().to_string();
        let output = Command::new(&self.settings.program)
            .arg(what)
            .env_clear()
            .envs(environment::of_runner(std::env::vars_os(), self.settings.libtorch_dir.as_deref()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(LIMIT, output).await {
            Ok(Ok(output)) => output,
            Ok(Err(cause)) => return Err(ProbeError::Start { program, cause }),
            Err(_) => return Err(ProbeError::Silent { program, what }),
        };
        if output.status.success() {
            return Ok(output);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.trim().lines().last().unwrap_or("it said nothing").to_owned();
        Err(self.failed(what, &output, last))
    }

    fn failed(&self, what: &'static str, output: &Output, words: String) -> ProbeError {
        ProbeError::Failed { program: self.settings.program.display().to_string(), what, status: output.status, words }
    }

    /// What led the loader to a library, in the order in which it looks.
    fn found_by(&self, library: &str) -> String {
        let folder = Path::new(library).parent().and_then(|folder| folder.canonicalize().ok());
        let is_folder = |path: &Path| folder.is_some() && path.canonicalize().ok() == folder;
        let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        if self.settings.libtorch_dir.as_deref().is_some_and(is_folder) {
            "runner.libtorch_dir".into()
        } else if std::env::split_paths(&path).any(|entry| is_folder(&entry)) {
            "LD_LIBRARY_PATH".into()
        } else {
            "the runner's own library path".into()
        }
    }
}
