//! JobService.

use std::collections::HashSet;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::{self, Target};
use super::clients::Clients;
use super::server::job_service_server::JobService;
use super::{artifacts, description, job_log, paging, scalars, status, watch};
use crate::job::spec::{judge_labels, judge_priority};
use crate::job::{JobId, State, Violations};
use crate::manager::{ListQuery, Manager, Resume, View};
use crate::proto::v1;
use crate::role::Role;

/// Approximate bytes of a job in a list.
const JOB_BYTES: usize = 4096;

/// The service.
pub(super) struct Jobs {
    manager: Manager,
    clients: Clients,
}

impl Jobs {
    pub(super) fn new(manager: Manager, clients: Clients) -> Self {
        Self { manager, clients }
    }

    /// The job that a request wants to change, where its caller may.
    async fn own<T>(&self, request: &Request<T>, name: &str) -> Result<JobId, Status> {
        Target::of(request).tell(name);
        let (id, caller) = (job_id(name)?, access::caller(request)?);
        if caller.role == Role::Admin {
            return Ok(id);
        }
        let owner = &self.manager.get(&id).await.map_err(status::of)?.job.owner;
        match caller.may_change(owner) {
            true => Ok(id),
            false => Err(status::not_owner(&id, owner, &caller.owner)),
        }
    }

    async fn message(&self, view: Arc<View>) -> Result<v1::Job, Status> {
        if !self.manager.message_blocks(&view) {
            return Ok(self.manager.message(&view));
        }
        let manager = self.manager.clone();
        self.clients.read(move |_| manager.message(&view)).await
    }
}

/// The job that a request names.
pub(super) fn job_id(name: &str) -> Result<JobId, Status> {
    let is_name = name.starts_with("jobs/");
    match name.parse() {
        Ok(id) if is_name => Ok(id),
        _ if name.is_empty() => Err(status::invalid_field("name", "is missing; jobs/{id} is needed")),
        Ok(_) => Err(status::invalid_field("name", format!("is {name:?}; jobs/{name} is right"))),
        Err(error) => Err(status::invalid_field("name", error.to_string())),
    }
}

/// A job as it stands in a list: a page of last log lines could be more than a client takes.
fn without_logs(mut job: v1::Job) -> v1::Job {
    for end in [&mut job.end, &mut job.last_attempt_end].into_iter().flatten() {
        end.log_tail.clear();
    }
    job
}

/// How long it may be is a bound of the protocol.
fn judge_request_id(request_id: &str) -> Result<(), Status> {
    if request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let right = "visible ASCII characters without spaces are right";
    Err(status::invalid_field("request_id", format!("is {request_id:?}; {right}")))
}

fn spec(spec: Option<v1::JobSpec>) -> Result<v1::JobSpec, Status> {
    spec.ok_or_else(|| status::invalid_field("spec", "is missing"))
}

#[tonic::async_trait]
impl JobService for Jobs {
    type WatchJobStream = watch::Watch;
    type DownloadArtifactStream = artifacts::Download;
    type ReadJobLogStream = job_log::Log;

    async fn create_job(&self, request: Request<v1::CreateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let (author, target) = (access::author(&access::caller(&request)?)?, Target::of(&request));
        let v1::CreateJobRequest { spec: asked, request_id } = request.into_inner();
        judge_request_id(&request_id)?;
        let view = self.manager.create(&spec(asked)?, request_id, author).await.map_err(status::of)?;
        target.tell(&view.job.id.name());
        Ok(Response::new(self.message(view).await?))
    }

