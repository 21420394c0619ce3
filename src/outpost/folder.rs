//! The folder of a rank on this machine: as that of the job in the daemon's state folder, with the
//! files that the rank needs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use tonic::Status;

use super::{AGAIN, CONNECT, Client, Stopped, is_final};
use crate::job::JobId;
use crate::job::order::{Meeting, Order};
use crate::journal::JobFolder;
use crate::proto::v1;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct LocalFolder {
    path: PathBuf,
    job: JobFolder,
    rank: JobFolder,
    attempt: u32,
}

impl LocalFolder {
    /// Makes it. Nothing is in the folder of another outpost.
    pub(super) fn make(place: &Path, id: &JobId, attempt: u32, rank: u32, outpost: u64) -> std::io::Result<Self> {
        fs::create_dir_all(place)?;
        let path = place.canonicalize()?.join(format!("torchd-{id}-{attempt}-{rank}-{outpost:016x}"));
        fs::create_dir(&path)?;
        let job = JobFolder::new(path.join("job"));
        for folder in [job.path().join("attempts"), job.tensorboard(), job.checkpoints(), job.artifacts()] {
            fs::create_dir_all(folder)?;
        }
        job.make_rank_folders(rank + 1)?;
        let rank = if rank == 0 { job.clone() } else { job.rank(rank) };
        Ok(Self { path, job, rank, attempt })
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
        self.path.join("outpost.lock")
    }

    /// Fetches the files, and writes the order.
    pub(super) async fn fetch(
        &self,
        client: &mut Client,
        joined: &v1::JoinLaunchResponse,
        meeting: Option<Meeting>,
    ) -> Result<(), Stopped> {
        for v1::LaunchFile { path, size_bytes } in &joined.files {
            let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if !is_inside {
                return Err(format!("the daemon names a file {path:?}"));
            }
            let begun = Instant::now();
            // The daemon may be another one by now.
            while let Err(status) = self.fetch_file(client, path, *size_bytes).await? {
                if is_final(status.code()) || begun.elapsed() > CONNECT {
                    return Err(format!("{path} cannot be fetched: {}", status.message()));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        let order: Order = serde_json::from_slice(&joined.order).map_err(|error| format!("the order: {error}"))?;
        // The log begins here.
        let order = Order { meeting, log_begins: 0, ..order };
        self.rank.write_order(&order).map_err(|error| format!("the order cannot be written: {error}"))
    }

    /// Fetches a file from its beginning; what the daemon says where it does not give it.
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
        let mut file = File::create(&to).map_err(failed)?;
        let mut pieces = match client.get_launch_file(v1::GetLaunchFileRequest { path: path.to_owned() }).await {
            Ok(pieces) => pieces.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        let mut received = 0;
        loop {
            match pieces.message().await {
                Ok(Some(piece)) => {
                    received += piece.data.len() as u64;
                    if received > size_bytes {
                        break;
                    }
                    file.write_all(&piece.data).map_err(failed)?;
                }
                Ok(None) => break,
                Err(status) => return Ok(Err(status)),
            }
        }
        if received != size_bytes {
            return Err(format!("{path} came with {received} bytes in place of {size_bytes}"));
        }
        Ok(Ok(()))
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        if let Err(error) = crate::beneath::remove_tree(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "the folder of the rank cannot be removed");
        }
    }
}
