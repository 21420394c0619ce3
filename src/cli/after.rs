//! `redo`, and the jobs that a new one waits for.

use std::process::ExitCode;

use super::arguments::{AfterArguments, RedoArguments};
use super::connection::Connection;
use super::failure::Failure;
use super::job_commands::{created, name};
use super::output::{Output, tell};
use crate::proto::v1::{self, DependencyCondition};

impl AfterArguments {
    /// Adds the jobs to a spec.
    pub(super) fn add_to(self, spec: &mut v1::JobSpec) {
        let Self { after, after_success, after_failure } = self;
        let all = [
            (after, DependencyCondition::Ended),
            (after_success, DependencyCondition::Succeeded),
            (after_failure, DependencyCondition::Failed),
        ];
        for (jobs, condition) in all {
            let one = |job: &String| v1::Dependency { job: name(job), condition: condition.into() };
            spec.after.extend(jobs.iter().map(one));
        }
    }
}

/// Makes another job of the spec of one, with all edits that this has seen. It waits for the jobs
/// that are named now, and not for those of then.
pub(super) async fn redo(
    connection: Connection,
    output: Output,
    arguments: RedoArguments,
) -> Result<ExitCode, Failure> {
    let RedoArguments { job, after, priority, watch } = arguments;
    let before = connection.jobs().get_job(v1::GetJobRequest { name: name(&job) }).await?.into_inner();
    let mut spec = before.spec.unwrap_or_default();
    if !spec.after.is_empty() {
        tell(&format!("{} was to run after other jobs; the new one is not: --after names jobs", before.name));
        spec.after.clear();
    }
    after.add_to(&mut spec);
    spec.priority = priority.unwrap_or(spec.priority);
    let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
    let job = connection.jobs().create_job(request).await?.into_inner();
    created(connection, output, &job, watch).await
}

/// The jobs that a job still waits for, each on a line.
pub(super) fn open(job: &v1::Job) -> String {
    let wish = |open: &v1::Dependency| match open.condition() {
        DependencyCondition::Unspecified | DependencyCondition::Ended => format!("{} to end", open.job),
        DependencyCondition::Succeeded => format!("{} to succeed", open.job),
        DependencyCondition::Failed => format!("{} to fail", open.job),
    };
    job.open_dependencies.iter().map(wish).collect::<Vec<_>>().join("\n")
}
