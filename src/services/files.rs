//! FileService.

use std::ops::Bound;

use tonic::{Request, Response, Status, Streaming};

use super::bodies::Taken;
use super::clients::{Clients, Hold};
use super::server::file_service_server::FileService;
use super::{access, paging, status};
use crate::gate::Wanted;
use crate::job::Violations;
use crate::proto::v1::{self, upload_file_request::Part};
use crate::uploads::{Begin, Name, Owner, Stored, Upload, UploadError, Uploads};

/// A message of this service may have as many bytes, whatever the settings allow others: the most
/// data, and the fields around it. Clients choose their pieces by the protocol.
pub(super) const MESSAGE_BYTES: usize = (512 << 10) + (16 << 10);
/// Approximate bytes of a file in a list.
const FILE_BYTES: usize = 512;
/// Digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// The service.
pub(super) struct Files {
    uploads: Uploads,
    clients: Clients,
}

impl Files {
    pub(super) fn new(uploads: Uploads, clients: Clients) -> Self {
        Self { uploads, clients }
    }

    async fn begin(&self, owner: Owner, begin: Begin) -> Result<Upload, Status> {
        let uploads = self.uploads.clone();
        self.write(move |wanted| uploads.begin(&owner, begin, wanted)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> Result<T, UploadError> + Send + 'static,
    ) -> Result<T, Status> {
        self.clients.write(work).await?.map_err(status::of_upload)
    }
}

#[tonic::async_trait]
impl FileService for Files {
    async fn upload_file(
        &self,
        request: Request<Streaming<v1::UploadFileRequest>>,
    ) -> Result<Response<v1::UploadedFile>, Status> {
        let owner = access::uploader(&access::caller(&request)?)?;
        let target = access::Target::of(&request);
        let taken = request.extensions().get::<Taken>().cloned().unwrap_or_default();
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|first| first.part);
        let Some(Part::Begin(begin)) = first else {
            return Err(status::invalid_field("begin", "is missing in the first message of the stream"));
        };
        let begin = read(begin)?;
        let name = begin.name.clone();
        target.tell(name.as_str());
        let mut upload = self.begin(owner, begin).await?;
        taken.mark();
        while let Some(message) = parts.message().await? {
            let data = match message.part {
                Some(Part::Data(data)) if !data.is_empty() => data,
                Some(Part::Data(_)) | None => return Err(status::invalid_field("data", "is empty")),
                Some(Part::Begin(_)) => {
                    return Err(status::invalid_field("begin", "is set in a message after the first"));
                }
            };
            upload = self.write(move |_| upload.write(&data).map(|()| upload)).await?;
            taken.mark();
        }
        let (stored, _) = match upload.is_whole() {
            true => self.clients.sum_into(0, move |wanted| upload.finish(wanted)).await?,
            false => self.clients.read_into(0, move |_| upload.pause()).await?,
        };
        Ok(Response::new(message(&name, stored.map_err(status::of_upload)?)))
    }

    async fn list_files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<v1::ListFilesResponse>, Status> {
        let owner = access::uploader(&access::caller(&request)?)?;
        let v1::ListFilesRequest { page_size, page_token } = request.into_inner();
        let size = paging::size(page_size, 100, 1000)?;
        let after = match page_token.is_empty() {
            true => Bound::Unbounded,
            false => {
                let wrong = |_| format!("is {page_token:?}, which no answer of this method has told");
                let last = Name::try_from(page_token.clone()).map_err(wrong);
                Bound::Excluded(last.map_err(|what| status::invalid_field("page_token", what))?)
            }
        };
        let uploads = self.uploads.clone();
        let look = move |wanted: &Wanted| uploads.list(&owner, wanted);
        let (listing, room) = self.clients.scan_into(size * FILE_BYTES, look).await?;
        let mut listing = listing.map_err(status::of_upload)?;
        let used_bytes = listing.used_bytes;
        let rest = listing.files.range_mut((after, Bound::Unbounded));
        let mut page: Vec<_> =
            rest.take(size + 1).map(|(name, stored)| message(name, std::mem::take(stored))).collect();
        let is_more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| is_more).map(|last| last.name.clone()).unwrap_or_default();
        let quota_bytes = self.uploads.limits().quota_bytes;
        Ok(Hold::from(room).of(v1::ListFilesResponse { files: page, next_page_token, used_bytes, quota_bytes }))
    }

    async fn stat_file(&self, request: Request<v1::StatFileRequest>) -> Result<Response<v1::UploadedFile>, Status> {
        let owner = access::uploader(&access::caller(&request)?)?;
        let name = named(request.into_inner().name)?;
        let (uploads, asked) = (self.uploads.clone(), name.clone());
        let (stored, _) = self.clients.sum_into(0, move |wanted| uploads.stat(&owner, &asked, wanted)).await?;
        Ok(Response::new(message(&name, stored.map_err(status::of_upload)?)))
    }

    async fn delete_file(
        &self,
        request: Request<v1::DeleteFileRequest>,
    ) -> Result<Response<v1::DeleteFileResponse>, Status> {
        let owner = access::uploader(&access::caller(&request)?)?;
        access::Target::of(&request).tell(&request.get_ref().name);
        let (uploads, name) = (self.uploads.clone(), named(request.into_inner().name)?);
        self.write(move |_| uploads.delete(&owner, &name)).await?;
        Ok(Response::new(v1::DeleteFileResponse {}))
    }
}

fn named(name: String) -> Result<Name, Status> {
    Name::try_from(name).map_err(|what| status::invalid_field("name", what))
}

/// The file that a client is about to send, or all mistakes about it.
fn read(begin: v1::UploadBegin) -> Result<Begin, Status> {
    let v1::UploadBegin { name, size_bytes, sha256, offset_bytes, overwrite } = begin;
    let mut wrong = Violations::default();
    let name = Name::try_from(name).map_err(|what| wrong.add("name", what)).ok();
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != SHA256_DIGITS || !sha256.bytes().all(is_digit) {
        let right = "the SHA-256 of the whole file in lower-case hexadecimal, as sha256sum prints it, is needed";
        wrong.add(
            "sha256",
            if sha256.is_empty() { format!("is missing; {right}") } else { format!("is {sha256:?}; {right}") },
        );
    }
    if offset_bytes > size_bytes {
        wrong.add("offset_bytes", format!("is {offset_bytes}, and size_bytes is {size_bytes}"));
    }
    match name.filter(|_| wrong.0.is_empty()) {
        Some(name) => Ok(Begin { name, size_bytes, sha256, offset_bytes, overwrite }),
        None => Err(status::invalid(&wrong, "begin.")),
    }
}

fn message(name: &Name, stored: Stored) -> v1::UploadedFile {
    let Stored { whole, partial } = stored;
    v1::UploadedFile {
        name: name.as_str().to_owned(),
        size_bytes: whole.as_ref().map(|whole| whole.size_bytes),
        update_time: whole.as_ref().map(|whole| whole.updated.into()),
        sha256: whole.and_then(|whole| whole.sha256).unwrap_or_default(),
        partial: partial.map(|partial| v1::PartialUpload {
            received_bytes: partial.received_bytes,
            size_bytes: partial.size_bytes,
            sha256: partial.sha256,
            expire_time: Some(partial.expires.into()),
        }),
    }
}
