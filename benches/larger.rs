//! A Parquet table of ten million rows, trained by an MLP within a quarter of the memory that its
//! values take, and in memory: the peak of the runner, the share of time that the loop waits for
//! data, and rows a second.
//!
//! `LARGER_ROWS` makes a smaller table, and `LARGER_FOLDER` says where it is made (900 MB).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use daemon::Daemon;
use parquet::data_type::FloatType;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use torchd::dataset::draw::mix;
use torchd::proto::json;
use torchd::proto::v1::{self, job_record::What, job_service_client::JobServiceClient, watch_event::Event};

/// Numbers of a row, the target among them.
const COLUMNS: usize = 21;
/// Rows of a row group.
const GROUP: usize = 1_000_000;

fn main() {
    let rows = std::env::var("LARGER_ROWS").map_or(10_000_000, |rows| rows.parse().unwrap());
    let place = std::env::var("LARGER_FOLDER").map_or_else(|_| std::env::temp_dir(), Into::into);
    let folder = tempfile::tempdir_in(place).unwrap();
    write(&folder.path().join("table.parquet"), rows);
    let decoded = (rows * COLUMNS * 4) as u64;
    println!("{rows} rows of {COLUMNS} numbers: {} MB of values", decoded / 1_000_000);
    let daemon = Daemon::start(&["--data-root", folder.path().to_str().unwrap()], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for limit in [Some(decoded / 4), None] {
        runtime.block_on(train(&daemon, limit));
    }
}

/// Makes the table. The target is a sum of features.
fn write(path: &Path, rows: usize) {
    let name = |column| if column + 1 == COLUMNS { "y".to_owned() } else { format!("c{column}") };
    let columns: String = (0..COLUMNS).map(|column| format!("required float {};", name(column))).collect();
    let schema = parse_message_type(&format!("message rows {{ {columns} }}")).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema.into(), properties.into()).unwrap();
    let value =
        |row: usize, column: usize| (mix((row * COLUMNS + column) as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    for begin in (0..rows).step_by(GROUP) {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..COLUMNS {
            let of = |row| match column + 1 {
                COLUMNS => value(row, 0) + value(row, 1) - value(row, 2),
                _ => value(row, column),
            };
            let values: Vec<f32> = (begin..rows.min(begin + GROUP)).map(of).collect();
            let mut into = group.next_column().unwrap().unwrap();
            into.typed::<FloatType>().write_batch(&values, None, None).unwrap();
            into.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Trains for an epoch, and tells of it.
async fn train(daemon: &Daemon, limit: Option<u64>) {
    let mut spec = serde_json::json!({
        "model": {"mlp": {"hidden": [128, 64]}},
        "data": {"train": {"parquet": {"path": "table.parquet", "target": "y"}}, "normalize": {"measure": true}},
        "training": {"epochs": 1, "batch_size": 4096},
        "optimizer": {"adamw": {"learning_rate": 0.001}},
        "logging": {"scalar_every_steps": 100},
    });
    if let Some(limit) = limit {
        spec["resources"] = serde_json::json!({"memory_limit_bytes": limit});
    }
    let spec: v1::JobSpec = json::from_str(&spec.to_string()).unwrap();
    let mut client = JobServiceClient::connect(daemon.grpc()).await.unwrap();
    let begun = Instant::now();
    let job = client.create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() }).await.unwrap();
    let name = job.into_inner().name;
    let request = v1::WatchJobRequest { name: name.clone(), after_sequence: 0, ..Default::default() };
    let mut stream = client.watch_job(request).await.unwrap().into_inner();
    let (mut pid, mut own, mut peak, mut ratios, mut loss) = (None, 0, 0, Vec::new(), f64::NAN);
    let mut times: [Option<SystemTime>; 2] = [None; 2];
    loop {
        // The kernel keeps the peak of all pages, for as long as the process lives.
        peak = pid.and_then(|pid| resident_bytes(pid, "VmHWM:")).unwrap_or(peak);
        own = pid.and_then(|pid| resident_bytes(pid, "RssAnon:")).unwrap_or(0).max(own);
        let next = tokio::time::timeout(Duration::from_millis(5), stream.message()).await;
        let Ok(message) = next else { continue };
        let Some(message) = message.unwrap() else { break };
        for event in message.events {
            let Some(Event::Record(record)) = event.event else { continue };
            let time = record.time.and_then(|time| SystemTime::try_from(time).ok());
            match record.what {
                Some(What::Started(started)) => (pid, times[0]) = (Some(started.pid), time),
                Some(What::Ended(_)) => times[1] = time,
                Some(What::Scalars(scalars)) => {
                    for value in scalars.values {
                        match value.tag.as_str() {
                            "data/wait_ratio" => ratios.push(value.value),
                            "loss/train" => loss = value.value,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let all = begun.elapsed().as_secs_f64();
    let job = client.get_job(v1::GetJobRequest { name }).await.unwrap().into_inner();
    let end = job.end.unwrap();
    assert_eq!(job.state, i32::from(v1::JobState::Succeeded), "{}", end.message);
    let rows = job.spec.map(|_| job.progress.map_or(0, |progress| progress.total_steps * 4096)).unwrap();
    let [started, ended] = times.map(Option::unwrap);
    let span = ended.duration_since(started).unwrap().as_secs_f64();
    let what = limit.map_or("without a limit".to_owned(), |limit| format!("within {:.0} MB", limit as f64 / 1e6));
    println!(
        "{what}: peak of the runner {:.0} MB of its own, {:.0} MB with pages of files; data/wait_ratio {:.2} % (most {:.2} %); {:.0} rows/s in training; \
         {:.1} s before it and {:.1} s in all; loss {loss:.5}",
        own as f64 / 1e6,
        peak as f64 / 1e6,
        ratios.iter().sum::<f64>() * 100.0 / ratios.len().max(1) as f64,
        ratios.iter().copied().fold(0.0, f64::max) * 100.0,
        rows as f64 / span,
        all - span,
        all,
    );
}

/// A figure of /proc/PID/status, in bytes.
fn resident_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
