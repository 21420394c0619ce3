//! The library that captures CUDA graphs, `libtorchd_graphs.so`: found beside the runner, and opened
//! where libtorch's CUDA half is. `graphs.h` documents its functions.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use libloading::os::unix::{self, RTLD_LOCAL, RTLD_NOW};
use tch::{Device, TchError};

use super::Recorder;
use crate::failure::Result;
use crate::probe::libtorch_version;

/// Its file.
const NAME: &str = "libtorchd_graphs.so";

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
        let program = std::env::current_exe().map_err(|error| format!("the runner cannot tell its place: {error}"))?;
        Self::open_in(&places(&program), &libtorch_version())
    }

    /// Opens the first one in these folders, for that version of libtorch.
    fn open_in(folders: &[PathBuf], libtorch: &str) -> Found {
        let Some(path) = folders.iter().map(|folder| folder.join(NAME)).find(|path| path.exists()) else {
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            return Err(format!(
                "{NAME} is needed, and is not in {}; `make cuda-graphs` builds it",
                places.join(" or ")
            ));
        };
        let bad = |what: &dyn std::fmt::Display| format!("{} cannot be used: {what}", path.display());
        // SAFETY: it is ours; its initialisers make an empty text and nothing else.
        let library =
            unsafe { unix::Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| bad(&error))?;
        // SAFETY: the signatures are those of `graphs.h`.
        let (found, built_for) = unsafe { (Self::of(&library), version(&library)) };
        let (found, built_for) = (found.map_err(|error| bad(&error))?, built_for.map_err(|error| bad(&error))?);
        if built_for != libtorch {
            return Err(bad(&format!("it is built for libtorch {built_for}, and this is {libtorch}")));
        }
        std::mem::forget(library);
        Ok(found)
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
        let text = unsafe { CStr::from_ptr((self.error)()) };
        TchError::Torch(text.to_string_lossy().into_owned())
    }
}

/// The version of libtorch that it was built for.
///
/// # Safety
/// The library has that function with this signature.
unsafe fn version(library: &unix::Library) -> std::result::Result<String, libloading::Error> {
    // SAFETY: the caller's promise; the text is a constant that ends with a null byte.
    unsafe {
        let tell = library.get::<unsafe extern "C" fn() -> *const c_char>(b"torchd_graphs_built_for\0")?;
        Ok(CStr::from_ptr(tell()).to_string_lossy().into_owned())
    }
}

/// The folders in which it may lie: that of the runner, and that of an installation.
fn places(program: &Path) -> Vec<PathBuf> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let installed = beside.parent().map(|top| top.join("lib/torchd"));
    [Some(beside.to_owned()), installed].into_iter().flatten().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_or_not_one_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let folders = places(&bin.join("torchd-runner"));
        assert_eq!(folders, [bin.clone(), folder.path().join("lib/torchd")]);
        let told = Library::open_in(&folders, "2.11.0").unwrap_err();
        let right = format!("{NAME} is needed, and is not in {} or ", bin.display());
        assert!(told.starts_with(&right) && told.ends_with("`make cuda-graphs` builds it"), "{told}");
        std::fs::write(bin.join(NAME), "no library").unwrap();
        let told = Library::open_in(&folders, "2.11.0").unwrap_err();
        assert!(told.starts_with(&format!("{} cannot be used: ", bin.join(NAME).display())), "{told}");
    }
}
