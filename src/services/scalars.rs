//! ListScalarTags and ReadScalars: both read the journal, which is the truth for scalars.

use std::collections::BTreeMap;

use tonic::Status;

use super::{paging, status};
use crate::journal::{JobFolder, JournalError, JournalTail};
use crate::proto::v1::{self, job_record::What};

/// Records read at a time.
const RECORDS_AT_ONCE: usize = 10_000;

/// The tags of a job, by name.
pub(super) async fn tags(
    folder: JobFolder,
    request: v1::ListScalarTagsRequest,
) -> Result<v1::ListScalarTagsResponse, Status> {
    let size = paging::size(request.page_size, 100, 1000)?;
    let tags = read(folder, |folder| all_tags(&folder)).await?;
    let mut page: Vec<_> = tags.into_values().filter(|tag| tag.tag > request.page_token).take(size + 1).collect();
    let is_more = page.len() > size;
    page.truncate(size);
    let next_page_token = page.last().filter(|_| is_more).map(|last| last.tag.clone()).unwrap_or_default();
    Ok(v1::ListScalarTagsResponse { tags: page, next_page_token })
}

/// The points of a tag, by step. A token is the number of the last record that was told.
pub(super) async fn points(
    folder: JobFolder,
    request: v1::ReadScalarsRequest,
) -> Result<v1::ReadScalarsResponse, Status> {
    let size = paging::size(request.page_size, 1000, 50_000)?;
    let after: u64 = paging::token(&request.page_token)?.unwrap_or(0);
    let tag = request.tag.clone();
    if tag.is_empty() {
        return Err(status::invalid_field("tag", "is missing; ListScalarTags tells which there are"));
    }
    let place = folder.clone();
    let (points, next) = read(folder, move |folder| points_of(folder, &tag, after, size)).await?;
    if points.is_empty() && after == 0 {
        let known = read(place, |folder| all_tags(&folder)).await?;
        let known: Vec<_> = known.into_keys().collect();
        let has = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let name = format!("{}/scalars/{}", request.name, request.tag);
        let message = format!("{} has written no scalar {:?}; it has {has}", request.name, request.tag);
        return Err(status::not_found("torchd.v1.ScalarTag", &name, message));
    }
    let next_page_token = next.map(|next| next.to_string()).unwrap_or_default();
    Ok(v1::ReadScalarsResponse { points, next_page_token })
}

fn all_tags(folder: &JobFolder) -> Result<BTreeMap<String, v1::ScalarTag>, JournalError> {
    let mut tags = BTreeMap::<String, v1::ScalarTag>::new();
    let resumes = Resumes::of(folder)?;
    each_scalars(JournalTail::new(folder.clone()), |sequence, time, scalars| {
        if resumes.is_superseded(sequence, scalars.step) {
            return true;
        }
        for value in &scalars.values {
            let point = v1::ScalarPoint { step: scalars.step, time, value: value.value };
            let entry = tags.entry(value.tag.clone()).or_insert_with(|| v1::ScalarTag {
                tag: value.tag.clone(),
                point_count: 0,
                last: None,
            });
            entry.point_count += 1;
            entry.last = Some(point);
        }
        true
    })?;
    Ok(tags)
}

type Points = (Vec<v1::ScalarPoint>, Option<u64>);

fn points_of(folder: JobFolder, tag: &str, after: u64, size: usize) -> Result<Points, JournalError> {
    let resumes = Resumes::of(&folder)?;
    let mut tail = JournalTail::new(folder);
    tail.skip_to(after)?;
    let (mut points, mut last, mut is_more) = (Vec::new(), after, false);
    each_scalars(tail, |sequence, time, scalars| {
        if resumes.is_superseded(sequence, scalars.step) {
            return true;
        }
        for value in scalars.values.iter().filter(|value| value.tag == tag) {
            is_more = points.len() == size;
            if is_more {
                return false;
            }
            points.push(v1::ScalarPoint { step: scalars.step, time, value: value.value });
            last = sequence;
        }
        true
    })?;
    Ok((points, is_more.then_some(last)))
}

/// Where later attempts took up: what was told before and lies beyond does not count any more.
struct Resumes(Vec<(u64, u64)>);

impl Resumes {
    /// The number of each such record, with the step that it goes back to.
    fn of(folder: &JobFolder) -> Result<Self, JournalError> {
        let mut found = Vec::new();
        // Without a later attempt there is nothing to look for in what may be a long journal. The second need not have come to its order.
        if folder.last_attempt() < 2 {
            return Ok(Self(found));
        }
        let mut tail = JournalTail::new(folder.clone());
        loop {
            let records = tail.read(RECORDS_AT_ONCE)?;
            if records.is_empty() {
                break;
            }
            found.extend(records.iter().filter_map(|record| match &record.what {
                Some(What::Resumed(resumed)) => Some((record.sequence, resumed.step)),
                _ => None,
            }));
        }
        Ok(Self(found))
    }

    fn is_superseded(&self, sequence: u64, step: u64) -> bool {
        self.0.iter().any(|&(later, from)| later > sequence && from < step)
    }
}

/// Hands out the scalars behind a tail, until `take` has enough.
fn each_scalars(
    mut tail: JournalTail,
    mut take: impl FnMut(u64, Option<prost_types::Timestamp>, &v1::ScalarValues) -> bool,
) -> Result<(), JournalError> {
    loop {
        let records = tail.read(RECORDS_AT_ONCE)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            if let Some(What::Scalars(scalars)) = &record.what
                && !take(record.sequence, record.time, scalars)
            {
                return Ok(());
            }
        }
    }
}

async fn read<T: Send + 'static>(
    folder: JobFolder,
    work: impl FnOnce(JobFolder) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Status> {
    let result = tokio::task::spawn_blocking(move || work(folder)).await;
    let failed = |error| status::internal("INTERNAL", format!("reading the journal failed: {error}"));
    result.map_err(failed)?.map_err(status::of_journal)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::journal::{JobLock, JournalWriter};
    use crate::proto::journal::record::What;

    #[test]
    fn what_a_later_attempt_does_again_counts_once_also_where_one_in_between_got_no_order() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        std::fs::create_dir(place.path().join("attempts")).unwrap();
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let scalar = |step, value| {
            let values = vec![v1::ScalarValue { tag: "loss/train".into(), value }];
            What::Scalars(v1::ScalarValues { step, values })
        };
        let write = |attempt, records: Vec<What>| {
            std::fs::write(folder.order(attempt), "{}").unwrap();
            let mut writer = JournalWriter::open(&folder, &lock, attempt).unwrap();
            records.into_iter().for_each(|record| writer.append(SystemTime::UNIX_EPOCH, record).unwrap());
        };
        write(1, vec![scalar(1, 1.0), scalar(2, 2.0), scalar(3, 3.0)]);
        write(3, vec![What::Resumed(v1::RunnerResumed { step: 1, ..Default::default() }), scalar(2, 2.5)]);
        let (points, next) = points_of(folder.clone(), "loss/train", 0, 10).unwrap();
        let told: Vec<_> = points.iter().map(|point| (point.step, point.value)).collect();
        assert_eq!((told.as_slice(), next), ([(1, 1.0), (2, 2.5)].as_slice(), None));
        assert_eq!(all_tags(&folder).unwrap()["loss/train"].point_count, 2);
    }
}
