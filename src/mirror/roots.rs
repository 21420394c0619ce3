//! The folders below which copies may be written, and how each is known again.
//!
//! A volume that is not mounted leaves an ordinary folder at its path. A copy in there would be
//! lost with the machine. Device and inode cannot tell the two apart: both may change when the same
//! volume is mounted again, and on network and FUSE file systems at any time. So a mark tells: a
//! file with a random number. The root has one, and so has each folder below it at which another
//! file system begins. The daemon remembers the numbers in its state folder. Where the number of a
//! mark is not the remembered one, or the mark is missing, nothing is written. In a folder that
//! takes no files, such as `/Volumes`, there is no mark; the first folder on the way that takes
//! files has it in its place.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::beneath::{Folder, normal};
use crate::journal::write_whole;
use crate::umask::open_to_others;

/// The file that marks a root. It holds the root's number in hexadecimal.
const MARK: &str = ".torchd-mirror";
/// Digits of a number.
const DIGITS: usize = 32;

/// The folders below which copies may be written.
#[derive(Debug)]
pub struct Roots {
    /// As the settings name them.
    roots: Vec<PathBuf>,
    /// Holds the number of each marked folder by its path.
    record: PathBuf,
    /// One thread at a time changes the record.
    changes: Mutex<()>,
}

impl Roots {
    /// The roots of the settings. Their marks are remembered in the file `record`, which need not
    /// be there.
    pub fn new(roots: Vec<PathBuf>, record: PathBuf) -> Self {
        Self { roots, record, changes: Mutex::default() }
    }

    /// The roots, as the settings name them.
    pub fn paths(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The root that a judged path lies below, by its name alone: no file system is asked. None
    /// where the root has left the settings, or has another name there.
    pub fn root_of(&self, wanted: &Path) -> Option<&Path> {
        let around = self.roots.iter().filter(|root| wanted.starts_with(root));
        around.max_by_key(|root| root.components().count()).map(PathBuf::as_path)
    }

    /// The part of the file system that a path leads into by its name: the root, and the first
    /// folder on the way below it. No file system is asked. None where it lies below no root by its
    /// name.
    pub fn part(&self, wanted: &Path) -> Option<(PathBuf, PathBuf)> {
        let wanted = normal(wanted);
        let root = self.root_of(&wanted)?;
        let first = wanted.strip_prefix(root).ok()?.iter().next().unwrap_or_default();
        Some((root.to_owned(), root.join(first)))
    }

    /// Opens a folder below a root, and makes what is missing of the way. No link below the root is
    /// followed. Blocks for as long as the file system does.
    ///
    /// # Errors
    /// Where the path is below no root, and where the folder there is not the one that was marked.
    pub fn open(&self, wanted: &Path) -> io::Result<Folder> {
        let (root, way) = self.split(wanted)?;
        let known = self.known()?;
        let full = root.join(&way);
        let mut unseen = known.keys().filter(|path| full.starts_with(path) && path.starts_with(&root)).count();
        let (mut at, mut path) = (Folder::open(&root).map_err(named(&root))?, root);
        let mut parts = way.components();
        let mut is_due = true;
        loop {
            if let Some(number) = known.get(&path) {
                self.check(&at, &path, number)?;
                (unseen, is_due) = (unseen - 1, false);
            } else if is_due && unseen == 0 {
                is_due = !self.mark(&at, &path)?;
            }
            let Some(part) = parts.next() else { break };
            path.push(part);
            // Above a folder that was marked nothing is made: it would hide that the folder is not
            // there.
            let below = if unseen > 0 { at.folder(part) } else { at.make_folder_and(part, open_to_others) };
            let below = below.map_err(named(&path))?;
            is_due |= below.identity()?.device != at.identity()?.device;
            at = below;
        }
        if !is_due {
            return Ok(at);
        }
        let what = format!("no file can be made in {}, nor in a folder above it", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    }

    /// The root that a path lies below, and the rest of the path.
    fn split(&self, wanted: &Path) -> io::Result<(PathBuf, PathBuf)> {
        let by_name = self.root_of(wanted).map(|root| (root.to_owned(), root.to_owned()));
        // Earlier versions have stored the path behind the links of the root.
        let by_place = |root: &PathBuf| {
            let place = root.canonicalize().ok()?;
            wanted.starts_with(&place).then(|| (root.clone(), place))
        };
        let found = by_name.or_else(|| self.roots.iter().find_map(by_place));
        found.and_then(|(root, place)| Some((root, wanted.strip_prefix(place).ok()?.to_owned()))).ok_or_else(|| {
            let what = format!("{} lies below no folder of output.mirror_roots any more", wanted.display());
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })
    }

    /// The numbers that are remembered.
    fn known(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        match std::fs::read(&self.record) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| named(&self.record)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(named(&self.record)(error)),
        }
    }

    /// Compares the mark of a folder with the number that is remembered.
    fn check(&self, folder: &Folder, path: &Path, number: &str) -> io::Result<()> {
        let found = match read(folder).map_err(named(&path.join(MARK)))? {
            Some(found) if found == *number => return Ok(()),
            Some(_) => "another number than before",
            None => "missing, and a volume may not be mounted there",
        };
        let (path, record) = (path.display().to_string(), self.record.display());
        Err(io::Error::other(format!(
            "{path} is not the folder that it was: its {MARK} is {found}; to use it as it is now, remove \
             the entry {path:?} from {record}"
        )))
    }

    /// Remembers the mark of a folder, which is made where there is none; false where no file can
    /// be made: such a folder holds the volumes and is none.
    fn mark(&self, folder: &Folder, path: &Path) -> io::Result<bool> {
        let file = path.join(MARK);
        if read(folder).map_err(named(&file))?.is_none_or(|number| !is_number(&number)) {
            let mut mark = match folder.overwrite(MARK, 0o644) {
                Ok(mark) => mark,
                Err(error) if is_refusal(&error) => return Ok(false),
                Err(error) => return Err(named(&file)(error)),
            };
            open_to_others(&mark);
            let half = || RandomState::new().build_hasher().finish();
            writeln!(mark, "{:016x}{:016x}", half(), half()).map_err(named(&file))?;
        }
        // Another daemon may have marked it at the same time: what is there now counts.
        let number = read(folder).map_err(named(&file))?.filter(|number| is_number(number));
        let number = number.ok_or_else(|| io::Error::other(format!("{} does not keep its number", file.display())))?;
        let _turn = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.known()?;
        known.insert(path.to_owned(), number);
        write_whole(&self.record, &serde_json::to_vec_pretty(&known)?)?;
        Ok(true)
    }
}

/// The text of a folder's mark; None where it has none.
fn read(folder: &Folder) -> io::Result<Option<String>> {
    let file = match folder.file(MARK) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(DIGITS as u64 + 2).read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned()))
}

