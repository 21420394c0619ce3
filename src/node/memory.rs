//! The memory that this process and its children can have: the machine's, or less where a control
//! group limits it. And what the kernel has killed for want of it.
//!
//! The groups are those of /proc/self/cgroup and all above them, in version 2 and in version 1
//! (`man 7 cgroups`). Inside a container their paths may lead nowhere; the root of the hierarchy is
//! the container's own group then.

use std::path::{Path, PathBuf};

use super::NodeSource;
use super::machine::field;

/// Memory, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The most that there can be, in bytes; 0 where it is not known.
    pub total_bytes: u64,
    /// Available now, in bytes.
    pub available_bytes: u64,
    /// The file that sets the limit, where a control group does.
    pub limited_by: Option<String>,
}

/// The files of one version of control groups.
struct Version {
    /// Where its hierarchies are mounted.
    mounts: &'static [&'static str],
    limit: &'static str,
    usage: &'static str,
    /// The line of memory.stat with what is given back before anything is refused.
    reclaimable: &'static str,
    /// The file that counts the processes that were killed.
    kills: &'static str,
}

const V2: Version = Version {
    mounts: &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: "inactive_file",
    kills: "memory.events",
};

const V1: Version = Version {
    mounts: &["/sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
    kills: "memory.oom_control",
};

/// Reads it anew.
pub(super) fn read(source: &NodeSource) -> Memory {
    let meminfo = source.file("/proc/meminfo").unwrap_or_default();
    let bytes = |name| field(&meminfo, name).trim_end_matches(" kB").parse::<u64>().unwrap_or(0).saturating_mul(1024);
    let machine = bytes("MemTotal");
    let mut memory = Memory { total_bytes: machine, available_bytes: bytes("MemAvailable"), limited_by: None };
    for (version, folder) in groups(source) {
        let number = |name: &str| source.file(&format!("{folder}/{name}"))?.trim().parse::<u64>().ok();
        // "max" is none in version 2. That of version 1 is more than any machine has.
        let Some(limit) = number(version.limit).filter(|limit| *limit < machine) else { continue };
        let stat = source.file(&format!("{folder}/memory.stat")).unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| line.strip_prefix(version.reclaimable)?.trim().parse().ok());
        let held = number(version.usage).unwrap_or(0).saturating_sub(reclaimable.unwrap_or(0));
        // A group with the higher limit may have less room, as others are in it.
        memory.available_bytes = memory.available_bytes.min(limit.saturating_sub(held));
        if limit < memory.total_bytes {
            memory.total_bytes = limit;
            memory.limited_by = Some(format!("{folder}/{}", version.limit));
        }
    }
    memory
}

/// Processes that the kernel has killed because memory ran out: in the group of our job, which
/// counts its own whatever ran out; without one on this machine, and in our control group.
pub(super) fn kills(source: &NodeSource) -> u64 {
    if let Some(of_job) = job_kills(source) {
        return of_job;
    }
    let in_group =
        groups(source).into_iter().find_map(|(version, folder)| count(source, &format!("{folder}/{}", version.kills)));
    count(source, "/proc/vmstat").unwrap_or(0) + in_group.unwrap_or(0)
}

/// The names of control groups of jobs begin so.
pub const JOB_GROUP: &str = "torchd-job-";

/// Processes of this job that the kernel has killed because the job reached the limit of its
/// control group; None where it has none of its own.
pub(super) fn job_kills(source: &NodeSource) -> Option<u64> {
    let is_of_job =
        |folder: &str| Path::new(folder).file_name().is_some_and(|name| name.to_string_lossy().starts_with(JOB_GROUP));
    let of_job = groups(source).into_iter().filter(|(_, folder)| is_of_job(folder));
    of_job.filter_map(|(version, folder)| count(source, &format!("{folder}/{}", version.kills))).next()
}

