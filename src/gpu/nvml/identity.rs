//! Reads the facts that compatibility depends on, on request and on a thread of its own: a caller
//! waits no longer than a limit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nvml_wrapper::error::NvmlError;

use super::{cuda_version, error, load, path_of};

/// A driver that does not answer within this hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Where NVML is; clones share what they know of a driver that hangs.
#[derive(Debug, Clone, Default)]
pub struct NvmlSource {
    /// The library; None for the one that the loader finds.
    pub library: Option<PathBuf>,
    /// A thread has asked and got no answer yet, for longer than the limit.
    hangs: Arc<AtomicBool>,
}

/// The facts from NVML.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NvmlReading {
    /// The return value of its initialisation (nvmlReturn_t); None where there is no library, or
    /// where it hangs.
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
    /// NVML by this library, or by the one that the loader finds.
    pub fn new(library: Option<PathBuf>) -> Self {
        Self { library, hangs: Arc::default() }
    }

    /// Asks NVML. While an earlier question hangs in the driver, no other thread is sent after it.
    pub async fn read(&self) -> NvmlReading {
        let absent = |absent_reason: String| NvmlReading { absent_reason, ..NvmlReading::default() };
        let silent =
            || absent(format!("NVML did not answer within {LIMIT:?}: the driver hangs; its log is in `dmesg`"));
        if self.hangs.load(Ordering::Acquire) {
            return silent();
        }
        let (sender, answer) = tokio::sync::oneshot::channel();
        let (library, hangs) = (self.library.clone(), self.hangs.clone());
        let started = std::thread::Builder::new().name("nvml".into()).spawn(move || {
            // Nobody waits any more where this fails.
            if sender.send(read(library.as_deref())).is_err() {
                hangs.store(false, Ordering::Release);
            }
        });
        if let Err(error) = started {
            return absent(format!("a thread for NVML cannot be started: {error}"));
        }
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) => absent("the thread that asked NVML has died".into()),
            Err(_) => {
                self.hangs.store(true, Ordering::Release);
                silent()
            }
        }
    }
}

/// Asks the library. Every field is read by itself: one that fails hides no other.
fn read(library: Option<&Path>) -> NvmlReading {
    let path = path_of(library);
    let nvml = match load(path) {
        Ok(nvml) => nvml,
        Err(error) => {
            let code = error::code(&error);
            let absent_reason = match &error {
                NvmlError::LibloadingError(cause) => format!("{} cannot be loaded: {cause}", path.display()),
                other => format!("NVML cannot be started: {other}"),
            };
            let library = if code.is_some() { loaded(path) } else { String::new() };
            return NvmlReading { code, absent_reason, library, ..NvmlReading::default() };
        }
    };
    let count = nvml.device_count().unwrap_or(0);
    let gpus = (0..count).filter_map(|index| nvml.device_by_index(index).ok());
    let describe = |gpu: nvml_wrapper::Device<'_>| {
        let capability = gpu.cuda_compute_capability();
        GpuIdentity {
            name: gpu.name().unwrap_or_default(),
            compute_capability: capability.map(|found| format!("{}.{}", found.major, found.minor)).unwrap_or_default(),
        }
    };
    NvmlReading {
        code: Some(0),
        absent_reason: String::new(),
        library: loaded(path),
        version: nvml.sys_nvml_version().unwrap_or_default(),
        driver_version: nvml.sys_driver_version().unwrap_or_default(),
        cuda_driver_version: nvml.sys_cuda_driver_version().map(cuda_version).unwrap_or_default(),
        gpus: Some(gpus.map(describe).collect()),
    }
}

/// The file that the loader has taken for a library.
fn loaded(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(".so").next().unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let is_it = |file: &&str| file.rsplit('/').next().is_some_and(|name| name.starts_with(&format!("{stem}.so")));
    files.into_iter().find(is_it).unwrap_or_default().to_owned()
}
