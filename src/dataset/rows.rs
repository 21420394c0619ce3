//! The rows of a set's files that are examples of a set: all, or those that a split or a limit
//! leaves.

use std::ops::Range;
use std::sync::Arc;

/// Rows of the files of a set, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// The first so many, which are all.
    All(u64),
    /// Some of them.
    Chosen(Arc<Chosen>),
}

/// Rows of which each takes a bit, chosen or not.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Bits of rows, the first one the lowest.
    words: Vec<u64>,
    /// The rows that are chosen before each block of words.
    before: Vec<u64>,
    count: u64,
}

/// Words of a block.
const BLOCK: usize = 8;

impl Chosen {
    /// These rows.
    pub fn of(rows: impl IntoIterator<Item = u64>) -> Self {
        let mut words = Vec::new();
        for row in rows {
            let word = (row / 64) as usize;
            if word >= words.len() {
                words.resize(word + 1, 0u64);
            }
            words[word] |= 1 << (row % 64);
        }
        let (mut before, mut count) = (Vec::with_capacity(words.len() / BLOCK + 1), 0);
        for block in words.chunks(BLOCK) {
            before.push(count);
            count += ones(block);
        }
        Self { words, before, count }
    }

    /// The row that so many chosen ones lie before.
    fn row(&self, place: u64) -> u64 {
        let block = self.before.partition_point(|before| *before <= place).saturating_sub(1);
        let mut left = place - self.before.get(block).copied().unwrap_or(0);
        for (at, word) in self.words.iter().enumerate().skip(block * BLOCK) {
            let count = u64::from(word.count_ones());
            if left < count {
                let lowest_gone = (0..left).fold(*word, |word, _| word & (word - 1));
                return at as u64 * 64 + u64::from(lowest_gone.trailing_zeros());
            }
            left -= count;
        }
        unreachable!("the place {place} of {} rows", self.count)
    }

    /// The chosen rows before that one.
    fn before(&self, row: u64) -> u64 {
        let word = (row / 64) as usize;
        if word >= self.words.len() {
            return self.count;
        }
        let block = word / BLOCK;
        let within = self.words[word] & ((1 << (row % 64)) - 1);
        self.before[block] + ones(&self.words[block * BLOCK..word]) + u64::from(within.count_ones())
    }
}

fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

impl Rows {
    /// These rows.
    pub fn chosen(rows: impl IntoIterator<Item = u64>) -> Self {
        Self::Chosen(Arc::new(Chosen::of(rows)))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::All(count) => *count,
            Self::Chosen(chosen) => chosen.count,
        }
    }

    /// The row of an example, whose place is below the count.
    pub fn row(&self, place: u64) -> u64 {
        match self {
            Self::All(_) => place,
            Self::Chosen(chosen) => chosen.row(place),
        }
    }

    /// How many of them lie before a row.
    pub fn before(&self, row: u64) -> u64 {
        match self {
            Self::All(count) => row.min(*count),
            Self::Chosen(chosen) => chosen.before(row),
        }
    }

    /// The rows of all examples.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.within(0..u64::MAX)
    }

    /// Those of a range.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let first = (range.start / 64) as usize;
        let (all, words) = match self {
            Self::All(count) => (range.start..range.end.min(*count), &[][..]),
            Self::Chosen(chosen) => (0..0, chosen.words.get(first..).unwrap_or_default()),
        };
        let of_word = |(at, word): (u64, &u64)| {
            let words = std::iter::successors(Some(*word), |word| Some(word & word.wrapping_sub(1)));
            words.take_while(|word| *word != 0).map(move |word| at * 64 + u64::from(word.trailing_zeros()))
        };
        let chosen = (first as u64..).zip(words).flat_map(of_word);
        all.chain(chosen.skip_while(move |row| *row < range.start).take_while(move |row| *row < range.end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_that_are_chosen_are_found_by_place_and_counted_by_row(
            rows in prop::collection::btree_set(0u64..3000, 0..400),
        ) {
            let chosen = Rows::chosen(rows.iter().copied());
            prop_assert_eq!(chosen.count(), rows.len() as u64);
            prop_assert!(chosen.iter().eq(rows.iter().copied()));
            for (place, row) in rows.iter().enumerate() {
                prop_assert_eq!(chosen.row(place as u64), *row);
            }
            for row in 0..3100 {
                prop_assert_eq!(chosen.before(row), rows.range(..row).count() as u64);
            }
            for range in [0..0, 0..64, 63..65, 100..1500, 2990..5000] {
                prop_assert!(chosen.within(range.clone()).eq(rows.range(range).copied()));
            }
            prop_assert!(Rows::All(70).within(60..80).eq(60..70));
        }
    }
}
