//! Computes the references: the results of jobs that nothing happens to. Another job of the same
//! kind computes the same, or the beginning of it, whatever happens to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::{spec, tools};

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
    /// The example job, by two ranks.
    Ranks,
    /// A program of its own, which saves and goes on as programs do.
    Program,
}

/// Reports as many values as the others, saves where it stands now and then and where it is asked to
/// stop, and goes on from there. A file that the disk had no room for is none to go on from.
const PROGRAM: &str = r#"
report() { echo "$1" >&$TORCHD_REPORT_FD; }
save() {
    echo $step > checkpoints/new && mv checkpoints/new checkpoints/at-$step &&
        report "{\"step\": $step, \"checkpoint\": \"checkpoints/at-$step\"}"
}
trap 'stop=1' TERM
step=0
if [ -n "$TORCHD_RESUME_FROM" ]; then read step < "$TORCHD_RESUME_FROM" || exit 70; fi
while [ $step -lt STEPS ]; do
    step=$((step + 1))
    if [ $((step % EVERY)) = 0 ]; then report "{\"step\": $step, \"scalars\": {\"loss/train\": 0.$step}}"; sleep 0.01; fi
    if [ -n "$stop" ]; then save; exit 0; fi
    if [ $((step % 37)) = 0 ]; then save; fi
done
report "{\"step\": $step, \"finished\": true}"
"#;

/// The results of an undisturbed job of a kind.
pub(crate) struct Computed {
    pub(crate) result: Vec<u8>,
    pub(crate) scalars: BTreeMap<String, Points>,
}

pub(crate) struct Reference(BTreeMap<Kind, Computed>);

impl Kind {
    const ALL: [Self; 4] = [Self::Mnist, Self::Exported, Self::Program, Self::Ranks];

    /// The kinds that this machine can train.
    pub(crate) fn all() -> &'static [Self] {
        if tools::has_ranks() { &Self::ALL } else { &Self::ALL[..3] }
    }

    /// The locks of its runners.
    pub(crate) fn runners(self) -> &'static [&'static str] {
        if self == Self::Ranks { &["lock", "ranks/1/lock"] } else { &["lock"] }
    }

    /// The locks of their parents.
    pub(crate) fn shims(self) -> &'static [&'static str] {
        if self == Self::Ranks { &["shim", "ranks/1/shim"] } else { &["shim"] }
    }

    /// The spec that all jobs of the kind share, as far as numbers go.
    pub(crate) fn numbers(self) -> v1::JobSpec {
        match self {
            Self::Mnist => numbers(),
            Self::Ranks => in_ranks(2),
            Self::Program => {
                let script = PROGRAM.replace("STEPS", &STEPS.to_string()).replace("EVERY", &SCALARS_EVERY.to_string());
                let command = ["sh".into(), "-c".into(), script].to_vec();
                v1::JobSpec {
                    program: Some(v1::Program { command, ..v1::Program::default() }),
                    resources: Some(spec::threads(1)),
                    ..v1::JobSpec::default()
                }
            }
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

/// A daemon that may run jobs of all kinds.
pub(crate) fn serving_all(setup: Setup) -> Setup {
    setup.data_root(models()).set("programs.enabled", "true").set("programs.allowed", "/usr/bin:/bin")
}

/// The folder of the exported model and its data.
fn models() -> &'static Path {
    Path::new("tests/data/exported")
}

/// The example job in two shards, by so many ranks.
fn in_ranks(ranks: u32) -> v1::JobSpec {
    let numbers = numbers();
    v1::JobSpec {
        resources: numbers.resources.map(|resources| v1::Resources { ranks: Some(ranks), ..resources }),
        training: numbers.training.map(|training| v1::Training { shards: Some(2), ..training }),
        ..numbers
    }
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
        let daemon = serving_all(Setup::new()).start();
        let mut all = BTreeMap::new();
        for kind in Kind::all() {
            all.insert(*kind, Computed::train(&daemon, *kind).await);
        }
        Self(all)
    }

    pub(crate) fn of(&self, kind: Kind) -> &Computed {
        &self.0[&kind]
    }
}

impl Computed {
    async fn train(daemon: &Daemon, kind: Kind) -> Self {
        // Ranks compute what one process does.
        let numbers = if kind == Kind::Ranks { in_ranks(1) } else { kind.numbers() };
        let job = daemon.create(numbers).await;
        let ended = daemon.watch_to_end(&job.name).await;
        assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
        let scalars = scalars(daemon, &job.name).await;
        let steps: Vec<_> = scalars["loss/train"].iter().map(|(step, _)| *step).collect();
        let expected: Vec<_> = (1..=STEPS).filter(|step| step.is_multiple_of(u64::from(SCALARS_EVERY))).collect();
        assert_eq!(steps, expected);
        let result = match kind {
            Kind::Program => Vec::new(),
            Kind::Mnist | Kind::Ranks | Kind::Exported => {
                fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap()
            }
        };
        Self { result, scalars }
    }
}
