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
        spec.after.extend(self.dependencies());
    }

    fn dependencies(self) -> Vec<v1::Dependency> {
        let Self { after, after_success, after_failure } = self;
        let all = [
            (after, DependencyCondition::Ended),
            (after_success, DependencyCondition::Succeeded),
            (after_failure, DependencyCondition::Failed),
        ];
        let one = |job: &String, wish: DependencyCondition| v1::Dependency { job: name(job), condition: wish.into() };
        all.iter().flat_map(|(jobs, wish)| jobs.iter().map(|job| one(job, *wish))).collect()
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
    if before.spec.is_some_and(|spec| !spec.after.is_empty()) {
        tell(&format!("{} was to run after other jobs; the new one is not: --after names jobs", before.name));
    }
    let after = after.dependencies();
    let request = v1::RedoJobRequest { name: before.name, request_id: String::new(), after, priority };
    let job = connection.jobs().redo_job(request).await?.into_inner();
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
