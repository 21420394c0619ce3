//! The learning rate of each step. A schedule is a function of the step, whose values the spec's
//! half has; one that hears of validation has a standing besides, which is saved.

use std::collections::BTreeMap;

use tch::{Device, Tensor};
use torchd::job::spec::Schedule as Settings;
use torchd::job::spec::schedule::Standing;

use crate::failure::Result;
use crate::stateful::{Stateful, Tensors, zero};

/// The schedule of a job.
pub(crate) struct Schedule {
    settings: Settings,
    /// The numbers of the standing, as a checkpoint has them; none of a function of the step.
    numbers: Vec<Tensor>,
    standing: Standing,
}

impl Schedule {
    /// At the beginning of a job.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let count = settings.plateau().map_or(0, |_| Standing::NAMES.len());
        let numbers = (0..count).map(|_| zero(Device::Cpu)).collect::<std::result::Result<_, _>>()?;
        let mut new = Self { settings: settings.clone(), numbers, standing: Standing::default() };
        new.keep()?;
        Ok(new)
    }

    /// The share of the learning rate that a step of a job has, counted from 0.
    pub(crate) fn at(&self, step: u64, total: u64) -> f64 {
        self.settings.at(step, total) * self.standing.ratio
    }

    /// Hears the values of a validation pass by their tags, after that many steps of a job with
    /// that learning rate.
    pub(crate) fn hear(&mut self, values: &BTreeMap<String, f64>, steps: u64, learning_rate: f64) -> Result<()> {
        let plateau = self.settings.plateau().filter(|plateau| steps > plateau.warmup_steps);
        let Some((plateau, value)) = plateau.and_then(|plateau| Some((plateau, values.get(&plateau.metric.tag())?)))
        else {
            return Ok(());
        };
        let before = self.standing.ratio;
        plateau.hear(&mut self.standing, *value, learning_rate);
        if self.standing.ratio != before {
            let (tag, rate) = (plateau.metric.tag(), learning_rate * self.standing.ratio);
            tracing::info!("{tag} has not got better: the learning rate falls to {rate}");
        }
        self.keep()
    }

    fn keep(&mut self) -> Result<()> {
        for (tensor, number) in self.numbers.iter_mut().zip(self.standing.numbers()) {
            let _ = tensor.f_fill_(number)?;
        }
        Ok(())
    }
}

impl Stateful for Schedule {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let mut named = Standing::NAMES.iter().zip(&self.numbers);
        named.try_for_each(|(name, number)| put(name, number))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        let mut numbers = Standing::default().numbers();
        for ((name, tensor), number) in Standing::NAMES.iter().zip(&self.numbers).zip(&mut numbers) {
            tensors.copy_to(name, tensor)?;
            *number = f64::try_from(tensor).map_err(|error| error.to_string())?;
        }
        self.standing = Standing::of(numbers);
        Ok(())
    }
}
