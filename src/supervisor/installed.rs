//! The files that runners are started from, as they are on the disk now. It loads none of them, and
//! must not judge them: the probe does.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Supervisor;
use super::libtorch::Search;

/// The runner and the libraries of libtorch: two that are equal mean that no file was written or
/// replaced between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    search: Search,
    files: BTreeMap<PathBuf, Stamp>,
}

/// Size in bytes, time of the last change (seconds and nanoseconds since 1970), inode.
type Stamp = (u64, (i64, i64), u64);

impl Supervisor {
    /// Looks at the files, on a thread for blocking work.
    pub async fn installed(&self) -> Installed {
        let supervisor = self.clone();
        let look = move || Installed::of(supervisor.libtorch(), &supervisor.settings.program);
        // A look that panics is one that finds nothing.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

impl Installed {
    /// A file that cannot be looked at counts as absent.
    fn of(search: Search, program: &Path) -> Self {
        let folder = search.folder().and_then(|folder| fs::read_dir(folder).ok());
        let libraries =
            folder.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| is_library(path));
        let stamped = |path: PathBuf| fs::metadata(&path).ok().map(|about| (path, stamp(&about)));
        let files = libraries.chain([program.to_owned()]).filter_map(stamped).collect();
        Self { search, files }
    }
}

/// Whether a file is called as `libcudart.so.13` or `libtorch.so` are.
fn is_library(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
}

fn stamp(about: &Metadata) -> Stamp {
    (about.len(), (about.mtime(), about.mtime_nsec()), about.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::libtorch::Libtorch;

    #[test]
    fn a_library_that_comes_grows_or_is_replaced_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let program = folder.join("torchd-runner");
        let look = || {
            let found = Some(Libtorch { folder: folder.to_owned(), found_by: "LIBTORCH" });
            Installed::of(Search { found, ..Search::default() }, &program)
        };
        let mut known = look();
        let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let mut changes = |what: &str| {
            let now = look();
            assert_ne!(now, known, "{what}");
            assert_eq!(now, look(), "{what}");
            known = now;
        };
        put("libtorch_cpu.so", "half");
        changes("a library");
        put("libtorch_cpu.so", "half and half");
        changes("its rest");
        put("libcudart.so.13", "");
        changes("one with a version");
        put("torchd-runner", "");
        changes("the runner");
        put("aside", "half and half");
        fs::rename(folder.join("aside"), folder.join("libtorch_cpu.so")).unwrap();
        changes("another file of the same size");
        fs::remove_file(folder.join("libcudart.so.13")).unwrap();
        changes("one that is gone");
        put("notes.txt", "");
        assert_eq!(look(), known, "no library");
    }
}
