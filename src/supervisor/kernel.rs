//! What the kernel tells of processes, read anew when asked.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

/// Our children, as the kernel lists them.
pub(super) fn children() -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Processes that the kernel has killed because memory ran out: on this machine, and in our control
/// group.
pub(super) fn memory_kills() -> u64 {
    let count = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    };
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let in_group = group.and_then(|group| count(&Path::new("/sys/fs/cgroup").join(group).join("memory.events")));
    count(Path::new("/proc/vmstat")).unwrap_or(0) + in_group.unwrap_or(0)
}
