//! Processes as the kernel tells of them, by the numbers that the driver tells. In a container
//! those are numbers of the host: then nothing is known of them here.

use std::fs;

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
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    let name =
        if first.is_empty() { fs::read(format!("/proc/{pid}/comm")).unwrap_or_default() } else { first.to_vec() };
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// The process group of a process; None where it is gone, or where its number means nothing here.
pub(super) fn group(pid: u32) -> Option<u32> {
    if !numbers_are_ours() {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state, the parent and the group follow it.
    // (proc_pid_stat(5))
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
