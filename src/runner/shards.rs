//! Shards: slices of a batch that are computed one by one, each with random numbers of its own, and
//! whose gradients are added in the order of a fixed tree. The numbers of a step are a function of
//! seed, step and the number of shards: nothing depends on who computes which of them.
//!
//! Layers that normalise over a batch see a slice. Running statistics begin anew at each slice from
//! those before the step, and become the mean over the slices.

use tch::{Kind, Tensor};

use crate::failure::{Failure, Result};
use crate::feed::{Batch, Examples};
use crate::model::{Mode, Network};
use crate::seed::{Stream, derive};
use crate::stateful::copy;
use crate::step::{Compared, Computed, Over, added};
use crate::train::Training;

/// The first example of a slice of a batch of that size, and how many it has: sizes differ by one
/// at most.
pub(crate) fn bounds(size: i64, shards: u32, shard: u32) -> (i64, i64) {
    let first = |shard: u32| i64::from(shard) * size / i64::from(shards);
    (first(shard), first(shard + 1) - first(shard))
}

/// The seed of a shard. The first has that of the job, so that one shard is the whole batch.
pub(crate) fn seed(seed: u64, shard: u32) -> u64 {
    if shard == 0 { seed } else { derive(seed, Stream::Shard(shard.into())) }
}

/// A sum over places that are counted from 0, in the order of a fixed tree: two neighbours of the
/// same size become one where the first begins at a multiple of twice that size, and the rest is
/// added from the right. Sums over runs of places, put together, are the sum over all of them.
pub(crate) struct Tree<T>(Vec<Node<T>>);

