//! ListScalarTags and ReadScalars: both read the journal, which is the truth for scalars, by its
//! index.

use tonic::{Response, Status};

use super::clients::{Clients, Hold};
use super::{paging, status};
use crate::journal::{JobFolder, JournalError, JournalIndex};
use crate::proto::v1;

/// Approximate bytes of a tag and of a point in an answer.
const TAG_BYTES: usize = 256;
const POINT_BYTES: usize = 80;

/// The tags of a job, by name. A token is the last one that was told.
pub(super) async fn tags(
    clients: &Clients,
    folder: JobFolder,
    request: v1::ListScalarTagsRequest,
) -> Result<Response<v1::ListScalarTagsResponse>, Status> {
    let size = paging::size(request.page_size, 100, 1000)?;
    let journals = clients.journals.clone();
    let read = clients.scan_into(size * TAG_BYTES, move |wanted| {
        journals.look(&folder, wanted, |index, damage| match damage {
            // The numbers would be those of a part.
            Some(damage) => Err(damage),
            None => Ok(index.tags_after(&request.page_token).take(size + 1).cloned().collect::<Vec<_>>()),
        })?
    });
    let (tags, room) = read.await?;
    let mut tags = tags.map_err(status::of_journal)?;
    let is_more = tags.len() > size;
    tags.truncate(size);
    let next_page_token = tags.last().filter(|_| is_more).map(|last| last.tag.clone()).unwrap_or_default();
    Ok(Hold::from(room).of(v1::ListScalarTagsResponse { tags, next_page_token }))
}

/// The points of a tag, by step. A token is the number of the last record that was told.
pub(super) async fn points(
    clients: &Clients,
    folder: JobFolder,
    request: v1::ReadScalarsRequest,
) -> Result<Response<v1::ReadScalarsResponse>, Status> {
    let v1::ReadScalarsRequest { name, tag, page_size, page_token } = request;
    let size = paging::size(page_size, 1000, 50_000)?;
    let after: u64 = paging::token(&page_token)?.unwrap_or(0);
    if tag.is_empty() {
        return Err(status::invalid_field("tag", "is missing; ListScalarTags tells which there are"));
    }
    let (journals, wanted_tag) = (clients.journals.clone(), tag.clone());
    let read = clients.scan_into(size * POINT_BYTES, move |wanted| {
        let look = |index: &JournalIndex, damage: Option<JournalError>| match (index.span(&wanted_tag, after), damage) {
            (Some(span), None) => Ok(Ok(Some(span))),
            (Some(span), Some(_)) => Ok(Ok(Some(span.to_damage()))),
            (None, Some(damage)) => Err(damage),
            // A later attempt has taken back what the page before told.
            (None, None) if after > 0 => Ok(Ok(None)),
            (None, None) => Ok(Err(index.tags_after("").map(|known| known.tag.clone()).collect::<Vec<_>>())),
        };
        match journals.look(&folder, wanted, look)?? {
            Ok(Some(span)) => span.read(size, wanted).map(Ok),
            Ok(None) => Ok(Ok((Vec::new(), None))),
            Err(known) => Ok(Err(known)),
        }
    });
    let (points, room) = read.await?;
    let (points, next) = points.map_err(status::of_journal)?.map_err(|known| {
        let has = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let message = format!("{name} has written no scalar {tag:?}; it has {has}");
        status::not_found("torchd.v1.ScalarTag", &format!("{name}/scalars/{tag}"), message)
    })?;
    let next_page_token = next.map(|next| next.to_string()).unwrap_or_default();
    Ok(Hold::from(room).of(v1::ReadScalarsResponse { points, next_page_token }))
}
