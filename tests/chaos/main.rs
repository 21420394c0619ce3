//! The fault harness: rounds in which the daemon, shims and runners are killed, stopped and frozen
//! at random and at every named point, clients pause, resume, cancel and delete, checkpoints rot
//! and the disk fills up. After each round every job has one true end, nothing is doubled, missing
//! or half-written, no process and no lease is left, and what was computed is bit for bit what an
//! unbroken job computes.
//!
//! `CHAOS_ROUNDS` is how many rounds there are, `CHAOS_AT_ONCE` how many of them are played beside
//! each other, `CHAOS_SEED` the seed of the first; each following one has the next number. A round
//! that failed is played again by its seed alone: `CHAOS_SEED=n CHAOS_ROUNDS=1`. The same blows
//! fall then; the machine decides which process they hit.

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
#[allow(dead_code, reason = "not everything is needed here")]
#[path = "../system/tools.rs"]
mod tools;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// Plays rounds until the last has begun. What happened in them.
fn play(next: &AtomicU64, end: u64, reference: &reference::Reference) -> round::Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut tally = round::Tally::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return tally;
        }
        eprintln!("a round begins: CHAOS_SEED={seed}");
        for (what, count) in runtime.block_on(round::play(seed, reference)) {
            *tally.entry(what).or_default() += count;
        }
    }
}

#[test]
fn whatever_dies_each_job_has_one_true_end_and_no_step_is_doubled_or_missing() {
    let rounds = number("CHAOS_ROUNDS").unwrap_or(30);
    let at_once = number("CHAOS_AT_ONCE").unwrap_or(3);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = number("CHAOS_SEED").unwrap_or(since_epoch.as_secs() % 1_000_000);
    let reference = tokio::runtime::Runtime::new().unwrap().block_on(reference::Reference::train());
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let mut tally = round::Tally::new();
    thread::scope(|scope| {
        let players: Vec<_> = (0..at_once).map(|_| scope.spawn(|| play(&next, first + rounds, &reference))).collect();
        for (what, count) in players.into_iter().flat_map(|player| player.join().expect("a round failed")) {
            *tally.entry(what).or_default() += count;
        }
    });
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
