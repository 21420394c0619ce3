//! The metrics: each is a file in `metric/`, one in `src/job/spec/metric/`, and a line in each
//! registry.

mod accuracy;
mod auc;
mod confusion_matrix;
mod mae;
mod own;
mod perplexity;
mod precision_recall;
mod r2;
mod rmse;
mod top_k;

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::Metric as Settings;
use torchd::job::spec::loss::Answer;
use torchd::job::spec::metric::{Sum, own_sums};

pub(crate) use self::confusion_matrix::Matrix;
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;
use crate::stateful::Tensors;

/// A metric of outputs and targets, with its sums. They stay on the device, so that a step on a GPU
/// waits for nothing.
pub(crate) struct Metric {
    name: String,
    rule: Box<dyn Rule>,
    sums: Vec<(Sum, Tensor)>,
}

/// The way of a metric from outputs and targets to its value, by way of its sums, which stand in
/// the order of the spec's half.
trait Rule {
    /// Adds a batch to the sums.
    fn add(&mut self, sums: &mut [&mut Tensor], outputs: &Outputs, pair: &Pair) -> Result<()>;

    /// The value.
    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding>;

    /// Adds the sums of another one to these. Never called for metrics that keep something besides
    /// sums: those are of validation alone.
    fn merge(&self, sums: &mut [&mut Tensor], others: &[&Tensor]) -> Result<()> {
        sums.iter_mut().zip(others).try_for_each(|(sum, other)| Ok(sum.f_add_(other).map(drop)?))
    }

    /// Forgets what it keeps besides the sums.
    fn clear(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The value of a metric over all that it has taken in.
#[derive(Debug)]
pub(crate) enum Finding {
    /// A finite number.
    Number(f64),
    /// None, for a reason in words.
    Nothing(String),
    /// A matrix.
    Matrix(Matrix),
}

impl Finding {
    /// There was no target, or none that counts.
    fn none_counts() -> Self {
        Self::Nothing("no target counts".into())
    }

    /// The function of a number.
    fn map(self, change: impl FnOnce(f64) -> f64) -> Self {
        match self {
            Self::Number(number) => Self::Number(change(number)),
            other @ (Self::Nothing(_) | Self::Matrix(_)) => other,
        }
    }
}

/// The outputs and targets that a metric is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// How the outputs answer the targets.
    pub(crate) answer: Answer,
    /// Targets of this value do not count.
    pub(crate) ignored: Option<i64>,
    pub(crate) device: Device,
}

/// A metric that has taken nothing in.
pub(crate) fn build(settings: Settings, about: About) -> Result<Metric> {
    let rule: Box<dyn Rule> = match settings {
        Settings::Accuracy(_) => Box::new(accuracy::Accuracy { answer: about.answer, ignored: about.ignored }),
        Settings::Mae(_) => Box::new(mae::Mae),
        Settings::Perplexity(_) => Box::new(perplexity::Perplexity { ignored: about.ignored }),
        Settings::TopK(top) => Box::new(top_k::TopK { k: top.k, ignored: about.ignored }),
        Settings::PrecisionRecall(settings) => Box::new(precision_recall::PrecisionRecall { settings, about }),
        Settings::Auc(_) => Box::new(auc::Auc::new(about)),
        Settings::Rmse(_) => Box::new(rmse::Rmse),
        Settings::R2(_) => Box::new(r2::R2),
        Settings::ConfusionMatrix(_) => Box::new(confusion_matrix::ConfusionMatrix::new(about)?),
    };
    Metric::new(settings.name(), rule, settings.sums(about.answer), about.device)
}

/// The metrics that a network gives by these names, which have taken nothing in.
pub(crate) fn build_own(names: &[String], device: Device) -> Result<Vec<Metric>> {
    let build = |(place, name): (usize, &String)| {
        Metric::new(name.clone(), Box::new(own::Own { place }), own_sums(name).map(Sum::one).into(), device)
    };
    names.iter().enumerate().map(build).collect()
}

impl Metric {
    fn new(name: String, rule: Box<dyn Rule>, sums: Vec<Sum>, device: Device) -> Result<Self> {
        let zeros = |sum: Sum| {
            let shape: Vec<i64> = sum.count.iter().map(|&count| count as i64).collect();
            Ok((sum, Tensor::f_zeros(shape, (Kind::Double, device))?))
        };
        Ok(Self { name, rule, sums: sums.into_iter().map(zeros).collect::<Result<_>>()? })
    }

