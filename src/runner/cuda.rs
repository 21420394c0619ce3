//! CUDA at run time. The program is linked to the CPU half of libtorch alone; where the CUDA half lies beside it, it is
//! opened here. That has to happen before the first question about CUDA: libtorch keeps its first answer.

use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The CUDA half of libtorch.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// What came of opening CUDA.
pub(crate) struct Cuda {
    /// The library that was opened, or why there is none.
    pub(crate) library: Result<PathBuf, String>,
    /// CUDA devices that libtorch can use.
    pub(crate) devices: u32,
}

impl Cuda {
    /// Opens the CUDA half, once per process and before libtorch is asked.
    pub(crate) fn open() -> Self {
        let library = open_library();
        let devices = match library {
            Ok(_) => tch::Cuda::device_count().try_into().unwrap_or(0),
            Err(_) => 0,
        };
        Self { library, devices }
    }

    /// Why no job can compute on CUDA; None where one can.
    pub(crate) fn absence(&self) -> Option<String> {
        match &self.library {
            Err(reason) => Some(reason.clone()),
            Ok(path) if self.devices == 0 => Some(format!(
                "{} was loaded and finds no usable GPU; `nvidia-smi` tells whether the driver is there and new enough",
                path.display()
            )),
            Ok(_) => None,
        }
    }
}

fn open_library() -> Result<PathBuf, String> {
    let cpu = loaded("libtorch_cpu.so").ok_or("libtorch_cpu.so is not mapped into this process")?;
    let path = cpu.with_file_name(CUDA_LIBRARY);
    if !path.exists() {
        return Err(format!("libtorch in {} is a build without CUDA: there is no {CUDA_LIBRARY} in it", folder(&cpu)));
    }
    // SAFETY: it is libtorch's own library and runs its static initialisers, as linking it would. It is never closed.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(path)
        }
        Err(error) => Err(format!("{} cannot be loaded: {error}", path.display())),
    }
}

fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

/// The file of a library that this process has loaded.
pub(crate) fn loaded(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])))
        .find(|path| path.file_name().is_some_and(|file| file == name))
        .map(Path::to_owned)
}
