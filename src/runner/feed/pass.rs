//! A pass over a set: the bytes of its batches, one after the other, in the order of the pass.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use torchd::dataset::{Access, Chances, Facts, HostBatch, Problem, Source};
use torchd::proto::v1::JobEndReason;

use super::Patience;
use super::mixed::{Mixed, Mixing};
use super::order::{Order, Shuffle, Window};
use super::read_ahead::{Bounds, ReadAhead, read};
use crate::failure::{Failure, Result};
use crate::inputs::failure;
use crate::shards::bounds;

/// Bytes of batches that lie ahead of the loop at most.
const AHEAD_BYTES: u64 = 64 << 20;
/// A batch of a set in memory that has fewer bytes is copied by the loop: handing it from thread to
/// thread would take as long.
const WORTH_A_THREAD: u64 = 1 << 20;

/// The next batch of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// The shuffle of the pass; None for the order of the places.
    pub(super) shuffle: Option<Shuffle>,
    /// The examples before it.
    pub(super) position: u64,
    /// Examples of a batch; the last one of the pass may have fewer.
    pub(super) size: u64,
    /// The part of each batch that is read.
    pub(super) share: Share,
}

/// A part of each batch: slices of it that follow each other, as they are cut for shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// The first slice.
    pub(crate) first: u32,
    /// The one behind the last.
    pub(crate) end: u32,
    /// How many slices a batch has.
    pub(crate) of: u32,
}

impl Share {
    /// All of it.
    pub(crate) const WHOLE: Self = Self { first: 0, end: 1, of: 1 };

    /// The places of the part within a batch of that many examples, one at least.
    pub(super) fn within(self, size: u64) -> Range<u64> {
        let start = |slice: u32| bounds(size as i64, self.of, slice).0 as u64;
        let (first, end) = (start(self.first), start(self.end));
        if first < end { first..end } else { 0..1 }
    }
}

pub(super) struct Pass {
    at: At,
    count: u64,
    way: Way,
}

/// The ways to read.
enum Way {
    /// The loop copies from a set in memory.
    Copied(Places),
    /// Readers fill the batches.
    Batches(ReadAhead),
    /// Readers fill shards, and another thread puts batches together from those of a window.
    Shards(Mixed),
}

/// The places of the batches of a pass over a set whose examples are read one by one.
pub(super) struct Places {
    order: Order,
    window: Window,
    at: At,
    count: u64,
}

impl Pass {
    /// Begins a pass, or goes on in the midst of one.
    pub(super) fn begin(source: &Arc<dyn Source>, readers: usize, at: At) -> Result<Self> {
        let (facts, access) = (source.facts(), source.access());
        let count = facts.examples;
        let start = |tasks, readers, batches, bytes| {
            ReadAhead::start(source.clone(), tasks, readers, Bounds { batches, bytes })
        };
        let way = match access {
            Access::Memory => {
                let places = Places::of(facts, source.chances(), at);
                match facts.example_bytes().saturating_mul(at.size.min(count)) {
                    ..WORTH_A_THREAD => Way::Copied(places),
                    // One copies as fast as memory gives.
                    _ => Way::Batches(start(Box::new(places), 1, 2, AHEAD_BYTES)?),
                }
            }
            Access::Single => {
                let places = Box::new(Places::of(facts, source.chances(), at));
                let ahead = source.ahead_bytes().unwrap_or(AHEAD_BYTES).min(AHEAD_BYTES);
                Way::Batches(start(places, readers, 2 * readers + 1, ahead)?)
            }
            Access::Shards { window_bytes, .. } => {
                let order = Order::new(facts, access, at.shuffle);
                let shards: Vec<Range<u64>> = order.runs_from(order.window_at(at.position)).to_vec();
                let tasks = Box::new(shards.into_iter().map(Iterator::collect));
                let ahead = start(tasks, readers, usize::MAX, window_bytes)?;
                Way::Shards(Mixed::start(Mixing::of(facts, order, at, ahead))?)
            }
        };
        Ok(Self { at, count, way })
    }

    /// Whether this batch is the next one of the pass.
    pub(super) fn is_at(&self, at: At) -> bool {
        self.at == at
    }

    /// Whether all its batches have been read.
    pub(super) fn is_over(&self) -> bool {
        self.at.position >= self.count
    }

    /// The examples of the next batch, of which there is one, and how many they are; None where
    /// `go_on`, asked while readers are waited for, says no.
    pub(super) fn read(
        &mut self,
        source: &dyn Source,
        into: &mut HostBatch,
        go_on: Patience<'_>,
    ) -> Result<Option<u64>> {
        let At { position, size, share, .. } = self.at;
        let end = self.count.min(position + size);
        let part = share.within(end - position);
        match &mut self.way {
            Way::Copied(places) => {
                let places = places.next().ok_or_else(Failure::no_examples)?;
                read_batch(source, &places, into)?;
            }
            Way::Batches(ahead) => {
                let Some(filled) = ahead.take(go_on)? else { return Ok(None) };
                let filled = filled.map_err(|problem| bad(&problem))?;
                ahead.reuse(mem::replace(into, filled));
            }
            Way::Shards(mixed) => {
                let Some(batch) = mixed.take(go_on)? else { return Ok(None) };
                mixed.reuse(mem::replace(into, batch?));
            }
        }
        self.at.position = end;
        Ok(Some(part.end - part.start))
    }
}

impl Places {
    /// From a batch on.
    pub(super) fn of(facts: &Facts, chances: Option<&Arc<Chances>>, at: At) -> Self {
        let order = Order::new(facts, Access::Single, at.shuffle).drawn_by(chances);
        Self { window: order.window(order.window_at(at.position)), order, at, count: facts.examples }
    }

    /// Whether this batch is the next one.
    pub(super) fn is_at(&self, at: At) -> bool {
        self.at == at
    }
}

impl Iterator for Places {
    type Item = Vec<u64>;

    fn next(&mut self) -> Option<Vec<u64>> {
        let At { position, size, share, .. } = self.at;
        let end = self.count.min(position + size);
        if position >= end {
            return None;
        }
        let part = share.within(end - position);
        let places = (position + part.start..position + part.end).map(|position| {
            if !self.window.positions.contains(&position) {
                self.window = self.order.window(self.order.window_at(position));
            }
            self.window.place(position)
        });
        let places: Vec<_> = places.collect();
        self.at.position = end;
        Some(places)
    }
}

/// Reads a batch on the thread of the caller.
pub(super) fn read_batch(source: &dyn Source, places: &[u64], into: &mut HostBatch) -> Result<()> {
    read(source, places, into).map_err(|problem| bad(&problem))
}

pub(super) fn bad(problem: &Problem) -> Failure {
    failure(JobEndReason::BadData, problem.what.clone(), problem.unjudged)
}
