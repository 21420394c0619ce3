//! The validation pass: loss and accuracy over a set that the network does not learn from.

use tch::{Kind, Reduction, Tensor};
use torchd::fault;

use crate::batches::Examples;
use crate::failure::Result;
use crate::sums::correct;
use crate::train::Training;

impl Training {
    /// Mean loss and accuracy over a set, without dropout; None where `go_on`, asked before each
    /// batch, says no.
    pub(crate) fn validate(
        &self,
        examples: &Examples,
        mut go_on: impl FnMut() -> Result<bool>,
    ) -> Result<Option<(f64, f64)>> {
        let size = i64::from(self.spec.validation_batch_size.unwrap_or(self.spec.batch_size));
        let zero = || Tensor::f_zeros([], (Kind::Double, self.device));
        let (mut loss, mut hits) = (zero()?, zero()?);
        let mut start = 0;
        while start < examples.count() {
            if !go_on()? {
                return Ok(None);
            }
            fault::point("validation-batch");
            tch::no_grad(|| -> Result<()> {
                let batch = examples.range(start, size)?;
                let output = self.network.forward(&batch.images, false)?;
                let sum = nll_loss(&output, &batch.labels, Reduction::Sum)?;
                let _ = loss.f_add_(&sum)?;
                let _ = hits.f_add_(&correct(&output, &batch.labels)?)?;
                Ok(())
            })?;
            start += size;
        }
        let count = examples.count() as f64;
        Ok(Some((f64::try_from(&loss)? / count, f64::try_from(&hits)? / count)))
    }
}

/// The negative log-likelihood of the labels.
pub(crate) fn nll_loss(output: &Tensor, labels: &Tensor, reduction: Reduction) -> Result<Tensor> {
    /// No label means "leave this one out": PyTorch's default.
    const IGNORE: i64 = -100;
    Ok(output.f_nll_loss(labels, None::<Tensor>, reduction, IGNORE)?)
}
