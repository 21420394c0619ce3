//! The file in which `torchrun` looks for the reason of a failure, `TORCHELASTIC_ERROR_FILE`.

use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;

/// The file; none where the engine names none.
pub(super) struct ErrorFile(Option<PathBuf>);

impl ErrorFile {
    /// That of the environment.
    pub(super) fn of_environment() -> Self {
        Self(std::env::var_os("TORCHELASTIC_ERROR_FILE").filter(|path| !path.is_empty()).map(PathBuf::from))
    }

    /// Writes a reason, in the form that `torchrun` reads.
    /// (torch/distributed/elastic/multiprocessing/errors)
    pub(super) fn write(&self, words: &str) {
        let Some(path) = &self.0 else { return };
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // The agent shows this one.
        let extra = json!({ "py_callstack": words, "timestamp": seconds.to_string() });
        let text = json!({ "message": { "message": words, "extraInfo": extra } });
        if let Err(error) = std::fs::write(path, text.to_string()) {
            tracing::warn!(path = %path.display(), %error, "the engine does not learn the reason");
        }
    }
}
