//! Mounts for tests about copies: volumes below a folder that takes no files, and a file system
//! that does not answer.

use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that holds volumes, in which nothing can be made.
pub(crate) struct Volumes {
    root: PathBuf,
    /// The folder that holds the contents of each mount, by its name.
    volumes: PathBuf,
}

impl Volumes {
    /// Mounts each folder in `volumes` below `root`. The error says why we may not mount.
    pub(crate) fn mount(root: &Path, volumes: &Path) -> Result<Self, String> {
        fs::create_dir(root).unwrap();
        if !is_done(Command::new("mount").args(["-t", "tmpfs", "volumes"]).arg(root)) {
            return Err("mount(8) refuses".into());
        }
        let all = Self { root: root.to_owned(), volumes: volumes.to_owned() };
        for name in all.names() {
            fs::create_dir(root.join(&name)).unwrap();
        }
        assert!(is_done(Command::new("mount").args(["-o", "remount,ro"]).arg(root)), "it cannot be made read-only");
        all.mount_volumes();
        Ok(all)
    }

    fn names(&self) -> Vec<std::ffi::OsString> {
        fs::read_dir(&self.volumes).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    pub(crate) fn mount_volumes(&self) {
        for name in self.names() {
            let (volume, at) = (self.volumes.join(&name), self.root.join(&name));
            assert!(is_done(Command::new("mount").arg("--bind").args([volume, at])), "{name:?} cannot be mounted");
        }
    }

    /// Leaves an empty folder where each volume was.
    pub(crate) fn unmount_volumes(&self) {
        for name in self.names() {
            assert!(is_done(Command::new("umount").arg(self.root.join(&name))), "somebody uses {name:?}");
        }
    }

    /// Files can be made in the folder from now on.
    pub(crate) fn make_writable(&self) {
        assert!(is_done(Command::new("mount").args(["-o", "remount,rw"]).arg(&self.root)), "it stays read-only");
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for folder in self.names().iter().map(|name| self.root.join(name)).chain([self.root.clone()]) {
            is_done(Command::new("umount").arg("-l").arg(folder));
        }
    }
}

/// A file system whose server never answers: who asks it waits until this is dropped.
pub(crate) struct SilentDisk {
    folder: PathBuf,
    /// The server's end.
    connection: Option<OwnedFd>,
}

impl SilentDisk {
    /// The error says why we may not mount, or that the kernel has no FUSE.
    pub(crate) fn mount(folder: &Path) -> Result<Self, String> {
        let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let connection = connection.map_err(|error| format!("/dev/fuse: {error}"))?;
        // The program that mounts has it as its standard input.
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "silent"]);
        mount.arg(folder).stdin(connection.try_clone().unwrap());
        match is_done(&mut mount) {
            true => Ok(Self { folder: folder.to_owned(), connection: Some(connection.into()) }),
            false => Err("mount(8) refuses".into()),
        }
    }
}

impl Drop for SilentDisk {
    fn drop(&mut self) {
        // A caller that waits for the disk gets an error.
        drop(self.connection.take());
        is_done(Command::new("umount").arg("-l").arg(&self.folder));
    }
}

fn is_done(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
