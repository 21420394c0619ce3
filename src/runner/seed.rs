//! Randomness as a function of seed and place: a run that was resumed draws what the unbroken one
//! would have drawn.

use torchd::dataset::draw::{finish, mix};

/// Draws of random numbers. Each has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Initial weights.
    Weights,
    /// Order of the examples of an epoch, or of a window of it; both are counted from 0.
    Order { epoch: u64, window: u64 },
    /// Order of the shards of an epoch, counted from 0.
    Shards(u64),
    /// Dropout of a step, counted from 0.
    Step(u64),
    /// Everything of a shard of a batch, counted from 0, but for the first.
    Shard(u64),
    /// A change of the examples of a step: its place in the list. Both are counted from 0.
    Change { step: u64, place: u64 },
}

/// The seed of a stream.
pub(crate) fn derive(seed: u64, stream: Stream) -> u64 {
    let (kind, place, part) = match stream {
        Stream::Weights => (1, 0, 0),
        Stream::Order { epoch, window } => (2, epoch, window),
        Stream::Step(step) => (3, step, 0),
        Stream::Shards(epoch) => (4, epoch, 0),
        Stream::Change { step, place } => (5, step, place),
        Stream::Shard(shard) => (6, shard, 0),
    };
    // The first part has the seed that places had before there were parts: `finish` keeps 0.
    mix(mix(mix(seed).wrapping_add(kind)).wrapping_add(place)) ^ finish(part)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// libtorch has one generator for the process: a test that draws from it holds this meanwhile.
    pub(crate) fn generator() -> MutexGuard<'static, ()> {
        static GENERATOR: Mutex<()> = Mutex::new(());
        GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn streams_do_not_meet() {
        let order = |epoch, window| Stream::Order { epoch, window };
        let seeds = [
            Stream::Weights,
            order(0, 0),
            order(1, 0),
            order(0, 1),
            order(1, 1),
            Stream::Step(0),
            Stream::Step(1),
            Stream::Shards(0),
            Stream::Shards(1),
            Stream::Change { step: 0, place: 0 },
            Stream::Change { step: 1, place: 0 },
            Stream::Change { step: 0, place: 1 },
            Stream::Shard(0),
            Stream::Shard(1),
        ];
        let derived: std::collections::HashSet<_> = seeds.iter().map(|&stream| derive(1, stream)).collect();
        assert_eq!(derived.len(), seeds.len());
    }
}
