//! Asks a runner which libraries it finds.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::Supervisor;
use super::libtorch::Search;
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
    /// There is no libtorch for it.
    #[error("{0}")]
    NoLibtorch(String),
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
            Self::Silent { .. } | Self::NoLibtorch(_) | Self::Failed { .. } => false,
        }
    }
}

impl Supervisor {
    /// Probes a runner.
    pub async fn probe(&self) -> Result<ProbeReport, ProbeError> {
        let answer = self.ask("probe").await?;
        let mut report: ProbeReport = serde_json::from_slice(&answer.stdout)
            .map_err(|error| self.failed("probe", &answer, format!("its answer is not understood: {error}")))?;
        let search = self.libtorch();
        report.libtorch.found_by = found_by(&search, &report.libtorch.path);
        report.libtorch.passed_over = search.passed_over;
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
        let search = self.libtorch();
        if let Some(words) = search.refusal() {
            return Err(ProbeError::NoLibtorch(words));
        }
        let output = self.asked(search.folder()).arg(what).output();
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
}

/// The place that the library of a runner was found in.
fn found_by(search: &Search, library: &str) -> String {
    let folder = Path::new(library).parent().and_then(|folder| folder.canonicalize().ok());
    let found = search.found.as_ref().filter(|found| folder.is_some() && found.folder.canonicalize().ok() == folder);
    found.map_or("the runner's own library path", |found| found.found_by).into()
}
