//! Sets the modes in the state folder: 0700 for folders and 0600 for files, also where an earlier
//! version left others. With `state_group_read` the group may list the jobs and read their event
//! files and results, and nothing else.
//!
//! Nothing is followed: each file is opened beneath its folder, and changed by descriptor.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, fchmod, fstat};

use super::startup::AUDIT;
use crate::beneath::{Folder, present};
use crate::journal::JobFolder;
use crate::manager::RUNS;
use crate::uploads;

/// Whether the group of the state folder may read results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupReads(pub(super) bool);

impl GroupReads {
    /// Sets the mode of the state folder itself. New files in it are private in any case.
    pub(super) fn close(self, state_dir: &Path) {
        // The group passes through it to the jobs, and cannot list it.
        let mode = if self.0 { 0o710 } else { 0o700 };
        if let Err(error) = std::fs::set_permissions(state_dir, Permissions::from_mode(mode)) {
            // It may belong to another user, or lie on a file system without modes.
            tracing::warn!(path = %state_dir.display(), %error, "the mode of the state folder cannot be set, so that others may read it");
        }
    }

    /// Sets the modes of everything in it. The folder of jobs comes last: if its mode is right, the
    /// modes beneath it are too, because new files are made with the right ones.
    pub(super) fn settle(self, state_dir: &Path) -> io::Result<()> {
        let state = Folder::open(state_dir)?;
        // The operator may have put the jobs on another disk by a link.
        let jobs = Folder::open(&state_dir.join("jobs"))?;
        let is_settled = mode_of(&jobs)? == self.shown();
        // Database, lock, audit, and their copies have such names. Other files there are not
        // torchd's; the token's may not have had another mode at all.
        let is_ours = |name: &str| name.starts_with("torchd.") || name.starts_with(AUDIT);
        for entry in state.entries()?.into_iter().filter(|entry| entry.is_file && is_ours(&entry.name)) {
            set_file(&state, &entry.name, 0o600);
        }
        match state.make_folder(RUNS) {
            Ok(runs) => set_folder(&runs, self.shown()),
            Err(error) => tracing::warn!(%error, "{RUNS}/ in the state folder is no folder of ours"),
        }
        if let Some(uploads) = present(Folder::open(&state_dir.join(uploads::FOLDER)))? {
            self.settle_uploads(&uploads)?;
        }
        if is_settled {
            return Ok(());
        }
        for entry in jobs.entries()?.into_iter().filter(|entry| entry.is_folder) {
            if let Err(error) = self.settle_job(&jobs, &entry.name) {
                tracing::warn!(job.id = entry.name, %error, "the modes of the job's folder cannot be set");
            }
        }
        set_folder(&jobs, self.shown());
        Ok(())
    }

    /// Nobody else reads what clients have sent. The folder itself comes last here too.
    fn settle_uploads(self, uploads: &Folder) -> io::Result<()> {
        if mode_of(uploads)? != 0o700 {
            for entry in uploads.entries()?.into_iter().filter(|entry| entry.is_folder) {
                self.settle_tree(uploads, &entry.name, false)?;
            }
            set_folder(uploads, 0o700);
        }
        Ok(())
    }

    fn settle_job(self, jobs: &Folder, name: &str) -> io::Result<()> {
        let Some(job) = present(jobs.folder(name))? else { return Ok(()) };
        for entry in job.entries()? {
            let is_shown = JobFolder::SHOWN.contains(&entry.name.as_str());
            if entry.is_file {
                set_file(&job, &entry.name, 0o600);
            } else if entry.is_folder {
                self.settle_tree(&job, &entry.name, is_shown)?;
            }
        }
        set_folder(&job, self.shown());
        Ok(())
    }

    /// The mode of a folder that the group may list if it may read.
    fn shown(self) -> u32 {
        if self.0 { 0o750 } else { 0o700 }
    }

    fn settle_tree(self, parent: &Folder, name: &str, is_shown: bool) -> io::Result<()> {
        // Runners that live rename and remove checkpoints meanwhile.
        let Some(folder) = present(parent.folder(name))? else { return Ok(()) };
        let is_shown = is_shown && self.0;
        for entry in folder.entries()? {
            if entry.is_file {
                set_file(&folder, &entry.name, if is_shown { 0o640 } else { 0o600 });
            } else if entry.is_folder {
                self.settle_tree(&folder, &entry.name, is_shown)?;
            }
        }
        set_folder(&folder, if is_shown { 0o750 } else { 0o700 });
        Ok(())
    }
}

fn mode_of(folder: &Folder) -> io::Result<u32> {
    Ok(fstat(folder)?.st_mode & 0o777)
}

fn set_folder(folder: &Folder, mode: u32) {
    if let Err(error) = fchmod(folder, Mode::from_raw_mode(mode)) {
        tracing::warn!(%error, "the mode of a folder in the state folder cannot be set");
    }
}

fn set_file(folder: &Folder, name: &str, mode: u32) {
    let set = folder.file(name).and_then(|file| file.set_permissions(Permissions::from_mode(mode)));
    match set {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(name, %error, "the mode of a file in the state folder cannot be set");
        }
        _ => {}
    }
}
