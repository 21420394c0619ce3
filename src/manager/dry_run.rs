//! A request that is tried: judged, and trained on for one batch, in a folder that is removed
//! afterwards.

use super::staging::{self, Copies};
use super::{Admitted, JobError, Manager};
use crate::job::Violations;
use crate::job::dry_run::DryRun;
use crate::job::order::{Lease, Order, ProgramLimits};
use crate::job::spec;
use crate::journal::JobFolder;
use crate::proto::v1;
use crate::supervisor::DryRunError;
use crate::uploads::Owner;

/// Requests that are tried at the same time; the others wait.
pub(super) const AT_ONCE: usize = 1;

/// Half of the memory is at least this, also where it is not known.
const LEAST_MEMORY_BYTES: u64 = 1 << 30;

impl Manager {
    /// Judges a request and trains on one batch of it, on one thread of the CPU, with half of the
    /// memory that jobs can have.
    pub async fn dry_run(&self, spec: &v1::JobSpec, owner: Owner) -> Result<(Admitted, DryRun), JobError> {
        let mistake = match spec::read(spec).model {
            None => {
                let what = "is set, and a dry run trains a model on one batch; leave dry_run out, which judges the \
                            program without running it, as `torchctl run --dry-run` does";
                Some(("program", what))
            }
            Some(model) if model.demands.mode.applies() => {
                Some(("mode", "is one that trains nothing, and a dry run trains on one batch; leave dry_run out"))
            }
            Some(_) => None,
        };
        if let Some((field, what)) = mistake {
            let mut wrong = Violations::default();
            wrong.add(field, what);
            return Err(JobError::Invalid(wrong));
        }
        self.room()?;
        let _in_line = self.copy_line.try_acquire().map_err(|_| {
            let (most, what) = (staging::COPY_LINE, "requests wait for copies or to be tried");
            JobError::FilesUnavailable(format!("{most} {what}"))
        })?;
        let mut admitted = self.admit(spec, owner).await?;
        let copies: Copies = std::mem::take(&mut admitted.copies);
        let _turn = self.dry_runs.acquire().await.map_err(|_| JobError::Gone)?;
        let staged = self.stage(copies).await?;
        let path = staged.path().ok_or(JobError::Gone)?;
        let folder = JobFolder::new(path.to_owned());
        let order = Order {
            attempt: 1,
            rank: None,
            meeting: None,
            lease: Lease::of_cpu(1),
            inputs: admitted.inputs.clone(),
            nvml_library: None,
            max_event_bytes: u64::MAX,
            resume_step: admitted.model.as_ref().map(|model| model.first_step).filter(|step| *step > 0),
            limits: ProgramLimits::default(),
            accepted_data_at: None,
            log_begins: 0,
            edits: None,
        };
        let message = admitted.spec.to_proto();
        let written = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || folder.create(&message).and_then(|()| folder.write_order(&order))
        });
        let failed = JobError::folder("the folder of a dry run cannot be written");
        written.await.map_err(std::io::Error::other).and_then(|written| written).map_err(failed)?;
        let half = || (self.settings.node.memory().total_bytes / 2).max(LEAST_MEMORY_BYTES);
        let most = self.settings.runner.dry_run_memory_bytes.unwrap_or_else(half);
        let limit = admitted.spec.resources.memory_limit_bytes.unwrap_or(u64::MAX);
        match self.supervisor.dry_run(folder.path(), most).await {
            Ok(done) if done.peak_memory_bytes > limit => {
                let mut wrong = Violations::default();
                let what = format!("is {limit}; a runner took {} to train on one batch", done.peak_memory_bytes);
                wrong.add("resources.memory_limit_bytes", what);
                Err(JobError::Invalid(wrong))
            }
            Ok(done) => Ok((admitted, done)),
            Err(error) if error.is_shortage() => Err(JobError::Shortage { what: error.to_string() }),
            Err(DryRunError::Refused(what)) => Err(refused(&admitted, &what)),
            Err(error) => Err(JobError::RunnerBroken(error.to_string())),
        }
    }
}

/// The refusal of a request by the words of its runner, which may begin with the field.
fn refused(admitted: &Admitted, what: &str) -> JobError {
    let is_field = |field: &str| {
        let name = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_[]".contains(&byte));
        ["model.", "data.", "optimizer.", "loss.", "training.", "schedule."]
            .iter()
            .any(|section| field.starts_with(section))
            && field.split('.').all(name)
    };
    let mut wrong = Violations::default();
    match what.split_once(": ").filter(|(field, _)| is_field(field)) {
        Some((field, what)) => wrong.add(field, what),
        None => {
            let name = admitted.spec.model().map_or("", |work| work.model.name());
            wrong.add(format!("model.{name}"), what);
        }
    }
    JobError::Invalid(wrong)
}
