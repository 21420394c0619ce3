//! Checkpoints and files of jobs, and fetching them: a download that broke off goes on where it
//! stopped, and what arrived is held against its checksum before it gets its name.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::arguments::DownloadArguments;
use super::connection::Connection;
use super::failure::Failure;
use super::job_commands::name;
use super::output::{Output, tell};
use super::progress::{bar, size};
use super::table;
use crate::proto::v1::{self, download_artifact_response::Part};
use crate::sha256::Sha256;

type Done = Result<ExitCode, Failure>;

/// Lists the checkpoints of a job.
pub(super) async fn checkpoints(connection: Connection, output: Output, job: &str) -> Done {
    let mut all = v1::ListCheckpointsResponse::default();
    loop {
        let request = v1::ListCheckpointsRequest { name: name(job), page_size: 1000, page_token: all.next_page_token };
        let page = connection.jobs().list_checkpoints(request).await?.into_inner();
        all.checkpoints.extend(page.checkpoints);
        all.damaged.extend(page.damaged);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        let row = |saved: &v1::SavedCheckpoint| {
            let metrics: Vec<_> =
                saved.metrics.iter().map(|(tag, value)| format!("{tag} {}", table::number(*value))).collect();
            [
                saved.name.clone(),
                saved.step.to_string(),
                saved.epochs.to_string(),
                size(saved.size_bytes),
                table::time(saved.create_time),
                metrics.join(", "),
            ]
        };
        let rows: Vec<_> = all.checkpoints.iter().map(row).collect();
        let mut text = table::columns(["CHECKPOINT", "STEP", "EPOCHS", "SIZE", "SAVED", "METRICS"], &rows);
        for v1::CheckpointDamaged { path, problem, .. } in &all.damaged {
            text += &format!("damaged: {path}: {problem}\n");
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the files of a job, or fetches one.
pub(super) async fn download(connection: Connection, output: Output, arguments: DownloadArguments) -> Done {
    let DownloadArguments { job, path, to } = arguments;
    match path {
        None => list(connection, output, &job).await,
        Some(path) => {
            let own = Path::new(&path).file_name().map(PathBuf::from);
            let to = to.or(own).ok_or_else(|| Failure::Mistake(format!("{path:?} names no file")))?;
            let job = name(&job);
            match fetch(&connection, output, &format!("{job}/{path}"), &to).await? {
                Some(done) => Ok(done),
                None => fetch_all(&connection, output, &job, path.trim_end_matches('/'), &to).await,
            }
        }
    }
}

/// Fetches all files below a path of a job.
async fn fetch_all(connection: &Connection, output: Output, job: &str, path: &str, to: &Path) -> Done {
    let all = all_of(connection, job).await?;
    let inside = |artifact: &v1::Artifact| {
        within(job, artifact).strip_prefix(path)?.strip_prefix('/').map(|rest| (artifact.name.clone(), to.join(rest)))
    };
    let files: Vec<_> = all.artifacts.iter().filter_map(inside).collect();
    if files.is_empty() {
        return Err(missing(job, path, &all));
    }
    for (name, to) in files {
        let parent = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)
            .map_err(|error| Failure::Other(format!("{} cannot be made: {error}", parent.display())))?;
        if fetch(connection, output, &name, &to).await?.is_none() {
            return Err(Failure::Other(format!("{name} was removed meanwhile; ask again")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(connection: Connection, output: Output, job: &str) -> Done {
    let name = name(job);
    let all = all_of(&connection, &name).await?;
    output.print(&all, |all| {
        let row = |artifact: &v1::Artifact| {
            [within(&name, artifact).to_owned(), size(artifact.size_bytes), table::time(artifact.update_time)]
        };
        let rows: Vec<_> = all.artifacts.iter().map(row).collect();
        table::columns(["FILE", "SIZE", "WRITTEN"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The path of a file within its job.
fn within<'a>(job: &str, artifact: &'a v1::Artifact) -> &'a str {
    artifact.name.strip_prefix(job).and_then(|path| path.strip_prefix('/')).unwrap_or(&artifact.name)
}

/// Why a file that a job does not have cannot be fetched, with the one that may be meant.
fn missing(job: &str, path: &str, all: &v1::ListArtifactsResponse) -> Failure {
    let ending = format!("/{path}");
    let meant = all.artifacts.iter().map(|artifact| within(job, artifact)).find(|found| found.ends_with(&ending));
    Failure::Other(match meant {
        Some(meant) => format!("{job} has no file {path:?}; did you mean {meant}?"),
        None => format!("{job} has no file {path:?}; `torchctl download {job}` lists its files"),
    })
}

/// All files of a job.
async fn all_of(connection: &Connection, name: &str) -> Result<v1::ListArtifactsResponse, Failure> {
    let mut all = v1::ListArtifactsResponse::default();
    loop {
        let request =
            v1::ListArtifactsRequest { name: name.to_owned(), page_size: 1000, page_token: all.next_page_token };
        let page = connection.jobs().list_artifacts(request).await?.into_inner();
        all.artifacts.extend(page.artifacts);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    Ok(all)
}

/// Fetches a file into one beside its place, and moves it there once it is whole and right; None
/// where there is no such file.
async fn fetch(connection: &Connection, output: Output, name: &str, to: &Path) -> Result<Option<ExitCode>, Failure> {
    let cannot = |error: io::Error| Failure::Other(format!("{} cannot be written: {error}", to.display()));
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut digest = Sha256::default();
    let mut have = match File::open(&part) {
        Ok(mut begun) => io::copy(&mut begun, &mut digest).map_err(cannot)?,
        Err(_) => 0,
    };
    let mut stream = match begin(connection, name, have).await {
        // The part that is there is longer than the file is now: another file.
        Err(status) if status.code() == tonic::Code::OutOfRange => {
            (have, digest) = (0, Sha256::default());
            begin(connection, name, 0).await?
        }
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
        other => other?,
    };
    let file = OpenOptions::new().write(true).create(true).truncate(have == 0).open(&part).map_err(cannot)?;
    let mut file = io::BufWriter::new(file);
    io::Seek::seek(&mut file, io::SeekFrom::Start(have)).map_err(cannot)?;
    let mut about = v1::Artifact::default();
    let bar = bar(output);
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            // A status of the daemon has no source; a fault of the connection has one.
            Err(status) if status.source().is_some() => {
                bar.abandon();
                file.flush().map_err(cannot)?;
                tell(&format!(
                    "{name} broke off after {have} bytes of {}; the same command fetches the rest",
                    about.size_bytes
                ));
                return Err(connection.lost(&status));
            }
            Err(status) => return Err(status.into()),
        };
        match message.part {
            Some(Part::Artifact(artifact)) => {
                bar.set_length(artifact.size_bytes);
                bar.set_position(have);
                about = artifact;
            }
            Some(Part::Data(data)) => {
                file.write_all(&data).map_err(cannot)?;
                digest.update(&data);
                have += data.len() as u64;
                bar.set_position(have);
            }
            None => {}
        }
    }
    bar.finish_and_clear();
    file.into_inner().map_err(|error| cannot(error.into_error()))?.sync_all().map_err(cannot)?;
    let found = digest.finish();
    if found != about.sha256 || have != about.size_bytes {
        // Another file of this name was begun earlier; the next try starts anew.
        fs::remove_file(&part).map_err(cannot)?;
        let told =
            format!("{have} bytes of {}, with the checksum {found} instead of {}", about.size_bytes, about.sha256);
        return Err(Failure::Other(format!("{name} did not arrive as it is there: {told}; ask again")));
    }
    fs::rename(&part, to).map_err(cannot)?;
    output.print(&about, |about| format!("{}: {}, sha256 {}\n", to.display(), size(about.size_bytes), about.sha256))?;
    Ok(Some(ExitCode::SUCCESS))
}

async fn begin(
    connection: &Connection,
    name: &str,
    offset_bytes: u64,
) -> Result<tonic::Streaming<v1::DownloadArtifactResponse>, tonic::Status> {
    let request = v1::DownloadArtifactRequest { name: name.to_owned(), offset_bytes };
    Ok(connection.jobs().download_artifact(request).await?.into_inner())
}
