//! A set like MNIST's, of 60,000 images in IDX files: the time from CreateJob until its client has
//! the first step's loss, beside that from the start of a Python program with PyTorch until it
//! prints its own (`benches/first_step.py`).
//!
//! Both take turns, and the files are in the page cache. PYTHON names another interpreter than
//! `.pytorch`'s.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/figures.rs"]
mod figures;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rounds.rs"]
mod rounds;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Instant, SystemTime};

use daemon::Daemon;
use python::python;
use rounds::{ROUNDS, Spread};
use tonic::transport::Channel;
use torchd::dataset::draw::mix;
use torchd::proto::v1::{self, job_record::What, job_service_client::JobServiceClient, watch_event::Event};

const EXAMPLES: u32 = 60_000;
const SIDE: u32 = 28;
const IMAGES: &str = "train-images";
const LABELS: &str = "train-labels";

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().canonicalize().expect("its path");
    write(&root);
    let daemon = Daemon::start(&["--data-root", root.to_str().expect("a path of text")], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(daemon.grpc(), &root));
}

/// Writes the files of a set (magic number, sizes, bytes).
fn write(root: &Path) {
    let head = |magic: u32, sizes: &[u32]| [&[magic], sizes].concat().into_iter().flat_map(u32::to_be_bytes).collect();
    let mut images: Vec<u8> = head(0x803, &[EXAMPLES, SIDE, SIDE]);
    let words = u64::from(EXAMPLES * SIDE * SIDE / 8);
    images.extend((0..words).flat_map(|word| mix(word).to_le_bytes()));
    let mut labels: Vec<u8> = head(0x801, &[EXAMPLES]);
    labels.extend((0..EXAMPLES).map(|example| (example % 10) as u8));
    fs::write(root.join(IMAGES), images).expect("room on the disk");
    fs::write(root.join(LABELS), labels).expect("room on the disk");
}

async fn measure(address: String, root: &Path) {
    let mut client = JobServiceClient::connect(address).await.expect("torchd serves");
    // The first answer that needs the probe means that the daemon has nothing to do.
    let request = v1::ValidateJobRequest { spec: Some(spec()), dry_run: false };
    client.validate_job(request).await.expect("the job is right");
    let (mut ours, mut made, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        // The first turn of each does not count, and neither side always comes after the other.
        let first = if round % 2 == 0 { Some(torchd(&mut client).await) } else { None };
        // The connection has to answer the daemon meanwhile.
        let files = root.to_owned();
        let peer = tokio::task::spawn_blocking(move || pytorch(&files)).await.expect("the peer runs");
        let (seen, written) = match first {
            Some(first) => first,
            None => torchd(&mut client).await,
        };
        if round > 0 {
            ours.push(seen);
            made.push(written);
            theirs.push(peer);
        }
    }
    figures::note_beside("first_step/loss", "s", &ours, "PyTorch", &theirs);
    let shares = Spread::of(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs));
    let [ours, made, theirs] = [ours, made, theirs].map(Spread::of);
    println!(
        "first step of {EXAMPLES} images: torchd {:.3} s until its client has the loss ({:.3} s until it is written), \
         PyTorch {:.3} s: {:.2} of it ({:.2} to {:.2} in {ROUNDS} rounds)",
        ours.median, made.median, theirs.median, shares.median, shares.least, shares.most
    );
}

/// Seconds from CreateJob until the client has the scalars of the first step, and until they were
/// written.
async fn torchd(client: &mut JobServiceClient<Channel>) -> (f64, f64) {
    let (asked, begun) = (SystemTime::now(), Instant::now());
    let request = v1::CreateJobRequest { spec: Some(spec()), ..v1::CreateJobRequest::default() };
    let name = client.create_job(request).await.expect("a job").into_inner().name;
    let request = v1::WatchJobRequest { name: name.clone(), after_sequence: 0, ..Default::default() };
    let mut stream = client.watch_job(request).await.expect("a watch").into_inner();
    let mut found = None;
    while let Some(message) = stream.message().await.expect("the watch goes on") {
        for event in message.events {
            let Some(Event::Record(record)) = event.event else { continue };
            if found.is_none() && matches!(record.what, Some(What::Scalars(_))) {
                let seen = begun.elapsed().as_secs_f64();
                let written = record.time.and_then(|time| SystemTime::try_from(time).ok()).expect("a time");
                let written = written.duration_since(asked).expect("one clock").as_secs_f64();
                found = Some((seen, written));
            }
        }
    }
    found.expect("a step")
}

/// Seconds from the start of the interpreter until the program says its first loss.
fn pytorch(root: &Path) -> f64 {
    let begun = Instant::now();
    let mut command = python("PYTHON", "first_step.py");
    let mut child = command
        .args([IMAGES, LABELS].map(|name| root.join(name)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python with PyTorch: make pytorch");
    let mut loss = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut loss).expect("text");
    let taken = begun.elapsed().as_secs_f64();
    assert!(child.wait().expect("it is ours").success() && loss.trim().parse::<f64>().is_ok(), "{loss:?}");
    taken
}

/// One step of the network for MNIST.
fn spec() -> v1::JobSpec {
    let files = v1::IdxDataset { images: IMAGES.into(), labels: LABELS.into(), ..v1::IdxDataset::default() };
    let train = v1::Dataset { format: Some(v1::dataset::Format::Idx(files)) };
    let normalize = v1::Normalize { mean: vec![0.1307], std: vec![0.3081], ..v1::Normalize::default() };
    v1::JobSpec {
        seed: 1,
        model: Some(v1::Model { family: Some(v1::model::Family::MnistCnn(v1::MnistCnn::default())) }),
        data: Some(v1::Data { train: Some(train), normalize: Some(normalize), ..v1::Data::default() }),
        training: Some(v1::Training {
            length: Some(v1::training::Length::MaxSteps(1)),
            batch_size: Some(64),
            ..v1::Training::default()
        }),
        optimizer: Some(v1::Optimizer {
            kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd {
                learning_rate: Some(0.02),
                momentum: 0.5,
                ..v1::Sgd::default()
            })),
            ..v1::Optimizer::default()
        }),
        resources: Some(v1::Resources { device: v1::Device::Cpu.into(), ..v1::Resources::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..v1::JobSpec::default()
    }
}
