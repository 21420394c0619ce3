//! The area under the receiver operating characteristic, of the scores of a whole validation set.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::loss::Answer;

use super::{About, Finding, Rule};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric. The scores are kept in the memory of the host.
pub(super) struct Auc {
    pub(super) about: About,
    /// Those of what holds ...
    pub(super) held: Vec<f64>,
    /// ... and of what does not.
    pub(super) rest: Vec<f64>,
}

impl Auc {
    pub(super) fn new(about: About) -> Self {
        Self { about, held: Vec::new(), rest: Vec::new() }
    }
}

impl Rule for Auc {
    fn add(&mut self, _: &mut [&mut Tensor], _: &Outputs, pair: &Pair) -> Result<()> {
        let About { answer, ignored, .. } = self.about;
        let output = pair.output.f_to_kind(Kind::Double)?;
        let scores = match answer {
            Answer::Labels(_) => output,
            // Of two classes: the higher, the more probable is the second.
            Answer::Class(_) | Answer::Numbers(_) | Answer::Shares => {
                output.f_select(1, 1)?.f_sub(&output.f_select(1, 0)?)?
            }
        };
        let targets = match answer {
            Answer::Labels(_) => pair.right(answer)?.f_to_kind(Kind::Int64)?,
            Answer::Class(_) | Answer::Numbers(_) | Answer::Shares => pair.targets.shallow_clone(),
        };
        let flat = |tensor: Tensor| tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1);
        let (scores, targets) = (Vec::<f64>::try_from(flat(scores)?)?, Vec::<i64>::try_from(flat(targets)?)?);
        for (score, target) in scores.into_iter().zip(targets) {
            if Some(target) != ignored {
                if target == 1 { self.held.push(score) } else { self.rest.push(score) }
            }
        }
        Ok(())
    }

    fn value(&mut self, _: &[&Tensor]) -> Result<Finding> {
        Ok(match area(&mut self.held, &mut self.rest) {
            Some(area) => Finding::Number(area),
            None => Finding::Nothing("the targets are all of one kind, and it compares two".into()),
        })
    }

    fn clear(&mut self) -> Result<()> {
        self.held.clear();
        self.rest.clear();
        Ok(())
    }
}

/// The share of pairs, one of each list, in which the one of the first is higher; equal ones count
/// half. None where a list is empty. Sorts the lists.
fn area(held: &mut [f64], rest: &mut [f64]) -> Option<f64> {
    if held.is_empty() || rest.is_empty() {
        return None;
    }
    // The total order sets the two zeros apart, which are equal.
    let order = |one: &f64, other: &f64| (one + 0.0).total_cmp(&(other + 0.0));
    held.sort_unstable_by(order);
    rest.sort_unstable_by(order);
    let (mut below, mut up_to, mut halves) = (0, 0, 0u128);
    for score in held.iter() {
        below += rest[below..].iter().take_while(|other| *other < score).count();
        up_to = up_to.max(below);
        up_to += rest[up_to..].iter().take_while(|other| *other == score).count();
        halves += (below + up_to) as u128;
    }
    Some(halves as f64 / (2 * held.len() as u128 * rest.len() as u128) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_count_half_and_zeros_are_equal() {
        for (held, rest, right) in [
            (&[0.9, 0.8][..], &[0.1, 0.2][..], Some(1.0)),
            (&[0.1], &[0.9], Some(0.0)),
            (&[0.5], &[0.5], Some(0.5)),
            (&[0.0, -0.0], &[-0.0, 0.0], Some(0.5)),
            // By hand: 0.4 is above one and equal to two of four, 0.8 above all: (1 + 2/2 + 4) / 8.
            (&[0.8, 0.4], &[0.4, 0.1, 0.4, 0.7], Some(0.75)),
            (&[f64::INFINITY], &[f64::NEG_INFINITY], Some(1.0)),
            (&[1.0], &[], None),
            (&[], &[1.0], None),
        ] {
            assert_eq!(area(&mut held.to_vec(), &mut rest.to_vec()), right, "{held:?} {rest:?}");
        }
    }

    #[test]
    fn it_is_what_counting_every_pair_gives() {
        // Few values, so that most are tied.
        let mut state = 7u64;
        let mut draw = |count: usize| {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f64::from((state >> 60) as u32)
            };
            (0..count).map(|_| next()).collect::<Vec<_>>()
        };
        for (held, rest) in [(5, 40), (100, 3), (64, 64)] {
            let (mut held, mut rest) = (draw(held), draw(rest));
            let pairs = held.iter().flat_map(|one| rest.iter().map(move |other| (one, other)));
            let counted: f64 = pairs
                .map(|(one, other)| {
                    if one > other {
                        1.0
                    } else if one == other {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum();
            let right = counted / (held.len() * rest.len()) as f64;
            assert_eq!(area(&mut held, &mut rest), Some(right));
        }
    }
}
