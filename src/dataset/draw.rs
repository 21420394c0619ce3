//! Random draws as a function of a seed: the same on every machine.

/// The step by which the state of SplitMix64 grows.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// One draw of SplitMix64 (Steele, Lea and Flood 2014).
pub fn mix(state: u64) -> u64 {
    finish(state.wrapping_add(GOLDEN_RATIO))
}

/// The bits of a number, mixed: 0 stays 0.
pub fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Random numbers without end.
pub fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let states = std::iter::successors(Some(seed), |state| Some(state.wrapping_add(GOLDEN_RATIO)));
    states.skip(1).map(finish)
}

/// Puts items into a random order (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    for (last, bits) in (1..items.len()).rev().zip(numbers(seed)) {
        // The high half of a 128-bit product: uniform up to 2^-64, without a division.
        let place = (u128::from(bits) * (last as u128 + 1)) >> 64;
        items.swap(last, place as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_its_published_numbers() {
        // The first outputs of the reference code for the seed 1234567.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567u64.wrapping_add(GOLDEN_RATIO)), 3_203_168_211_198_807_973);
    }

    #[test]
    fn an_order_holds_each_item_once() {
        let mut items: Vec<u32> = (0..1000).collect();
        shuffle(&mut items, 7);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
