//! The validation pass: loss and metrics over a set that the network does not learn from.

use tch::Reduction;
use torchd::fault;

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
    /// Mean loss and metrics over a set, without dropout; None where `go_on`, asked before each
    /// batch, says no.
    pub(crate) fn validate(
        &self,
        feed: &mut Feed,
        mut go_on: impl FnMut() -> Result<bool>,
    ) -> Result<Option<Validated>> {
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
                let outputs = self.network.forward(&batch, Mode::Evaluate)?;
                let pair = self.loss.arrange(&outputs.output, &batch.targets)?;
                let _ = loss.f_add_(&self.loss.reduced(&pair, Reduction::Sum)?)?;
                let _ = weight.f_add_(&self.loss.weight(&batch.targets)?)?;
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
