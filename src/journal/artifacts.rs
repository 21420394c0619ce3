//! The files that a job leaves for its user: results, checkpoints, event files. What is half-written, and what is the daemon's own,
//! is not among them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::checkpoints;
use super::folder::{JobFolder, entries};

/// Folders of a job's folder whose files are the user's.
const OPEN: [&str; 3] = ["artifacts", "checkpoints", "tensorboard"];

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
    let mut found = Vec::new();
    for open in OPEN {
        walk(&folder.path().join(open), open, &mut found)?;
    }
    for checkpoint in checkpoints(folder)? {
        let name = JobFolder::checkpoint_name(checkpoint.step());
        for file in &checkpoint.manifest.files {
            let path = format!("{name}/{}", file.name);
            if let Some(artifact) = found.iter_mut().find(|artifact| artifact.path == path) {
                artifact.sha256 = Some(file.sha256.clone());
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Where a file for the user lies; None where the path is not that of one: it leads elsewhere, or to what is not theirs.
pub fn artifact_path(folder: &JobFolder, path: &str) -> Option<PathBuf> {
    let is_plain = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\0'));
    let is_open = OPEN.iter().any(|open| path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')));
    (is_plain && is_open).then(|| folder.path().join(path))
}

/// Opens a file for the user. One that is not theirs is not found, and neither is what a link leads to, a folder or a pipe, whose opening
/// would wait for somebody who writes.
pub fn open_artifact(folder: &JobFolder, path: &str) -> io::Result<File> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    artifact_path(folder, path).ok_or_else(missing)?;
    let mut place = folder.path().to_owned();
    let mut is_file = false;
    for part in path.split('/') {
        place.push(part);
        let about = fs::symlink_metadata(&place).map_err(|error| match error.kind() {
            // No file has such a name, or it lies below one that is no folder.
            io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => missing(),
            _ => error,
        })?;
        if about.is_symlink() {
            return Err(missing());
        }
        is_file = about.is_file();
    }
    if is_file { File::open(place) } else { Err(missing()) }
}

fn walk(folder: &Path, name: &str, found: &mut Vec<Artifact>) -> io::Result<()> {
    // Retention removes checkpoints while we look.
    for entry in entries(folder)? {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else { continue };
        if part.starts_with('.') {
            continue;
        }
        let path = format!("{name}/{part}");
        // Links are not followed: they lead out of the folder.
        match entry.metadata() {
            Ok(about) if about.is_dir() => walk(&entry.path(), &path, found)?,
            Ok(about) if about.is_file() => {
                let updated = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Artifact { path, size_bytes: about.len(), updated, sha256: None });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let paths: Vec<_> = artifacts(&job).unwrap().into_iter().map(|artifact| artifact.path).collect();
        assert_eq!(paths, ["artifacts/model", "tensorboard/events"]);
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
}
