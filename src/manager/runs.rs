//! The tree that TensorBoard is pointed at: `runs/<name>-<id>` beside `jobs/`, a link to the event
//! files of each job, so that its runs bear names and not ids alone.
//!
//! The tree is a convenience: what goes wrong here is logged, and no job depends on it. Links are
//! relative, so that a state folder can be moved, and what is no link of ours in there is left
//! alone. The next start makes right what a crash has left.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::job::JobId;
use crate::journal::{JobFolder, entries};

/// The name of the tree in the state folder.
pub const RUNS: &str = "runs";

/// So many characters of a display name are part of a link's.
const MOST_CHARACTERS: usize = 64;

/// The tree of links.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    tree: PathBuf,
    jobs_dir: PathBuf,
}

impl Runs {
    /// The tree beside the folder of jobs; it need not be there yet.
    pub(super) fn beside(jobs_dir: &Path) -> Self {
        Self { tree: jobs_dir.with_file_name(RUNS), jobs_dir: jobs_dir.to_owned() }
    }

    /// Links the event files of a job. Blocks.
    pub(super) fn add(&self, id: &JobId, display_name: &str) {
        let link = self.tree.join(link_name(id, display_name));
        let make = || {
            fs::create_dir_all(&self.tree)?;
            symlink(self.target(id), &link)
        };
        match make() {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::warn!(job.id = %id, %error, "{} cannot be made for TensorBoard", link.display());
            }
            _ => {}
        }
    }

    /// Removes the link of a job. Blocks.
    pub(super) fn remove(&self, id: &JobId, display_name: &str) {
        let link = self.tree.join(link_name(id, display_name));
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(job.id = %id, %error, "{} cannot be removed", link.display());
            }
            _ => {}
        }
    }

    /// Removes links of jobs that are gone or that lead elsewhere, and adds those that are missing.
    /// Blocks.
    pub(super) fn repair(&self) -> io::Result<()> {
        let mut missing: HashMap<JobId, JobFolder> = JobFolder::all(&self.jobs_dir)?.into_iter().collect();
        for entry in entries(&self.tree)? {
            let path = entry?.path();
            let (Ok(target), Some(id)) = (fs::read_link(&path), id_of(&path)) else { continue };
            // One that is there twice is removed as well: its name has changed.
            if target != self.target(&id) || missing.remove(&id).is_none() {
                fs::remove_file(&path)?;
            }
        }
        for (id, folder) in missing {
            match folder.read_spec() {
                Ok(spec) => self.add(&id, &spec.display_name),
                Err(error) => {
                    tracing::debug!(job.id = %id, %error, "the spec cannot be read: TensorBoard shows the id")
                }
            }
        }
        Ok(())
    }

    /// Where the link of a job leads, from the tree.
    fn target(&self, id: &JobId) -> PathBuf {
        let jobs = self.jobs_dir.file_name().unwrap_or_default();
        Path::new("..").join(jobs).join(id.as_str()).join("tensorboard")
    }
}

/// The job that a link is named after.
fn id_of(link: &Path) -> Option<JobId> {
    let name = link.file_name()?.to_str()?;
    let mut parts = name.rsplitn(4, '-');
    let (tail, time, day) = (parts.next()?, parts.next()?, parts.next()?);
    format!("{day}-{time}-{tail}").parse().ok()
}

/// Of the display name only letters, digits, `.`, `_` and `-`; what stands between them becomes one
/// `-`.
fn link_name(id: &JobId, display_name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let parts: Vec<_> = display_name.split(|letter| !is_plain(letter)).filter(|part| !part.is_empty()).collect();
    // A name that begins with a dot is hidden.
    let name: String = parts.join("-").trim_start_matches(['.', '-']).chars().take(MOST_CHARACTERS).collect();
    if name.is_empty() { id.to_string() } else { format!("{name}-{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Spec;
    use crate::job::spec::example;

    const ID: &str = "20261123-171455-k7qm";

    #[test]
    fn a_link_bears_what_of_the_name_a_path_can_bear() {
        let id: JobId = ID.parse().unwrap();
        for (name, expected) in [
            ("mnist-cnn", "mnist-cnn-"),
            ("", ""),
            ("../../etc/passwd", "etc-passwd-"),
            ("..", ""),
            ("Größe (2)\u{202e}\u{1b}[2J", "Gr-e-2-2J-"),
            ("a/b\\c.d_e", "a-b-c.d_e-"),
            (&"x".repeat(200), &format!("{}-", "x".repeat(64))),
        ] {
            let link = link_name(&id, name);
            assert_eq!(link, format!("{expected}{ID}"), "{name:?}");
            assert_eq!(id_of(Path::new(&link)), Some(id.clone()));
        }
        assert_eq!(id_of(Path::new("somebody-elses")), None);
    }

    #[test]
    fn a_repair_makes_what_is_missing_removes_what_is_stale_and_leaves_the_rest_alone() {
        let state = tempfile::tempdir().unwrap();
        let jobs = state.path().join("jobs");
        let runs = Runs::beside(&jobs);
        let other = "20261123-171455-aaaa";
        for (id, name) in [(ID, "first run"), (other, "second")] {
            let spec = Spec { display_name: name.into(), ..example() };
            fs::create_dir_all(&jobs).unwrap();
            JobFolder::new(jobs.join(id)).create(&spec.to_proto()).unwrap();
        }
        runs.repair().unwrap();
        let tree = state.path().join("runs");
        let (first, second) = (tree.join(format!("first-run-{ID}")), tree.join(format!("second-{other}")));
        assert_eq!(fs::canonicalize(&first).unwrap(), fs::canonicalize(jobs.join(ID).join("tensorboard")).unwrap());

        fs::remove_file(&first).unwrap();
        symlink("/etc", &first).unwrap();
        fs::remove_dir_all(jobs.join(other)).unwrap();
        let (file, foreign) = (tree.join(format!("notes-{ID}")), tree.join("elsewhere"));
        fs::write(&file, "").unwrap();
        symlink("/etc", &foreign).unwrap();
        runs.repair().unwrap();
        assert!(first.join(".").is_dir() && fs::read_link(&first).unwrap().starts_with("../jobs"));
        assert!(second.symlink_metadata().is_err() && file.exists() && foreign.symlink_metadata().is_ok());

        let id = ID.parse().unwrap();
        runs.remove(&id, "first run");
        assert!(first.symlink_metadata().is_err());
        runs.add(&id, "first run");
        assert!(first.symlink_metadata().is_ok());
    }
}
