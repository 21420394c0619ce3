//! The folder of a rank on this machine: as that of the job in the daemon's state folder, with the
//! files that the rank needs.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Status;

use super::{AGAIN, Client, Stopped, is_final};
use crate::beneath::present;
use crate::job::JobId;
use crate::job::order::Order;
use crate::journal::{FileLock, JobFolder, is_held};
use crate::proto::v1;

/// Bytes of a file that are asked for at once: a mailbox has them as one file.
const RANGE: u64 = 32 << 20;
/// The beginning of the names of these folders.
const NAMED: &str = "torchd-";
/// The lock of the outpost, in its folder.
const LOCK: &str = "outpost.lock";
/// The host and the boot of an outpost, in its folder: locks of other hosts are not seen on every
/// file system that hosts share.
const HOST: &str = "outpost.host";
/// A file in a folder with something that could not be brought to the daemon.
const KEPT: &str = "not-brought-home";

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct LocalFolder {
    path: PathBuf,
    job: JobFolder,
    rank: JobFolder,
    attempt: u32,
    /// By which others know that somebody uses the folder.
    _lock: Arc<FileLock>,
}

impl LocalFolder {
    /// Makes it. Nothing is in the folder of another outpost.
    pub(super) fn make(place: &Path, id: &JobId, attempt: u32, rank: u32, outpost: u64) -> std::io::Result<Self> {
        fs::create_dir_all(place)?;
        let place = place.canonicalize()?;
        let name = format!("{NAMED}{id}-{attempt}-{rank}-{outpost:016x}");
        // It gets its name once it is locked: what has one and is free was left by somebody.
        let (path, aside) = (place.join(&name), place.join(format!(".{name}")));
        fs::create_dir(&aside)?;
        let lock = FileLock::take(&aside.join(LOCK))?.ok_or_else(|| std::io::Error::other("somebody has its lock"))?;
        fs::write(aside.join(HOST), host()?)?;
        fs::rename(&aside, &path)?;
        let job = JobFolder::new(path.join("job"));
        for folder in [job.path().join("attempts"), job.tensorboard(), job.checkpoints(), job.artifacts()] {
            fs::create_dir_all(folder)?;
        }
        job.make_rank_folders(rank + 1)?;
        let rank = if rank == 0 { job.clone() } else { job.rank(rank) };
        Ok(Self { path, job, rank, attempt, _lock: Arc::new(lock) })
    }

    /// The attempt.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The folder of the outpost.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the job.
    pub(super) fn job(&self) -> &JobFolder {
        &self.job
    }

    /// The folder of the rank: that of the job for the first one.
    pub(super) fn rank(&self) -> &JobFolder {
        &self.rank
    }

