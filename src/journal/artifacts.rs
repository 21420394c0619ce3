//! The files that a job leaves for its user: results, checkpoints, event files. Half-written files
//! and those of the daemon are not among them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::checkpoint::Checkpoint;
use super::folder::JobFolder;
use super::program::{PROGRAM, ProgramCheckpoints};
use super::survey::damage;
use crate::beneath::{Entry, Folder, NotAFile, present};
use crate::gate::Wanted;
use crate::shortage::is_shortage;

/// Folders of a job's folder whose files are the user's, sorted; of a program's folder those of its
/// checkpoints alone.
const OPEN: [&str; 4] = ["artifacts", "checkpoints", PROGRAM, "tensorboard"];

/// A file for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its path in the job's folder, with `/` between the parts.
    pub path: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// When it was last written.
    pub updated: SystemTime,
    /// SHA-256 in lower-case hexadecimal, where it was computed when the file was written.
    pub sha256: Option<String>,
}

/// The files of a job, by path.
pub fn artifacts(folder: &JobFolder) -> io::Result<Vec<Artifact>> {
    let (_caller, wanted) = Wanted::by_caller();
    artifacts_after(folder, "", usize::MAX, &wanted)
}

/// The files of a job behind that path, by path, at most `most`. Files before it are not opened.
pub fn artifacts_after(folder: &JobFolder, after: &str, most: usize, wanted: &Wanted) -> io::Result<Vec<Artifact>> {
    let mut page = Page { after, most, wanted, found: Vec::new() };
    if let Some(place) = present(Folder::open(folder.path()))? {
        for open in OPEN {
            if open == PROGRAM {
                page.add_checkpoints_of_program(folder)?;
            } else if page.is_behind(&format!("{open}/"))
                && let Some(below) = present(place.folder(open))?
            {
                page.walk(&below, open)?;
            }
        }
    }
    let mut found = page.found;
    // Files of a checkpoint stand together.
    for files in found.chunk_by_mut(|one, other| checkpoint_of(&one.path) == checkpoint_of(&other.path)) {
        let Some(name) = files.first().and_then(|file| checkpoint_of(&file.path)) else { continue };
        wanted.check()?;
        let checkpoint = match Checkpoint::open(&folder.path().join(name)) {
            Ok(checkpoint) => checkpoint,
            // Its files are there all the same.
            Err(error) => {
                damage(error)?;
                continue;
            }
        };
        let sums: HashMap<_, _> = checkpoint.manifest.files.iter().map(|sum| (&*sum.name, &sum.sha256)).collect();
        for file in files {
            let name = file.path.rsplit_once('/').map_or(&*file.path, |(_, name)| name);
            file.sha256 = sums.get(name).map(|sum| (*sum).clone());
        }
    }
    Ok(found)
}

/// The checkpoint that a file belongs to.
fn checkpoint_of(path: &str) -> Option<&str> {
    let (checkpoint, name) = path.rsplit_once('/')?;
    let is_one = checkpoint.starts_with("checkpoints/step-") && !name.is_empty();
    (is_one && checkpoint.matches('/').count() == 1).then_some(checkpoint)
}

/// Where a file for the user lies; None where the path is not that of one: it leads elsewhere, or
/// to what is not theirs.
pub fn artifact_path(folder: &JobFolder, path: &str) -> Option<PathBuf> {
    let is_plain = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\0'));
    let is_open = OPEN.iter().any(|open| path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')));
    (is_plain && is_open).then(|| folder.path().join(path))
}

/// Opens a file for the user. A file that is not theirs is not found, and neither is what a link
/// leads to, a folder, or a pipe.
pub fn open_artifact(folder: &JobFolder, path: &str) -> io::Result<File> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    artifact_path(folder, path).ok_or_else(missing)?;
    if path.starts_with(PROGRAM) && !ProgramCheckpoints::read(folder)?.has(path) {
        return Err(missing());
    }
    let opened = Folder::open(folder.path()).and_then(|folder| folder.file(path));
    opened.map_err(|error| match error.kind() {
        // No file has such a name, or it lies below one that is no folder.
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => missing(),
        _ if NotAFile::of(&error).is_some() => missing(),
        _ => error,
    })
}

/// Some of the files of a job, as they are found.
struct Page<'a> {
    after: &'a str,
    most: usize,
    wanted: &'a Wanted,
    found: Vec<Artifact>,
}

