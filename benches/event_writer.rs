//! Scalars per second of the event writer, as training uses it: one tag, one value an event, to a
//! file.
//!
//! For comparison, PyTorch's SummaryWriter.add_scalar writes 37.7 thousand a second on the machine
//! that this was written on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use torchd::tensorboard::EventFileWriter;

const SCALARS: i64 = 1_000_000;
const ROUNDS: usize = 5;

fn main() {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = EventFileWriter::create(folder.path(), 0).expect("an event file");
        let begun = Instant::now();
        for step in 0..SCALARS {
            writer.scalar(SystemTime::now(), step, "loss/train", black_box(0.5)).expect("a write");
        }
        writer.flush().expect("a write");
        rates.push(SCALARS as f64 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let median = rates[ROUNDS / 2];
    println!(
        "event writer: {median:.0} scalars/s (median of {ROUNDS} rounds of {SCALARS}; {:.0} to {:.0})",
        rates[0],
        rates[ROUNDS - 1]
    );
}
