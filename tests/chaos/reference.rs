//! Computes the reference: the results of a job that nothing happens to. Any other job of the same
//! spec computes these, or the beginning of them.

use std::collections::BTreeMap;
use std::fs;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::spec;

/// Steps of a job: an epoch of 500 with its validation, and a part of a second.
pub(crate) const STEPS: u64 = 560;
/// Steps between scalars; checkpoints are at other steps.
pub(crate) const SCALARS_EVERY: u32 = 3;

/// A scalar's points: step and the bits of the value.
pub(crate) type Points = Vec<(u64, u64)>;

pub(crate) struct Reference {
    pub(crate) result: Vec<u8>,
    pub(crate) scalars: BTreeMap<String, Points>,
}

/// The spec that all jobs of the harness share, as far as numbers go.
pub(crate) fn numbers() -> v1::JobSpec {
    v1::JobSpec {
        resources: Some(spec::threads(1)),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(STEPS)),
            batch_size: Some(8),
            validation_batch_size: Some(1000),
            ..v1::Training::default()
        }),
        logging: Some(v1::Logging { scalar_every_steps: Some(SCALARS_EVERY) }),
        ..spec::mnist(v1::training::Length::MaxSteps(1))
    }
}

/// Every scalar of a job that does not tell of time or of the machine, as ReadScalars tells them.
pub(crate) async fn scalars(daemon: &Daemon, name: &str) -> BTreeMap<String, Points> {
    let mut jobs = daemon.jobs().await;
    let mut scalars = BTreeMap::new();
    let list = v1::ListScalarTagsRequest { name: name.into(), ..Default::default() };
    for v1::ScalarTag { tag, point_count, .. } in jobs.list_scalar_tags(list).await.unwrap().into_inner().tags {
        let request =
            v1::ReadScalarsRequest { name: name.into(), tag: tag.clone(), page_size: 50_000, ..Default::default() };
        let points = jobs.read_scalars(request).await.unwrap().into_inner().points;
        assert_eq!(points.len() as u64, point_count, "{name}: {tag}");
        if !tag.starts_with("throughput/") && !tag.starts_with("process/") {
            scalars.insert(tag, points.iter().map(|point| (point.step, point.value.to_bits())).collect());
        }
    }
    scalars
}

impl Reference {
    pub(crate) async fn train() -> Self {
        let daemon = Setup::new().start();
        let job = daemon.create(numbers()).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        let scalars = scalars(&daemon, &job.name).await;
        let steps: Vec<_> = scalars["loss/train"].iter().map(|(step, _)| *step).collect();
        let expected: Vec<_> = (1..=STEPS).filter(|step| step.is_multiple_of(u64::from(SCALARS_EVERY))).collect();
        assert_eq!(steps, expected);
        let result = fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap();
        Self { result, scalars }
    }
}
