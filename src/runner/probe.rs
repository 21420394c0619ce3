//! `torchd-runner probe`: the daemon never loads libtorch, so it asks here what a runner finds.

use libloading::os::unix::Library;
use tch::Device;
use torchd::job::probe::{Found, ProbeReport};

use crate::confine;
use crate::cuda::{self, Absent, Cuda};
use crate::dispatcher;
use crate::ranks;
use crate::{FAILURE, SUCCESS};

/// The version of libtorch that tch 0.24.0 binds. (tch-rs, README)
const BUILT_FOR: &str = "2.11.0";

/// Prints what a runner finds.
pub(crate) fn probe() -> u8 {
    let cuda = Cuda::open();
    let is_loaded = cuda.library.is_ok();
    let report = ProbeReport {
        libtorch: Found { version: libtorch_version(), path: path_of("libtorch_cpu.so"), ..Found::default() },
        cuda: Found {
            version: if is_loaded { cuda_version() } else { String::new() },
            path: cuda.library.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            absent_reason: cuda.absence().unwrap_or_default(),
            found_by: if is_loaded { "it lies beside libtorch".into() } else { String::new() },
            ..Found::default()
        },
        cuda_devices: cuda.devices(),
        has_cuda_half: !matches!(cuda.library, Err(Absent::NotThere(_))),
        cuda_load_error: match &cuda.library {
            Err(Absent::NotLoadable(words)) => words.clone(),
            _ => String::new(),
        },
        cuda_error: if is_loaded { cuda_error() } else { None },
        cudnn: library_of_cuda("libcudnn.so", is_loaded, cudnn_version),
        nccl: library_of_cuda("libnccl.so", is_loaded, nccl_version),
        built_for: BUILT_FOR.into(),
        no_ranks: ranks::probe(Device::Cpu).err().unwrap_or_default(),
        no_gpu_ranks: match cuda.devices() {
            0 => String::new(),
            _ => ranks::probe(Device::Cuda(0)).err().unwrap_or_default(),
        },
        // Last: nothing could be looked for afterwards.
        confinement: confine::probe(),
    };
    match serde_json::to_string(&report) {
        Ok(text) => {
            println!("{text}");
            SUCCESS
        }
        Err(error) => {
            eprintln!("torchd-runner: {error}");
            FAILURE
        }
    }
}

/// Prints the schemas of the operators that programs can call, one a line and sorted. They are the
/// same for all builds of one version of libtorch.
pub(crate) fn operators() -> u8 {
    match dispatcher::schemas("aten") {
        Ok(mut schemas) => {
            schemas.sort_unstable();
            println!("{}", schemas.join("\n"));
            SUCCESS
        }
        Err(error) => {
            eprintln!("torchd-runner: the operators cannot be listed: {error}");
            FAILURE
        }
    }
}

/// The version of the library that is loaded, by its own word.
pub(crate) fn libtorch_version() -> String {
    // SAFETY: `uint64_t aoti_torch_abi_version()` of libtorch's stable C interface; it takes
    // nothing and touches nothing.
    let packed = unsafe {
        Library::this().get::<unsafe extern "C" fn() -> u64>(b"aoti_torch_abi_version\0").map(|version| version())
    };
    packed.map(|packed| format!("{}.{}.{}", packed >> 56, packed >> 48 & 0xff, packed >> 40 & 0xff)).unwrap_or_default()
}

/// The file of a library that is loaded, by the beginning of its name; empty where it is not.
fn path_of(name: &str) -> String {
    cuda::loaded(name).map(|path| path.display().to_string()).unwrap_or_default()
}

/// A library that comes with the CUDA half.
fn library_of_cuda(name: &str, is_cuda_loaded: bool, version: fn() -> Option<String>) -> Found {
    match (is_cuda_loaded, path_of(name)) {
        (false, _) => Found {
            absent_reason: "it comes with the CUDA half of libtorch, which is not loaded".into(),
            ..Found::default()
        },
        (true, path) if path.is_empty() => Found { absent_reason: format!("no {name} is loaded"), ..Found::default() },
        (true, path) => Found { version: version().unwrap_or_default(), path, ..Found::default() },
    }
}

/// `size_t cudnnGetVersion()`: 91900 is 9.19.0, 8907 is 8.9.7.
fn cudnn_version() -> Option<String> {
    // SAFETY: it takes nothing and touches nothing.
    let number =
        unsafe { Library::this().get::<unsafe extern "C" fn() -> usize>(b"cudnnGetVersion\0").ok().map(|get| get())? };
    let major = if number >= 10_000 { 10_000 } else { 1_000 };
    Some(format!("{}.{}.{}", number / major, number % major / 100, number % 100))
}

/// `ncclResult_t ncclGetVersion(int *)`: 22809 is 2.28.9.
fn nccl_version() -> Option<String> {
    let mut number = 0;
    // SAFETY: it writes one int.
    let status = unsafe {
        Library::this()
            .get::<unsafe extern "C" fn(*mut i32) -> i32>(b"ncclGetVersion\0")
            .ok()
            .map(|get| get(&raw mut number))?
    };
    (status == 0).then(|| format!("{}.{}.{}", number / 10_000, number % 10_000 / 100, number % 100))
}

/// The result of `cudaError_t cudaGetDeviceCount(int *)`; None where there is no CUDA runtime.
fn cuda_error() -> Option<u32> {
    let mut count = 0;
    // SAFETY: it writes one int.
    let status = unsafe {
        Library::this()
            .get::<unsafe extern "C" fn(*mut i32) -> i32>(b"cudaGetDeviceCount\0")
            .ok()
            .map(|get| get(&raw mut count))?
    };
    u32::try_from(status).ok()
}

/// The version of the CUDA runtime that is loaded, such as `13.0`.
fn cuda_version() -> String {
    let mut number = 0;
    // SAFETY: `cudaError_t cudaRuntimeGetVersion(int *)` of the CUDA runtime; it writes one int and
    // needs no driver.
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