    async fn validate_job(
        &self,
        request: Request<v1::ValidateJobRequest>,
    ) -> Result<Response<v1::ValidateJobResponse>, Status> {
        let owner = access::uploader(&access::caller(&request)?)?;
        let v1::ValidateJobRequest { spec: asked, dry_run } = request.into_inner();
        let spec = spec(asked)?;
        let (admitted, tried) = match dry_run {
            false => (self.manager.admit(&spec, owner).await.map_err(status::of)?, None),
            true => {
                let (admitted, tried) = self.manager.dry_run(&spec, owner).await.map_err(status::of)?;
                (admitted, Some(tried.to_proto()))
            }
        };
        Ok(Response::new(description::answer(admitted, tried)))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let view = self.manager.get(&job_id(&request.get_ref().name)?).await.map_err(status::of)?;
        Ok(Response::new(self.message(view).await?))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let v1::ListJobsRequest { page_size, page_token, states, labels, owner } = request.into_inner();
        let mut wrong = Violations::default();
        judge_labels(&labels, &mut wrong);
        if !wrong.0.is_empty() {
            return Err(status::invalid(&wrong, ""));
        }
        let state = |(place, state): (usize, &i32)| {
            let known = v1::JobState::try_from(*state).ok().and_then(|state| State::try_from(state).ok());
            known.ok_or_else(|| {
                status::invalid_field(&format!("states[{place}]"), format!("is {state}, which is no state of a job"))
            })
        };
        let states: HashSet<State> = states.iter().enumerate().map(state).collect::<Result<_, _>>()?;
        let (before, limit) = (paging::token(&page_token)?, paging::size(page_size, 50, 1000)?);
        let hold = self.clients.hold(limit * JOB_BYTES).await?;
        let query = ListQuery { states: states.into_iter().collect(), labels, owner, before, limit };
        let page = self.manager.list(query).await.map_err(status::of)?;
        let views_block = page.jobs.iter().any(|view| self.manager.message_blocks(view));
        let (manager, views) = (self.manager.clone(), page.jobs);
        let messages = move || views.iter().map(|view| without_logs(manager.message(view))).collect();
        let jobs = match views_block {
            true => self.clients.read(move |_| messages()).await?,
            false => messages(),
        };
        Ok(hold.of(v1::ListJobsResponse {
            jobs,
            next_page_token: page.next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let v1::WatchJobRequest { name, after_sequence, without_records } = request.into_inner();
        if without_records && after_sequence > 0 {
            let found = format!("is {after_sequence}, and without_records is set; 0 is right with it");
            return Err(status::invalid_field("after_sequence", found));
        }
        let after = (!without_records).then_some(after_sequence);
        watch::watch(self.manager.clone(), self.clients.clone(), job_id(&name)?, after).await
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let id = self.own(&request, &request.get_ref().name).await?;
        let view = self.manager.cancel(id, request.get_ref().now).await.map_err(status::of)?;
        Ok(Response::new(self.message(view).await?))
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Result<Response<v1::Job>, Status> {
        let id = self.own(&request, &request.get_ref().name).await?;
        let view = self.manager.pause(id).await.map_err(status::of)?;
        Ok(Response::new(self.message(view).await?))
    }

    async fn resume_job(&self, request: Request<v1::ResumeJobRequest>) -> Result<Response<v1::Job>, Status> {
        let id = self.own(&request, &request.get_ref().name).await?;
        let caller = access::uploader(&access::caller(&request)?)?;
        let v1::ResumeJobRequest { name: _, edits, from_scratch, accept_new_data } = request.into_inner();
        let edits = edits.filter(|edits| *edits != v1::JobEdits::default());
        let resume = Resume { edits, from_scratch, accepts_new_data: accept_new_data };
        let view = self.manager.resume(id, resume, caller).await.map_err(status::of)?;
        Ok(Response::new(self.message(view).await?))
    }

    async fn set_job_priority(&self, request: Request<v1::SetJobPriorityRequest>) -> Result<Response<v1::Job>, Status> {
        let id = self.own(&request, &request.get_ref().name).await?;
        let (priority, mut wrong) = (request.get_ref().priority, Violations::default());
        judge_priority(priority, &mut wrong);
        if !wrong.0.is_empty() {
            return Err(status::invalid(&wrong, ""));
        }
        let view = self.manager.set_priority(id, priority).await.map_err(status::of)?;
        Ok(Response::new(self.message(view).await?))
    }

    async fn redo_job(&self, request: Request<v1::RedoJobRequest>) -> Result<Response<v1::Job>, Status> {
        let (author, target) = (access::author(&access::caller(&request)?)?, Target::of(&request));
        let v1::RedoJobRequest { name, request_id, after, priority } = request.into_inner();
        judge_request_id(&request_id)?;
        let before = self.manager.get(&job_id(&name)?).await.map_err(status::of)?;
        let mut spec = before.job.spec.to_proto();
        (spec.after, spec.priority) = (after, priority.unwrap_or(spec.priority));
        let view = self.manager.create(&spec, request_id, author).await.map_err(status::of)?;
        target.tell(&view.job.id.name());
        Ok(Response::new(self.message(view).await?))
    }

    async fn delete_job(&self, request: Request<v1::DeleteJobRequest>) -> Result<Response<()>, Status> {
        let id = self.own(&request, &request.get_ref().name).await?;
        self.manager.delete(id).await.map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn read_job_log(
        &self,
        request: Request<v1::ReadJobLogRequest>,
    ) -> Result<Response<Self::ReadJobLogStream>, Status> {
        let request = request.into_inner();
        let id = job_id(&request.name)?;
        job_log::read(&self.manager, self.clients.clone(), id, request).await
    }

    async fn list_scalar_tags(
        &self,
        request: Request<v1::ListScalarTagsRequest>,
    ) -> Result<Response<v1::ListScalarTagsResponse>, Status> {
        let request = request.into_inner();
        let id = job_id(&request.name)?;
        self.manager.get(&id).await.map_err(status::of)?;
        scalars::tags(&self.clients, self.manager.folder(&id), request).await
    }

    async fn read_scalars(
        &self,
        request: Request<v1::ReadScalarsRequest>,
    ) -> Result<Response<v1::ReadScalarsResponse>, Status> {
        let request = request.into_inner();
        let id = job_id(&request.name)?;
        self.manager.get(&id).await.map_err(status::of)?;
        scalars::points(&self.clients, self.manager.folder(&id), request).await
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        artifacts::checkpoints(&self.manager, &self.clients, request.into_inner()).await
    }

    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        artifacts::list(&self.manager, &self.clients, request.into_inner()).await
    }

    async fn download_artifact(
        &self,
        request: Request<v1::DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        artifacts::download(&self.manager, self.clients.clone(), request.into_inner()).await
    }
}
