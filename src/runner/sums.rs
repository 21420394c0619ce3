//! What the scalars are means of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use torchd::job::spec::{SUM_CORRECT, SUM_LOSS};
use torchd::proto::v1::JobEndReason;

use crate::batches::Batch;
use crate::failure::{Failure, Result};

/// Sums since the last scalars. They stay on the device, so that a step on a GPU waits for nothing.
pub(crate) struct Sums {
    pub(crate) loss: Tensor,
    pub(crate) correct: Tensor,
    pub(crate) examples: i64,
    /// Time spent training, without validation and checkpoints, for the examples of this attempt.
    since: Instant,
    pub(crate) apart: Duration,
    examples_before: i64,
}

impl Sums {
    pub(crate) fn new(device: Device) -> Result<Self> {
        let zero = || Tensor::f_zeros([], (Kind::Double, device));
        Ok(Self {
            loss: zero()?,
            correct: zero()?,
            examples: 0,
            since: Instant::now(),
            apart: Duration::ZERO,
            examples_before: 0,
        })
    }

    /// Takes up sums that a checkpoint holds.
    pub(crate) fn restore(&mut self, state: &BTreeMap<String, Tensor>, examples: u64) -> Result<()> {
        for (name, sum) in [(SUM_LOSS, &mut self.loss), (SUM_CORRECT, &mut self.correct)] {
            let saved = state.get(name).filter(|saved| saved.kind() == Kind::Double && saved.numel() == 1);
            let saved = saved.ok_or_else(|| {
                Failure::new(JobEndReason::BadData, format!("the checkpoint does not fit: it has no {name}"))
            })?;
            sum.f_copy_(&saved.f_view([0i64; 0])?)?;
        }
        self.examples = examples as i64;
        self.examples_before = self.examples;
        Ok(())
    }

    /// What a checkpoint needs of them, by name.
    pub(crate) fn state(&self) -> [(String, &Tensor); 2] {
        [(SUM_LOSS.to_owned(), &self.loss), (SUM_CORRECT.to_owned(), &self.correct)]
    }

    pub(crate) fn add(&mut self, loss: &Tensor, output: &Tensor, batch: &Batch) -> Result<()> {
        let _ = self.loss.f_add_(&loss.detach().f_mul_scalar(batch.size as f64)?)?;
        let _ = self.correct.f_add_(&correct(output, &batch.labels)?)?;
        self.examples += batch.size;
        Ok(())
    }

    pub(crate) fn mean(&self, sum: &Tensor) -> Result<f64> {
        Ok(f64::try_from(sum)? / self.examples as f64)
    }

    pub(crate) fn examples_per_second(&self) -> f64 {
        (self.examples - self.examples_before) as f64
            / (self.since.elapsed().saturating_sub(self.apart)).as_secs_f64().max(1e-9)
    }
}

/// How many of a batch are recognised.
pub(crate) fn correct(output: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(output.detach().f_argmax(1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Double)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_sums_is_bad_data_and_no_fault_of_the_disk() {
        let mut sums = Sums::new(Device::Cpu).unwrap();
        let whole = [SUM_LOSS, SUM_CORRECT].map(|name| (name.to_owned(), Tensor::from(2.5f64)));
        sums.restore(&BTreeMap::from(whole), 7).unwrap();
        assert_eq!((f64::try_from(&sums.loss).unwrap(), sums.examples), (2.5, 7));
        let failure = sums.restore(&BTreeMap::new(), 7).unwrap_err();
        assert!(failure.reason == JobEndReason::BadData && failure.message.contains(SUM_LOSS), "{}", failure.message);
    }
}
