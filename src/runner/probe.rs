//! `torchd-runner probe`: the daemon never loads libtorch, so it asks here what a runner finds.

use std::process::ExitCode;

use libloading::os::unix::Library;
use torchd::job::probe::{Found, ProbeReport};

use crate::cuda::{self, Cuda};

/// Prints what a runner finds.
pub(crate) fn probe() -> ExitCode {
    let cuda = Cuda::open();
    let report = ProbeReport {
        libtorch: Found {
            version: libtorch_version(),
            path: cuda::loaded("libtorch_cpu.so").map(|path| path.display().to_string()).unwrap_or_default(),
            absent_reason: String::new(),
        },
        cuda: Found {
            version: if cuda.library.is_ok() { cuda_version() } else { String::new() },
            path: cuda.library.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            absent_reason: cuda.absence().unwrap_or_default(),
        },
        cuda_devices: cuda.devices,
    };
    match serde_json::to_string(&report) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("torchd-runner: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The version of the library that is loaded, by its own word.
pub(crate) fn libtorch_version() -> String {
    // SAFETY: `uint64_t aoti_torch_abi_version()` of libtorch's stable C interface; it takes nothing and touches nothing.
    let packed = unsafe {
        Library::this().get::<unsafe extern "C" fn() -> u64>(b"aoti_torch_abi_version\0").map(|version| version())
    };
    packed.map(|packed| format!("{}.{}.{}", packed >> 56, packed >> 48 & 0xff, packed >> 40 & 0xff)).unwrap_or_default()
}

/// The version of the CUDA runtime that is loaded, such as `13.0`.
fn cuda_version() -> String {
    let mut number = 0;
    // SAFETY: `cudaError_t cudaRuntimeGetVersion(int *)` of the CUDA runtime; it writes one int and needs no driver.
    let status = unsafe {
        Library::this()
            .get::<unsafe extern "C" fn(*mut i32) -> i32>(b"cudaRuntimeGetVersion\0")
            .map(|version| version(&raw mut number))
    };
    if status.is_ok_and(|status| status == 0) {
        format!("{}.{}", number / 1000, number % 1000 / 10)
    } else {
        String::new()
    }
}
