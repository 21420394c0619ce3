//! ListCheckpoints, ListArtifacts and DownloadArtifact: what a job has left in its folder.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::jobs::job_id;
use super::{paging, status};
use crate::job::JobId;
use crate::journal::{self, Checkpoint, Damaged, JobFolder, Survey, open_artifact, sha256_of};
use crate::manager::Manager;
use crate::proto::v1::{self, download_artifact_response::Part};

/// Bytes of a file in a message.
const PIECE_BYTES: usize = 256 << 10;
/// Messages that wait for a slow client before reading stops.
const MESSAGES_AHEAD: usize = 4;

type Answer = Result<v1::DownloadArtifactResponse, Status>;

/// The checkpoints of a job, newest first. A token is the step of the last one that was told.
pub(super) async fn checkpoints(
    manager: &Manager,
    request: v1::ListCheckpointsRequest,
) -> Result<v1::ListCheckpointsResponse, Status> {
    let (id, folder) = folder_of(manager, &request.name).await?;
    let size = paging::size(request.page_size, 100, 1000)?;
    let before: u64 = paging::token(&request.page_token)?.unwrap_or(u64::MAX);
    let Survey { whole: found, damaged } = blocking(move || Survey::of(&folder)).await?;
    let is_first_page = request.page_token.is_empty();
    let mut page: Vec<_> = found.iter().filter(|checkpoint| checkpoint.step() < before).take(size + 1).collect();
    let is_more = page.len() > size;
    page.truncate(size);
    let next = page.last().filter(|_| is_more).map(|last| last.step().to_string());
    Ok(v1::ListCheckpointsResponse {
        checkpoints: page.into_iter().map(|checkpoint| saved(&id, checkpoint)).collect(),
        next_page_token: next.unwrap_or_default(),
        damaged: damaged.iter().filter(|_| is_first_page).map(Damaged::to_proto).collect(),
    })
}

fn saved(id: &JobId, checkpoint: &Checkpoint) -> v1::SavedCheckpoint {
    let manifest = &checkpoint.manifest;
    let name = format!("{}/{}", id.name(), JobFolder::checkpoint_name(checkpoint.step()));
    let file = |file: &journal::FileSum| v1::Artifact {
        name: format!("{name}/{}", file.name),
        size_bytes: file.size_bytes,
        update_time: Some(manifest.time.into()),
        sha256: file.sha256.clone(),
    };
    v1::SavedCheckpoint {
        step: checkpoint.step(),
        epochs: u32::try_from(manifest.place.epoch).unwrap_or(u32::MAX),
        create_time: Some(manifest.time.into()),
        size_bytes: manifest.size_bytes(),
        metrics: manifest.metrics.clone(),
        files: manifest.files.iter().map(file).collect(),
        name,
    }
}

/// The files of a job, by path. A token is the path of the last one that was told.
pub(super) async fn list(
    manager: &Manager,
    request: v1::ListArtifactsRequest,
) -> Result<v1::ListArtifactsResponse, Status> {
    let (id, folder) = folder_of(manager, &request.name).await?;
    let size = paging::size(request.page_size, 100, 1000)?;
    let found = blocking(move || journal::artifacts(&folder)).await?;
    let mut page: Vec<_> =
        found.into_iter().filter(|artifact| artifact.path > request.page_token).take(size + 1).collect();
    let is_more = page.len() > size;
    page.truncate(size);
    let next_page_token = page.last().filter(|_| is_more).map(|last| last.path.clone()).unwrap_or_default();
    let message = |artifact: journal::Artifact| v1::Artifact {
        name: format!("{}/{}", id.name(), artifact.path),
        size_bytes: artifact.size_bytes,
        update_time: Some(artifact.updated.into()),
        sha256: artifact.sha256.unwrap_or_default(),
    };
    Ok(v1::ListArtifactsResponse { artifacts: page.into_iter().map(message).collect(), next_page_token })
}

/// A file in pieces, from a byte on.
pub(super) async fn download(
    manager: &Manager,
    request: v1::DownloadArtifactRequest,
) -> Result<ReceiverStream<Answer>, Status> {
    let v1::DownloadArtifactRequest { name, offset_bytes } = request;
    let parts = name.strip_prefix("jobs/").and_then(|rest| rest.split_once('/'));
    let Some((id, path)) = parts else {
        let found = format!("is {name:?}; jobs/{{id}}/ and a path are needed, as ListArtifacts tells them");
        return Err(status::invalid_field("name", found));
    };
    let (id, path) = (format!("jobs/{id}"), path.to_owned());
    let (_, folder) = folder_of(manager, &id).await?;
    let missing = || {
        let message = format!("{id} has no file {path:?} for you; ListArtifacts tells which there are");
        status::not_found("torchd.v1.Artifact", &name, message)
    };
    let asked = path.clone();
    // The file that is open stays the same, whatever becomes of its name.
    let opened = tokio::task::spawn_blocking(move || -> io::Result<_> {
        let mut file = open_artifact(&folder, &asked)?;
        let about = file.metadata()?;
        let sha256 = sha256_of(&mut (&mut file).take(about.len()))?;
        Ok((file, about, sha256))
    });
    let opened = opened.await.map_err(|error| status::internal("INTERNAL", error.to_string()))?;
    let (mut file, about, sha256) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(status::internal("STORAGE_FAILED", format!("{name} cannot be read: {error}"))),
    };
    let size = about.len();
    if offset_bytes > size {
        return Err(status::out_of_range("offset_bytes", format!("is {offset_bytes}, and {name} has {size} bytes")));
    }
    let told = v1::Artifact {
        name: name.clone(),
        size_bytes: size,
        update_time: about.modified().ok().map(Into::into),
        sha256,
    };
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        let part = |part| Ok(v1::DownloadArtifactResponse { part: Some(part) });
        if sender.send(part(Part::Artifact(told))).await.is_err() {
            return;
        }
        let mut left = size - offset_bytes;
        let mut is_placed = false;
        while left > 0 {
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            let read = tokio::task::spawn_blocking(move || -> io::Result<(File, Vec<u8>)> {
                if !is_placed {
                    file.seek(SeekFrom::Start(offset_bytes))?;
                }
                let mut data = vec![0; wanted];
                file.read_exact(&mut data)?;
                Ok((file, data))
            });
            is_placed = true;
            let message = match read.await.map_err(io::Error::other).flatten() {
                Ok((same, data)) => {
                    file = same;
                    left -= data.len() as u64;
                    part(Part::Data(data))
                }
                // It was cut while we read: what the client has does not have the checksum.
                Err(error) => {
                    let words = format!("{name} cannot be read on: {error}");
                    let _ = sender.send(Err(status::plain(tonic::Code::Aborted, "ARTIFACT_CHANGED", words))).await;
                    return;
                }
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn folder_of(manager: &Manager, name: &str) -> Result<(JobId, JobFolder), Status> {
    let id = job_id(name)?;
    manager.get(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    Ok((id, folder))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| status::internal("STORAGE_FAILED", format!("the job's folder cannot be read: {error}")))
}
