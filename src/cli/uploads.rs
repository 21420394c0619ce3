//! Files for jobs, sent to the daemon: an upload that was interrupted goes on where it stopped. The
//! daemon holds what has arrived against the checksum of what was read here.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use tonic::{Code, Status};

use super::arguments::{FilesCommand, UploadArguments};
use super::connection::{Connection, root};
use super::failure::Failure;
use super::output::Output;
use super::progress::{bar, size};
use super::table;
use crate::proto::v1::{self, upload_file_request::Part};
use crate::sha256::Sha256;

type Done = Result<ExitCode, Failure>;

/// Bytes of a file in a message.
const PIECE_BYTES: usize = 256 << 10;

/// Sends files.
pub(super) async fn upload(connection: Connection, output: Output, arguments: UploadArguments) -> Done {
    let UploadArguments { files, name, overwrite } = arguments;
    if name.is_some() && files.len() > 1 {
        return Err(Failure::Mistake(format!("--as names one file, and {} are given", files.len())));
    }
    for path in &files {
        let own = || path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = name.clone().or_else(own);
        let unnamed = || Failure::Mistake(format!("{} has no name of UTF-8; --as NAME gives one", path.display()));
        send(&connection, output, path, name.ok_or_else(unnamed)?, overwrite).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends a file, or the rest of it; nothing where it is there already.
async fn send(
    connection: &Connection,
    output: Output,
    path: &Path,
    name: String,
    overwrite: bool,
) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::Other(format!("{} cannot be read: {error}", path.display()));
    // Opening a pipe blocks until a process writes to it.
    let about = std::fs::metadata(path).map_err(cannot)?;
    if !about.is_file() {
        let found = if about.is_dir() { "a folder" } else { "a pipe, socket or device" };
        return Err(Failure::Mistake(format!("{} is {found}, and a file is needed", path.display())));
    }
    let mut file = File::open(path).map_err(cannot)?;
    let size_bytes = about.len();
    let bar = bar(output);
    bar.set_length(size_bytes);
    bar.set_message("reading ");
    let sha256 = Sha256::of_reader(&mut bar.wrap_read(&mut file)).map_err(cannot)?;
    let there = stat(connection, &name).await?;
    if there.size_bytes == Some(size_bytes) && there.sha256 == sha256 {
        bar.finish_and_clear();
        return output.print(&there, |there| format!("{}: is there already\n", there.name));
    }
    let same = there.partial.filter(|partial| partial.size_bytes == size_bytes && partial.sha256 == sha256);
    let offset_bytes = same.map_or(0, |partial| partial.received_bytes);
    file.seek(SeekFrom::Start(offset_bytes)).map_err(cannot)?;
    bar.set_message("sending ");
    bar.set_position(offset_bytes);
    bar.reset_eta();
    let begin = v1::UploadBegin { name, size_bytes, sha256, offset_bytes, overwrite };
    let failed = Arc::new(Mutex::new(None));
    let pieces =
        Pieces { begin: Some(begin), file, left: size_bytes - offset_bytes, bar: bar.clone(), failed: failed.clone() };
    let answer = connection.files().upload_file(tokio_stream::iter(pieces)).await;
    bar.finish_and_clear();
    if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(cannot(error));
    }
    let told = answer.map_err(|status| refused(path, status))?.into_inner();
    if let Some(partial) = &told.partial {
        let found = format!("{} of {size_bytes} bytes have arrived", partial.received_bytes);
        return Err(Failure::Other(format!("{}: {found}; the same command goes on from there", path.display())));
    }
    output.print(&told, |told| {
        format!("{}: {}, sha256 {}\n", told.name, size(told.size_bytes.unwrap_or_default()), told.sha256)
    })
}

/// The bytes of a name that are there; none where the daemon knows none.
async fn stat(connection: &Connection, name: &str) -> Result<v1::UploadedFile, Failure> {
    match connection.files().stat_file(v1::StatFileRequest { name: name.to_owned() }).await {
        Ok(told) => Ok(told.into_inner()),
        Err(status) if status.code() == Code::NotFound => Ok(v1::UploadedFile::default()),
        Err(status) => Err(status.into()),
    }
}

