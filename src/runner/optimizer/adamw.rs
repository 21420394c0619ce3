//! Adam with decoupled weight decay by PyTorch's formula (`torch.optim.AdamW`).

use tch::{Device, Kind, Tensor};
use torchd::job::spec::optimizer::{AdamW as Settings, Rule};

use super::{Optimizer, Slot};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct AdamW {
    settings: Settings,
    /// Means of gradients.
    mean: Slot,
    /// Means of squared gradients.
    square: Slot,
    /// Steps so far, as PyTorch counts them: a 32-bit float.
    steps: Tensor,
}

impl AdamW {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Self {
        let [mean, square] = [0, 1].map(|place| Slot::new(settings.slots()[place], parameters));
        Self { settings, mean, square, steps: Tensor::from(0f32).to_device(Device::Cpu) }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, parameters: &Parameters, gradients: Vec<Tensor>, rate: f64) -> Result<()> {
        let Settings { beta1, beta2, epsilon, weight_decay, .. } = self.settings;
        tch::no_grad(|| {
            if self.mean.tensors.is_empty() {
                self.mean.clear()?;
                self.square.clear()?;
            }
            let _ = self.steps.f_add_scalar_(1)?;
            let steps = f64::try_from(&self.steps)?;
            let (correction, root) = (1.0 - beta1.powf(steps), (1.0 - beta2.powf(steps)).sqrt());
            let state = self.mean.tensors.iter_mut().zip(&mut self.square.tensors);
            for ((parameter, gradient), (mean, square)) in parameters.tensors().iter().zip(&gradients).zip(state) {
                let mut parameter = parameter.shallow_clone();
                let _ = parameter.f_mul_scalar_(1.0 - rate * weight_decay)?;
                let _ = mean.f_lerp_(gradient, 1.0 - beta1)?;
                let squared = gradient.f_square()?.f_mul_scalar(1.0 - beta2)?;
                let _ = square.f_mul_scalar_(beta2)?.f_add_(&squared)?;
                let scale = square.f_sqrt()?.f_div_scalar(root)?.f_add_scalar(epsilon)?;
                let _ = parameter.f_add_(&mean.f_div(&scale)?.f_mul_scalar(-rate / correction)?)?;
            }
            Ok(())
        })
    }
}

impl Stateful for AdamW {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.mean.save(put)?;
        self.square.save(put)?;
        let counters = self.settings.counters();
        counters.iter().try_for_each(|counter| put(counter, &self.steps))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.mean.load(tensors)?;
        self.square.load(tensors)?;
        let counters = self.settings.counters();
        counters.iter().try_for_each(|counter| tensors.copy_to(counter, &self.steps))?;
        let is_begun = |slot: &Slot| !slot.tensors.is_empty();
        debug_assert_eq!(self.steps.kind(), Kind::Float);
        match (is_begun(&self.mean), is_begun(&self.square)) {
            (true, false) | (false, true) => Err("it has one of exp_avg and exp_avg_sq, and both are needed".into()),
            (true, true) | (false, false) => Ok(()),
        }
    }
}
