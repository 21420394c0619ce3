//! Tables that are larger than their share of the memory: they are read in shards, and train and
//! answer as any other.

use std::fs::{self, File};
use std::path::Path;

use nix::sys::signal::Signal;
use parquet::data_type::FloatType;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use torchd::dataset::draw::mix;
use torchd::proto::v1::warm_start::Source;
use torchd::proto::v1::{self, dataset::Format};

use super::daemon::{Daemon, Setup};
use super::survival::signal;
use super::{spec, warm_start};

/// Little more than a runner takes, so that a small table is larger than its share, which is half
/// of what the runner leaves.
const LIMIT: u64 = 150 << 20;
/// The shape of the table, whose rows have a target besides.
const ROWS: usize = 16_000;
const FEATURES: usize = 999;
const ROWS_OF_GROUP: usize = 1500;
const BATCH: usize = 20;

/// A feature of a row, or its target: the part of the rows that lie before it.
fn value(row: usize, column: usize) -> f32 {
    match column {
        FEATURES => row as f32 / ROWS as f32,
        _ => (mix((row * FEATURES + column) as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5,
    }
}

/// Writes a table with the features `c0`, `c1`, ... and the target `y`.
fn write(path: &Path) {
    let columns: String = (0..FEATURES).map(|column| format!("required float c{column};")).collect();
    let schema = parse_message_type(&format!("message rows {{ {columns} required float y; }}")).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema.into(), properties.into()).unwrap();
    for begin in (0..ROWS).step_by(ROWS_OF_GROUP) {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..=FEATURES {
            let values: Vec<f32> = (begin..ROWS.min(begin + ROWS_OF_GROUP)).map(|row| value(row, column)).collect();
            let mut into = group.next_column().unwrap().unwrap();
            into.typed::<FloatType>().write_batch(&values, None, None).unwrap();
            into.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn table() -> Option<v1::Dataset> {
    let set = v1::ParquetDataset { path: "table.parquet".into(), target: "y".into(), ..Default::default() };
    Some(v1::Dataset { format: Some(Format::Parquet(set)) })
}

fn limited(cpu_threads: u32) -> Option<v1::Resources> {
    Some(v1::Resources { memory_limit_bytes: Some(LIMIT), ..spec::threads(cpu_threads) })
}

/// A job of half an epoch, which reads with so many threads.
fn job(readers: u32) -> v1::JobSpec {
    let steps = (ROWS / BATCH / 2) as u64;
    let training = v1::Training {
        length: Some(v1::training::Length::MaxSteps(steps)),
        batch_size: Some(BATCH as u32),
        ..v1::Training::default()
    };
    let normalize = v1::Normalize { measure: true, ..v1::Normalize::default() };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::Linear(v1::LinearModel::default())) }),
        data: Some(v1::Data { train: table(), normalize: Some(normalize), ..v1::Data::default() }),
        training: Some(training),
        resources: limited(readers),
        optimizer: Some(spec::sgd(0.0001, 0.5)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..spec::short()
    }
}

/// The shards that the runner of a job has told of, in the log of its attempts.
fn shards(daemon: &Daemon, job: &v1::Job) -> Vec<u64> {
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    let told = log.split("a set is read in shards").skip(1);
    told.map(|rest| rest.split("shards=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()).collect()
}

/// What a trained linear model answers, from its files.
struct Linear {
    /// A number for each feature, and one that is added.
    weights: Vec<f32>,
    bias: f32,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Linear {
    fn of(artifacts: &Path) -> Self {
        let bytes = fs::read(artifacts.join("model.safetensors")).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = read.iter().map(|(_, tensor)| {
            tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect::<Vec<_>>()
        });
        let (weights, bias): (Vec<_>, Vec<_>) = tensors.partition(|values| values.len() == FEATURES);
        let kept: serde_json::Value =
            serde_json::from_slice(&fs::read(artifacts.join("preprocessing.json")).unwrap()).unwrap();
        let list = |name: &str| {
            let numbers = kept["inputs"][0][name].as_array().unwrap().iter();
            numbers.map(|number| number.as_f64().unwrap()).collect()
        };
        Self { weights: weights.concat(), bias: bias[0][0], mean: list("mean"), std: list("std") }
    }

    fn answer(&self, row: usize) -> f32 {
        let terms = (0..FEATURES).map(|column| {
            let input = (f64::from(value(row, column)) - self.mean[column]) / self.std[column];
            f64::from(self.weights[column]) * input
        });
        terms.sum::<f64>() as f32 + self.bias
    }
}

/// Queues a job. A process that reads a table for the daemon may take long on a busy machine: the
/// answer is to ask again then.
async fn created(daemon: &Daemon, spec: v1::JobSpec) -> v1::Job {
    for _ in 0..5 {
        let request = v1::CreateJobRequest { spec: Some(spec.clone()), ..Default::default() };
        match daemon.jobs().await.create_job(request).await {
            Err(status) if status.code() == tonic::Code::Unavailable => {}
            answer => return answer.unwrap().into_inner(),
        }
    }
    panic!("the table was not judged");
}

async fn succeeded(daemon: &Daemon, name: &str) -> v1::Job {
    let ended = daemon.watch_to_end(name).await;
    assert_eq!(ended.state(), v1::JobState::Succeeded, "{:?}", ended.end);
    ended
}

/// The examples of the epoch in hand that lie before the newest checkpoint of a job.
fn examples(daemon: &Daemon, job: &v1::Job) -> u64 {
    let step = job.resume_from.as_ref().unwrap().step;
    let told = daemon.job_folder(&job.name).join(format!("checkpoints/step-{step}/checkpoint.json"));
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    manifest["place"]["examples"].as_u64().unwrap()
}

#[tokio::test]
async fn a_table_in_shards_goes_on_bit_for_bit_with_another_number_of_readers_and_is_answered_in_order() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("table.parquet"));
    // The runner stays in its first step until it is asked to stop; the daemon's signal may come
    // later than ours.
    let stays = root.path().join("stays");
    fs::write(&stays, "").unwrap();
    let fault = format!("step@{}", stays.display());
    let daemon = Setup::new().data_root(root.path()).set("jobs.cpu_slots", "2").env("TORCHD_FAULT", fault).start();
    let broken = created(&daemon, job(1)).await;
    daemon.watch_until(&broken.name, |job| job.progress.as_ref().is_some_and(|told| told.step == 1)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: broken.name.clone() }).await.unwrap();
    signal(daemon.signed(&broken.name, "lock"), Signal::SIGTERM);
    fs::remove_file(&stays).unwrap();
    let paused = daemon.watch_until(&broken.name, |job| job.state() == v1::JobState::Paused).await;
    let done = examples(&daemon, &paused);
    assert!(done > 0 && done < ROWS as u64, "{done} of {ROWS} in the midst of an epoch");
    let whole = created(&daemon, job(1)).await;
    let whole = succeeded(&daemon, &whole.name).await;
    // The spec of a job says how many threads read: another one takes the checkpoint up.
    let other = warm_start::warm(Source::Checkpoint(broken.name.clone()), true, job(2));
    let other = created(&daemon, other).await;
    let other = succeeded(&daemon, &other.name).await;
    assert_eq!(other.progress.as_ref().unwrap().step, whole.progress.as_ref().unwrap().step);
    let last = whole.progress.as_ref().unwrap().step;
    for file in ["artifacts/model.safetensors", &format!("checkpoints/step-{last}/state.safetensors")] {
        let of = |job: &v1::Job| fs::read(daemon.job_folder(&job.name).join(file)).unwrap();
        assert!(of(&other) == of(&whole), "{file} is another one");
    }
    for job in [&whole, &paused, &other] {
        assert!(shards(&daemon, job).iter().all(|count| *count > 10), "{:?}", shards(&daemon, job));
        assert_eq!(shards(&daemon, job).len(), 1);
    }

    // Answers: one for each row, in the order of the file.
    let predict = v1::JobSpec {
        mode: v1::Mode::Predict.into(),
        data: Some(v1::Data { test: table(), ..v1::Data::default() }),
        resources: limited(2),
        ..warm_start::warm(Source::Checkpoint(whole.name.clone()), false, v1::JobSpec::default())
    };
    let answers = created(&daemon, predict).await;
    let answers = succeeded(&daemon, &answers.name).await;
    assert_eq!(shards(&daemon, &answers).len(), 1);
    let answers = fs::read_to_string(daemon.job_folder(&answers.name).join("artifacts/predictions.csv")).unwrap();
    let model = Linear::of(&daemon.job_folder(&whole.name).join("artifacts"));
    let mut rows = 0;
    for (row, line) in answers.lines().skip(1).enumerate() {
        let cells: Vec<_> = line.split(',').collect();
        assert_eq!((cells[0], cells[2].parse().ok()), (&*row.to_string(), Some(value(row, FEATURES))), "{line}");
        if row % 1000 == 0 {
            let (found, expected) = (cells[1].parse::<f32>().unwrap(), model.answer(row));
            assert!((found - expected).abs() < 1e-3, "{expected}: {line}");
        }
        rows += 1;
    }
    assert_eq!(rows, ROWS);
}
