//! Measures the cost of surviving through the real programs: a restart with many jobs, a long
//! queue, many watchers, checkpoints, and an idle daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/figures.rs"]
mod figures;

use std::fs;
use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daemon::Daemon;
use prost::bytes::Buf;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::transport::Channel;
use torchd::proto::v1::{self, job_record::What, job_service_client::JobServiceClient, watch_event::Event};

type Client = JobServiceClient<Channel>;

/// Jobs of the restart.
const RUNNING: usize = 50;
const QUEUED: usize = 1_000;
/// Jobs of the long queue.
const LONG_QUEUE: usize = 10_000;
/// CreateJob is compared by the medians of so many jobs, of the first and of the last so often.
const HUNDRED: usize = 100;
const MEDIANS: usize = 5;
/// Watchers of one job.
const WATCHERS: usize = 1_000;
/// Connections that the watchers share.
const CONNECTIONS: usize = 20;
/// Time of one measurement of throughput; the measurements take turns.
const SPAN: Duration = Duration::from_secs(10);
const TURNS: usize = 3;
/// Memory of its own of a daemon that has nothing to do, in megabytes. Pages of its program that
/// are resident come on top: the page cache decides how many.
const MOST_IDLE: f64 = 16.0;
/// Memory that the daemon may take for all watchers, in megabytes: for each a window of HTTP/2, and
/// as much that is on its way there.
const MOST_WATCHED: f64 = 128.0;
/// Memory that it may take for a queued job, in kilobytes.
const MOST_QUEUED: f64 = 16.0;
/// Milliseconds of a page of a thousand jobs.
const MOST_PAGE: f64 = 100.0;
/// Seconds from the start of a daemon until it serves, and until it knows how far all jobs are.
const MOST_TO_READY: f64 = 2.0;
const MOST_TO_KNOWN: f64 = 5.0;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    // `cargo bench --bench jobs -- queue restart` runs these two alone.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|wanted| wanted == name);
    if let [what, address, name] = chosen.as_slice()
        && what == "clients"
    {
        return runtime.block_on(clients(address.clone(), name.clone()));
    }
    runtime.block_on(async {
        if is_chosen("idle") {
            idle();
        }
        if is_chosen("checkpoints") {
            checkpoints().await;
        }
        if is_chosen("watchers") {
            watchers().await;
        }
        if is_chosen("queue") {
            long_queue().await;
        }
        if is_chosen("restart") {
            restart().await;
        }
    });
}

fn data() -> [&'static str; 2] {
    ["--data-root", "examples"]
}

async fn connect(daemon: &Daemon) -> Client {
    JobServiceClient::connect(daemon.grpc()).await.expect("torchd serves")
}

/// A job on one core that does not end by itself.
fn spec(every_steps: Option<u64>, scalar_every_steps: u32) -> v1::JobSpec {
    let set = |name: &str| v1::Dataset {
        format: Some(v1::dataset::Format::Idx(v1::IdxDataset {
            images: format!("mnist-5k/{name}-images-idx3-ubyte.gz"),
            labels: format!("mnist-5k/{name}-labels-idx1-ubyte.gz"),
            ..v1::IdxDataset::default()
        })),
    };
    v1::JobSpec {
        model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn::default())) }),
        data: Some(v1::Data { train: Some(set("train")), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(100_000_000)),
            batch_size: Some(64),
            ..v1::Training::default()
        }),
        optimizer: Some(v1::Optimizer {
            kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
                learning_rate: Some(0.01),
                momentum: 0.5,
                ..v1::Sgd::default()
            })),
            ..v1::Optimizer::default()
        }),
        resources: Some(v1::Resources {
            device: v1::Device::Cpu.into(),
            cpu_threads: Some(1),
            ..v1::Resources::default()
        }),
        checkpoint: Some(v1::Checkpoint { every_epochs: Some(1_000_000), every_steps, ..v1::Checkpoint::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(scalar_every_steps) }),
        ..v1::JobSpec::default()
    }
}

async fn create(client: &mut Client, spec: v1::JobSpec) -> String {
    let request = v1::CreateJobRequest { spec: Some(spec), ..v1::CreateJobRequest::default() };
    client.create_job(request).await.expect("a job").into_inner().name
}

