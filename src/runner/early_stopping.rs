//! Ends a job whose validation does not get better.

use tch::Tensor;
use torchd::job::spec::EarlyStopping as Settings;

use crate::failure::Result;
use crate::stateful::{Stateful, Tensors};

/// The best value of a quantity, and the validation passes since.
pub(crate) struct EarlyStopping {
    settings: Settings,
    best: Option<f64>,
    waited: u32,
}

impl EarlyStopping {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, best: None, waited: 0 }
    }

    /// Hears the values of a validation pass, by their tags.
    pub(crate) fn hear(&mut self, values: &[(String, f64)]) {
        let Settings { by: Some(by), least_improvement, .. } = self.settings else { return };
        let Some((_, value)) = values.iter().find(|(tag, _)| *tag == by.tag()) else { return };
        if !value.is_nan() && self.best.is_none_or(|best| by.improves(*value, best, least_improvement)) {
            (self.best, self.waited) = (Some(*value), 0);
        } else {
            self.waited = self.waited.saturating_add(1);
        }
    }

    /// The reason to end the job, in words. A job that was broken off between its last pass and its
    /// end still has it.
    pub(crate) fn is_over(&self) -> Option<String> {
        let (tag, waited) = (self.settings.by?.tag(), self.waited);
        let best = self.best.map_or_else(|| "no number".to_owned(), |best| best.to_string());
        (waited >= self.settings.patience).then(|| {
            format!("stopped early: {tag} has not improved for {waited} validation passes; the best was {best}")
        })
    }
}

impl Stateful for EarlyStopping {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let has_best = f64::from(u8::from(self.best.is_some()));
        let numbers = [self.best.unwrap_or(0.0), has_best, f64::from(self.waited)];
        Settings::NUMBERS.into_iter().zip(numbers).try_for_each(|(name, number)| put(name, &Tensor::from(number)))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        let [best, has_best, waited] = Settings::NUMBERS.map(|name| tensors.number(name));
        self.best = Some(best?).filter(|_| has_best != Ok(0.0));
        self.waited = waited? as u32;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use torchd::job::retention::Quantity;

    use super::*;

    #[test]
    fn a_job_ends_after_as_many_passes_without_a_real_improvement_also_across_a_break() {
        let settings = Settings { by: Some(Quantity::Loss), patience: 2, least_improvement: 0.1 };
        let mut stopping = EarlyStopping::new(settings);
        let hear = |stopping: &mut EarlyStopping, loss: f64| {
            stopping.hear(&[("loss/validation".into(), loss)]);
            stopping.is_over()
        };
        for loss in [1.0, 0.95, 0.5, 0.45] {
            assert_eq!(hear(&mut stopping, loss), None);
        }
        let mut saved = std::collections::BTreeMap::new();
        let mut put = |name: &str, tensor: &Tensor| {
            saved.insert(name.to_owned(), tensor.copy());
            Ok(())
        };
        stopping.save(&mut put).unwrap();
        let mut other = EarlyStopping::new(settings);
        other.load(&mut Tensors::new(saved, 0)).unwrap();
        let words = hear(&mut other, f64::NAN).unwrap();
        assert!(
            words.contains("loss/validation has not improved for 2 validation passes; the best was 0.5"),
            "{words}"
        );
    }
}
