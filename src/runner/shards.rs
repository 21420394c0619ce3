//! Shards: slices of a batch that are computed one by one, each with random numbers of its own, and
//! whose gradients are added in the order of a fixed tree. The numbers of a step are a function of
//! seed, step and the number of shards: nothing depends on who computes which of them, one process
//! or several ranks.
//!
//! Layers that normalise over a batch see a slice. Running statistics begin anew at each slice from
//! those before the step, and become the mean over the slices.

mod tree;

use std::ops::Range;

use tch::{Kind, Tensor};

pub(crate) use self::tree::{Node, Tree};
use crate::failure::{Failure, Result};
use crate::feed::{Batch, Examples, Patience, Share, Shuffle};
use crate::model::{Mode, Network};
use crate::seed::{Stream, derive};
use crate::stateful::{copy, laid_out_like};
use crate::step::{Compared, Computed, Over, added};
use crate::train::Training;

/// The first example of a slice of a batch of that size, and how many it has: sizes differ by one
/// at most.
pub(crate) fn bounds(size: i64, shards: u32, shard: u32) -> (i64, i64) {
    let first = |shard: u32| i64::from(shard) * size / i64::from(shards);
    (first(shard), first(shard + 1) - first(shard))
}

/// Two tensors, added.
pub(crate) fn sum_of(one: Tensor, other: Tensor) -> Result<Tensor> {
    Ok(one.f_add(&other)?)
}

/// Whether a shard has an example of a batch of that size.
fn has_example(size: i64, shards: u32, shard: u64) -> bool {
    bounds(size, shards, shard as u32).1 > 0
}

/// The seed of a shard. The first has that of the job, so that one shard is the whole batch.
pub(crate) fn seed(seed: u64, shard: u32) -> u64 {
    if shard == 0 { seed } else { derive(seed, Stream::Shard(shard.into())) }
}

/// The tensors of a network that a pass may change, and that are not learned.
struct Running {
    tensors: Vec<Tensor>,
    /// As they were before the step.
    before: Vec<Tensor>,
}

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

    /// Those that a slice has changed, with 64 bits; None for one that is as before.
    fn changed(&self) -> Result<Vec<Option<Tensor>>> {
        let of = |(tensor, before): (&Tensor, &Tensor)| -> Result<Option<Tensor>> {
            // Nobody changes most of them, and the mean of equal numbers may be another one.
            Ok(if tensor.f_equal(before)? { None } else { Some(tensor.f_to_kind(Kind::Double)?) })
        };
        self.tensors.iter().zip(&self.before).map(of).collect()
    }

    /// They become the mean over all slices; integers, which count batches, the nearest one to it.
    /// `sums` are those over the slices that have changed them, each with how many these are.
    fn settle(&mut self, sums: Vec<(Option<Tensor>, u32)>, slices: u32) -> Result<()> {
        for ((tensor, before), (sum, changed)) in self.tensors.iter_mut().zip(&self.before).zip(sums) {
            let Some(mut sum) = sum else {
                tensor.f_copy_(before)?;
                continue;
            };
            if changed < slices {
                let unchanged = before.f_to_kind(Kind::Double)?.f_mul_scalar(f64::from(slices - changed))?;
                let _ = sum.f_add_(&unchanged)?;
            }
            let mut mean = sum.f_div_scalar_(f64::from(slices))?;
            tensor.f_copy_(&if tensor.is_floating_point() { mean } else { mean.f_round_()? })?;
        }
        Ok(())
    }
}

/// The outcome of some slices, added.
pub(crate) struct Sum {
    /// With 64 bits.
    pub(crate) loss: Tensor,
    /// The type in which the losses were computed.
    pub(crate) kind: Kind,
    /// How many slices they are.
    pub(crate) slices: u32,
    /// The gradients, and the running tensors that were changed; None where no slice has one.
    pub(crate) parts: Vec<Option<Tensor>>,
    /// How many slices have each part.
    pub(crate) counts: Vec<u32>,
}

impl Sum {
    /// Adds another sum to it.
    pub(crate) fn add(self, other: Self) -> Result<Self> {
        let parts = self.parts.into_iter().zip(other.parts).map(added);
        Ok(Self {
            loss: self.loss.f_add(&other.loss)?,
            kind: self.kind,
            slices: self.slices + other.slices,
            parts: parts.collect::<std::result::Result<_, _>>()?,
            counts: self.counts.into_iter().zip(other.counts).map(|(one, other)| one + other).collect(),
        })
    }
}

impl Training {
    /// The batch of the step in hand, with the slices of this process.
    pub(crate) fn next_slices(
        &mut self,
        shards: u32,
        shuffle: Option<Shuffle>,
        position: u64,
        size: u64,
        go_on: Patience<'_>,
    ) -> Result<Option<Batch>> {
        let own = self.own_shards(shards);
        let share = Share { first: own.start, end: own.end, of: shards };
        let Some(examples) = self.train.share(shuffle, position, size, share, go_on)? else { return Ok(None) };
        let size = size.min(self.train.facts().examples - position) as i64;
        let begins = bounds(size, shards, own.start).0;
        let slices = own.map(|shard| {
            let (start, count) = bounds(size, shards, shard);
            // A small last batch has none for some shards.
            (count > 0).then(|| self.slice(shard, examples.apart(start - begins, count)?)).transpose()
        });
        Ok(Some(Batch { slices: slices.collect::<Result<_>>()?, size, ..self.train.arranged(examples) }))
    }

