//! Names of event files. TensorBoard reads the files of a folder in the order of their names, so a
//! new file has to sort behind the older ones.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The part of a name that readers look for.
const PREFIX: &str = "events.out.tfevents.";

/// The name of a new file in `folder`: seconds, host, process and a counter, as PyTorch's writer
/// has it. Where a file of this second or of a later one is there already, the next free second is
/// taken: host and process id sort by chance.
pub(super) fn next(folder: &Path, now: SystemTime, host: &str, process: u32) -> io::Result<String> {
    let mut newest = None;
    for entry in folder.read_dir()? {
        newest = newest.max(entry?.file_name().to_str().and_then(seconds));
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let seconds = newest.map_or(now, |newest| now.max(newest.saturating_add(1)));
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    Ok(format!("{PREFIX}{seconds:010}.{host}.{process}.0"))
}

fn seconds(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_sorts_behind_the_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut names = Vec::new();
        for process in [99, 100, 5] {
            let name = next(folder.path(), now, "a/b", process).unwrap();
            std::fs::write(folder.path().join(&name), "").unwrap();
            names.push(name);
        }
        assert_eq!(names[0], "events.out.tfevents.1700000000.a_b.99.0");
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn a_file_of_the_last_second_that_can_be_counted_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(format!("{PREFIX}{}.a.1.0", u64::MAX)), "").unwrap();
        let name = next(folder.path(), SystemTime::now(), "a", 2).unwrap();
        assert_eq!(name, format!("{PREFIX}{}.a.2.0", u64::MAX));
    }
}
