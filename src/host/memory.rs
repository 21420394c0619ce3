//! The memory of a program with all of its processes.

use std::fs;

/// Processes that are counted.
const MOST_PROCESSES: usize = 10_000;

/// The memory that a process and its descendants have of their own, in bytes: pages of files do not
/// count, and pages that several of them share count for each.
pub(super) fn of_tree(pid: u32) -> u64 {
    let (mut waiting, mut sum, mut count) = (vec![pid], 0, 0);
    while let Some(pid) = waiting.pop() {
        count += 1;
        if count > MOST_PROCESSES {
            break;
        }
        sum += own_bytes(pid);
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    sum
}

fn own_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    of("RssAnon:") + of("RssShmem:")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn children_are_counted_with_their_parents() {
        let own = own_bytes(std::process::id());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let all = of_tree(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own > 0 && all > 0 && of_tree(u32::MAX) == 0, "{own} {all}");
    }
}
