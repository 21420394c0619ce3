//! The scalars of a job: its tags, or the points of one.

use std::process::ExitCode;

use super::connection::Connection;
use super::failure::Failure;
use super::job_commands::name;
use super::output::Output;
use super::table;
use crate::proto::v1;

pub(super) async fn scalars(
    connection: Connection,
    output: Output,
    job: &str,
    tag: Option<&str>,
) -> Result<ExitCode, Failure> {
    match tag {
        None => tags(connection, output, name(job)).await?,
        Some(tag) => points(connection, output, name(job), tag).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn tags(connection: Connection, output: Output, name: String) -> Result<(), Failure> {
    let mut all = v1::ListScalarTagsResponse::default();
    loop {
        let request =
            v1::ListScalarTagsRequest { name: name.clone(), page_size: 1000, page_token: all.next_page_token };
        let page = connection.jobs().list_scalar_tags(request).await?.into_inner();
        all.tags.extend(page.tags);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        let rows: Vec<_> = all
            .tags
            .iter()
            .map(|tag| {
                let last = tag.last.unwrap_or_default();
                [tag.tag.clone(), tag.point_count.to_string(), last.step.to_string(), table::number(last.value)]
            })
            .collect();
        table::columns(["TAG", "POINTS", "LAST STEP", "LAST VALUE"], &rows)
    })
}

async fn points(connection: Connection, output: Output, name: String, tag: &str) -> Result<(), Failure> {
    let mut all = v1::ReadScalarsResponse::default();
    loop {
        let page_token = all.next_page_token;
        let request = v1::ReadScalarsRequest { name: name.clone(), tag: tag.into(), page_size: 50_000, page_token };
        let page = connection.jobs().read_scalars(request).await?.into_inner();
        all.points.extend(page.points);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        let rows: Vec<_> = all
            .points
            .iter()
            .map(|point| [point.step.to_string(), table::time(point.time), table::number(point.value)])
            .collect();
        table::columns(["STEP", "TIME", "VALUE"], &rows)
    })
}