/// Why a file was not taken.
fn refused(path: &Path, status: Status) -> Failure {
    match (status.source(), status.code()) {
        (Some(source), _) => {
            let cause = root(source);
            let remedy = "the same command goes on where it stopped";
            Failure::Other(format!("{}: the connection broke: {cause}; {remedy}", path.display()))
        }
        (None, Code::AlreadyExists) => {
            Failure::Other(format!("{}: {}", path.display(), status.message().replace("`overwrite`", "--overwrite")))
        }
        (None, _) => status.into(),
    }
}

/// The messages of a file.
struct Pieces {
    /// None once it is sent.
    begin: Option<v1::UploadBegin>,
    file: File,
    left: u64,
    bar: ProgressBar,
    /// Why the file could not be read on: a stream of requests ends without a word.
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Iterator for Pieces {
    type Item = v1::UploadFileRequest;

    fn next(&mut self) -> Option<v1::UploadFileRequest> {
        if let Some(begin) = self.begin.take() {
            return Some(v1::UploadFileRequest { part: Some(Part::Begin(begin)) });
        }
        let wanted = self.left.min(PIECE_BYTES as u64) as usize;
        if wanted == 0 {
            return None;
        }
        let mut data = vec![0; wanted];
        if let Err(error) = self.file.read_exact(&mut data) {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return None;
        }
        self.left -= wanted as u64;
        self.bar.inc(wanted as u64);
        Some(v1::UploadFileRequest { part: Some(Part::Data(data)) })
    }
}

/// Lists the files, shows one, or removes some.
pub(super) async fn files(connection: Connection, output: Output, command: FilesCommand) -> Done {
    match command {
        FilesCommand::Ls => list(&connection, output).await?,
        FilesCommand::Stat { name } => {
            let told = connection.files().stat_file(v1::StatFileRequest { name }).await?.into_inner();
            output.print(&told, |told| {
                let partial = told.partial.clone().unwrap_or_default();
                table::facts(&[
                    ("name", told.name.clone()),
                    ("size", told.size_bytes.map(|bytes| format!("{bytes} bytes")).unwrap_or_default()),
                    ("written", table::time(told.update_time)),
                    ("sha256", told.sha256.clone()),
                    ("on its way", on_its_way(told)),
                    ("its sha256", partial.sha256),
                    ("expires", table::time(partial.expire_time)),
                ])
            })?;
        }
        FilesCommand::Rm { names } => {
            for name in names {
                let removed = connection.files().delete_file(v1::DeleteFileRequest { name: name.clone() }).await?;
                output.print(&removed.into_inner(), |_| format!("{name}: removed\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How far an upload has come, in words; empty where there is none.
fn on_its_way(file: &v1::UploadedFile) -> String {
    let words = |partial: &v1::PartialUpload| format!("{} of {} bytes", partial.received_bytes, partial.size_bytes);
    file.partial.as_ref().map(words).unwrap_or_default()
}

async fn list(connection: &Connection, output: Output) -> Result<(), Failure> {
    let mut all = v1::ListFilesResponse::default();
    loop {
        let request = v1::ListFilesRequest { page_size: 1000, page_token: all.next_page_token };
        let page = connection.files().list_files(request).await?.into_inner();
        let files = [all.files, page.files].concat();
        all = v1::ListFilesResponse { files, ..page };
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        let row = |file: &v1::UploadedFile| {
            [
                file.name.clone(),
                file.size_bytes.map(size).unwrap_or_default(),
                table::time(file.update_time),
                on_its_way(file),
            ]
        };
        let rows: Vec<_> = all.files.iter().map(row).collect();
        let text = table::columns(["FILE", "SIZE", "WRITTEN", "ON ITS WAY"], &rows);
        format!("{text}{} of {} used\n", size(all.used_bytes), size(all.quota_bytes))
    })
}