    /// The lock by which shim and runner know that somebody looks after them.
    pub(super) fn lock(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Fetches the files, and writes the order. A file of which nothing comes for `patience` is
    /// given up.
    pub(super) async fn fetch(
        &self,
        client: &mut Client,
        joined: &v1::JoinLaunchResponse,
        order: &Order,
        patience: Duration,
    ) -> Result<(), Stopped> {
        for v1::LaunchFile { path, size_bytes } in &joined.files {
            let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if !is_inside {
                return Err(format!("the daemon names a file {path:?}"));
            }
            let (mut since, mut had) = (Instant::now(), 0);
            // The daemon may be another one by now.
            while let Err(status) = self.fetch_file(client, path, *size_bytes).await? {
                let has = fs::metadata(self.job.path().join(path)).map_or(0, |about| about.len());
                if has > had {
                    (since, had) = (Instant::now(), has);
                }
                if is_final(status.code()) || since.elapsed() > patience {
                    return Err(format!("{path} cannot be fetched: {}", status.message()));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.rank.write_order(order).map_err(|error| format!("the order cannot be written: {error}"))
    }

    /// Fetches what is missing of a file; what the daemon says where it does not give it.
    ///
    /// # Errors
    /// The file cannot be written here, or came otherwise than it was told, in words.
    async fn fetch_file(
        &self,
        client: &mut Client,
        path: &str,
        size_bytes: u64,
    ) -> Result<Result<(), Status>, Stopped> {
        let to = self.job.path().join(path);
        let failed = |error: std::io::Error| format!("{}: {error}", to.display());
        fs::create_dir_all(to.parent().unwrap_or(self.job.path())).map_err(failed)?;
        // A fetch goes on where the one before was cut.
        let mut file = File::options().create(true).append(true).open(&to).map_err(failed)?;
        let mut received = file.metadata().map_err(failed)?.len();
        loop {
            let request = v1::GetLaunchFileRequest { path: path.to_owned(), offset: received, length: RANGE };
            let mut pieces = match client.get_launch_file(request).await {
                Ok(pieces) => pieces.into_inner(),
                Err(status) => return Ok(Err(status)),
            };
            let before = received;
            loop {
                match pieces.message().await {
                    Ok(Some(piece)) => {
                        received += piece.data.len() as u64;
                        file.write_all(&piece.data).map_err(failed)?;
                    }
                    Ok(None) => break,
                    Err(status) => return Ok(Err(status)),
                }
            }
            if received == size_bytes {
                return Ok(Ok(()));
            }
            if received == before || received > size_bytes {
                return Err(format!("{path} came with {received} bytes in place of {size_bytes}"));
            }
        }
    }

    /// Marks it: no other outpost removes it.
    pub(super) fn keep(&self) {
        if let Err(error) = File::create(self.path.join(KEPT)) {
            tracing::warn!(folder = %self.path.display(), %error, "the folder of the rank cannot be marked");
        }
    }

    /// Removes what outposts of this host have left beside it that were killed, in this boot or an
    /// earlier one. What cannot be told, or belongs to others, stays. Blocks.
    pub(super) fn clear_away(&self) {
        let siblings = self.path.parent().map(fs::read_dir);
        for entry in siblings.into_iter().flatten().flatten().flatten().filter(|entry| entry.path() != self.path) {
            let Some((rank, path)) = left_by(&entry.file_name().to_string_lossy()).zip(Some(entry.path())) else {
                continue;
            };
            match remove_left(&path, rank) {
                Ok(true) => tracing::info!(folder = %path.display(), "an outpost was killed; its folder is removed"),
                Ok(false) => {}
                Err(error) => tracing::debug!(folder = %path.display(), %error, "a folder of another outpost stays"),
            }
        }
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        if let Err(error) = crate::beneath::remove_tree(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "the folder of the rank cannot be removed");
        }
    }
}

/// The rank whose folder has that name; None for a name of something else.
fn left_by(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(NAMED)?.rsplitn(4, '-');
    let outpost = parts.next()?;
    let (rank, attempt) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u32>());
    let is_one = outpost.len() == 16 && outpost.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = parts.next()?.parse::<JobId>();
    (is_one && attempt.is_ok() && id.is_ok()).then_some(rank)
}

/// The name of this host, and in the next line the id of its boot.
fn host() -> std::io::Result<String> {
    let name = nix::unistd::gethostname()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{}\n{}\n", name.to_string_lossy(), boot.trim()))
}

/// Removes the folder of an outpost that was killed, once its shim and its runner have ended too;
/// whether it did.
fn remove_left(path: &Path, rank: u32) -> std::io::Result<bool> {
    let about = fs::symlink_metadata(path)?;
    if !about.is_dir() || about.uid() != nix::unistd::Uid::effective().as_raw() || path.join(KEPT).try_exists()? {
        return Ok(false);
    }
    // The boot is for people.
    let left_on = present(fs::read_to_string(path.join(HOST)))?;
    if left_on.as_deref().and_then(|told| told.lines().next()) != Some(host()?.lines().next().unwrap_or_default()) {
        return Ok(false);
    }
    let job = JobFolder::new(path.join("job"));
    let folder = if rank == 0 { job } else { job.rank(rank) };
    let outpost = path.join(LOCK);
    if !outpost.try_exists()? {
        return Ok(false);
    }
    // Held until it is gone, so that one removes it. Both may never have begun.
    let Some(_outpost) = FileLock::take(&outpost)? else { return Ok(false) };
    if is_held(&folder.shim())? || is_held(&folder.lock())? {
        return Ok(false);
    }
    crate::beneath::remove_tree(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_nobody_uses_and_nobody_kept_is_cleared_away() {
        let (place, id) = (tempfile::tempdir().unwrap(), JobId::new(SystemTime::now(), 1));
        let make = |outpost| LocalFolder::make(place.path(), &id, 1, 1, outpost).unwrap();
        let (own, other, left, kept, runs) = (make(1), make(2), make(3), make(4), make(5));
        let paths = [&own, &other, &left, &kept, &runs].map(|folder| folder.path().to_owned());
        kept.keep();
        let runner = FileLock::take(&runs.rank().lock()).unwrap().unwrap();
        drop((left, kept, runs));
        fs::create_dir(place.path().join("torchd-other")).unwrap();
        own.clear_away();
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, true, false, true, true]);
        drop(runner);
        own.clear_away();
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, true, false, true, false]);
        assert!(place.path().join("torchd-other").exists());
    }

    #[test]
    fn folders_of_other_hosts_stay_and_those_of_earlier_boots_of_this_one_do_not() {
        let (place, id) = (tempfile::tempdir().unwrap(), JobId::new(SystemTime::now(), 1));
        let make = |outpost| LocalFolder::make(place.path(), &id, 1, 0, outpost).unwrap();
        let own = make(1);
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let told = [Some(format!("{name}\nan earlier boot\n")), Some(format!("{name}-2\n")), Some(String::new()), None];
        // Nobody holds their locks, or none that is seen here.
        let paths = [(2, &told[0]), (3, &told[1]), (4, &told[2]), (5, &told[3])].map(|(outpost, told)| {
            let path = make(outpost).path().to_owned();
            match told {
                Some(told) => fs::write(path.join(HOST), told).unwrap(),
                None => fs::remove_file(path.join(HOST)).unwrap(),
            }
            path
        });
        own.clear_away();
        assert_eq!(paths.each_ref().map(|path| path.exists()), [false, true, true, true]);
    }
}
