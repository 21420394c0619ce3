//! Libraries of ours that the runner opens at run time: each is compiled against the headers of one
//! version of libtorch, and lies beside the runner or in the place of an installation.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use libloading::os::unix::{self, RTLD_LOCAL, RTLD_NOW};
use tch::TchError;

use crate::probe::libtorch_version;

/// A library that may be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Its file.
    pub(crate) file: &'static str,
    /// The target of make that builds it.
    pub(crate) target: &'static str,
    /// Its function that returns the version of libtorch that it was built for, with a null byte.
    pub(crate) built_for: &'static str,
}

impl Wanted {
    /// Opens it for this libtorch, and takes its functions by `take`. It is never closed.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub(crate) fn open<T>(
        self,
        take: impl FnOnce(&unix::Library) -> Result<T, libloading::Error>,
    ) -> Result<T, String> {
        let program = std::env::current_exe().map_err(|error| format!("the runner cannot tell its place: {error}"))?;
        self.open_in(&places(&program), &libtorch_version(), take)
    }

    /// Opens the first one in these folders, for that version of libtorch.
    fn open_in<T>(
        self,
        folders: &[PathBuf],
        libtorch: &str,
        take: impl FnOnce(&unix::Library) -> Result<T, libloading::Error>,
    ) -> Result<T, String> {
        let Self { file, target, .. } = self;
        let Some(path) = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists()) else {
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            return Err(format!("{file} is needed, and is not in {}; `make {target}` builds it", places.join(" or ")));
        };
        let bad = |what: &dyn std::fmt::Display| format!("{} cannot be used: {what}", path.display());
        // SAFETY: it is ours; its initialisers make an empty text and nothing else.
        let library =
            unsafe { unix::Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| bad(&error))?;
        // SAFETY: it is ours and has that function.
        let built_for = unsafe { self.version(&library) }.map_err(|error| bad(&error))?;
        let taken = take(&library).map_err(|error| bad(&error))?;
        if built_for != libtorch {
            return Err(bad(&format!("it is built for libtorch {built_for}, and this is {libtorch}")));
        }
        std::mem::forget(library);
        Ok(taken)
    }

    /// The version of libtorch that it was built for.
    ///
    /// # Safety
    /// Where the library has that function, it has the signature of one that tells its version.
    unsafe fn version(self, library: &unix::Library) -> Result<String, libloading::Error> {
        // SAFETY: the caller's promise; the text is a constant that ends with a null byte.
        unsafe {
            let tell = library.get::<unsafe extern "C" fn() -> *const c_char>(self.built_for.as_bytes())?;
            Ok(CStr::from_ptr(tell()).to_string_lossy().into_owned())
        }
    }
}

/// The words of a failure, by the function of a library that tells it.
///
/// # Safety
/// The text ends with a null byte, and lives until this thread's next failure.
pub(crate) unsafe fn told(error: unsafe extern "C" fn() -> *const c_char) -> TchError {
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(error()) };
    TchError::Torch(text.to_string_lossy().into_owned())
}

/// The folders in which it may lie: that of the runner, and that of an installation.
fn places(program: &Path) -> Vec<PathBuf> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    // A program of tests lies in a folder below that of the runner.
    let beside = if cfg!(test) && beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let installed = beside.parent().map(|top| top.join("lib/torchd"));
    [Some(beside.to_owned()), installed].into_iter().flatten().collect()
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
        let wanted = Wanted { file: "libtd.so", target: "td", built_for: "td_built_for\0" };
        let open = || wanted.open_in(&folders, "2.11.0", |_| Ok(())).unwrap_err();
        let right = format!("libtd.so is needed, and is not in {} or ", bin.display());
        assert!(open().starts_with(&right) && open().ends_with("`make td` builds it"), "{}", open());
        std::fs::write(bin.join("libtd.so"), "no library").unwrap();
        let right = format!("{} cannot be used: ", bin.join("libtd.so").display());
        assert!(open().starts_with(&right), "{}", open());
    }
}
