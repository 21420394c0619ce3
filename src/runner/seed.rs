//! Randomness as a function of seed and place: a run that was resumed draws what the unbroken one
//! would have drawn.

/// Draws of random numbers. Each has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Initial weights.
    Weights,
    /// Order of the examples of an epoch, counted from 0.
    Order(u64),
    /// Dropout of a step, counted from 0.
    Step(u64),
}

/// The seed of a stream.
pub(crate) fn derive(seed: u64, stream: Stream) -> u64 {
    let (kind, place) = match stream {
        Stream::Weights => (1, 0),
        Stream::Order(epoch) => (2, epoch),
        Stream::Step(step) => (3, step),
    };
    mix(mix(mix(seed).wrapping_add(kind)).wrapping_add(place))
}

/// The numbers 0 to count - 1 in the order of an epoch (Fisher and Yates).
pub(crate) fn shuffled(count: u64, seed: u64, epoch: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    let mut state = derive(seed, Stream::Order(epoch));
    for last in (1..order.len()).rev() {
        state = state.wrapping_add(GOLDEN_RATIO);
        // The high half of a 128-bit product: uniform up to 2^-64, without a division.
        let place = (u128::from(finish(state)) * (last as u128 + 1)) >> 64;
        order.swap(last, place as usize);
    }
    order
}

const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// One draw of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(state: u64) -> u64 {
    finish(state.wrapping_add(GOLDEN_RATIO))
}

fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
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
    fn splitmix_gives_its_published_numbers() {
        // The first outputs of the reference code for the seed 1234567.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567u64.wrapping_add(GOLDEN_RATIO)), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_epoch_has_every_example_once_in_an_order_of_its_own() {
        let first = shuffled(1000, 7, 0);
        assert_eq!(first, shuffled(1000, 7, 0));
        for other in [shuffled(1000, 7, 1), shuffled(1000, 8, 0)] {
            assert_ne!(first, other);
            let mut sorted = other;
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..1000));
        }
    }

    #[test]
    fn streams_do_not_meet() {
        let seeds = [Stream::Weights, Stream::Order(0), Stream::Order(1), Stream::Step(0), Stream::Step(1)];
        let derived: std::collections::HashSet<_> = seeds.iter().map(|&stream| derive(1, stream)).collect();
        assert_eq!(derived.len(), seeds.len());
    }
}
