//! The library that captures CUDA graphs, `libtorchd_graphs.so`: found beside the runner, and
//! opened where libtorch's CUDA half is. `graphs.h` documents its functions.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

use libloading::os::unix;
use tch::{Device, TchError};

use super::Recorder;
use crate::failure::Result;
use crate::library::{Wanted, told};

const WANTED: Wanted =
    Wanted { file: "libtorchd_graphs.so", target: "cuda-graphs", built_for: "torchd_graphs_built_for\0" };

/// The library, or why there is none.
pub(crate) type Found = std::result::Result<Library, String>;

/// Graphs of a device; only ever behind a pointer.
#[repr(C)]
struct Graphs {
    _opaque: [u8; 0],
}

/// The library. It is never closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    error: unsafe extern "C" fn() -> *const c_char,
    new: unsafe extern "C" fn(c_int) -> *mut Graphs,
    free: unsafe extern "C" fn(*mut Graphs),
    begin: unsafe extern "C" fn(*mut Graphs) -> c_int,
    end: unsafe extern "C" fn(*mut Graphs, *mut usize) -> c_int,
    clear: unsafe extern "C" fn(*mut Graphs) -> c_int,
    replay: unsafe extern "C" fn(*mut Graphs, usize) -> c_int,
}

impl Library {
    /// Opens it, after libtorch's CUDA half, whose symbols it takes.
    pub(crate) fn open() -> Found {
        // SAFETY: the signatures are those of `graphs.h`, and it is never closed.
        WANTED.open(|library| unsafe { Self::of(library) })
    }

    /// Its functions.
    ///
    /// # Safety
    /// The library has them with these signatures, and is never closed.
    unsafe fn of(library: &unix::Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Self {
                error: *library.get(b"torchd_graphs_error\0")?,
                new: *library.get(b"torchd_graphs_new\0")?,
                free: *library.get(b"torchd_graphs_free\0")?,
                begin: *library.get(b"torchd_graphs_begin\0")?,
                end: *library.get(b"torchd_graphs_end\0")?,
                clear: *library.get(b"torchd_graphs_clear\0")?,
                replay: *library.get(b"torchd_graphs_replay\0")?,
            })
        }
    }

    /// A recorder for a device, whose stream becomes that of this thread.
    pub(crate) fn recorder(self, device: Device) -> Result<impl Recorder + 'static> {
        let index = match device {
            Device::Cuda(index) => c_int::try_from(index).unwrap_or(c_int::MAX),
            Device::Cpu | Device::Mps | Device::Vulkan => 0,
        };
        // SAFETY: it makes one, or returns null.
        let made = unsafe { (self.new)(index) };
        let graphs = NonNull::new(made).ok_or_else(|| self.failure())?;
        Ok(Graphed { library: self, graphs })
    }

    fn check(&self, status: c_int) -> Result<()> {
        if status == 0 { Ok(()) } else { Err(self.failure().into()) }
    }

    fn failure(&self) -> TchError {
        // SAFETY: the text ends with a null byte and lives until this thread's next failure.
        unsafe { told(self.error) }
    }
}

/// Graphs that the library has captured.
struct Graphed {
    library: Library,
    graphs: NonNull<Graphs>,
}

impl Recorder for Graphed {
    fn record(&mut self, work: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        let (library, graphs) = (self.library, self.graphs.as_ptr());
        // SAFETY: the graphs live, and this is the thread that made them.
        library.check(unsafe { (library.begin)(graphs) })?;
        // A capture that is broken off here is left as it is, and the attempt ends.
        work()?;
        let mut number = 0;
        // SAFETY: the same; it writes the number.
        library.check(unsafe { (library.end)(graphs, &raw mut number) })?;
        Ok(number)
    }

    fn replay(&mut self, recording: usize, _: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        // SAFETY: the graphs live, and this is the thread that made them.
        self.library.check(unsafe { (self.library.replay)(self.graphs.as_ptr(), recording) })
    }

    fn forget(&mut self) -> Result<()> {
        // SAFETY: the graphs live, and this is the thread that made them.
        self.library.check(unsafe { (self.library.clear)(self.graphs.as_ptr()) })
    }
}

impl Drop for Graphed {
    fn drop(&mut self) {
        // SAFETY: they were made by `torchd_graphs_new`, and are freed once.
        unsafe { (self.library.free)(self.graphs.as_ptr()) }
    }
}
