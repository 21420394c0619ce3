//! Disks of their own for state folders, where the machine lets us mount some: a small one, and one
//! that dies.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Room for a round and not for much more.
const SIZE: &str = "size=64m";

/// A file system in memory, mounted as long as this lives.
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// # Errors
    /// Why none can be mounted.
    pub(crate) fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "torchd-chaos"]).arg(folder.path()))?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that is left. May be called again.
    pub(crate) fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still be in there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// The output of a program, or the reason why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{:?}: {}", command.get_program(), words.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A file system in a file, which can be made to fail as one on a dying disk does.
#[allow(dead_code, reason = "not every program of the tests lets a disk die")]
pub(crate) struct DyingDisk {
    folder: tempfile::TempDir,
    device: String,
}

#[allow(dead_code, reason = "not every program of the tests lets a disk die")]
impl DyingDisk {
    /// # Errors
    /// Why none can be made, for example because there are no loop devices for us.
    pub(crate) fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
        let disk = Self { folder, device };
        disk.attach().map(|_| disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn attach(&self) -> Result<String, String> {
        run(Command::new("mount").args(["-o", "errors=remount-ro", &self.device]).arg(self.path()))
    }

    /// The kernel finds an error on it: from now on nothing can be written, and what was not synced
    /// is gone.
    pub(crate) fn fail(&self) {
        let name = self.device.rsplit('/').next().unwrap();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }

    /// It takes no more writes until what this returns is dropped: who writes has to wait.
    pub(crate) fn stop(&self) -> Stopped {
        // Also where the test is killed meanwhile: who waits for a disk cannot even be killed.
        let again = format!("sleep 120; exec fsfreeze --unfreeze '{}'", self.path().display());
        let guard = Command::new("setsid").args(["sh", "-c", &again]).stderr(Stdio::null()).spawn().unwrap();
        let stopped = Stopped { disk: self.path(), guard };
        assert!(stopped.freeze("--freeze"), "it cannot be stopped");
        stopped
    }

    /// Somebody mends it. Nobody may use it meanwhile.
    pub(crate) fn mend(&self) {
        assert!(Command::new("umount").arg(self.path()).status().unwrap().success(), "somebody uses it");
        Command::new("e2fsck")
            .args(["-fy", &self.device])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        self.attach().expect("it can be mounted again");
    }
}

/// A disk that takes no writes.
#[allow(dead_code, reason = "not every program of the tests stops a disk")]
pub(crate) struct Stopped {
    disk: PathBuf,
    guard: Child,
}

impl Stopped {
    fn freeze(&self, how: &str) -> bool {
        Command::new("fsfreeze").arg(how).arg(&self.disk).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.freeze("--unfreeze");
        // With its sleep: it leads a group.
        let group = nix::unistd::Pid::from_raw(self.guard.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.guard.wait();
    }
}

impl Drop for DyingDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}