    /// The batch of a shard, which has these examples.
    fn slice(&self, shard: u32, mut examples: Examples) -> Result<Batch> {
        self.augmentation.change(seed(self.work.seed, shard), self.place.step, &mut examples)?;
        Ok(self.train.arranged(examples))
    }

    /// The shards that this process computes, of so many.
    pub(crate) fn own_shards(&self, shards: u32) -> Range<u32> {
        self.ranks.as_ref().map_or(0..shards, |ranks| ranks.shards(shards))
    }

    /// The gradients of the mean loss over a batch, slice by slice, those of other ranks included.
    pub(crate) fn gradients_of_slices(&self, batch: &Batch, shards: u32) -> Result<Computed> {
        let weight = self.weight_of_slices(batch, shards)?;
        // Examples are mixed with others of their slice: their second targets weigh as the first.
        let weights = [weight.shallow_clone(), weight];
        let mut running = tch::no_grad(|| Running::of(self.network.as_ref()))?;
        let (mut tree, mut compared) = (Tree::default(), Vec::new());
        for (shard, slice) in self.own_shards(shards).zip(&batch.slices) {
            let computed = match slice {
                Some(slice) => {
                    tch::no_grad(|| running.restore())?;
                    let (computed, told) = self.gradients_of_slice(shard, slice, &weights, &running)?;
                    compared.push(told);
                    Some(computed)
                }
                None => None,
            };
            tree.push(Node { start: shard.into(), size: 1, sum: computed }, Sum::add)?;
        }
        let sum = match &self.ranks {
            Some(ranks) => {
                let is_held = |shard| has_example(batch.size, shards, shard);
                let kinds = self.optimizer.trained().iter().map(Tensor::kind);
                let kinds = kinds.chain(running.tensors.iter().map(|_| Kind::Double));
                let sizes = self.optimizer.trained().iter().chain(&running.tensors).map(Tensor::size);
                tch::no_grad(|| ranks.add(tree.into_nodes(), shards, is_held, &kinds.zip(sizes).collect::<Vec<_>>()))?
            }
            None => tree.whole(Sum::add)?,
        };
        let Sum { loss, kind, slices, parts, counts } = sum.ok_or_else(Failure::no_examples)?;
        let settle = |(part, count): (Option<Tensor>, u32)| match part {
            // The ranks have added zeros in place of those that are not there: no zero is negative.
            Some(mut part) if count < slices => Ok(Some(part.f_add_scalar_(0.0)?)),
            part => Ok(part),
        };
        let mut parts = parts.into_iter().zip(counts.iter().copied()).map(settle).collect::<Result<Vec<_>>>()?;
        let trained = self.optimizer.trained();
        let changed = parts.split_off(trained.len()).into_iter().zip(counts.into_iter().skip(trained.len()));
        tch::no_grad(|| running.settle(changed.collect(), slices))?;
        let gradients = trained
            .iter()
            .zip(parts)
            .map(|(parameter, gradient)| gradient.map(|gradient| laid_out_like(parameter, gradient)).transpose());
        let gradients = gradients.collect::<std::result::Result<_, _>>()?;
        Ok(Computed { loss: loss.f_to_kind(kind)?, compared, gradients })
    }

    /// How much the targets of a batch count together, those of other ranks included.
    fn weight_of_slices(&self, batch: &Batch, shards: u32) -> Result<Tensor> {
        if self.loss.weighs_alike() && self.ignored.is_none() {
            // Each rank has one example at least, and small whole numbers are exact.
            let one = self.loss.weight(&batch.targets.f_narrow(0, 0, 1)?)?;
            return Ok(one.f_mul_scalar(batch.size as f64)?);
        }
        let mut tree = Tree::default();
        for (shard, slice) in self.own_shards(shards).zip(&batch.slices) {
            let sum = slice.as_ref().map(|slice| self.loss.weight(&slice.targets)).transpose()?;
            tree.push(Node { start: shard.into(), size: 1, sum }, sum_of)?;
        }
        let sum = match &self.ranks {
            Some(ranks) => {
                ranks.add_weights(tree.into_nodes(), shards, |shard| has_example(batch.size, shards, shard))?
            }
            None => tree.whole(sum_of)?,
        };
        sum.ok_or_else(Failure::no_examples)
    }

    fn gradients_of_slice(
        &self,
        shard: u32,
        slice: &Batch,
        weights: &[Tensor],
        running: &Running,
    ) -> Result<(Sum, Compared)> {
        tch::manual_seed(derive(seed(self.work.seed, shard), Stream::Step(self.place.step)) as i64);
        let (outputs, pair, loss) = self.compute(slice, Mode::Train, Over::Weights(weights))?;
        let mut parts = self.backward(&loss)?;
        parts.extend(tch::no_grad(|| running.changed())?);
        let counts = parts.iter().map(|part| u32::from(part.is_some())).collect();
        let compared = Compared { lane: shard as usize, outputs: outputs.detach(), pair: pair.detach() };
        let kind = loss.kind();
        Ok((Sum { loss: loss.detach().f_to_kind(Kind::Double)?, kind, slices: 1, parts, counts }, compared))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_are_the_batch_and_differ_by_one_example_at_most(size in 0..300i64, shards in 1..40u32) {
            let slices: Vec<_> = (0..shards).map(|shard| bounds(size, shards, shard)).collect();
            prop_assert!(slices.windows(2).all(|two| two[0].0 + two[0].1 == two[1].0));
            prop_assert_eq!((slices[0].0, slices.iter().map(|slice| slice.1).sum::<i64>()), (0, size));
            let sizes = || slices.iter().map(|slice| slice.1);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }
    }
}
