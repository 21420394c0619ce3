//! The validation pass: loss and metrics over a set that the network does not learn from.

use tch::Reduction;
use torchd::fault;

use crate::average::Average;
use crate::failure::Result;
use crate::feed::Feed;
use crate::metric::{self, About, Metric};
use crate::model::Mode;
use crate::stateful::zero;
use crate::train::Training;

/// The values of a validation pass.
pub(crate) struct Validated {
    pub(crate) loss: f64,
    /// Each with its name.
    pub(crate) metrics: Vec<(String, f64)>,
}

impl Training {
    /// Mean loss and metrics over a set, without dropout, of the averaged weights where there are
    /// any; None where `go_on`, asked before each batch, says no.
    pub(crate) fn validate(
        &mut self,
        feed: &mut Feed,
        go_on: impl FnMut() -> Result<bool>,
    ) -> Result<Option<Validated>> {
        self.exchange_average()?;
        let validated = self.validate_as_it_is(feed, go_on);
        self.exchange_average()?;
        validated
    }

    /// Exchanges the weights with their average, where there is one.
    pub(crate) fn exchange_average(&mut self) -> Result<()> {
        self.average.as_mut().map_or(Ok(()), Average::exchange)
    }

    fn validate_as_it_is(&self, feed: &mut Feed, mut go_on: impl FnMut() -> Result<bool>) -> Result<Option<Validated>> {
        let size = u64::from(self.spec.validation_batch_size.unwrap_or(self.spec.batch_size));
        let (mut loss, mut weight) = (zero(self.device)?, zero(self.device)?);
        let mut metrics = self.metrics()?;
        let count = feed.facts().examples;
        let mut start = 0;
        while start < count {
            if !go_on()? {
                return Ok(None);
            }
            fault::point("validation-batch");
            let places: Vec<u64> = (start..count.min(start + size)).collect();
            tch::no_grad(|| -> Result<()> {
                let batch = feed.batch(&places)?;
                let (outputs, pair, sum) = self.compute(&batch, Mode::Evaluate, Reduction::Sum)?;
                let _ = loss.f_add_(&sum)?;
                let _ = weight.f_add_(&self.loss.weight(&batch.targets)?)?;
                let pair = pair.detach();
                metrics.iter_mut().try_for_each(|metric| metric.add(&outputs, &pair))
            })?;
            start += size;
        }
        let metrics =
            metrics.iter().map(|metric| Ok((metric.name().to_owned(), metric.value()?))).collect::<Result<_>>()?;
        Ok(Some(Validated { loss: f64::try_from(&loss)? / f64::try_from(&weight)?, metrics }))
    }

    /// Metrics that have taken nothing in.
    pub(crate) fn metrics(&self) -> Result<Vec<Metric>> {
        let about = self.answer.map(|answer| About { answer, ignored: self.ignored, device: self.device });
        let of_spec = about.iter().flat_map(|about| self.spec.metrics.iter().map(|metric| (*metric, *about)));
        let mut metrics = of_spec.map(|(metric, about)| metric::build(metric, about)).collect::<Result<Vec<_>>>()?;
        let own = self.spec.model.own_loss().map_or(&[][..], |own| own.metrics);
        metrics.extend(metric::build_own(own, self.device)?);
        Ok(metrics)
    }
}
