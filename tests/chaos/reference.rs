//! Computes the references: the results of jobs that nothing happens to. Another job of the same
//! kind computes the same, or the beginning of it, whatever happens to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::spec;

/// Steps of a job: an epoch of 500 with its validation, and a part of a second.
pub(crate) const STEPS: u64 = 560;
/// Steps between scalars; checkpoints are at other steps.
pub(crate) const SCALARS_EVERY: u32 = 3;

/// A scalar's points: step and the bits of the value.
pub(crate) type Points = Vec<(u64, u64)>;

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The example job.
    Mnist,
    /// A model that PyTorch exported, with buffers and dropout.
    Exported,
}

/// The results of an undisturbed job of a kind.
pub(crate) struct Computed {
    pub(crate) result: Vec<u8>,
    pub(crate) scalars: BTreeMap<String, Points>,
}

pub(crate) struct Reference(BTreeMap<Kind, Computed>);

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Mnist, Self::Exported];

    /// The spec that all jobs of the kind share, as far as numbers go.
    pub(crate) fn numbers(self) -> v1::JobSpec {
        match self {
            Self::Mnist => numbers(),
            Self::Exported => {
                let set = || {
                    let arrays = v1::SafetensorsDataset { path: "cnn/data.safetensors".into(), ..Default::default() };
                    Some(v1::Dataset { format: Some(v1::dataset::Format::Safetensors(arrays)) })
                };
                let model = v1::ExportedModel { path: "cnn/net.pt2".into(), ..Default::default() };
                let training = numbers().training.map(|all| v1::Training { validation_batch_size: None, ..all });
                v1::JobSpec {
                    model: Some(v1::Model { family: Some(v1::model::Family::Exported(model)) }),
                    data: Some(v1::Data { train: set(), validation: set(), ..Default::default() }),
                    training,
                    ..numbers()
                }
            }
        }
    }
}

/// The folder of the exported model and its data.
pub(crate) fn models() -> &'static Path {
    Path::new("tests/data/exported")
}

fn numbers() -> v1::JobSpec {
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
        if !spec::is_of_the_machine(&tag) {
            scalars.insert(tag, points.iter().map(|point| (point.step, point.value.to_bits())).collect());
        }
    }
    scalars
}

impl Reference {
    pub(crate) async fn train() -> Self {
        let daemon = Setup::new().data_root(models()).start();
        let mut all = BTreeMap::new();
        for kind in Kind::ALL {
            all.insert(kind, Computed::train(&daemon, kind).await);
        }
        Self(all)
    }

    pub(crate) fn of(&self, kind: Kind) -> &Computed {
        &self.0[&kind]
    }
}

impl Computed {
    async fn train(daemon: &Daemon, kind: Kind) -> Self {
        let job = daemon.create(kind.numbers()).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        let scalars = scalars(daemon, &job.name).await;
        let steps: Vec<_> = scalars["loss/train"].iter().map(|(step, _)| *step).collect();
        let expected: Vec<_> = (1..=STEPS).filter(|step| step.is_multiple_of(u64::from(SCALARS_EVERY))).collect();
        assert_eq!(steps, expected);
        let result = fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap();
        Self { result, scalars }
    }
}