    /// Its name before the slash of a tag.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the outputs for a batch in.
    pub(crate) fn add(&mut self, outputs: &Outputs, pair: &Pair) -> Result<()> {
        let mut sums: Vec<_> = self.sums.iter_mut().map(|(_, sum)| sum).collect();
        tch::no_grad(|| self.rule.add(&mut sums, outputs, pair))
    }

    /// Forgets all that was taken in.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.sums.iter_mut().try_for_each(|(_, sum)| sum.f_zero_().map(drop))?;
        self.rule.clear()
    }

    /// Its value over all that was taken in.
    pub(crate) fn value(&mut self) -> Result<Finding> {
        self.value_with(&[])
    }

    /// Its value over all that this and others of its kind have taken in, by their sums alone.
    pub(crate) fn value_with(&mut self, others: &[&Self]) -> Result<Finding> {
        let mut sums: Vec<_> = self.sums.iter().map(|(_, sum)| sum.shallow_clone()).collect();
        if !others.is_empty() {
            sums = sums.iter().map(Tensor::copy).collect();
        }
        for other in others {
            let theirs: Vec<_> = other.sums.iter().map(|(_, sum)| sum).collect();
            let mut sums: Vec<_> = sums.iter_mut().collect();
            self.rule.merge(&mut sums, &theirs)?;
        }
        Ok(match self.rule.value(&sums.iter().collect::<Vec<_>>())? {
            Finding::Number(number) if !number.is_finite() => Finding::Nothing(format!("it is {number}")),
            found => found,
        })
    }

    /// Takes its sums up, which the file has under these names.
    pub(crate) fn load(
        &mut self,
        name: &dyn Fn(&str) -> String,
        tensors: &mut Tensors,
    ) -> std::result::Result<(), String> {
        for (told, sum) in &mut self.sums {
            let name = name(&told.name);
            if told.can_be_absent && !tensors.has(&name) {
                let _ = sum.f_fill_(tensors.examples as f64).map_err(|error| error.to_string())?;
            } else {
                tensors.copy_to(&name, sum)?;
            }
        }
        Ok(())
    }

    /// Hands out its sums by name.
    pub(crate) fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.sums.iter().try_for_each(|(told, sum)| put(&told.name, sum))
    }
}

/// Adds how many targets count to a sum.
fn add_count(sum: &mut Tensor, targets: &Tensor, ignored: Option<i64>) -> std::result::Result<(), TchError> {
    match ignored {
        // A number takes no tensor of its own.
        None => sum.f_add_scalar_(targets.numel() as f64).map(drop),
        Some(_) => sum.f_add_(&count(targets, ignored)?).map(drop),
    }
}

/// How many targets count.
fn count(targets: &Tensor, ignored: Option<i64>) -> std::result::Result<Tensor, TchError> {
    match ignored {
        None => Ok(Tensor::from(targets.numel() as f64)),
        Some(ignored) => targets.f_ne(ignored)?.f_sum(Kind::Double),
    }
}

/// One sum divided by another.
fn quotient(sum: &Tensor, count: &Tensor) -> Result<Finding> {
    let count = f64::try_from(count)?;
    if count == 0.0 {
        return Ok(Finding::none_counts());
    }
    Ok(Finding::Number(f64::try_from(sum)? / count))
}

#[cfg(test)]
mod tests {
    use torchd::job::spec::metric::Perplexity;

    use super::*;

    #[test]
    fn what_is_no_finite_number_is_no_value() {
        let found = |metric: &mut Metric| match metric.value().unwrap() {
            Finding::Nothing(why) => why,
            other => panic!("{other:?}"),
        };
        let about = About { answer: Answer::Class(2), ignored: Some(1), device: Device::Cpu };
        let mut perplexity = build(Settings::Perplexity(Perplexity), about).unwrap();
        let mut add = |target: i64| {
            let output = Tensor::from_slice(&[0f32, 2000.0]).view([1, 2]);
            let pair = Pair { output: output.shallow_clone(), targets: Tensor::from_slice(&[target]) };
            perplexity.add(&output.into(), &pair).unwrap();
            found(&mut perplexity)
        };
        assert_eq!(add(1), "no target counts");
        // The exponential of 2000.
        assert_eq!(add(0), "it is inf");
        let mut own = build_own(&["mine".into()], Device::Cpu).unwrap();
        let pair = || Pair { output: Tensor::from(0f32), targets: Tensor::from_slice(&[0i64, 1]) };
        for value in [0.5, f64::NAN] {
            let outputs = Outputs { output: Tensor::from(0f32), metrics: vec![Tensor::from(value)] };
            own[0].add(&outputs, &pair()).unwrap();
        }
        assert_eq!(found(&mut own[0]), "it is NaN");
    }
}