/// A sum over `size` places from `start` on; None where they hold nothing.
struct Node<T> {
    start: u64,
    size: u64,
    sum: Option<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Tree<T> {
    /// Adds the sum over the next places.
    pub(crate) fn push(
        &mut self,
        start: u64,
        size: u64,
        sum: Option<T>,
        add: impl Fn(T, T) -> Result<T>,
    ) -> Result<()> {
        self.0.push(Node { start, size, sum });
        while let [.., one, other] = &self.0[..]
            && one.size == other.size
            && one.start + one.size == other.start
            && one.start.is_multiple_of(2 * one.size)
        {
            self.join(&add)?;
        }
        Ok(())
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

/// The tensors of a network that a pass may change, and that are not learned.
struct Running {
    tensors: Vec<Tensor>,
    /// As they were before the step.
    before: Vec<Tensor>,
}

/// The tensors that a slice has changed, with 64 bits; None for one that is as before.
type Changed = Vec<Option<Tensor>>;

impl Running {
    fn of(network: &dyn Network) -> Result<Self> {
        let mut tensors = Vec::new();
        network.save(&mut |_, tensor| {
            if !tensor.requires_grad() {
                tensors.push(tensor.detach());
            }
            Ok(())
        })?;
        tensors.extend(network.hidden().into_iter().map(|(_, tensor)| tensor));
        let before = tensors.iter().map(copy).collect::<std::result::Result<_, _>>()?;
        Ok(Self { tensors, before })
    }

    /// They are as before the step again.
    fn restore(&mut self) -> Result<()> {
        for (tensor, before) in self.tensors.iter_mut().zip(&self.before) {
            tensor.f_copy_(before)?;
        }
        Ok(())
    }

    fn changed(&self) -> Result<Changed> {
        let of = |(tensor, before): (&Tensor, &Tensor)| -> Result<Option<Tensor>> {
            // Nobody changes most of them, and the mean of equal numbers may be another one.
            if tensor.f_equal(before)? {
                return Ok(None);
            }
            let is_number = tensor.is_floating_point();
            Ok(Some(if is_number { tensor.f_to_kind(Kind::Double)? } else { copy(tensor)? }))
        };
        self.tensors.iter().zip(&self.before).map(of).collect()
    }

    /// The sum of those of two slices. Of other numbers than floats the first that changed counts.
    fn add(&self, ones: Changed, others: Changed) -> Result<Changed> {
        let pairs = ones.into_iter().zip(others).zip(&self.before);
        let add = |((one, other), before): ((Option<Tensor>, Option<Tensor>), &Tensor)| -> Result<Option<Tensor>> {
            if !before.is_floating_point() {
                return Ok(one.or(other));
            }
            let unchanged = || before.f_to_kind(Kind::Double);
            Ok(match (one, other) {
                (None, None) => None,
                (Some(mut one), Some(other)) => Some(one.f_add_(&other)?),
                (Some(mut one), None) | (None, Some(mut one)) => Some(one.f_add_(&unchanged()?)?),
            })
        };
        pairs.map(add).collect()
    }

    /// They become the mean over that many slices.
    fn settle(&mut self, sums: Changed, slices: i64) -> Result<()> {
        for ((tensor, before), sum) in self.tensors.iter_mut().zip(&self.before).zip(sums) {
            match sum {
                Some(mut sum) if tensor.is_floating_point() => {
                    tensor.f_copy_(&sum.f_div_scalar_(slices as f64)?)?;
                }
                Some(first) => tensor.f_copy_(&first)?,
                None => tensor.f_copy_(before)?,
            }
        }
        Ok(())
    }
}

/// The outcome of a slice, with what is added over all of them.
struct Slice {
    loss: Tensor,
    gradients: Vec<Option<Tensor>>,
    running: Changed,
}

impl Training {
    /// The slice of some examples that is the batch of a shard; None where it has no example.
    pub(crate) fn slice(&self, shards: u32, shard: u32, examples: &Examples) -> Result<Option<Batch>> {
        let (start, size) = bounds(examples.size(), shards, shard);
        if size == 0 {
            return Ok(None);
        }
        let mut slice = examples.part(start, size)?;
        self.augmentation.change(seed(self.work.seed, shard), self.place.step, &mut slice)?;
        Ok(Some(self.train.arranged(slice)))
    }

    /// The gradients of the mean loss over a batch, slice by slice.
    pub(crate) fn gradients_of_slices(&self, batch: &Batch) -> Result<Computed> {
        // Examples are mixed with others of their slice: their second targets weigh as the first.
        let weight = self.loss.weight(&batch.targets)?;
        let weights = [weight.shallow_clone(), weight];
        let mut running = tch::no_grad(|| Running::of(self.network.as_ref()))?;
        let (mut tree, mut compared) = (Tree::default(), Vec::new());
        let mut slices = 0;
        for (shard, slice) in (0..).zip(&batch.slices) {
            let computed = match slice {
                Some(slice) => {
                    slices += 1;
                    tch::no_grad(|| running.restore())?;
                    let (computed, told) = self.gradients_of_slice(shard, slice, &weights, &running)?;
                    compared.push(told);
                    Some(computed)
                }
                None => None,
            };
            tree.push(shard.into(), 1, computed, |one, other| one.add(other, &running))?;
        }
        let nothing = Failure::no_examples;
        let sum = tree.whole(|one, other| one.add(other, &running))?.ok_or_else(nothing)?;
        let Slice { loss, gradients, running: sums } = sum;
        tch::no_grad(|| running.settle(sums, slices))?;
        Ok(Computed { loss, compared, gradients })
    }

    fn gradients_of_slice(
        &self,
        shard: u32,
        slice: &Batch,
        weights: &[Tensor],
        running: &Running,
    ) -> Result<(Slice, Compared)> {
        tch::manual_seed(derive(seed(self.work.seed, shard), Stream::Step(self.place.step)) as i64);
        let (outputs, pair, loss) = self.compute(slice, Mode::Train, Over::Weights(weights))?;
        let gradients = self.backward(&loss)?;
        let running = tch::no_grad(|| running.changed())?;
        let compared = Compared { lane: shard as usize, outputs: outputs.detach(), pair: pair.detach() };
        Ok((Slice { loss: loss.detach(), gradients, running }, compared))
    }
}

impl Slice {
    fn add(self, other: Self, all: &Running) -> Result<Self> {
        let gradients = self.gradients.into_iter().zip(other.gradients).map(added);
        Ok(Self {
            loss: self.loss.f_add(&other.loss)?,
            gradients: gradients.collect::<std::result::Result<_, _>>()?,
            running: tch::no_grad(|| all.add(self.running, other.running))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How some places are added, in words.
    fn pushed(tree: &mut Tree<String>, start: u64, size: u64, sum: Option<String>) {
        tree.push(start, size, sum, |one, other| Ok(format!("({one} {other})"))).unwrap();
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
        fn slices_are_the_batch_and_differ_by_one_example_at_most(size in 0..300i64, shards in 1..40u32) {
            let slices: Vec<_> = (0..shards).map(|shard| bounds(size, shards, shard)).collect();
            prop_assert!(slices.windows(2).all(|two| two[0].0 + two[0].1 == two[1].0));
            prop_assert_eq!((slices[0].0, slices.iter().map(|slice| slice.1).sum::<i64>()), (0, size));
            let sizes = || slices.iter().map(|slice| slice.1);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }

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
                own.0.into_iter().for_each(|node| pushed(&mut together, node.start, node.size, node.sum));
            }
            prop_assert_eq!(whole(together), whole(at_once));
        }
    }
}
