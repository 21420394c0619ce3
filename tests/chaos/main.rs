//! The fault harness: rounds in which the daemon, shims and runners are killed, stopped and frozen
//! at random and at every named point, clients pause, resume, cancel and delete, checkpoints rot
//! and the disk fills up. After each round every job has one true end, nothing is doubled, missing
//! or half-written, no process and no lease is left, and what was computed is bit for bit what an
//! unbroken job computes.
//!
//! `CHAOS_ROUNDS` is how many rounds there are, `CHAOS_SEED` the seed of the first; each following
//! one has the next number. A round that failed is played again by its seed alone: `CHAOS_SEED=n
//! CHAOS_ROUNDS=1`. The same blows fall then; what they hit is up to the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod blows;
#[allow(dead_code, reason = "not everything is needed here")]
#[path = "../system/daemon.rs"]
mod daemon;
mod follower;
mod invariants;
mod random;
mod reference;
mod round;
#[path = "../system/small_disk.rs"]
mod small_disk;
#[allow(dead_code, reason = "not everything is needed here")]
#[path = "../system/spec.rs"]
mod spec;
mod strike;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_each_job_has_one_true_end_and_no_step_is_doubled_or_missing() {
    let rounds = number("CHAOS_ROUNDS").unwrap_or(30);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = number("CHAOS_SEED").unwrap_or(since_epoch.as_secs() % 1_000_000);
    let reference = reference::Reference::train().await;
    let begun = Instant::now();
    let mut tally: BTreeMap<String, u64> = BTreeMap::new();
    for seed in first..first + rounds {
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("round {} of {rounds} after {seconds:.1} s: CHAOS_SEED={seed}", seed - first + 1);
        for (what, count) in round::play(seed, &reference).await {
            *tally.entry(what).or_default() += count;
        }
    }
    eprintln!("{rounds} rounds from seed {first} on, in {:.0} s:", begun.elapsed().as_secs_f64());
    for (what, count) in tally {
        eprintln!("  {count:6} {what}");
    }
}

/// A point that was added to the programs and is not known here would never be died at.
#[test]
fn every_named_point_of_the_programs_is_known() {
    fn points_below(folder: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                points_below(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let parts = text.split("fault::point(\"").skip(1);
                found.extend(parts.map(|part| part.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let mut found = std::collections::BTreeSet::new();
    points_below(std::path::Path::new("src"), &mut found);
    let known = blows::POINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
