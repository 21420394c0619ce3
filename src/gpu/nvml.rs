//! NVML by nvml-wrapper: the one room that calls it.

mod error;
mod events;
mod gauge;
mod identity;
mod instances;
mod processes;
mod ranges;
mod readings;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;

use super::{Driver, Session, Unavailable};
pub(super) use gauge::Gauge;
pub use identity::{GpuIdentity, NvmlReading, NvmlSource};
pub(super) use readings::reductions;

/// The library that the loader is asked for if no file is named.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// How NVML is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NvmlOptions {
    /// The library; None for the one that the loader finds.
    pub library: Option<PathBuf>,
    /// Reads PCIe throughput too. Each of its two calls takes 20 ms for each GPU. (nvml.h,
    /// nvmlDeviceGetPcieThroughput)
    pub pcie_throughput: bool,
}

/// The driver, by NVML.
#[derive(Debug, Clone)]
pub struct Nvml {
    options: NvmlOptions,
}

impl Nvml {
    /// NVML, not asked yet.
    pub fn new(options: NvmlOptions) -> Self {
        Self { options }
    }
}

impl Driver for Nvml {
    fn open(&self) -> Result<Box<dyn Session>, Unavailable> {
        let path = path_of(self.options.library.as_deref());
        let nvml = load(path).map_err(|error| error::unavailable(path, &error))?;
        Ok(Box::new(session::NvmlSession::new(Arc::new(nvml), self.options.clone())))
    }
}

/// The file to load.
fn path_of(library: Option<&Path>) -> &Path {
    library.unwrap_or(Path::new(LIBRARY))
}

/// Loads and initialises the library.
fn load(path: &Path) -> Result<nvml_wrapper::Nvml, NvmlError> {
    nvml_wrapper::Nvml::builder().lib_path(path.as_os_str()).init()
}

/// `13000` is 13.0, `12040` is 12.4. (nvml.h, nvmlSystemGetCudaDriverVersion_v2)
fn cuda_version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Interval of readings that change slowly.
const SLOW: Duration = Duration::from_secs(10);
/// Interval of readings that hardly ever change.
const RARE: Duration = Duration::from_secs(60);
