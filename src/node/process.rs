//! A process as the kernel tells of it in `/proc/PID/stat` (`man 5 proc_pid_stat`).

use std::fs;
use std::io;

/// Facts that the kernel tells of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The id of its process group.
    pub group: u32,
    /// When it began, in clock ticks since boot.
    pub start_time: u64,
}

/// Reads what the kernel tells of a process.
///
/// # Errors
/// `NotFound`, or ESRCH where the process ends meanwhile.
pub fn process_stat(pid: u32) -> io::Result<ProcessStat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("{path} has no process group or no start time")))
}

fn parse(text: &str) -> Option<ProcessStat> {
    // The name in parentheses may hold anything. Field 3 follows the last one.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let group = fields.nth(5 - 3)?.parse().ok()?;
    let start_time = fields.nth(22 - 5 - 1)?.parse().ok()?;
    Some(ProcessStat { group, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let text = "7 (a) b) S 1 42 43 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10";
        assert_eq!(parse(text), Some(ProcessStat { group: 42, start_time: 123_456 }));
        assert_eq!(parse("7 (a) S 1 42"), None);
        let ours = process_stat(std::process::id()).unwrap();
        assert_eq!(Ok(ours.group), u32::try_from(nix::unistd::getpgrp().as_raw()));
        assert!(ours.start_time > 0);
    }
}
