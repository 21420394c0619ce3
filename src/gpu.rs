//! GPUs as NVML tells of them. So far: what compatibility depends on, read when it is asked for.
//!
//! NVML is foreign code that may hang in a driver: it gets a thread of its own, and whoever asks waits no longer than a limit.

mod nvml;

use std::path::PathBuf;
use std::time::Duration;

/// A driver that does not answer within this hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Where NVML is.
#[derive(Debug, Clone, Default)]
pub struct NvmlSource {
    /// The library; None for the one that the loader finds.
    pub library: Option<PathBuf>,
}

/// What NVML told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NvmlReading {
    /// What its initialisation returned (nvmlReturn_t); None where there is no library, or where it hangs.
    pub code: Option<u32>,
    /// Why it cannot be used; empty where it can.
    pub absent_reason: String,
    /// The file of the library; empty where there is none.
    pub library: String,
    /// Version of the library.
    pub version: String,
    /// Version of the driver.
    pub driver_version: String,
    /// The newest CUDA that the driver speaks, such as `13.0`; empty where NVML does not tell.
    pub cuda_driver_version: String,
    /// The GPUs; None where it cannot be used.
    pub gpus: Option<Vec<GpuIdentity>>,
}

/// A GPU as compatibility sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuIdentity {
    /// Such as `NVIDIA A10`.
    pub name: String,
    /// Such as `8.6`; empty where NVML does not tell.
    pub compute_capability: String,
}

impl NvmlSource {
    /// Asks NVML.
    pub async fn read(&self) -> NvmlReading {
        let absent = |absent_reason: String| NvmlReading { absent_reason, ..NvmlReading::default() };
        let (sender, answer) = tokio::sync::oneshot::channel();
        let library = self.library.clone();
        let started = std::thread::Builder::new().name("nvml".into()).spawn(move || {
            // Nobody waits any more where this fails.
            let _ = sender.send(nvml::read(library.as_deref()));
        });
        if let Err(error) = started {
            return absent(format!("a thread for NVML cannot be started: {error}"));
        }
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) => absent("the thread that asked NVML has died".into()),
            Err(_) => absent(format!("NVML did not answer within {LIMIT:?}: the driver hangs; its log is in `dmesg`")),
        }
    }
}
