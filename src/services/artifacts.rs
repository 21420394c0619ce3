//! ListCheckpoints, ListArtifacts and DownloadArtifact: what a job has left in its folder.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, try_unfold};
use tonic::{Response, Status};

use super::clients::{Clients, Hold, Room};
use super::jobs::job_id;
use super::{paging, status};
use crate::gate::Wanted;
use crate::job::JobId;
use crate::journal::{
    self, Checkpoint, Damaged, JobFolder, PROGRAM, ProgramCheckpoint, ProgramCheckpoints, Survey, open_artifact,
};
use crate::manager::Manager;
use crate::proto::v1::{self, download_artifact_response::Part};
use crate::sha256::Sha256;

/// Bytes of a file in a message.
const PIECE_BYTES: usize = 64 << 10;
/// Approximate bytes of a checkpoint and of a file in a list.
const CHECKPOINT_BYTES: usize = 1024;
const ARTIFACT_BYTES: usize = 512;
/// Files of a program's checkpoint in a list of checkpoints, and approximate bytes of such a
/// checkpoint.
const MOST_FILES_TOLD: usize = 50;
const PROGRAM_CHECKPOINT_BYTES: usize = MOST_FILES_TOLD * ARTIFACT_BYTES;

/// The messages of a file.
pub(super) type Download = Pin<Box<dyn Stream<Item = Result<v1::DownloadArtifactResponse, Status>> + Send>>;

/// The checkpoints of a job, newest first. A token is the step of the last one that was told.
pub(super) async fn checkpoints(
    manager: &Manager,
    clients: &Clients,
    request: v1::ListCheckpointsRequest,
) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
    let (id, folder) = folder_of(manager, &request.name).await?;
    let size = paging::size(request.page_size, 100, 1000)?;
    if manager.get(&id).await.map_err(status::of)?.job.spec.program().is_some() {
        return of_program(id, folder, clients, size, &request.page_token).await;
    }
    let before: Option<u64> = paging::token(&request.page_token)?;
    // The first page tells of all that are damaged; no other looks at more than it holds.
    let most = if before.is_none() { usize::MAX } else { size + 1 };
    let look = move |wanted: &Wanted| Survey::before(&folder, before, most, wanted);
    let (found, room) = clients.read_into(size * CHECKPOINT_BYTES, look).await?;
    let Survey { whole: mut page, damaged } = found.map_err(failed)?;
    let is_more = page.len() > size;
    page.truncate(size);
    let next = page.last().filter(|_| is_more).map(|last| last.step().to_string());
    Ok(Hold::from(room).of(v1::ListCheckpointsResponse {
        checkpoints: page.iter().map(|checkpoint| saved(&id, checkpoint)).collect(),
        next_page_token: next.unwrap_or_default(),
        damaged: damaged.iter().filter(|_| before.is_none()).map(Damaged::to_proto).collect(),
    }))
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

/// The checkpoints of a program, the highest step first. A token is the step and the path of the
/// last one that was told.
async fn of_program(
    id: JobId,
    folder: JobFolder,
    clients: &Clients,
    size: usize,
    token: &str,
) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
    let after: Option<After> = paging::token(token)?;
    let look = move |wanted: &Wanted| -> io::Result<_> {
        let (mut checkpoints, mut next_page_token) = (Vec::new(), String::new());
        for checkpoint in ProgramCheckpoints::read(&folder)?.by_step() {
            wanted.check()?;
            if after.as_ref().is_some_and(|After(after)| checkpoint >= after) {
                continue;
            }
            // The program may have removed it.
            let Some((files, _)) = checkpoint.files(&folder)? else { continue };
            if checkpoints.len() == size {
                next_page_token = checkpoints.last().map(After::token).unwrap_or_default();
                break;
            }
            checkpoints.push((checkpoint.clone(), files));
        }
        let checkpoints = checkpoints.into_iter().map(|(checkpoint, files)| reported(&id, &checkpoint, files));
        Ok(v1::ListCheckpointsResponse { checkpoints: checkpoints.collect(), next_page_token, damaged: Vec::new() })
    };
    let (found, room) = clients.read_into(size.min(ProgramCheckpoints::MOST) * PROGRAM_CHECKPOINT_BYTES, look).await?;
    Ok(Hold::from(room).of(found.map_err(failed)?))
}

/// Where a page of a program's checkpoints begins: behind this one.
struct After(ProgramCheckpoint);

impl After {
    fn token((checkpoint, _): &(ProgramCheckpoint, Vec<journal::Artifact>)) -> String {
        format!("{} {}", checkpoint.step, checkpoint.path)
    }
}

impl std::str::FromStr for After {
    type Err = ();

    fn from_str(token: &str) -> Result<Self, ()> {
        let (step, path) = token.split_once(' ').ok_or(())?;
        Ok(Self(ProgramCheckpoint { step: step.parse().map_err(drop)?, path: path.to_owned() }))
    }
}

fn reported(id: &JobId, checkpoint: &ProgramCheckpoint, files: Vec<journal::Artifact>) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        name: format!("{}/{PROGRAM}/{}", id.name(), checkpoint.path),
        step: checkpoint.step,
        epochs: 0,
        create_time: files.iter().map(|file| file.updated).max().map(Into::into),
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        metrics: Default::default(),
        files: files.into_iter().take(MOST_FILES_TOLD).map(|file| message(id, file)).collect(),
    }
}