async fn end(client: &mut Client, name: &str) {
    client.cancel_job(v1::CancelJobRequest { name: name.into(), now: true }).await.expect("it is ours");
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
    let mut stream = client.watch_job(request).await.expect("a watch").into_inner();
    while stream.message().await.expect("the watch goes on").is_some() {}
}

/// The step of a job, once it is past that.
async fn step(client: &mut Client, name: &str, past: u64) -> u64 {
    loop {
        let job = client.get_job(v1::GetJobRequest { name: name.into() }).await.expect("it is there").into_inner();
        match job.progress {
            Some(progress) if progress.step > past => return progress.step,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Steps a second over a span.
async fn speed(client: &mut Client, name: &str) -> f64 {
    let (from, begun) = (step(client, name, 0).await, Instant::now());
    tokio::time::sleep(SPAN).await;
    let to = step(client, name, from).await;
    (to - from) as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Memory of its own that a process has, in megabytes.
fn megabytes(pid: u32) -> f64 {
    memory(pid, "RssAnon:")
}

fn memory(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("torchd runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

/// A daemon that has nothing to do, once it knows what its runner finds.
fn idle() {
    let daemon = Daemon::start(&data(), &[]);
    let is_ready = || {
        let mut stream = std::net::TcpStream::connect(daemon.http()).expect("torchd serves");
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("torchd reads");
        std::io::read_to_string(stream).expect("torchd answers").contains("200 OK")
    };
    while !is_ready() {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(SPAN);
    let (own, resident) = (megabytes(daemon.pid()), memory(daemon.pid(), "VmRSS:"));
    figures::note("idle/memory", "MB of its own", &[own], Some(MOST_IDLE));
    figures::note("idle/resident", "MB with pages of its program", &[resident], None);
    println!(
        "idle: {own:.1} MB of its own, {MOST_IDLE:.0} at most are promised; {resident:.1} MB with pages of its program"
    );
}

/// One job at a time, with a checkpoint every ten steps and with none, in turns.
async fn checkpoints() {
    let daemon = Daemon::start(&data(), &[]);
    let mut client = connect(&daemon).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        for (every_steps, speeds) in [(Some(10), &mut with), (None, &mut without)] {
            let name = create(&mut client, spec(every_steps, 10)).await;
            speeds.push(speed(&mut client, &name).await);
            end(&mut client, &name).await;
        }
    }
    figures::note_rate_beside("checkpoints/speed", "steps/s", &with, "without checkpoints", &without);
    let (with, without) = (median(with), median(without));
    let milliseconds = (1.0 / with - 1.0 / without) * 10.0 * 1e3;
    println!(
        "checkpoints: {without:.0} steps/s without, {with:.0} with one every 10 steps ({:.1} %): {milliseconds:.2} ms of training a checkpoint",
        (with / without - 1.0) * 100.0
    );
}

/// A job that logs every step, with many watchers and with none, in turns. The watchers' clients
/// are a process of its own that gets what the others leave of the processor: they are on other
/// machines as a rule, and what they cost there is theirs.
async fn watchers() {
    let daemon = Daemon::start(&data(), &[]);
    let mut client = connect(&daemon).await;
    let name = create(&mut client, spec(None, 1)).await;
    step(&mut client, &name, 0).await;
    let idle = megabytes(daemon.pid());
    let (mut watched, mut alone, mut busy, mut messages, mut bytes, mut most) =
        (Vec::new(), Vec::new(), 0.0, 0, 0, 0.0f64);
    for _ in 0..TURNS {
        alone.push(speed(&mut client, &name).await);
        let mut clients = Clients::start(&daemon, &name).await;
        let before = (clients.counts(), processor_seconds(daemon.pid()));
        watched.push(speed(&mut client, &name).await);
        let after = (clients.counts(), processor_seconds(daemon.pid()));
        messages += after.0.0 - before.0.0;
        bytes += after.0.1 - before.0.1;
        busy += after.1 - before.1;
        most = most.max(megabytes(daemon.pid()));
    }
    end(&mut client, &name).await;
    figures::note_rate_beside("watchers/speed", "steps/s", &watched, "without watchers", &alone);
    figures::note("watchers/memory", "MB more", &[most - idle], Some(MOST_WATCHED));
    let (watched, alone) = (median(watched), median(alone));
    let seconds = TURNS as f64 * SPAN.as_secs_f64();
    println!(
        "watchers: {alone:.0} steps/s without, {watched:.0} with {WATCHERS} ({:+.1} %); together they got {:.1} thousand messages and {:.0} MB a \
         second, for {:.0} % of a core in the daemon; {idle:.1} MB before, {most:.1} MB at most",
        (watched / alone - 1.0) * 100.0,
        messages as f64 / seconds / 1e3,
        bytes as f64 / seconds / 1e6,
        busy / seconds * 100.0,
    );
}

/// The process of the watchers' clients.
struct Clients {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Clients {
    /// Starts it and waits until all of them watch.
    async fn start(daemon: &Daemon, name: &str) -> Self {
        let program = std::env::current_exe().expect("a bench is a program");
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(program)
            .args(["clients", &daemon.grpc(), name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nice is there");
        let mut lines = std::io::BufReader::new(child.stdout.take().expect("it is piped")).lines();
        lines.next().expect("they begin").expect("they begin");
        Self { child, lines }
    }

    /// Messages and bytes that they got so far.
    fn counts(&mut self) -> (u64, u64) {
        self.child.stdin.as_mut().expect("it is piped").write_all(b"?\n").expect("they are there");
        let line = self.lines.next().expect("they answer").expect("they answer");
        let (messages, bytes) = line.split_once(' ').expect("two numbers");
        (messages.parse().expect("a number"), bytes.parse().expect("a number"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.child.stdin = None;
        self.child.wait().expect("they are ours");
    }
}

/// The other side of `Clients`: watches until nobody asks any more.
async fn clients(address: String, name: String) {
    static MESSAGES: AtomicU64 = AtomicU64::new(0);
    static BYTES: AtomicU64 = AtomicU64::new(0);
    let mut first = JobServiceClient::connect(address.clone()).await.expect("torchd serves");
    // From where it is now on: nobody reads what is past.
    let job = first.get_job(v1::GetJobRequest { name: name.clone() }).await.expect("it is there").into_inner();
    let after = last_record(&mut first, &name, job.progress.map_or(0, |progress| progress.step)).await;
    for _ in 0..CONNECTIONS {
        let endpoint = Channel::from_shared(address.clone()).expect("an address");
        let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.expect("torchd serves"));
        for _ in 0..WATCHERS / CONNECTIONS {
            let request = v1::WatchJobRequest { name: name.clone(), after_sequence: after, ..Default::default() };
            let path = http::uri::PathAndQuery::from_static("/torchd.v1.JobService/WatchJob");
            grpc.ready().await.expect("torchd serves");
            let answer = grpc.server_streaming(tonic::Request::new(request), path, Uncoded).await;
            let mut stream = answer.expect("a watch").into_inner();
            tokio::spawn(async move {
                while let Ok(Some(count)) = stream.message().await {
                    MESSAGES.fetch_add(1, Ordering::Relaxed);
                    BYTES.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    }
    println!("they watch");
    tokio::task::spawn_blocking(|| {
        for _ in std::io::stdin().lines() {
            println!("{} {}", MESSAGES.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
        }
        std::process::exit(0);
    });
    std::future::pending().await
}

/// Takes messages without looking into them.
#[derive(Clone, Copy, Default)]
struct Uncoded;

impl Codec for Uncoded {
    type Encode = v1::WatchJobRequest;
    type Decode = usize;
    type Encoder = <tonic_prost::ProstCodec<v1::WatchJobRequest, v1::WatchJobRequest> as Codec>::Encoder;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        tonic_prost::ProstCodec::<v1::WatchJobRequest, v1::WatchJobRequest>::default().encoder()
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Uncoded {
    type Item = usize;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<usize>, tonic::Status> {
        let count = bytes.remaining();
        bytes.advance(count);
        Ok(Some(count))
    }
}

/// Seconds that a process has had a processor: fields 14 and 15 of `/proc/<pid>/stat`, in ticks.
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("torchd runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number")).sum();
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks / a_second as f64
}

/// The number of the record that tells of a step.
async fn last_record(client: &mut Client, name: &str, step: u64) -> u64 {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: 0, ..Default::default() };
    let mut stream = client.watch_job(request).await.expect("a watch").into_inner();
    while let Some(message) = stream.message().await.expect("the watch goes on") {
        for event in message.events {
            if let Some(Event::Record(record)) = event.event
                && let Some(What::Scalars(scalars)) = record.what
                && scalars.step >= step
            {
                return record.sequence;
            }
        }
    }
    0
}

/// Many jobs that wait behind one.
async fn long_queue() {
    let daemon = Daemon::start(&data(), &[("jobs.max_queued", "20000"), ("jobs.cpu_slots", "1")]);
    let mut client = connect(&daemon).await;
    let first = create(&mut client, spec(None, 1000)).await;
    let before = megabytes(daemon.pid());
    let begun = Instant::now();
    let mut times = Vec::new();
    for _ in 0..LONG_QUEUE {
        let begun = Instant::now();
        create(&mut client, spec(None, 10)).await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let all = begun.elapsed().as_secs_f64();
    let after = megabytes(daemon.pid());
    let medians = |times: &[f64]| times.chunks(HUNDRED).take(MEDIANS).map(|part| median(part.to_vec())).collect();
    let (late, early): (Vec<f64>, Vec<f64>) = (medians(&times[LONG_QUEUE - HUNDRED * MEDIANS..]), medians(&times));
    figures::note_beside("queue/create", "ms", &late, "the first jobs", &early);
    let each = (after - before) * 1e3 / LONG_QUEUE as f64;
    figures::note("queue/memory", "kB a job", &[each], Some(MOST_QUEUED));
    println!(
        "queue: {LONG_QUEUE} jobs in {all:.1} s; CreateJob {:.2} ms in the middle, {:.2} ms for the last hundreds; daemon {before:.1} MB before, \
         {after:.1} MB after",
        median(times),
        median(late),
    );
    let (mut pages, mut jobs, mut token) = (Vec::new(), 0, String::new());
    loop {
        let begun = Instant::now();
        let request = v1::ListJobsRequest { page_size: 1000, page_token: token, ..v1::ListJobsRequest::default() };
        let page = client.list_jobs(request).await.expect("a page").into_inner();
        pages.push(begun.elapsed().as_secs_f64() * 1e3);
        jobs += page.jobs.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    figures::note("queue/list", "ms a page of 1000", &pages, Some(MOST_PAGE));
    println!("list: {jobs} jobs in {} pages, {:.0} ms a page in the middle", pages.len(), median(pages));
    end(&mut client, &first).await;
}

/// The daemon dies with many jobs, and another one takes over.
async fn restart() {
    let slots = RUNNING.to_string();
    let settings = [("jobs.max_queued", "20000"), ("jobs.cpu_slots", slots.as_str())];
    let daemon = Daemon::start(&data(), &settings);
    let mut client = connect(&daemon).await;
    let mut running = Vec::new();
    for _ in 0..RUNNING {
        running.push(create(&mut client, spec(None, 1000)).await);
    }
    for _ in 0..QUEUED {
        create(&mut client, spec(None, 1000)).await;
    }
    for name in &running {
        step(&mut client, name, 0).await;
    }
    let state = daemon.crash();
    let begun = Instant::now();
    let daemon = Daemon::start_in(state, &data(), &settings);
    let ready = begun.elapsed().as_secs_f64();
    let mut client = connect(&daemon).await;
    for name in &running {
        step(&mut client, name, 0).await;
    }
    let (known, memory) = (begun.elapsed().as_secs_f64(), megabytes(daemon.pid()));
    figures::note("restart/ready", "s", &[ready], Some(MOST_TO_READY));
    figures::note("restart/known", "s", &[known], Some(MOST_TO_KNOWN));
    println!(
        "restart with {RUNNING} running and {QUEUED} queued jobs: {ready:.2} s to ready, {known:.2} s until the progress of all is known; \
         {memory:.1} MB"
    );
}
