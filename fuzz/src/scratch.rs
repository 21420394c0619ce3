//! A folder for the files of one run, in memory where there is such a place. The program that
//! fuzzes leaves by `_exit`, so that nothing cleans up behind it: the folder is named by the target
//! and used again by the next run.

use std::fs;
use std::path::{Path, PathBuf};

/// An empty folder of this target and process; what an earlier process of the target has left is
/// removed where nobody works in it.
pub fn folder(target: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let prefix = format!("torchd-fuzz-{target}-");
    for entry in fs::read_dir(&place).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(process) = name.strip_prefix(&prefix)
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = place.join(format!("{prefix}{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}
