//! The order of the examples in a pass over a set: a function of the seed, the epoch and the facts
//! of the set, from whichever position it is asked for.
//!
//! A set whose examples are read one by one is shuffled as a whole. One that is read in shards is
//! shuffled in windows: the shards are shuffled, and several that follow each other are a window,
//! within which the examples are. Where examples have chances, each position of a set that is read
//! one by one has a draw of its own.

use std::ops::Range;
use std::sync::Arc;

use torchd::dataset::{Access, Chances, Facts, draw};

use crate::seed::{Stream, derive};

/// A window has at least this many shards, where there are so many.
const LEAST_SHARDS: u64 = 2;
/// Examples that are shuffled together at most: their numbers take 4 bytes each.
const MOST_TOGETHER: u64 = u32::MAX as u64;

/// The seed and the epoch of a pass whose examples are shuffled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shuffle {
    pub(crate) seed: u64,
    /// Counted from 0.
    pub(crate) epoch: u64,
}

/// The order of a pass. Positions count its examples from 0.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// Runs of places, in the order in which they are read.
    runs: Vec<Range<u64>>,
    /// The number of the first run of each window, and the position of its first example.
    windows: Vec<(usize, u64)>,
    shuffle: Option<Shuffle>,
    /// Those of the places; a set that has them has one window.
    chances: Option<Arc<Chances>>,
}

/// A part of a pass: its examples come from a few runs of places.
#[derive(Debug)]
pub(crate) struct Window {
    /// The positions of its examples.
    pub(crate) positions: Range<u64>,
    /// Its runs, in the order in which they are read.
    pub(crate) runs: Vec<Range<u64>>,
    /// How many examples there are up to the end of each run.
    ends: Vec<u64>,
    /// The examples in the order of the pass, each as its number in the order of the runs; None
    /// where the two are the same.
    order: Option<Vec<u32>>,
}

impl Order {
    /// The order of a pass over a set. Without a shuffle it is that of the places.
    pub(crate) fn new(facts: &Facts, access: Access<'_>, shuffle: Option<Shuffle>) -> Self {
        let (mut runs, windows) = match access {
            Access::Memory | Access::Single => {
                let begins = (0..facts.examples).step_by(MOST_TOGETHER as usize);
                let runs: Vec<_> =
                    begins.map(|begin| begin..facts.examples.min(begin.saturating_add(MOST_TOGETHER))).collect();
                let windows = runs.len();
                (runs, windows)
            }
            Access::Shards { ends, window_bytes } => {
                let begins = [0].into_iter().chain(ends.iter().copied());
                let runs: Vec<_> = begins.zip(ends).map(|(begin, &end)| begin..end).collect();
                let windows = match shuffle {
                    None => runs.len(),
                    Some(_) => {
                        let bytes = facts.examples.saturating_mul(facts.example_bytes());
                        bytes.div_ceil(window_bytes.max(1)).min(runs.len() as u64 / LEAST_SHARDS).max(1) as usize
                    }
                };
                (runs, windows)
            }
        };
        if let (Access::Shards { .. }, Some(Shuffle { seed, epoch })) = (access, shuffle) {
            draw::shuffle(&mut runs, derive(seed, Stream::Shards(epoch)));
        }
        let mut position = 0;
        let mut positions = vec![0];
        for run in &runs {
            position += run.end - run.start;
            positions.push(position);
        }
        // Windows of as many shards each as the others have, or one more.
        let first = |window: usize| window * runs.len() / windows;
        let windows = (0..windows).map(|window| (first(window), positions[first(window)])).collect();
        Self { runs, windows, shuffle, chances: None }
    }

    /// The order in which examples are drawn by their chances, if they have any, where it is
    /// shuffled.
    pub(crate) fn drawn_by(self, chances: Option<&Arc<Chances>>) -> Self {
        Self { chances: chances.cloned(), ..self }
    }

    /// The number of the window that has a position.
    pub(crate) fn window_at(&self, position: u64) -> usize {
        self.windows.partition_point(|(_, first)| *first <= position).saturating_sub(1)
    }

    /// A window, by its number.
    pub(crate) fn window(&self, number: usize) -> Window {
        let (first_run, first) = self.windows[number];
        let runs = self.runs[first_run..self.end(number)].to_vec();
        let mut count = 0;
        let ends: Vec<u64> = runs
            .iter()
            .map(|run| {
                count += run.end - run.start;
                count
            })
            .collect();
        let order = self.shuffle.map(|Shuffle { seed, epoch }| {
            let seed = derive(seed, Stream::Order { epoch, window: number as u64 });
            if let Some(chances) = &self.chances {
                return chances.draw(count, seed);
            }
            let mut order: Vec<u32> = (0..count as u32).collect();
            draw::shuffle(&mut order, seed);
            order
        });
        Window { positions: first..first + count, runs, ends, order }
    }

