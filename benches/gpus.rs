//! Measures the cost of watching GPUs: a pass over eight replayed GPUs, the daemon's CPU time for
//! it, `/metrics` beside node_exporter where that is installed, by one scraper and by 64 at once,
//! and memory over many samples and events. `cargo bench --bench gpus -- scrapes` runs that alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/figures.rs"]
mod figures;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use daemon::Daemon;
use torchd::gpu::{
    Driver, DriverEvent, DriverFacts, EventSource, Replay, Sample, Session, Unavailable, Watcher, WatcherSettings,
};
use torchd::proto::v1::{self, job_service_client::JobServiceClient};

const PROFILE: &str = "8xh100:load";
const SCRAPERS: usize = 64;
const SCRAPES_EACH: usize = 50;
const ROUNDS: usize = 5;
/// Scrapes of a round, one after the other: so many that the ticks in which the kernel counts the
/// time of a processor are small beside them.
const SCRAPES: usize = 300;
/// The peer of `/metrics`.
const PEER: &str = "node_exporter";
const JOBS: usize = 100;
const SAMPLES: u64 = 100_000;
const EVENTS: u64 = 10_000;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let benches: [(&str, fn()); 4] =
        [("pass", pass), ("memory", memory), ("processor", cpu_time), ("scrapes", scrapes)];
    for (name, bench) in benches {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            bench();
        }
    }
}

/// One pass, as the daemon's thread makes it.
fn pass() {
    let replay = Replay::load(Path::new(PROFILE)).expect("the profile is built in");
    let mut session = replay.open().expect("it plays");
    let mut times: Vec<Duration> = (0..2000)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(session.sample().expect("a sample"));
            begun.elapsed()
        })
        .collect();
    let (middle, most) = percentiles(&mut times);
    println!("a pass over 8 replayed GPUs: {middle:.3} ms in the middle, {most:.3} ms at 99 %");
}

/// CPU time of a daemon that samples every second and serves nobody.
fn cpu_time() {
    let daemon = Daemon::start(&[], &[("gpu.replay", PROFILE)]);
    // The probe of the runner is over by then.
    std::thread::sleep(Duration::from_secs(3));
    let (before, begun) = (cpu_seconds(daemon.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let used = (cpu_seconds(daemon.pid()) - before) / begun.elapsed().as_secs_f64();
    println!(
        "the daemon with 8 replayed GPUs each second, and nothing else to do: {:.1} s of CPU an hour",
        used * 3600.0
    );
}

/// Resident memory of a watcher over many samples and events.
fn memory() {
    let replay = Replay::load(Path::new(PROFILE)).expect("the profile is built in");
    let driver = Eventful { replay: Arc::new(replay) };
    let watcher = Watcher::start(Box::new(driver), WatcherSettings { interval: Duration::ZERO }).expect("a thread");
    let mut changes = watcher.changes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let begun = Instant::now();
    let mut seen = 0u64;
    let mut last = None;
    let mut early = 0;
    // Samples come faster than we look; what the watcher says about the time of a pass tells how
    // many there were.
    while seen < SAMPLES {
        runtime.block_on(changes.changed()).expect("it goes on");
        let now = watcher.latest();
        if now.taken.map(|(_, at)| at) != last {
            last = now.taken.map(|(_, at)| at);
            seen += 1;
        }
        if seen == SAMPLES / 10 {
            early = resident_bytes();
        }
    }
    let events = watcher.events().list("", None, usize::MAX).first().map_or(0, |event| event.sequence);
    println!(
        "memory of a watcher: {:.1} MB after {} samples, {:.1} MB after {SAMPLES} and {events} events ({:.0} s)",
        early as f64 / 1e6,
        SAMPLES / 10,
        resident_bytes() as f64 / 1e6,
        begun.elapsed().as_secs_f64()
    );
    watcher.stop();
}

/// `/metrics` with 8 GPUs and 100 jobs, and node_exporter's beside it, in turns.
fn scrapes() {
    let daemon = Daemon::start(
        &["--data-root", "examples"],
        &[("gpu.replay", PROFILE), ("metrics.dcgm_names", "true"), ("jobs.cpu_slots", "1")],
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let runner = runtime.block_on(fill_queue(daemon.grpc()));
    let other = NodeExporter::start();
    let ours = daemon.http();
    let size = scrape(&ours).len();
    println!("/metrics with 8 GPUs (dcgm names too) and {JOBS} jobs: {} kB a page", size / 1000);
    if let Some(other) = &other {
        one_after_the_other(&daemon, other);
    }
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (middle, most) = hammer(&ours);
        print!("round {round}, {SCRAPERS} scrapers at once: torchd {middle:.1} ms in the middle, {most:.1} ms at 99 %");
        match &other {
            Some(other) => {
                let (other_middle, other_most) = hammer(&other.address);
                let ratio = other_middle / middle;
                own.push(middle);
                others.push(other_middle);
                println!("; node_exporter {other_middle:.1} and {other_most:.1} ms, {ratio:.1} times torchd's");
            }
            None => println!("; node_exporter is not installed"),
        }
    }
    if other.is_some() {
        figures::note_beside("metrics/crowd", "ms", &own, PEER, &others);
    }
    signal(runner, nix::sys::signal::Signal::SIGCONT);
}

/// Scrapes by one scraper, of both by turns: how long one takes, and how long processors work for
/// it. The first round does not count.
fn one_after_the_other(daemon: &Daemon, other: &NodeExporter) {
    let sides = [(daemon.http(), daemon.pid()), (other.address.clone(), other.child.id())];
    let mut seen = [(); 4].map(|()| Vec::new());
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            // Neither side always comes after the other.
            let side = (turn + round) % 2;
            let (address, pid) = &sides[side];
            let (before, begun) = (cpu_seconds(*pid), Instant::now());
            for _ in 0..SCRAPES {
                scrape(address);
            }
            let (taken, worked) = (begun.elapsed().as_secs_f64(), cpu_seconds(*pid) - before);
            if round > 0 {
                seen[side].push(taken * 1e3 / SCRAPES as f64);
                seen[side + 2].push(worked * 1e3 / SCRAPES as f64);
            }
        }
    }
    let [ours, theirs, worked, worked_there] = seen;
    figures::note_beside("metrics/wall", "ms", &ours, PEER, &theirs);
    figures::note_beside("metrics/processor", "ms", &worked, PEER, &worked_there);
    println!(
        "one scraper: torchd {ours:.2?} ms, {worked:.2?} ms of processor; {PEER} {theirs:.2?} ms, {worked_there:.2?} ms"
    );
}

