//! The processes of a program, and the memory of all of them.

use std::fs;
use std::os::unix::process::parent_id;

/// Processes that are counted.
const MOST_PROCESSES: u64 = 1 << 17;

/// The processes of a program, as they are found from its first one on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    /// The first process of the program.
    program: u32,
    /// Our parent, which also gets the processes whose parents have ended.
    shim: u32,
}

/// The share of the machine that they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Memory of their own: pages of files do not count, and pages that several of them share count
    /// for each.
    pub bytes: u64,
    /// How many they are; their threads do not count.
    pub processes: u64,
}

impl Tree {
    /// Those of a program that was started by this process.
    pub(super) fn of(program: u32) -> Self {
        Self { program, shim: parent_id() }
    }

    /// Their memory and number now. Processes that end or begin meanwhile may be missing.
    pub(super) fn taken(self) -> Taken {
        let ours = std::process::id();
        let mut waiting = vec![self.program];
        // Without our parent nobody knows which processes are left of the program.
        if parent_id() == self.shim {
            waiting.extend(children(self.shim).into_iter().filter(|child| *child != ours));
        }
        let mut taken = Taken::default();
        while let Some(pid) = waiting.pop().filter(|_| taken.processes < MOST_PROCESSES) {
            taken.processes += 1;
            taken.bytes += own_bytes(pid);
            waiting.extend(children(pid));
        }
        taken
    }
}

/// The children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
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
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        // Nobody is our shim: what else our parent has started is not ours.
        let tree = Tree { program: std::process::id(), shim: 0 };
        let taken = tree.taken();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(taken.processes >= 2 && taken.bytes > own_bytes(std::process::id()) / 2, "{taken:?}");
        assert_eq!(Tree { program: u32::MAX, shim: 0 }.taken(), Taken { bytes: 0, processes: 1 });
    }
}