/// The count of killed processes in a file.
fn count(source: &NodeSource, path: &str) -> Option<u64> {
    let text = source.file(path)?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// A version of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupVersion {
    /// Each controller has a hierarchy of its own.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The group of this process in which the kernel counts memory, or in version 2 could: in the one
/// above it there is the controller.
pub(super) fn group(source: &NodeSource) -> Option<(GroupVersion, PathBuf)> {
    groups(source).into_iter().find_map(|(version, folder)| {
        let above = Path::new(&folder).parent().unwrap_or(Path::new("")).display();
        let (version, is_counted) = match version.limit == V1.limit {
            true => (GroupVersion::V1, source.file(&format!("{folder}/{}", V1.limit)).is_some()),
            false => {
                let exists = source.path(&folder).join("cgroup.procs").exists();
                let controllers = source.file(&format!("{above}/cgroup.controllers")).unwrap_or_default();
                let has = controllers.split_whitespace().any(|controller| controller == "memory");
                (GroupVersion::V2, exists && has)
            }
        };
        is_counted.then(|| (version, source.path(&folder)))
    })
}

/// The folders of the groups that we are in, the innermost first.
fn groups(source: &NodeSource) -> Vec<(&'static Version, String)> {
    let own = source.file("/proc/self/cgroup").unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        // hierarchy-ID:controller-list:cgroup-path
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => &V2,
            _ if controllers.split(',').any(|controller| controller == "memory") => &V1,
            _ => continue,
        };
        for mount in version.mounts {
            let folders = Path::new(path).ancestors().map(|group| group.display().to_string());
            groups.extend(folders.map(|group| (version, format!("{mount}{}", group.trim_end_matches('/')))));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Environment;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_group_is_the_innermost_in_which_memory_is_counted() {
        let own = |files: &[(&str, &str)]| {
            with(files, |source| {
                let root = source.path("/");
                group(source).map(|(version, path)| (version, path.strip_prefix(root).unwrap().display().to_string()))
            })
        };
        let hybrid = ("proc/self/cgroup", "4:memory:/a/b\n0::/c\n");
        assert_eq!(own(&[hybrid]), None);
        let v1 = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1\n");
        assert_eq!(own(&[hybrid, v1]), Some((GroupVersion::V1, "sys/fs/cgroup/memory/a".into())));
        let unified = ("proc/self/cgroup", "0::/torchd.service/daemon\n");
        // As systemd makes them: the controller is there, and not on for groups below.
        let above = ("sys/fs/cgroup/torchd.service/cgroup.controllers", "cpu memory pids\n");
        let v2 = ("sys/fs/cgroup/torchd.service/daemon/cgroup.procs", "7\n");
        assert_eq!(own(&[unified, above, v2]), Some((GroupVersion::V2, "sys/fs/cgroup/torchd.service/daemon".into())));
        assert_eq!(own(&[unified, (above.0, "cpu pids\n"), v2]), None);
    }

    fn memory(files: &[(&str, &str)]) -> Memory {
        with(files, read)
    }

    fn with<T>(files: &[(&str, &str)], ask: impl Fn(&NodeSource) -> T) -> T {
        let root = tempfile::tempdir().unwrap();
        let host = ("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\n");
        for (path, content) in files.iter().chain([&host]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        ask(&NodeSource::at(root.path().into(), Environment::new(), None))
    }

    #[test]
    fn kills_are_counted_on_the_machine_and_in_the_innermost_group_that_tells() {
        let machine = ("proc/vmstat", "nr_free_pages 1\noom_kill 3\n");
        let events = "low 0\noom 9\noom_kill 4\noom_group_kill 0\n";
        let group = |own| {
            let events = ("sys/fs/cgroup/a/memory.events", events);
            with(&[machine, ("proc/self/cgroup", own), events], kills)
        };
        assert_eq!((group("0::/a\n"), group("0::/a/b\n"), group("0::/c\n")), (7, 7, 3));
        let control = ("sys/fs/cgroup/memory/a/memory.oom_control", "under_oom 0\noom_kill 5\n");
        assert_eq!(with(&[machine, ("proc/self/cgroup", "4:memory:/a\n"), control], kills), 8);
        assert_eq!(with(&[], kills), 0);
        let own = ("sys/fs/cgroup/torchd-job-1/memory.events", events);
        let of_job = with(&[machine, ("proc/self/cgroup", "0::/torchd-job-1\n"), own], kills);
        assert_eq!(of_job, 4, "those of other jobs are not ours");
    }

    #[test]
    fn the_lowest_limit_of_the_groups_counts_with_what_they_hold_already() {
        let none = memory(&[("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")]);
        assert_eq!((none.total_bytes, none.available_bytes, none.limited_by), (64 * GIB, 32 * GIB, None));

        let nested = memory(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", &(8 * GIB).to_string()),
            ("sys/fs/cgroup/a/memory.current", &(5 * GIB).to_string()),
            ("sys/fs/cgroup/a/memory.stat", &format!("anon 7\ninactive_file {GIB}\n")),
            ("sys/fs/cgroup/a/b/memory.max", &(16 * GIB).to_string()),
        ]);
        assert_eq!((nested.total_bytes, nested.available_bytes), (8 * GIB, 4 * GIB));
        assert_eq!(nested.limited_by.as_deref(), Some("/sys/fs/cgroup/a/memory.max"));

        let crowded = memory(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", &(8 * GIB).to_string()),
            ("sys/fs/cgroup/a/memory.current", &(7 * GIB).to_string()),
            ("sys/fs/cgroup/a/b/memory.max", &(4 * GIB).to_string()),
        ]);
        assert_eq!((crowded.total_bytes, crowded.available_bytes), (4 * GIB, GIB));
    }

    #[test]
    fn version_1_is_read_by_its_path_and_in_a_container_by_its_root() {
        let of = |folder: &str| {
            memory(&[
                ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/1f\n0::/\n"),
                (&format!("sys/fs/cgroup/memory{folder}/memory.limit_in_bytes"), &(2 * GIB).to_string()),
                (&format!("sys/fs/cgroup/memory{folder}/memory.usage_in_bytes"), &GIB.to_string()),
                (&format!("sys/fs/cgroup/memory{folder}/memory.stat"), "total_inactive_file 1024\n"),
            ])
        };
        for folder in ["/docker/1f", "/docker", ""] {
            let found = of(folder);
            assert_eq!((found.total_bytes, found.available_bytes), (2 * GIB, GIB + 1024), "{folder}");
        }
        let unlimited = memory(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(unlimited.total_bytes, 64 * GIB);
    }
}
