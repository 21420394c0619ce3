//! Jobs at scrape time: how many in each state, and the readings of those that run. A job's own
//! series go away with it.

use prometheus::{GaugeVec, Opts, Registry};

use crate::job::State;
use crate::manager::{JobError, Manager};

/// Why jobs could not be collected.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    /// The database failed.
    #[error(transparent)]
    Jobs(#[from] JobError),
    /// A name or a label was refused: a fault of torchd.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Puts what is known of jobs into a registry.
pub(super) async fn collect(manager: &Manager, scrape: &Registry) -> Result<(), CollectError> {
    let counts = manager.counts().await?;
    let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec, prometheus::Error> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        scrape.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let jobs = gauge("torchd_jobs", "Jobs in each state, those kept in the database included.", &["state"])?;
    for state in State::ALL {
        let count = counts.iter().find(|(counted, _)| *counted == state).map_or(0, |(_, count)| *count);
        jobs.with_label_values(&[state.label()]).set(count as f64);
    }
    let step = gauge("torchd_job_step", "Optimizer steps that a running job has done.", &["job"])?;
    let epoch = gauge("torchd_job_epoch", "Epoch that a running job is in, from 1.", &["job"])?;
    let loss = gauge("torchd_job_loss", "Newest loss of a running job.", &["job", "split"])?;
    let speed = gauge("torchd_job_examples_per_second", "Training examples per second of a running job.", &["job"])?;
    let ratio = gauge("torchd_job_progress_ratio", "Share of its steps that a running job has done.", &["job"])?;
    let wait_help = "Share of its time that a running job waits for its data, 0 to 1.";
    let data_wait = gauge("torchd_job_data_wait_ratio", wait_help, &["job"])?;
    for view in manager.live() {
        let Some(progress) = view.progress.as_ref().filter(|_| view.job.state.is_active()) else { continue };
        let job = view.job.id.as_str();
        step.with_label_values(&[job]).set(progress.step as f64);
        epoch.with_label_values(&[job]).set(f64::from(progress.epoch));
        ratio.with_label_values(&[job]).set(progress.progress_ratio);
        if let Some(examples) = progress.examples_per_second {
            speed.with_label_values(&[job]).set(examples);
        }
        if let Some(value) = progress.latest_scalars.get("data/wait_ratio") {
            data_wait.with_label_values(&[job]).set(*value);
        }
        for split in ["train", "validation"] {
            if let Some(value) = progress.latest_scalars.get(&format!("loss/{split}")) {
                loss.with_label_values(&[job, split]).set(*value);
            }
        }
    }
    Ok(())
}