fn is_number(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether a folder takes no files, rather than that something failed.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    // With a path and flags as ours, the system means the folder by EINVAL.
    let is_told_by_system = error.raw_os_error().is_some();
    is_told_by_system && matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

/// Adds the path to what the system says.
pub(super) fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + use<> {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn roots(place: &Path) -> Roots {
        Roots::new(vec![place.join("volume")], place.join("record.json"))
    }

    #[test]
    fn a_folder_that_is_not_the_marked_one_is_refused_until_it_is_back_also_by_the_next_daemon() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        let wanted = at("volume/runs/a");
        fs::create_dir(at("volume")).unwrap();
        roots(place.path()).open(&wanted).unwrap();
        roots(place.path()).open(&at("volume")).unwrap();
        // As unmounting it would leave it.
        fs::rename(at("volume"), at("unmounted")).unwrap();
        fs::create_dir(at("volume")).unwrap();
        let error = roots(place.path()).open(&wanted).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("record.json"), "{error}");
        assert_eq!(fs::read_dir(at("volume")).unwrap().count(), 0, "nothing is made there");
        fs::write(at("volume").join(MARK), format!("{:032x}\n", 7)).unwrap();
        let error = roots(place.path()).open(&wanted).unwrap_err().to_string();
        assert!(error.contains("another number"), "{error}");
        // The same volume, with another inode as if it was mounted again.
        fs::copy(at("unmounted").join(MARK), at("volume").join(MARK)).unwrap();
        roots(place.path()).open(&wanted).unwrap();
        // Another daemon uses it too, and what the words say makes it the right one.
        fs::write(at("volume").join(MARK), format!("{:032x}\n", 7)).unwrap();
        roots(place.path()).open(&wanted).unwrap_err();
        let mut known = roots(place.path()).known().unwrap();
        known.insert(at("other"), format!("{:032x}", 8));
        known.remove(&at("volume")).unwrap();
        fs::write(at("record.json"), serde_json::to_vec(&known).unwrap()).unwrap();
        roots(place.path()).open(&wanted).unwrap();
        assert!(fs::read_to_string(at("record.json")).unwrap().contains(&format!("{:032x}", 8)));
        assert!(fs::read_to_string(at("record.json")).unwrap().contains(&format!("{:032x}", 7)));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told_and_not_begun_anew() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("volume")).unwrap();
        fs::write(place.path().join("record.json"), "{").unwrap();
        let error = roots(place.path()).open(&place.path().join("volume/a")).unwrap_err().to_string();
        assert!(error.contains("record.json"), "{error}");
        assert!(!place.path().join("volume").join(MARK).exists());
    }

    #[test]
    fn a_mark_that_a_daemon_died_over_is_made_anew() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("volume")).unwrap();
        let mark = place.path().join("volume").join(MARK);
        fs::write(&mark, "").unwrap();
        roots(place.path()).open(&place.path().join("volume/a")).unwrap();
        assert!(is_number(fs::read_to_string(&mark).unwrap().trim()));
    }

    #[test]
    fn a_link_on_the_way_is_not_followed_and_one_of_the_operators_is() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("real/runs")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        symlink(at("real"), at("volume")).unwrap();
        roots(place.path()).open(&at("volume/runs/a")).unwrap();
        assert!(at("real/runs/a").is_dir());
        // Earlier versions have stored this.
        let both = Roots::new(vec![at("outside"), at("volume")], at("record.json"));
        both.open(&at("real/runs/b")).unwrap();
        assert!(at("real/runs/b").is_dir());
        fs::rename(at("real/runs"), at("real/runs.old")).unwrap();
        symlink(at("outside"), at("real/runs")).unwrap();
        roots(place.path()).open(&at("volume/runs/c")).unwrap_err();
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
        let error = roots(place.path()).open(&at("outside/a")).unwrap_err().to_string();
        assert!(error.contains("output.mirror_roots"), "{error}");
    }
}