    /// The runs from a window on, in the order in which they are read.
    pub(crate) fn runs_from(&self, window: usize) -> &[Range<u64>] {
        &self.runs[self.windows[window].0..]
    }

    /// The number of the run behind the last one of a window.
    fn end(&self, window: usize) -> usize {
        self.windows.get(window + 1).map_or(self.runs.len(), |(first, _)| *first)
    }
}

impl Window {
    /// The example of a position: the number of its run, and its number in that.
    pub(crate) fn example(&self, position: u64) -> (usize, u64) {
        let at = position - self.positions.start;
        let number = self.order.as_ref().map_or(at, |order| order[at as usize].into());
        let run = self.ends.partition_point(|end| *end <= number);
        let before = run.checked_sub(1).map_or(0, |before| self.ends[before]);
        (run, number - before)
    }

    /// The place of the example of a position.
    pub(crate) fn place(&self, position: u64) -> u64 {
        let (run, number) = self.example(position);
        self.runs[run].start + number
    }
}

#[cfg(test)]
mod tests {
    use torchd::dataset::{Dtype, Field};

    use super::*;

    fn facts(examples: u64, bytes: u64) -> Facts {
        let field = |shape| Field { name: "x".into(), file: "path".into(), dtype: Dtype::Pixel, shape, range: None };
        Facts {
            examples,
            inputs: vec![field(vec![bytes - 1])],
            target: field(vec![]),
            sizes: vec![],
            is_resident: true,
        }
    }

    fn places(order: &Order) -> Vec<u64> {
        let mut places = Vec::new();
        for number in 0..order.windows.len() {
            let window = order.window(number);
            assert_eq!(window.positions.start, places.len() as u64);
            places.extend(window.positions.clone().map(|position| window.place(position)));
        }
        places
    }

    #[test]
    fn a_set_of_single_examples_keeps_the_order_of_earlier_versions() {
        let order = |seed, epoch| Order::new(&facts(10, 4), Access::Memory, Some(Shuffle { seed, epoch }));
        assert_eq!(places(&order(1, 0)), GOLDEN[0]);
        assert_eq!(places(&order(7, 3)), GOLDEN[1]);
        assert_eq!(places(&Order::new(&facts(10, 4), Access::Single, None)), (0..10).collect::<Vec<_>>());
    }

    /// Fisher and Yates by SplitMix64, computed apart from this program.
    const GOLDEN: [[u64; 10]; 2] = [[0, 6, 9, 3, 8, 7, 1, 2, 5, 4], [4, 6, 3, 5, 8, 9, 1, 0, 2, 7]];

    #[test]
    fn shards_are_shuffled_and_their_examples_within_windows_of_several() {
        // 40 shards of 25 examples and one of 3; 1,003 examples of 1 MiB are 16 windows.
        let ends: Vec<u64> = (1..=40).map(|shard| shard * 25).chain([1003]).collect();
        let facts = facts(1003, 1 << 20);
        let shards = Access::Shards { ends: &ends, window_bytes: 64 << 20 };
        let order = |seed, epoch| Order::new(&facts, shards, Some(Shuffle { seed, epoch }));
        let first = order(7, 0);
        assert_eq!(first.windows.len(), 16);
        let order_of_all = places(&first);
        assert_eq!(order_of_all, places(&order(7, 0)));
        for other in [order(7, 1), order(8, 0)] {
            let other = places(&other);
            assert_ne!(order_of_all, other);
            let mut sorted = other;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..1003));
        }
        for number in 0..16 {
            let window = first.window(number);
            assert!((2..=3).contains(&window.runs.len()), "{:?}", window.runs);
            let places: Vec<_> = window.positions.clone().map(|position| window.place(position)).collect();
            assert!(places.iter().all(|place| window.runs.iter().any(|run| run.contains(place))));
            assert!(!places.is_sorted(), "the examples of a window are shuffled");
            assert_eq!(window.positions.clone().map(|at| first.window_at(at)).max(), Some(number));
        }
        let in_order = Order::new(&facts, shards, None);
        assert_eq!((in_order.windows.len(), places(&in_order)), (41, (0..1003).collect()));
    }

    #[test]
    fn two_windows_do_not_shuffle_alike() {
        let order = Order::new(
            &facts(4000, 1 << 20),
            Access::Shards { ends: &[1000, 2000, 3000, 4000], window_bytes: 64 << 20 },
            Some(Shuffle { seed: 1, epoch: 0 }),
        );
        assert_eq!(order.windows.len(), 2);
        assert_ne!(order.window(0).order, order.window(1).order);
    }
}
