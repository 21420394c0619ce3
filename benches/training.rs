//! Measures the example job through the real programs: accuracy and throughput by seed, the time
//! from CreateJob to the first step, and the memory of an idle daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;

use std::fs;
use std::time::{Instant, SystemTime};

use daemon::Daemon;
use torchd::proto::json;
use torchd::proto::v1::{self, job_record::What, job_service_client::JobServiceClient, watch_event::Event};

const SEEDS: [u64; 3] = [1, 2, 3];

fn main() {
    let daemon = Daemon::start(&["--data-root", "examples"], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(daemon.grpc(), daemon.pid()));
}

async fn measure(address: String, pid: u32) {
    let mut client = JobServiceClient::connect(address).await.expect("torchd serves");
    // The first answer that needs the probe means that the daemon has nothing to do.
    client
        .validate_job(v1::ValidateJobRequest { spec: Some(spec(1)), dry_run: false })
        .await
        .expect("the example is right");
    println!("idle daemon: {:.1} MB resident", resident_bytes(pid) as f64 / 1e6);
    let mut accuracies = Vec::new();
    for seed in SEEDS {
        let asked = SystemTime::now();
        let begun = Instant::now();
        let job = client
            .create_job(v1::CreateJobRequest { spec: Some(spec(seed)), ..Default::default() })
            .await
            .expect("a job")
            .into_inner();
        let request = v1::WatchJobRequest { name: job.name, after_sequence: 0, ..Default::default() };
        let mut stream = client.watch_job(request).await.expect("a watch").into_inner();
        let (mut first_step, mut started, mut ended) = (None, None, None);
        let (mut accuracy, mut speeds) = (0.0, Vec::new());
        while let Some(message) = stream.message().await.expect("the watch goes on") {
            for event in message.events {
                let Some(Event::Record(record)) = event.event else { continue };
                let time = record.time.and_then(|time| SystemTime::try_from(time).ok()).expect("a time");
                match record.what {
                    Some(What::Started(_)) => started = Some(time),
                    Some(What::Ended(_)) => ended = Some(time),
                    Some(What::Scalars(scalars)) => {
                        first_step.get_or_insert(time);
                        for value in scalars.values {
                            match value.tag.as_str() {
                                "accuracy/validation" => accuracy = value.value,
                                "throughput/examples_per_second" => speeds.push(value.value),
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        let since =
            |time: Option<SystemTime>| time.and_then(|time| time.duration_since(asked).ok()).unwrap_or_default();
        let span = since(ended).saturating_sub(since(started)).as_secs_f64();
        speeds.sort_by(f64::total_cmp);
        println!(
            "seed {seed}: validation accuracy {:.2} %; CreateJob to training {:.3} s, to the first step's scalars {:.3} s; \
             {:.0} examples/s in training (median), {:.0} with validation and checkpoints; {:.2} s in all",
            accuracy * 100.0,
            since(started).as_secs_f64(),
            since(first_step).as_secs_f64(),
            speeds[speeds.len() / 2],
            10.0 * 4000.0 / span,
            begun.elapsed().as_secs_f64(),
        );
        accuracies.push(accuracy);
    }
    println!("mean accuracy: {:.2} %", accuracies.iter().sum::<f64>() * 100.0 / accuracies.len() as f64);
    println!("daemon after {} jobs: {:.1} MB resident", SEEDS.len(), resident_bytes(pid) as f64 / 1e6);
}

/// `examples/mnist.toml` with another seed, and scalars from the first step on.
fn spec(seed: u64) -> v1::JobSpec {
    let text = fs::read_to_string("examples/mnist.toml").expect("the example lies in the project");
    let table: toml::Table = text.parse().expect("the example is TOML");
    let text = serde_json::to_string(&table).expect("a TOML table is a JSON object");
    let example = json::from_str::<v1::JobSpec>(&text).expect("the example is a spec");
    v1::JobSpec { seed, logging: Some(v1::Logging { scalar_every_steps: Some(1) }), ..example }
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("torchd runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}
