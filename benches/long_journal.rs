//! A daemon that opens the folder of a job whose journal has a gigabyte: seconds until it serves,
//! and until it tells the job's end and step, its peak of memory, and the same for whoever reads
//! the job's scalars next.
//!
//! The job is one that ended while there was no daemon. Its journal is written by the writer that
//! runners have. LONG_JOURNAL_BYTES makes another length.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/figures.rs"]
mod figures;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use daemon::Daemon;
use tonic::transport::Channel;
use torchd::journal::{ExitNote, ExitRoom, JobFolder, JobLock, JournalWriter};
use torchd::proto::journal::record::What;
use torchd::proto::v1::{self, job_service_client::JobServiceClient};

type Client = JobServiceClient<Channel>;

const TAGS: usize = 7;
/// Seconds that a daemon may take until it serves, whatever the journals.
const MOST_TO_READY: f64 = 2.0;
/// Seconds that it may take for a gigabyte of a journal.
const MOST_A_GIGABYTE: f64 = 10.0;
/// Memory that reading a journal may take, in megabytes: nothing that grows with its length.
const MOST_GROWN: f64 = 64.0;

fn main() {
    let bytes = std::env::var("LONG_JOURNAL_BYTES").map_or(1_000_000_000, |bytes| bytes.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(bytes));
}

async fn measure(bytes: u64) {
    let flags = ["--data-root", "examples"];
    let daemon = Daemon::start(&flags, &[]);
    let mut client = connect(&daemon).await;
    let name = create(&mut client).await;
    let job = run(&mut client, &name).await;
    let (state, folder) = (daemon.crash(), JobFolder::new(PathBuf::from(&job.directory)));
    let (last, records) = lengthen(&folder, job.progress.expect("it runs").step, bytes);
    let length = fs::metadata(folder.journal()).expect("a journal").len();

    let begun = Instant::now();
    let daemon = Daemon::start_in(state, &flags, &[]);
    let ready = begun.elapsed().as_secs_f64();
    let idle = memory(&daemon, "VmHWM");
    let mut client = connect(&daemon).await;
    let job = loop {
        let job = get(&mut client, &name).await;
        if job.state() == v1::JobState::Succeeded {
            break job;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{job:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let right = begun.elapsed().as_secs_f64();
    assert_eq!(job.progress.expect("it has run").step, last);
    let peak = memory(&daemon, "VmHWM");

    let asked = Instant::now();
    let request = v1::ListScalarTagsRequest { name: name.clone(), ..v1::ListScalarTagsRequest::default() };
    let tags = client.list_scalar_tags(request).await.expect("tags").into_inner().tags;
    let indexed = asked.elapsed().as_secs_f64();
    assert!(tags.iter().filter(|tag| tag.point_count >= records).count() == TAGS, "{tags:?}");
    let read = memory(&daemon, "VmHWM");

    let most = MOST_A_GIGABYTE * length as f64 / 1e9;
    figures::note("journal/ready", "s", &[ready], Some(MOST_TO_READY));
    figures::note("journal/state", "s", &[right], Some(MOST_TO_READY + most));
    figures::note("journal/index", "s", &[indexed], Some(most));
    figures::note("journal/memory", "MB more", &[read - idle], Some(MOST_GROWN));
    println!(
        "a journal of {:.0} MB, {records} records: {ready:.2} s until it serves, {right:.2} s until the job's end is told, {indexed:.2} s for its \
         tags; peak of the daemon {idle:.1} MB when it serves, {peak:.1} MB then, {read:.1} MB at last",
        length as f64 / 1e6,
    );
}

async fn connect(daemon: &Daemon) -> Client {
    JobServiceClient::connect(daemon.grpc()).await.expect("torchd serves")
}

/// A job that does not end by itself.
async fn create(client: &mut Client) -> String {
    let text = fs::read_to_string("examples/mnist.toml").expect("the example");
    let table = torchd::proto::text::to_table(&text, false).expect("it is TOML");
    let mut spec: v1::JobSpec = torchd::proto::text::message(&[table]).expect("it is right");
    spec.training.as_mut().expect("it says how long").length = Some(v1::training::Length::Epochs(1_000_000));
    let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
    client.create_job(request).await.expect("a job").into_inner().name
}

async fn get(client: &mut Client, name: &str) -> v1::Job {
    client.get_job(v1::GetJobRequest { name: name.into() }).await.expect("it is there").into_inner()
}

/// The job, once its runner has told of a step.
async fn run(client: &mut Client, name: &str) -> v1::Job {
    loop {
        let job = get(client, name).await;
        if job.progress.as_ref().is_some_and(|progress| progress.step > 0) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends the runner, and lets the journal go on to that length as if it had trained to its end. The
/// last step, and the records that were added.
fn lengthen(folder: &JobFolder, step: u64, bytes: u64) -> (u64, u64) {
    let signature = fs::read(folder.lock()).expect("a lock");
    let signature: serde_json::Value = serde_json::from_slice(&signature).expect("it is signed");
    let pid = nix::unistd::Pid::from_raw(signature["pid"].as_i64().expect("a process") as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("the runner is ours");
    // Its shim has noted the signal, by then, and left.
    let lock = loop {
        if folder.exit().exists()
            && let Some(lock) = JobLock::take(folder).expect("a lock")
        {
            break lock;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut writer = JournalWriter::open(folder, &lock, 1).expect("a journal");
    let tags: [String; TAGS] = std::array::from_fn(|tag| format!("metric_{tag}/train"));
    let (from, mut last) = (step + 1_000_000, step);
    while writer.length() < bytes {
        last = last.max(from) + 1;
        let value = |tag: &String| v1::ScalarValue { tag: tag.clone(), value: last as f64 };
        let values = v1::ScalarValues { step: last, values: tags.iter().map(value).collect() };
        writer.append(SystemTime::now(), What::Scalars(values)).expect("room on the disk");
    }
    let ended = v1::RunnerEnded {
        reason: v1::JobEndReason::Finished.into(),
        message: "trained to the end".into(),
        step: last,
        ..v1::RunnerEnded::default()
    };
    writer.append(SystemTime::now(), What::Ended(ended)).expect("room on the disk");
    writer.sync().expect("a disk");
    let note = ExitNote { attempt: 1, code: Some(0), signal: None, out_of_memory: false };
    ExitRoom::take(folder).expect("room on the disk").write(&note).expect("room on the disk");
    (last, last - from)
}

/// A figure of a daemon's memory, in megabytes.
fn memory(daemon: &Daemon, which: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("torchd runs");
    let line = status.lines().find(|line| line.starts_with(which)).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<f64>().ok()).expect("a number") / 1e3
}
