//! Host, operating system, and CPUs.

use super::memory::{self, Memory};
use super::{NodeSource, gpus};
use crate::proto::v1;

/// The node as it is now.
pub(super) fn node(source: &NodeSource, cpus: u32) -> v1::Node {
    let Memory { total_bytes, available_bytes, limited_by: _ } = memory::read(source);
    let uname = nix::sys::utsname::uname().ok();
    let uname = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|name| part(name).to_string_lossy().into_owned()).unwrap_or_default()
    };
    v1::Node {
        hostname: uname(nix::sys::utsname::UtsName::nodename),
        os: os_name(source),
        kernel: uname(nix::sys::utsname::UtsName::release),
        architecture: uname(nix::sys::utsname::UtsName::machine),
        cpu_model: cpu_model(source),
        cpu_count: cpus,
        memory_bytes: total_bytes,
        memory_available_bytes: available_bytes,
        gpus: gpus::list(source),
        nvidia_driver_version: gpus::driver_version(source),
    }
}

pub(super) fn cpu_model(source: &NodeSource) -> String {
    field(&source.file("/proc/cpuinfo").unwrap_or_default(), "model name")
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
