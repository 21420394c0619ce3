//! Inputs to which noise is added.

use tch::{Device, Kind, Tensor};
use torchd::dataset::Facts;
use torchd::job::spec::data::augment::{Noise as Settings, is_numbers};

use super::Change;
use crate::failure::Result;
use crate::feed::{Examples, moved};

/// The change.
pub(super) struct Noise {
    std: f64,
    /// The inputs that are numbers.
    inputs: Vec<usize>,
}

impl Noise {
    pub(super) fn new(Settings { std }: Settings, facts: &Facts) -> Self {
        let inputs = facts.inputs.iter().enumerate().filter(|(_, field)| is_numbers(field));
        Self { std, inputs: inputs.map(|(place, _)| place).collect() }
    }
}

impl Change for Noise {
    fn change(&self, examples: &mut Examples) -> Result<()> {
        let device = examples.device();
        for &place in &self.inputs {
            let input = &mut examples.inputs[place];
            let noise = moved(&Tensor::f_randn(input.size(), (Kind::Float, Device::Cpu))?, device)?;
            *input = input.f_add(&noise.f_mul_scalar(self.std)?)?;
        }
        Ok(())
    }
}
