//! The coefficient of determination, a mean over the numbers of a target.
//!
//! Means and squared deviations from them are merged batch by batch, as by Chan, Golub and LeVeque
//! (1979), "Updating formulae and a pairwise algorithm for computing sample variances": sums of
//! squares would lose every digit where the mean is large.

use tch::{Kind, Tensor};

use super::{Finding, Rule};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct R2;

impl Rule for R2 {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [examples, means, deviations, residuals] = sums else { return Ok(()) };
        let count = targets.size().first().copied().unwrap_or(1);
        // `[examples, numbers]`
        let rows = |tensor: &Tensor| tensor.f_reshape([count, -1])?.f_to_kind(Kind::Double);
        let sum = |tensor: Tensor| tensor.f_sum_dim_intlist(0, false, Kind::Double);
        let (output, targets) = (rows(output)?, rows(targets)?);
        let mean = targets.f_mean_dim(0, false, Kind::Double)?;
        let _ = residuals.f_add_(&sum(targets.f_sub(&output)?.f_square()?)?)?;
        let _ = deviations.f_add_(&sum(targets.f_sub(&mean)?.f_square()?)?)?;
        let apart = mean.f_sub(means)?;
        let together = examples.f_add_scalar(count as f64)?;
        let between = examples.f_mul_scalar(count as f64)?.f_div(&together)?;
        let _ = deviations.f_add_(&apart.f_square()?.f_mul(&between)?)?;
        let _ = means.f_add_(&apart.f_mul_scalar(count as f64)?.f_div(&together)?)?;
        examples.f_copy_(&together)?;
        Ok(())
    }

    fn merge(&self, sums: &mut [&mut Tensor], others: &[&Tensor]) -> Result<()> {
        let ([examples, means, deviations, residuals], [count, mean, deviation, residual]) = (sums, others) else {
            return Ok(());
        };
        if f64::try_from(*count)? == 0.0 {
            return Ok(());
        }
        let _ = (residuals.f_add_(residual)?, deviations.f_add_(deviation)?);
        let (apart, together) = (mean.f_sub(means)?, examples.f_add(count)?);
        let share = count.f_div(&together)?;
        let _ = deviations.f_add_(&apart.f_square()?.f_mul(&examples.f_mul(&share)?)?)?;
        let _ = means.f_add_(&apart.f_mul(&share)?)?;
        examples.f_copy_(&together)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        if f64::try_from(sums[0])? < 2.0 {
            return Ok(Finding::Nothing("it needs two examples".into()));
        }
        let (deviations, residuals) = (Vec::<f64>::try_from(sums[2])?, Vec::<f64>::try_from(sums[3])?);
        let each = deviations.iter().zip(&residuals).map(|(deviation, residual)| match (*deviation, *residual) {
            (0.0, 0.0) => 1.0,
            (0.0, _) => 0.0,
            (deviation, residual) => 1.0 - residual / deviation,
        });
        Ok(Finding::Number(each.sum::<f64>() / deviations.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Its value for outputs and targets `[examples, numbers]`, in batches of that size.
    fn found(output: &Tensor, targets: &Tensor, batch: i64) -> Finding {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        let numbers = targets.size()[1];
        let mut sums = [zeros(&[]), zeros(&[numbers]), zeros(&[numbers]), zeros(&[numbers])];
        for (output, targets) in output.split(batch, 0).into_iter().zip(targets.split(batch, 0)) {
            let mut sums: Vec<_> = sums.iter_mut().collect();
            R2.add(&mut sums, &output.shallow_clone().into(), &Pair { output, targets }).unwrap();
        }
        R2.value(&sums.each_ref()).unwrap()
    }

    #[test]
    fn digits_are_kept_where_the_mean_is_large_and_batches_change_nothing() {
        // Quarters around 2^20: sums of squares near 2^50 would lose what is told apart here.
        let around = |quarters: [f32; 6]| {
            let values = quarters.map(|quarter| 1_048_576.0 + quarter / 4.0);
            Tensor::from_slice(&values).view([6, 1])
        };
        let (output, targets) = (around([0.0, 1.0, 2.0, 3.0, 4.0, 6.0]), around([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        for batch in [1, 4, 6] {
            // One residual of a quarter, and deviations of 17.5 squared quarters.
            let Finding::Number(found) = found(&output, &targets, batch) else { panic!("no number") };
            assert!((found - (1.0 - 1.0 / 17.5)).abs() < 1e-12, "{batch}: {found}");
        }
    }

    #[test]
    fn numbers_that_never_change_are_right_or_not_and_one_example_is_too_few() {
        // The first number is 2 in all targets.
        let targets = Tensor::from_slice(&[2f32, 1.0, 2.0, 3.0]).view([2, 2]);
        for (first, right) in [(2.0, (1.0 + 1.0) / 2.0), (5.0, (0.0 + 1.0) / 2.0)] {
            let output = Tensor::from_slice(&[first, 1.0, 2.0f32, 3.0]).view([2, 2]);
            let found = found(&output, &targets, 1);
            assert!(matches!(found, Finding::Number(number) if number == right), "{found:?}");
        }
        let one = targets.narrow(0, 0, 1);
        assert!(matches!(found(&one, &one, 1), Finding::Nothing(_)));
    }
}
