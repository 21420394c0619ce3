//! Asks a runner to train on one batch of a job, with bounded time and memory.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::Supervisor;
use crate::job::dry_run::{Answer, DryRun};
use crate::shortage::is_shortage;

/// The reason why there is no batch that was trained on.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The runner could not be started.
    #[error("the runner cannot be started: {0}")]
    Start(std::io::Error),
    /// It ended otherwise than with an answer.
    #[error("the runner ended with {status}: {words}")]
    Ended {
        /// How.
        status: std::process::ExitStatus,
        /// The end of its output.
        words: String,
    },
    /// The job would end at its beginning. The words may begin with the field of the spec.
    #[error("{0}")]
    Refused(String),
}

impl DryRunError {
    /// Whether the machine lacks something for the moment, so that nothing is known of the job.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Start(error) if is_shortage(error))
    }
}

impl Supervisor {
    /// Trains on one batch of the job in a folder, on one thread of the CPU.
    pub async fn dry_run(&self, folder: &Path, most_memory_bytes: u64) -> Result<DryRun, DryRunError> {
        let limit = self.settings.dry_run_timeout;
        let mut command = self.asked(self.libtorch().folder());
        let most = most_memory_bytes.to_string();
        let output = command.arg("dry-run").arg("--job").arg(folder).args(["--most-memory-bytes", &most]).output();
        let output = match tokio::time::timeout(limit, output).await {
            Err(_) => {
                let what = format!("did not come through one batch within runner.dry_run_timeout, {limit:?}");
                return Err(DryRunError::Refused(what));
            }
            Ok(output) => output.map_err(DryRunError::Start)?,
        };
        let too_much =
            || DryRunError::Refused(format!("needs more than {most_memory_bytes} bytes of memory for one batch"));
        match serde_json::from_slice(&output.stdout) {
            Ok(Answer::Done(done)) if output.status.success() => Ok(done),
            Ok(Answer::Failed { is_memory: true, .. }) => Err(too_much()),
            Ok(Answer::Failed { message, .. }) => Err(DryRunError::Refused(message)),
            _ => {
                let words = String::from_utf8_lossy(&output.stderr);
                let last = words.trim().lines().last().unwrap_or("it said nothing").to_owned();
                // An allocation that a library does not expect to fail ends the process.
                let is_memory = output.status.signal() == Some(nix::libc::SIGABRT)
                    && ["bad_alloc", "memory allocation of"].iter().any(|sign| words.contains(sign));
                Err(if is_memory { too_much() } else { DryRunError::Ended { status: output.status, words: last } })
            }
        }
    }
}
