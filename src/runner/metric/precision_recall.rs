//! Precision, recall and F1, of each class or label and averaged.

use tch::{Kind, TchError, Tensor};
use torchd::job::spec::loss::Answer;
use torchd::job::spec::metric::{Average, PrecisionRecall as Settings, Quality};

use super::{About, Finding, Rule};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct PrecisionRecall {
    pub(super) settings: Settings,
    pub(super) about: About,
}

impl Rule for PrecisionRecall {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, pair: &Pair) -> Result<()> {
        let [right, answers, targets] = sums else { return Ok(()) };
        let About { answer, ignored, .. } = self.about;
        let (named, is) = (pair.decided(answer)?, pair.right(answer)?);
        if let Answer::Labels(count) = answer {
            let rows = |tensor: &Tensor| tensor.f_reshape([-1, count as i64]);
            let sum = |tensor: &Tensor| tensor.f_sum_dim_intlist(0, false, Kind::Double);
            let (named, is) = (rows(&named)?, rows(&is)?);
            let _ = right.f_add_(&sum(&named.f_logical_and(&is)?)?)?;
            let _ = answers.f_add_(&sum(&named)?)?;
            let _ = targets.f_add_(&sum(&is)?)?;
            return Ok(());
        }
        let (named, is) = (named.f_flatten(0, -1)?, is.f_flatten(0, -1)?);
        let counts = counts(&is, ignored)?;
        let is = match ignored {
            None => is,
            // A target that does not count adds 0 to some class.
            Some(_) => is.f_mul(&counts.f_to_kind(Kind::Int64)?)?,
        };
        // Whole numbers, whose sums are the same in every order.
        let _ = right.f_index_add_(0, &is, &named.f_eq_tensor(&is)?.f_to_kind(Kind::Double)?.f_mul(&counts)?)?;
        let _ = answers.f_index_add_(0, &named, &counts)?;
        let _ = targets.f_index_add_(0, &is, &counts)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        let columns = sums.iter().map(|sum| Vec::<f64>::try_from(*sum)).collect::<std::result::Result<Vec<_>, _>>()?;
        let [right, answers, targets] = &columns[..] else { return Ok(Finding::Nothing("it has no sums".into())) };
        let all = [right, answers, targets].map(|column| column.iter().sum::<f64>());
        let Settings { quality, average } = self.settings;
        if average == Average::Micro {
            return Ok(Finding::Number(share(quality, all)));
        }
        let is_label = matches!(self.about.answer, Answer::Labels(_));
        let each =
            right.iter().zip(answers).zip(targets).map(|((&right, &answers), &targets)| [right, answers, targets]);
        let each: Vec<_> = each.filter(|[_, answers, targets]| is_label || answers + targets > 0.0).collect();
        if each.is_empty() {
            return Ok(Finding::none_counts());
        }
        let sum: f64 = each.iter().map(|counts| share(quality, *counts)).sum();
        Ok(Finding::Number(sum / each.len() as f64))
    }
}

/// The quantity of so many right ones among so many answers and targets; 0 of none.
fn share(quality: Quality, [right, answers, targets]: [f64; 3]) -> f64 {
    let (part, whole) = match quality {
        Quality::Precision => (right, answers),
        Quality::Recall => (right, targets),
        Quality::F1 => (2.0 * right, answers + targets),
    };
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// 1 for each target that counts, and 0 for one that does not.
pub(super) fn counts(targets: &Tensor, ignored: Option<i64>) -> std::result::Result<Tensor, TchError> {
    match ignored {
        None => targets.f_ones_like()?.f_to_kind(Kind::Double),
        Some(ignored) => targets.f_ne(ignored)?.f_to_kind(Kind::Double),
    }
}