/// 100 jobs: one that runs, and stands still so that it does not disturb, and those behind it.
/// Returns its process.
async fn fill_queue(address: String) -> u32 {
    let mut client = JobServiceClient::connect(address).await.expect("torchd serves");
    let text = std::fs::read_to_string("examples/mnist.toml").expect("the example");
    let table = torchd::proto::text::to_table(&text, false).expect("it is TOML");
    let mut spec: v1::JobSpec = torchd::proto::text::message(&[table]).expect("it is right");
    spec.training.as_mut().expect("it says how long").length = Some(v1::training::Length::Epochs(1_000_000));
    let mut first = None;
    for _ in 0..JOBS {
        let job = client
            .create_job(v1::CreateJobRequest { spec: Some(spec.clone()), ..Default::default() })
            .await
            .expect("a job");
        first.get_or_insert(job.into_inner().name);
    }
    let request = v1::WatchJobRequest { name: first.expect("a job"), after_sequence: 0, ..Default::default() };
    let mut stream = client.watch_job(request).await.expect("a watch").into_inner();
    loop {
        let message = stream.message().await.expect("the watch goes on").expect("it does not end");
        for event in message.events {
            if let Some(v1::watch_event::Event::Record(record)) = event.event
                && let Some(v1::job_record::What::Started(started)) = record.what
            {
                signal(started.pid, nix::sys::signal::Signal::SIGSTOP);
                return started.pid;
            }
        }
    }
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::kill(pid, signal).expect("the runner is ours");
}

/// Debian's node_exporter, if it is there.
struct NodeExporter {
    child: Child,
    address: String,
}

impl NodeExporter {
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("prometheus-node-exporter");
        command.arg(format!("--web.listen-address={address}")).arg("--web.max-requests=0");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, address })
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it serves");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{}", &answer[..answer.len().min(200)]);
    answer
}

/// Milliseconds a scrape, in the middle and at 99 %, with many at once.
fn hammer(address: &str) -> (f64, f64) {
    let barrier = Arc::new(Barrier::new(SCRAPERS));
    let threads: Vec<_> = (0..SCRAPERS)
        .map(|_| {
            let (barrier, address) = (barrier.clone(), address.to_owned());
            std::thread::spawn(move || {
                barrier.wait();
                let one = || {
                    let begun = Instant::now();
                    scrape(&address);
                    begun.elapsed()
                };
                (0..SCRAPES_EACH).map(|_| one()).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut times: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().expect("scrapes")).collect();
    percentiles(&mut times)
}

fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

/// Field 2 of /proc/self/statm, in pages.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split_whitespace().nth(1).expect("a field").parse::<u64>().expect("a number") * 4096
}

/// User and system time of a process: fields 14 and 15 of its stat, in hundredths of a second.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// The profile, with events as fast as they are taken.
struct Eventful {
    replay: Arc<Replay>,
}

impl Driver for Eventful {
    fn open(&self) -> Result<Box<dyn Session>, Unavailable> {
        Ok(Box::new(EventfulSession { inner: self.replay.open()? }))
    }
}

struct EventfulSession {
    inner: Box<dyn Session>,
}

impl Session for EventfulSession {
    fn facts(&self) -> DriverFacts {
        self.inner.facts()
    }

    fn sample(&mut self) -> Result<Sample, Unavailable> {
        self.inner.sample()
    }

    fn events(&self) -> Result<Box<dyn EventSource>, String> {
        Ok(Box::new(Storm))
    }
}

struct Storm;

impl EventSource for Storm {
    fn watch(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(DriverEvent)) -> Result<(), String> {
        for number in 0..EVENTS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let uuid = format!("GPU-{}", number % 8);
            tell(DriverEvent { uuid, kind: v1::GpuEventKind::Xid, data: 13 + number % 3 });
        }
        Ok(())
    }
}
