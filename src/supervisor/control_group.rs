//! Control groups of jobs (`man 7 cgroups`): by them the kernel keeps a job, with all that it
//! starts, to its memory. They stand behind the limit that a runner and a host keep by themselves,
//! which ends a job with better words.
//!
//! The shim of an attempt makes the group of its job, puts the runner in, and removes the group
//! when nothing of the job is left. The daemon removes that of an attempt whose shim was killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::job::JobId;
use crate::node::{GroupVersion, JOB_GROUP, NodeSource};

/// The group of the daemon, below the one that its unit gives it. The kernel limits no group whose
/// parent has processes. (Documentation/admin-guide/cgroup-v2.rst, No Internal Process Constraint)
const OF_DAEMON: &str = "daemon";
/// A group is empty within this time after its last process, or the kernel still has something.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);

/// The place for groups of jobs.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    folder: PathBuf,
}

impl ControlGroups {
    /// Finds the place, and tries it out.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn find(node: &NodeSource) -> Result<Self, String> {
        let (version, own) =
            node.memory_group().ok_or("the kernel shows no control group of torchd with a memory controller")?;
        let folder = match (version, own.parent(), own.file_name()) {
            (GroupVersion::V1, ..) => own,
            (GroupVersion::V2, Some(parent), Some(name)) if name == OF_DAEMON => parent.to_owned(),
            (GroupVersion::V2, ..) => {
                return Err(format!(
                    "torchd is in the control group {}; Delegate=memory and DelegateSubgroup={OF_DAEMON} in its unit (systemd 254) \
                     give it one in which it can make others",
                    own.display()
                ));
            }
        };
        let this = Self { folder };
        match this.try_out(version) {
            Ok(()) => Ok(this),
            Err(error) => Err(format!("no control group can be made in {}: {error}", this.folder.display())),
        }
    }

    fn try_out(&self, version: GroupVersion) -> io::Result<()> {
        if version == GroupVersion::V2 {
            self.make_room()?;
            fs::write(self.folder.join("cgroup.subtree_control"), "+memory")?;
        }
        let trial = Group::make(&self.named(&format!("trial-{}", std::process::id())), 1 << 40)?;
        let entered = trial.entrance().map(drop);
        trial.remove();
        entered
    }

    /// Moves processes that began before the unit had a group for the daemon into that group: the
    /// kernel limits no group whose parent has processes.
    fn make_room(&self) -> io::Result<()> {
        // They may start others meanwhile.
        for _ in 0..10 {
            let left = fs::read_to_string(self.folder.join("cgroup.procs"))?;
            if left.is_empty() {
                break;
            }
            for process in left.lines() {
                let _ = fs::write(self.folder.join(OF_DAEMON).join("cgroup.procs"), process);
            }
        }
        Ok(())
    }

    /// Removes the group of a rank of a job, if there is one that nobody is in.
    pub(super) fn remove(&self, id: &JobId, rank: u32) {
        let _ = fs::remove_dir(self.of(id, rank));
    }

    /// The group of a rank of a job; the first is the whole job mostly.
    pub(super) fn of(&self, id: &JobId, rank: u32) -> PathBuf {
        match rank {
            0 => self.named(id.as_str()),
            _ => self.named(&format!("{}-{rank}", id.as_str())),
        }
    }

    fn named(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{JOB_GROUP}{name}"))
    }
}

/// The group of a job.
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes it, or takes one that is there, with this limit. What does not fit is not swapped.
    pub(super) fn make(path: &Path, bytes: u64) -> io::Result<Self> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let group = Self(path.to_owned());
        let (limit, swap, most) = match path.join("memory.max").exists() {
            true => ("memory.max", "memory.swap.max", "0".to_owned()),
            false => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes.to_string()),
        };
        // A kernel without swap has no such file. In version 1 it limits memory and swap together,
        // which may not be less than memory alone: that of a group that is taken over goes first.
        // (cgroup-v1/memory.rst)
        let swapped = |most: &str| drop(fs::write(path.join(swap), most));
        if swap.contains("memsw") {
            swapped("-1");
        }
        if let Err(error) = fs::write(path.join(limit), bytes.to_string()) {
            group.remove();
            return Err(error);
        }
        swapped(&most);
        Ok(group)
    }

    /// The file by which a process enters.
    pub(super) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Its processes that the kernel has killed because memory ran out; None where it does not
    /// tell.
    pub(super) fn kills(&self) -> Option<u64> {
        let count = |file: &str| {
            let text = fs::read_to_string(self.0.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        count("memory.events").or_else(|| count("memory.oom_control"))
    }

    /// Removes it once it is empty.
    pub(super) fn remove(&self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.0).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            && begun.elapsed() < REMOVE_LIMIT
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Puts the process that calls this into a group.
pub(super) fn enter(mut entrance: &File) -> io::Result<()> {
    entrance.write_all(b"0")
}
