//! Mounts for tests about copies: volumes below a folder that takes no files, and a file system
//! that does not answer, at all or when its file is read.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A file system with one file, `file`, that can be opened. A read of it is never answered, and
/// cannot be interrupted: SIGKILL does not end a process that waits for one before this is dropped.
pub(crate) struct HangingFile {
    folder: PathBuf,
    /// Whether somebody waits for a read.
    is_read: Arc<AtomicBool>,
}

impl HangingFile {
    /// The error says why we may not mount, or that the kernel has no FUSE.
    pub(crate) fn mount(folder: &Path, size: u64) -> Result<Self, String> {
        let mut disk = SilentDisk::mount(folder)?;
        let mut connection = File::from(disk.connection.take().unwrap());
        std::mem::forget(disk);
        let is_read = Arc::new(AtomicBool::new(false));
        let seen = is_read.clone();
        std::thread::spawn(move || {
            let mut request = vec![0; 1 << 18];
            // It fails once the file system is gone.
            while let Ok(length) = connection.read(&mut request) {
                if let Some(answer) = answer(&request[..length], size, &seen) {
                    connection.write_all(&answer).unwrap();
                }
            }
        });
        Ok(Self { folder: folder.to_owned(), is_read })
    }

    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }
}

impl Drop for HangingFile {
    fn drop(&mut self) {
        // By force, so that whatever waits for it fails.
        is_done(Command::new("umount").args(["-f", "-l"]).arg(&self.folder));
    }
}

/// The answer to a request of the kernel; None where there is to be none. (linux/fuse.h)
fn answer(request: &[u8], size: u64, is_read: &AtomicBool) -> Option<Vec<u8>> {
    const FILE: u64 = 2;
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
    let longs = |values: &[u64]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    let (code, unique, node) = (word(4), long(8), long(16));
    // fuse_attr
    let attributes = |node| {
        let mode = if node == FILE { 0o100_444 } else { 0o040_555 };
        [longs(&[node, size, size.div_ceil(512), 0, 0, 0]), words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
    };
    let body = match code {
        // FUSE_LOOKUP
        1 if request[40..].starts_with(b"file\0") => Ok([longs(&[FILE, 0, 0, 0, 0]), attributes(FILE)].concat()),
        1 => Err(nix::errno::Errno::ENOENT),
        // FUSE_GETATTR
        3 => Ok([longs(&[0, 0]), attributes(node)].concat()),
        // FUSE_OPEN, with FOPEN_DIRECT_IO: reads do not go through the page cache, where they could
        // be interrupted.
        14 => Ok([longs(&[0]), words(&[1, 0])].concat()),
        // FUSE_READ
        15 => {
            is_read.store(true, Ordering::Relaxed);
            return None;
        }
        // FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET
        2 | 36 | 42 => return None,
        // FUSE_INIT: version 7.31, and writes of a page.
        26 => Ok([words(&[7, 31, 0, 0, 0, 4096, 1]), vec![0; 36]].concat()),
        // FUSE_FLUSH, FUSE_RELEASE
        25 | 18 => Ok(Vec::new()),
        _ => Err(nix::errno::Errno::ENOSYS),
    };
    let error = body.as_ref().err().map_or(0, |error| -(*error as i32));
    let body = body.unwrap_or_default();
    Some([words(&[16 + body.len() as u32, error as u32]), longs(&[unique]), body].concat())
}

fn is_done(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
