//! The sums that scalars are means of.

use std::ops::Range;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use torchd::job::spec::{SUM_LOSS, lane_name};

use crate::failure::Result;
use crate::loss::Pair;
use crate::metric::{Finding, Metric};
use crate::model::Outputs;
use crate::stateful::{Stateful, Tensors, zero};

/// Sums since the last scalars. They stay on the device, so that a step on a GPU waits for nothing.
pub(crate) struct Sums {
    pub(crate) loss: Tensor,
    /// The metrics by shard: each takes in the slices of one shard, so that the order of additions
    /// is fixed. One set of them where steps are not computed in shards.
    lanes: Vec<Vec<Metric>>,
    pub(crate) examples: u64,
    /// Time spent training, without validation and checkpoints, for the examples of this attempt.
    since: Instant,
    pub(crate) apart: Duration,
    /// Part of that time in which the loop waited for data.
    pub(crate) waited: Duration,
    examples_before: u64,
}

impl Sums {
    /// Sums of nothing, with metrics that have taken nothing in, by shard.
    pub(crate) fn new(lanes: Vec<Vec<Metric>>, device: Device) -> Result<Self> {
        Ok(Self {
            loss: zero(device)?,
            lanes,
            examples: 0,
            since: Instant::now(),
            apart: Duration::ZERO,
            waited: Duration::ZERO,
            examples_before: 0,
        })
    }

    /// Takes in the mean loss of a batch of that many examples, which are counted by themselves.
    pub(crate) fn add_loss(&mut self, loss: &Tensor, examples: i64) -> Result<()> {
        let _ = self.loss.f_add_(&loss.f_mul_scalar(examples as f64)?)?;
        Ok(())
    }

    /// Becomes sums of nothing, in the tensors that they are: a captured step goes on with these.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let _ = self.loss.f_zero_()?;
        self.lanes.iter_mut().flatten().try_for_each(Metric::clear)?;
        (self.examples, self.examples_before) = (0, 0);
        (self.since, self.apart, self.waited) = (Instant::now(), Duration::ZERO, Duration::ZERO);
        Ok(())
    }

    /// Takes in outputs for the metrics of a shard.
    pub(crate) fn add(&mut self, lane: usize, outputs: &Outputs, pair: &Pair) -> Result<()> {
        self.lanes[lane].iter_mut().try_for_each(|metric| metric.add(outputs, pair))
    }

    /// The sums of the metrics of these shards, as one vector.
    pub(crate) fn of_lanes(&self, lanes: Range<usize>) -> Result<Tensor> {
        let mut flat = vec![Tensor::f_zeros([0], (Kind::Double, self.loss.device()))?];
        for metric in self.lanes[lanes].iter().flatten() {
            metric.save(&mut |_, sum| {
                flat.push(sum.f_reshape([-1])?);
                Ok(())
            })?;
        }
        Ok(Tensor::f_cat(&flat, 0)?)
    }

    /// Takes such a vector up.
    pub(crate) fn set_lanes(&self, lanes: Range<usize>, values: &Tensor) -> Result<()> {
        let mut start = 0;
        for metric in self.lanes[lanes].iter().flatten() {
            metric.save(&mut |_, sum| {
                let size = sum.numel() as i64;
                sum.shallow_clone().f_copy_(&values.f_narrow(0, start, size)?.f_view_as(sum)?)?;
                start += size;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The metrics by name, each over all shards.
    pub(crate) fn metrics(&mut self) -> Result<Vec<(String, Finding)>> {
        let Some((first, others)) = self.lanes.split_first_mut() else { return Ok(Vec::new()) };
        let value = |(place, metric): (usize, &mut Metric)| {
            let others: Vec<_> = others.iter().map(|lane| &lane[place]).collect();
            Ok((metric.name().to_owned(), metric.value_with(&others)?))
        };
        first.iter_mut().enumerate().map(value).collect()
    }

    /// The mean loss.
    pub(crate) fn mean_loss(&self) -> Result<f64> {
        Ok(f64::try_from(&self.loss)? / self.examples as f64)
    }

    pub(crate) fn examples_per_second(&self) -> f64 {
        (self.examples - self.examples_before) as f64 / self.seconds()
    }

    /// The share of the time in which the loop waited for data, 0 to 1.
    pub(crate) fn wait_ratio(&self) -> f64 {
        (self.waited.as_secs_f64() / self.seconds()).min(1.0)
    }

    /// The time spent training.
    fn seconds(&self) -> f64 {
        self.since.elapsed().saturating_sub(self.apart).as_secs_f64().max(1e-9)
    }
}

impl Stateful for Sums {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        put(SUM_LOSS, &self.loss)?;
        for (place, lane) in self.lanes.iter().enumerate() {
            let mut put = |name: &str, tensor: &Tensor| put(&lane_name(name, place), tensor);
            lane.iter().try_for_each(|metric| metric.save(&mut put))?;
        }
        Ok(())
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        tensors.copy_to(SUM_LOSS, &self.loss)?;
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.iter_mut().try_for_each(|metric| metric.load(&|name| lane_name(name, place), tensors))?;
        }
        self.examples = tensors.examples;
        self.examples_before = self.examples;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use torchd::job::spec::Metric as Settings;
    use torchd::job::spec::loss::Answer;
    use torchd::job::spec::metric::Accuracy;

    use super::*;
    use crate::metric;

    #[test]
    fn a_state_without_sums_is_told_by_name_and_one_of_an_earlier_version_counts_its_examples() {
        let about = metric::About { answer: Answer::Class(10), ignored: None, device: Device::Cpu };
        let accuracy = metric::build(Settings::Accuracy(Accuracy), about).unwrap();
        let mut sums = Sums::new(vec![vec![accuracy]], Device::Cpu).unwrap();
        let saved =
            [("sums.loss", 2.5f64), ("sums.correct", 6.0)].map(|(name, sum)| (name.to_owned(), Tensor::from(sum)));
        sums.load(&mut Tensors::new(BTreeMap::from(saved), 8)).unwrap();
        let values = sums.metrics().unwrap();
        assert!(matches!(values[..], [(_, Finding::Number(0.75))]), "{values:?}");
        assert_eq!(sums.mean_loss().unwrap(), 2.5 / 8.0);
        let told = sums.load(&mut Tensors::new(BTreeMap::new(), 7)).unwrap_err();
        assert_eq!(told, "sums.loss is missing");
    }
}
