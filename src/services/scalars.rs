//! ListScalarTags and ReadScalars: both read the journal, which is the truth for scalars, by its
//! index.

use std::ops::Bound;

use tonic::{Response, Status};

use super::clients::{Clients, Hold};
use super::{paging, status};
use crate::journal::{JobFolder, JournalError};
use crate::proto::v1;

/// What a tag and a point take on their way, about, in bytes.
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
        journals.with(&folder, |index| {
            index.catch_up(wanted)?;
            let behind = (Bound::Excluded(request.page_token), Bound::Unbounded);
            Ok(index.tags().range(behind).take(size + 1).map(|(_, tag)| tag.clone()).collect::<Vec<_>>())
        })
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
        journals.with(&folder, |index| {
            // A damage is met by whoever reads up to it; what stands before it is told.
            if let Err(error @ JournalError::Io(_)) = index.catch_up(wanted) {
                return Err(error);
            }
            let (points, next) = index.points(&wanted_tag, after, size, wanted)?;
            let has_none = points.is_empty() && after == 0;
            Ok((points, next, has_none.then(|| index.tags().keys().cloned().collect::<Vec<_>>())))
        })
    });
    let (points, room) = read.await?;
    let (points, next, known) = points.map_err(status::of_journal)?;
    if let Some(known) = known {
        let has = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let message = format!("{name} has written no scalar {tag:?}; it has {has}");
        return Err(status::not_found("torchd.v1.ScalarTag", &format!("{name}/scalars/{tag}"), message));
    }
    let next_page_token = next.map(|next| next.to_string()).unwrap_or_default();
    Ok(Hold::from(room).of(v1::ReadScalarsResponse { points, next_page_token }))
}
