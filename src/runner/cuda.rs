//! CUDA at run time. The program is linked to the CPU half of libtorch alone; where the CUDA half
//! lies beside it, it is opened here. That has to happen before the first question about CUDA:
//! libtorch keeps its first answer.

use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::capture;

/// The CUDA half of libtorch.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The result of opening CUDA.
pub(crate) struct Cuda {
    /// The library that was opened, or why there is none.
    pub(crate) library: Result<PathBuf, Absent>,
    /// The library that captures steps, or why there is none.
    pub(crate) graphs: capture::Found,
}

/// Why the CUDA half is not loaded.
pub(crate) enum Absent {
    /// This libtorch has none.
    NotThere(String),
    /// It is there and cannot be loaded: the loader's words.
    NotLoadable(String),
}

impl Cuda {
    /// Opens the CUDA half, once per process and before libtorch is asked. The driver is not asked
    /// yet, and no thread started.
    pub(crate) fn open() -> Self {
        let library = open_library();
        let graphs = match &library {
            Ok(_) => capture::Library::open(),
            Err(_) => Err("the CUDA half of libtorch is not loaded".into()),
        };
        Self { library, graphs }
    }

    /// CUDA devices that libtorch can use.
    pub(crate) fn devices(&self) -> u32 {
        match self.library {
            Ok(_) => tch::Cuda::device_count().try_into().unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Why no job can compute on CUDA; None where one can.
    pub(crate) fn absence(&self) -> Option<String> {
        match &self.library {
            Err(Absent::NotThere(reason) | Absent::NotLoadable(reason)) => Some(reason.clone()),
            Ok(path) if self.devices() == 0 => Some(format!(
                "{} was loaded and finds no usable GPU{}; `nvidia-smi` tells whether the driver is there and new enough",
                path.display(),
                std::env::var("CUDA_VISIBLE_DEVICES")
                    .map_or_else(|_| String::new(), |shown| format!(", CUDA_VISIBLE_DEVICES is {shown:?}")),
            )),
            Ok(_) => None,
        }
    }
}

/// Bytes that are free on the device, by CUDA's own runtime, which libtorch has loaded; None where
/// it does not tell.
pub(crate) fn free_memory() -> Option<u64> {
    let runtime = opened("libcudart")?;
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: this is its signature, cudaError_t cudaMemGetInfo(size_t *free, size_t *total).
    let status = unsafe {
        let ask = runtime.get::<unsafe extern "C" fn(*mut usize, *mut usize) -> c_int>(b"cudaMemGetInfo\0").ok()?;
        ask(&raw mut free, &raw mut total)
    };
    (status == 0).then_some(free as u64)
}

/// The kind of the device, on which numbers depend: compute capability and multiprocessors; None
/// where CUDA's own runtime does not tell.
pub(crate) fn device_kind() -> Option<String> {
    // cudaDevAttrComputeCapabilityMajor, -Minor and cudaDevAttrMultiProcessorCount.
    const ATTRIBUTES: [c_int; 3] = [75, 76, 16];
    let runtime = opened("libcudart")?;
    // SAFETY: its signature is
    // cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device).
    let ask = unsafe {
        runtime.get::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(b"cudaDeviceGetAttribute\0").ok()?
    };
    let [major, minor, multiprocessors] = ATTRIBUTES.map(|attribute| {
        let mut value = 0;
        // SAFETY: the value lives, and there is one visible device.
        (unsafe { ask(&raw mut value, attribute, 0) } == 0).then_some(value)
    });
    Some(format!("compute capability {}.{} with {} multiprocessors", major?, minor?, multiprocessors?))
}

/// The uuid of the device, as NVML has it; None where the driver does not tell.
pub(crate) fn device_uuid() -> Option<String> {
    let driver = opened("libcuda.so")?;
    let (mut device, mut uuid) = (0, [0u8; 16]);
    // SAFETY: their signatures are CUresult cuDeviceGet(CUdevice *device, int ordinal) and
    // CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device); CUuuid has 16 bytes.
    let is_told = unsafe {
        let get = driver.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0").ok()?;
        let ask = driver.get::<unsafe extern "C" fn(*mut u8, c_int) -> c_int>(b"cuDeviceGetUuid_v2\0").ok()?;
        get(&raw mut device, 0) == 0 && ask(uuid.as_mut_ptr(), device) == 0
    };
    is_told.then(|| uuid_text(uuid))
}

fn uuid_text(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn open_library() -> Result<PathBuf, Absent> {
    let cpu = loaded("libtorch_cpu.so");
    let cpu = cpu.ok_or_else(|| Absent::NotThere("libtorch_cpu.so is not mapped into this process".into()))?;
    let path = cpu.with_file_name(CUDA_LIBRARY);
    if !path.exists() {
        let folder = folder(&cpu);
        let reason = format!("libtorch in {folder} is a build without CUDA: there is no {CUDA_LIBRARY} in it");
        return Err(Absent::NotThere(reason));
    }
    // SAFETY: it is libtorch's own library and runs its static initialisers, as linking it would.
    // It is never closed.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(path)
        }
        Err(error) => Err(Absent::NotLoadable(format!("{} cannot be loaded: {error}", path.display()))),
    }
}

fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

/// A library of CUDA that libtorch has opened and runs on, by the beginning of its name.
fn opened(name: &str) -> Option<Library> {
    let path = loaded(name)?;
    // SAFETY: nothing is initialised anew.
    unsafe { Library::open(Some(path), RTLD_NOW) }.ok()
}

/// The file of a library that this process has loaded, by the beginning of its name.
pub(crate) fn loaded(name: &str) -> Option<PathBuf> {
    mapped().into_iter().find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)))
}

/// The files that are mapped into this process, each as often as it has parts.
pub(crate) fn mapped() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..]))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_is_told_as_the_driver_tells_it() {
        let uuid = std::array::from_fn(|place| place as u8 * 17);
        assert_eq!(super::uuid_text(uuid), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