impl Page<'_> {
    /// Whether a file, or some file of a folder whose path ends with `/`, stands behind where the
    /// page begins.
    fn is_behind(&self, path: &str) -> bool {
        path > self.after || path.ends_with('/') && self.after.starts_with(path)
    }

    /// Adds the files of the checkpoints of a program.
    fn add_checkpoints_of_program(&mut self, folder: &JobFolder) -> io::Result<()> {
        // A damaged list is told where the program goes on from it. In a shortage nothing is known
        // of the files, and a copy must not lose them.
        let checkpoints = match ProgramCheckpoints::read(folder) {
            Ok(checkpoints) => checkpoints,
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) => ProgramCheckpoints::default(),
        };
        let mut files = Vec::new();
        for checkpoint in checkpoints.outermost() {
            self.wanted.check()?;
            files.extend(checkpoint.files(folder)?.unwrap_or_default().0);
        }
        files.retain(|file| self.is_behind(&file.path));
        files.sort_by(|one, other| one.path.cmp(&other.path));
        self.found.extend(files.into_iter().take(self.most - self.found.len()));
        Ok(())
    }

    /// Adds the files of a folder and of the folders in it. Links are not followed, and what
    /// retention removes meanwhile is passed over.
    fn walk(&mut self, folder: &Folder, name: &str) -> io::Result<()> {
        let path = |entry: &Entry| format!("{name}/{}{}", entry.name, if entry.is_folder { "/" } else { "" });
        let entries = folder.entries()?.into_iter().filter(|entry| !entry.name.starts_with('.'));
        let mut entries: Vec<_> = entries.map(|entry| (path(&entry), entry)).collect();
        entries.retain(|(path, _)| self.is_behind(path));
        // With the `/` of folders this is the order of all the paths.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, Entry { name: part, is_folder, is_file }) in entries {
            self.wanted.check()?;
            if self.found.len() >= self.most {
                break;
            }
            if is_folder {
                if let Some(below) = present(folder.folder(&part))? {
                    self.walk(&below, path.trim_end_matches('/'))?;
                }
            } else if is_file && let Some(file) = present(folder.file(&part))? {
                let about = file.metadata()?;
                let updated = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                self.found.push(Artifact { path, size_bytes: about.len(), updated, sha256: None });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn only_whole_files_of_the_users_folders_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path().into());
        for path in
            ["artifacts/model", "checkpoints/.step-3/model", "tensorboard/events", "artifacts/.new", "spec.json"]
        {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("artifacts/link")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("artifacts/folder")).unwrap();
        assert!(open_artifact(&job, "artifacts/folder/passwd").is_err());
        let paths: Vec<_> = artifacts(&job).unwrap().into_iter().map(|artifact| artifact.path).collect();
        assert_eq!(paths, ["artifacts/model", "tensorboard/events"]);
    }

    /// A folder and a link out of the job's folder take turns under one name, exchanged by the
    /// kernel at once.
    #[test]
    fn a_link_that_takes_a_folders_place_while_a_file_is_opened_is_not_followed() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let job = JobFolder::new(folder.path().into());
        let (name, link) = (job.artifacts().join("name"), job.artifacts().join("link"));
        fs::create_dir_all(&name).unwrap();
        fs::write(name.join("file"), "inside").unwrap();
        fs::write(outside.path().join("file"), "outside").unwrap();
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        let has_ended = AtomicBool::new(false);
        let (mut read, mut refused, mut wrong) = (0, 0, None);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !has_ended.load(Relaxed) {
                    renameat_with(CWD, &name, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..1_000_000 {
                match open_artifact(&job, "artifacts/name/file").map(io::read_to_string) {
                    Ok(Ok(text)) if text == "inside" => read += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => refused += 1,
                    other => wrong = Some(other),
                }
                if wrong.is_some() || (read >= 1000 && refused >= 1000) {
                    break;
                }
            }
            has_ended.store(true, Relaxed);
        });
        assert!(wrong.is_none(), "{wrong:?}");
        assert!(read >= 1000 && refused >= 1000, "the race was not provoked: {read} read, {refused} refused");
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let job = JobFolder::new("/j".into());
        assert_eq!(artifact_path(&job, "artifacts/a/b"), Some("/j/artifacts/a/b".into()));
        for path in
            ["artifacts", "spec.json", "artifacts/../spec.json", "/artifacts/a", "artifacts//a", "artifacts/.new", ""]
        {
            assert_eq!(artifact_path(&job, path), None, "{path}");
        }
    }

    #[test]
    fn pages_hold_every_file_once_in_the_order_of_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path().into());
        let mut expected: Vec<String> =
            ["artifacts/a", "artifacts/a-b/c", "artifacts/a.b", "artifacts/a0/d", "artifacts/b/e/f", "tensorboard/g"]
                .map(str::to_owned)
                .to_vec();
        expected.extend([3, 20, 100].map(|step| format!("{}/model", JobFolder::checkpoint_name(step))));
        expected.sort();
        for path in &expected {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let (_caller, wanted) = Wanted::by_caller();
        let paths = |found: Vec<Artifact>| found.into_iter().map(|found| found.path).collect::<Vec<_>>();
        assert_eq!(paths(artifacts(&job).unwrap()), expected);
        for size in 1..4 {
            let (mut told, mut after) = (Vec::new(), String::new());
            loop {
                let page = paths(artifacts_after(&job, &after, size, &wanted).unwrap());
                let Some(last) = page.last().cloned() else { break };
                assert!(page.len() <= size);
                (after, told) = (last, [told, page].concat());
            }
            assert_eq!(told, expected, "{size}");
        }
        let (caller, wanted) = Wanted::by_caller();
        assert_eq!(paths(artifacts_after(&job, "tensorboard/", 9, &wanted).unwrap()), ["tensorboard/g"]);
        drop(caller);
        assert!(artifacts_after(&job, "tensorboard/", 9, &wanted).is_err(), "nobody waits for it");
    }
}
