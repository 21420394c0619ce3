//! Processes as the kernel tells of them, by the numbers that the driver tells. In a container
//! those are numbers of the host: then nothing is known of them here.

use std::fs::{self, File};
use std::io::Read;

use crate::node::process_stat;

/// Bytes that are read of what a process was started with, which may be megabytes: a path has no
/// more.
const MOST_BYTES: u64 = 4096;

/// The number of the first namespace of process ids. (Linux, include/linux/proc_ns.h,
/// PROC_PID_INIT_INO)
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// Whether numbers of processes mean here what they mean to the driver.
pub(super) fn numbers_are_ours() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == FIRST_NAMESPACE)
}

/// The program of a process; empty where it is not known.
pub(super) fn program(pid: u32) -> String {
    if !numbers_are_ours() {
        return String::new();
    }
    // The first word of what it was started with says more than the 15 characters of its name.
    let words = head(&format!("/proc/{pid}/cmdline"));
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = if first.is_empty() { head(&format!("/proc/{pid}/comm")) } else { first.to_vec() };
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// The first bytes of a file; none where it cannot be read.
fn head(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Bytes before a read error are of no use.
    match File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The process group of a process; None where it is gone, or where its number means nothing here.
pub(super) fn group(pid: u32) -> Option<u32> {
    if !numbers_are_ours() {
        return None;
    }
    Some(process_stat(pid).ok()?.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_path_can_have() {
        assert_eq!(head("/dev/zero").len() as u64, MOST_BYTES);
        assert_eq!(head("/proc/self/absent"), b"");
    }

    #[test]
    fn a_process_is_in_its_group() {
        if numbers_are_ours() {
            let ours = nix::unistd::getpgrp().as_raw();
            assert_eq!(group(std::process::id()), u32::try_from(ours).ok());
            assert!(program(std::process::id()).contains("torchd"));
        } else {
            assert_eq!((group(std::process::id()), program(1)), (None, String::new()));
        }
    }
}
