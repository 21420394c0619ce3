//! How much the jobs' folders hold, measured every so often: beyond the limit of the settings no
//! job is taken.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

/// The folders are looked through so often.
const MEASURE_EVERY: Duration = Duration::from_secs(30);

/// Measures until nobody wants to know.
pub(super) async fn measure(jobs_dir: PathBuf, told: watch::Sender<u64>) {
    loop {
        let place = jobs_dir.clone();
        match tokio::task::spawn_blocking(move || size_of(&place)).await.map_err(io::Error::other).flatten() {
            Ok(bytes) => drop(told.send_replace(bytes)),
            Err(error) => tracing::error!(%error, "how much the jobs' folders hold cannot be measured"),
        }
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(MEASURE_EVERY) => {}
        }
    }
}

/// Bytes of all files below a folder. What goes away while we look counts no more.
fn size_of(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(about) if about.is_dir() => bytes += size_of(&entry.path())?,
            Ok(about) => bytes += about.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "1234").unwrap();
        fs::write(folder.path().join("d"), "56").unwrap();
        assert_eq!(size_of(folder.path()).unwrap(), 6);
        assert_eq!(size_of(&folder.path().join("absent")).unwrap(), 0);
    }
}