/// The files of a job, by path. A token is the path of the last one that was told.
pub(super) async fn list(
    manager: &Manager,
    clients: &Clients,
    request: v1::ListArtifactsRequest,
) -> Result<Response<v1::ListArtifactsResponse>, Status> {
    let (id, folder) = folder_of(manager, &request.name).await?;
    let size = paging::size(request.page_size, 100, 1000)?;
    let look = move |wanted: &Wanted| journal::artifacts_after(&folder, &request.page_token, size + 1, wanted);
    let (page, room) = clients.read_into(size * ARTIFACT_BYTES, look).await?;
    let mut page = page.map_err(failed)?;
    let is_more = page.len() > size;
    page.truncate(size);
    let next_page_token = page.last().filter(|_| is_more).map(|last| last.path.clone()).unwrap_or_default();
    let artifacts = page.into_iter().map(|artifact| message(&id, artifact)).collect();
    Ok(Hold::from(room).of(v1::ListArtifactsResponse { artifacts, next_page_token }))
}

fn message(id: &JobId, artifact: journal::Artifact) -> v1::Artifact {
    v1::Artifact {
        name: format!("{}/{}", id.name(), artifact.path),
        size_bytes: artifact.size_bytes,
        update_time: Some(artifact.updated.into()),
        sha256: artifact.sha256.unwrap_or_default(),
    }
}

/// A file in pieces, from a byte on. Each is read when its client takes the message before.
pub(super) async fn download(
    manager: &Manager,
    clients: Clients,
    request: v1::DownloadArtifactRequest,
) -> Result<Response<Download>, Status> {
    let v1::DownloadArtifactRequest { name, offset_bytes } = request;
    let parts = name.strip_prefix("jobs/").and_then(|rest| rest.split_once('/'));
    let Some((id, path)) = parts else {
        let found = format!("is {name:?}; jobs/{{id}}/ and a path are needed, as ListArtifacts tells them");
        return Err(status::invalid_field("name", found));
    };
    let (id, path) = (format!("jobs/{id}"), path.to_owned());
    let (_, folder) = folder_of(manager, &id).await?;
    let missing = || {
        let message = format!("{id} has no file {path:?}; ListArtifacts tells which there are");
        status::not_found("torchd.v1.Artifact", &name, message)
    };
    let asked = path.clone();
    // The file that is open stays the same, whatever becomes of its name.
    let opened = clients.sum_into(PIECE_BYTES, move |wanted| -> io::Result<_> {
        let mut file = open_artifact(&folder, &asked)?;
        let about = file.metadata()?;
        let sha256 = Sha256::of_reader(&mut wanted.reads((&mut file).take(about.len())))?;
        Ok((file, about, sha256))
    });
    let (opened, room) = opened.await?;
    let (file, about, sha256) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(status::of_io(&format!("{name} cannot be read"), &error)),
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
    let hold = Hold::default();
    let reader = Reader {
        clients,
        name,
        file: Arc::new(file),
        told: Some((told, room)),
        from: offset_bytes,
        size,
        hold: hold.clone(),
    };
    Ok(hold.of(Box::pin(try_unfold(reader, Reader::next))))
}

/// How far a file was sent.
struct Reader {
    clients: Clients,
    name: String,
    file: Arc<File>,
    /// None once it was sent. Its room is that of a piece, which bounds the files that are open.
    told: Option<(v1::Artifact, Room)>,
    from: u64,
    size: u64,
    /// Room for the message that comes next.
    hold: Hold,
}

impl Reader {
    /// The next message; None after the last.
    async fn next(mut self) -> Result<Option<(v1::DownloadArtifactResponse, Self)>, Status> {
        let part = |part| v1::DownloadArtifactResponse { part: Some(part) };
        if let Some((told, room)) = self.told.take() {
            self.hold.put(room);
            return Ok(Some((part(Part::Artifact(told)), self)));
        }
        let wanted = (self.size - self.from).min(PIECE_BYTES as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let (file, from) = (self.file.clone(), self.from);
        let read = self.clients.read_into(wanted, move |_| {
            let mut data = vec![0; wanted];
            file.read_exact_at(&mut data, from).map(|()| data)
        });
        let (data, room) = read.await?;
        let data = data.map_err(|error| {
            let what = format!("{} cannot be read on", self.name);
            match error.kind() {
                // It was cut while we read: what the client has does not have the checksum.
                io::ErrorKind::UnexpectedEof => {
                    status::plain(tonic::Code::Aborted, "ARTIFACT_CHANGED", format!("{what}: {error}"))
                }
                _ => status::of_io(&what, &error),
            }
        })?;
        self.hold.put(room);
        self.from += wanted as u64;
        Ok(Some((part(Part::Data(data)), self)))
    }
}

async fn folder_of(manager: &Manager, name: &str) -> Result<(JobId, JobFolder), Status> {
    let id = job_id(name)?;
    manager.get(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    Ok((id, folder))
}

fn failed(error: io::Error) -> Status {
    status::of_io("the job's folder cannot be read", &error)
}
