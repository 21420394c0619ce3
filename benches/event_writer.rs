//! The event writer, as training uses it: one tag, one value an event, to a file, beside PyTorch's
//! SummaryWriter (`benches/event_writer.py`): seconds of processor, by turns.
//!
//! PYTHON names another interpreter than `.pytorch`'s, with PyTorch. TensorBoard comes from
//! `.python`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/figures.rs"]
mod figures;
#[path = "harness/peer.rs"]
mod peer;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rounds.rs"]
mod rounds;

use std::hint::black_box;
use std::time::SystemTime;

use peer::{Peer, by_turns, worked_for};
use python::python;
use torchd::tensorboard::EventFileWriter;

const SCALARS: i64 = 100_000;

fn main() {
    let mut command = python("PYTHON", "event_writer.py");
    command.env("PYTHONPATH", ".python");
    let mut peer = Peer::start(command, &[]);
    let count = SCALARS.to_string();
    let rate = |seconds: f64| format!("{:.0} thousand scalars/s of processor", SCALARS as f64 / seconds / 1e3);
    let questions = [("SummaryWriter", count.as_str())];
    let (ours, theirs) = by_turns("event files", rate, || worked_for(write), &mut peer, &questions);
    let micros = |seconds: &[f64]| -> Vec<f64> { seconds.iter().map(|one| one * 1e6 / SCALARS as f64).collect() };
    figures::note_beside("event_files/scalar", "us of processor", &micros(&ours), "SummaryWriter", &micros(&theirs[0]));
}

fn write() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = EventFileWriter::create(folder.path(), 0).expect("an event file");
    for step in 0..SCALARS {
        writer.scalar(SystemTime::now(), step, "loss/train", black_box(0.5)).expect("a write");
    }
    writer.flush().expect("a write");
}
