//! Host, operating system, CPUs and memory.

use super::{NodeSource, gpus};
use crate::proto::v1;

/// The node as it is now.
pub(super) fn node(source: &NodeSource, cpus: u32) -> v1::Node {
    let (memory_bytes, memory_available_bytes) = memory(source);
    let uname = nix::sys::utsname::uname().ok();
    let uname = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|name| part(name).to_string_lossy().into_owned()).unwrap_or_default()
    };
    v1::Node {
        hostname: uname(nix::sys::utsname::UtsName::nodename),
        os: os_name(source),
        kernel: uname(nix::sys::utsname::UtsName::release),
        architecture: uname(nix::sys::utsname::UtsName::machine),
        cpu_model: field(&source.file("/proc/cpuinfo").unwrap_or_default(), "model name"),
        cpu_count: cpus,
        memory_bytes,
        memory_available_bytes,
        gpus: gpus::list(source),
        nvidia_driver_version: gpus::driver_version(source),
    }
}

/// Total and available bytes; a limit of the control group counts as the total.
fn memory(source: &NodeSource) -> (u64, u64) {
    let meminfo = source.file("/proc/meminfo").unwrap_or_default();
    let bytes = |name| {
        let value = field(&meminfo, name);
        value.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    match memory_limit(source) {
        Some(limit) if limit < total => (limit, available.min(limit)),
        _ => (total, available),
    }
}

/// The lowest limit of the control groups that we are in: our own and those above it (cgroup v2), or the container's (v1).
fn memory_limit(source: &NodeSource) -> Option<u64> {
    let groups = source.file("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let above = std::path::Path::new(own).ancestors().map(|group| {
        let group = group.display().to_string();
        format!("/sys/fs/cgroup{}/memory.max", group.trim_end_matches('/'))
    });
    let paths = above.chain(["/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()]);
    paths.filter_map(|path| source.file(&path)?.trim().parse().ok()).min()
}

pub(super) fn os_name(source: &NodeSource) -> String {
    let release = source.file("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    name.trim_matches(['"', '\'']).to_owned()
}

/// The value behind `name:` in a file of such lines.
pub(super) fn field(text: &str, name: &str) -> String {
    let find = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(find).unwrap_or_default()
}
