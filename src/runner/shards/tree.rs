//! A sum in a fixed order, independent of the process that adds each part.

use crate::failure::Result;

/// A sum over places that are counted from 0, in the order of a fixed tree: two neighbours of the
/// same size become one where the first begins at a multiple of twice that size, and the rest is
/// added from the right. Sums over runs of places, put together, are the sum over all of them.
pub(crate) struct Tree<T>(Vec<Node<T>>);

/// A sum over `size` places from `start` on; None where they hold nothing.
pub(crate) struct Node<T> {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) sum: Option<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Tree<T> {
    /// Adds the sum over the next places.
    pub(crate) fn push(&mut self, node: Node<T>, add: impl Fn(T, T) -> Result<T>) -> Result<()> {
        self.0.push(node);
        while let [.., one, other] = &self.0[..]
            && one.size == other.size
            && one.start + one.size == other.start
            && one.start.is_multiple_of(2 * one.size)
        {
            self.join(&add)?;
        }
        Ok(())
    }

    /// The sums that become others once those of other places are there.
    pub(crate) fn into_nodes(self) -> Vec<Node<T>> {
        self.0
    }

    /// The sum over all places; None where they hold nothing.
    pub(crate) fn whole(mut self, add: impl Fn(T, T) -> Result<T>) -> Result<Option<T>> {
        while self.0.len() > 1 {
            self.join(&add)?;
        }
        Ok(self.0.pop().and_then(|node| node.sum))
    }

    /// Joins the last two.
    fn join(&mut self, add: &impl Fn(T, T) -> Result<T>) -> Result<()> {
        let (Some(other), Some(one)) = (self.0.pop(), self.0.pop()) else { return Ok(()) };
        let sum = match (one.sum, other.sum) {
            (Some(one), Some(other)) => Some(add(one, other)?),
            (one, other) => one.or(other),
        };
        self.0.push(Node { start: one.start, size: one.size + other.size, sum });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How some places are added, in words.
    fn pushed(tree: &mut Tree<String>, start: u64, size: u64, sum: Option<String>) {
        tree.push(Node { start, size, sum }, |one, other| Ok(format!("({one} {other})"))).unwrap();
    }

    fn whole(tree: Tree<String>) -> Option<String> {
        tree.whole(|one, other| Ok(format!("({one} {other})"))).unwrap()
    }

    #[test]
    fn neighbours_are_added_first_and_the_rest_from_the_right() {
        let sum = |places: u64| {
            let mut tree = Tree::default();
            (0..places).for_each(|place| pushed(&mut tree, place, 1, Some(place.to_string())));
            whole(tree).unwrap()
        };
        assert_eq!(sum(1), "0");
        assert_eq!(sum(4), "((0 1) (2 3))");
        assert_eq!(sum(7), "(((0 1) (2 3)) ((4 5) 6))");
    }

    proptest! {
        #[test]
        fn sums_over_runs_of_places_put_together_are_the_sum_over_all(
            held in prop::collection::vec(any::<bool>(), 1..40),
            runs in 1..10usize,
        ) {
            let leaf = |place: usize| held[place].then(|| place.to_string());
            let mut at_once = Tree::default();
            (0..held.len()).for_each(|place| pushed(&mut at_once, place as u64, 1, leaf(place)));
            let mut together = Tree::default();
            let first = |run: usize| run * held.len() / runs;
            for run in 0..runs {
                let mut own = Tree::default();
                (first(run)..first(run + 1)).for_each(|place| pushed(&mut own, place as u64, 1, leaf(place)));
                own.into_nodes().into_iter().for_each(|node| pushed(&mut together, node.start, node.size, node.sum));
            }
            prop_assert_eq!(whole(together), whole(at_once));
        }
    }
}
