//! Computes networks in 16 bits where that is safe, as `torch.autocast` does, and scales losses as
//! `torch.amp.GradScaler` does.

use tch::{Device, Kind, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::job::spec::{Precision as Settings, SCALER_NUMBERS};

use crate::dispatcher::{Argument, Autocast, Call, Handle};
use crate::failure::Result;
use crate::stateful::{Stateful, Tensors};

/// The type that networks are computed in.
pub(crate) struct Precision {
    is_cuda: bool,
    /// c10's number of the type; None for 32 bits.
    dtype: Option<i64>,
}

impl Precision {
    pub(crate) fn new(settings: Settings, device: Device) -> Self {
        let dtype = match settings {
            Settings::Float32 => None,
            Settings::Float16 => Some(5),
            Settings::BFloat16 => Some(15),
        };
        Self { is_cuda: device.is_cuda(), dtype }
    }

    /// A region in which operators compute in that type, until it is dropped.
    pub(crate) fn enter(&self) -> Result<Option<Autocast>> {
        let enter = |dtype| Autocast::enter(self.is_cuda, true, Some(dtype), None);
        Ok(self.dtype.map(enter).transpose()?)
    }
}

/// A factor of losses that keeps small gradients from becoming zero in 16 bits. It halves at each
/// step whose gradients are not finite, and doubles after 2,000 others in a row.
pub(crate) struct Scaler {
    /// The factor, a 32-bit float.
    scale: Tensor,
    /// Finite steps since it changed, a 32-bit integer.
    good_steps: Tensor,
    /// gradients, whether one was not finite, inverse of the factor
    unscale: Call,
    /// factor, finite steps, whether one was not finite, growth, back-off, interval
    update: Call,
}

/// GradScaler's defaults.
const FIRST: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACK_OFF: f64 = 0.5;
const INTERVAL: i64 = 2_000;

impl Scaler {
    pub(crate) fn new(device: Device) -> Result<Self> {
        let none = Argument::None;
        let float = |number| Argument::Number(Number::Float(number));
        let every = Argument::Number(Number::Int(INTERVAL));
        Ok(Self {
            scale: Tensor::f_full([], FIRST, (Kind::Float, device))?,
            good_steps: Tensor::f_zeros([], (Kind::Int, device))?,
            unscale: Call::prepare("aten::_amp_foreach_non_finite_check_and_unscale_", "", &[none; 3])?,
            update: Call::prepare(
                "aten::_amp_update_scale_",
                "",
                &[none, none, none, float(GROWTH), float(BACK_OFF), every],
            )?,
        })
    }

    /// A loss times the factor.
    pub(crate) fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(loss.f_mul(&self.scale)?)
    }

    /// Divides gradients by the factor, and changes it for the next step. Whether all are finite;
    /// waits for the device.
    pub(crate) fn unscale(&mut self, gradients: &[Option<Tensor>]) -> Result<bool> {
        let handles: Vec<_> = gradients.iter().flatten().map(Handle::from).collect();
        let found = Tensor::f_zeros([], (Kind::Float, self.scale.device()))?;
        let inverse = self.scale.f_to_kind(Kind::Double)?.f_reciprocal()?.f_to_kind(Kind::Float)?;
        let arguments = [Argument::Tensors(&handles), Argument::Tensor(&found), Argument::Tensor(&inverse)];
        self.unscale.run(&[0, 1, 2], &arguments)?;
        let state = [&self.scale, &self.good_steps, &found].map(Argument::Tensor);
        self.update.run(&[0, 1, 2], &state)?;
        Ok(f64::try_from(&found)? == 0.0)
    }
}

impl Stateful for Scaler {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let numbers = SCALER_NUMBERS.into_iter().zip([&self.scale, &self.good_steps]);
        numbers.into_iter().try_for_each(|(name, number)| put(name, &number.f_to_kind(Kind::Double)?))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        for (name, number) in SCALER_NUMBERS.into_iter().zip([&mut self.scale, &mut self.good_steps]) {
            let value = tensors.number(name)?;
            let _ = number.f_fill_(value).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_halves_at_infinite_gradients_and_grows_after_many_that_are_finite() {
        let mut scaler = Scaler::new(Device::Cpu).unwrap();
        let mut step = |gradient: f32| {
            let gradients = [Some(Tensor::from_slice(&[gradient, 65_536.0])), None];
            let is_finite = scaler.unscale(&gradients).unwrap();
            let [first, second] = Vec::<f32>::try_from(gradients[0].as_ref().unwrap()).unwrap()[..] else { panic!() };
            (is_finite, first, second, f64::try_from(&scaler.scale).unwrap())
        };
        assert_eq!(step(131_072.0), (true, 2.0, 1.0, FIRST));
        let (is_finite, _, _, scale) = step(f32::INFINITY);
        assert_eq!((is_finite, scale), (false, FIRST / 2.0));
        for _ in 1..INTERVAL {
            assert_eq!(step(0.0), (true, 0.0, 2.0, FIRST / 2.0));
        }
        assert_eq!(step(0.0).3, FIRST);
    }

    #[test]
    fn a_factor_goes_on_where_it_stood() {
        let mut scaler = Scaler::new(Device::Cpu).unwrap();
        scaler.unscale(&[Some(Tensor::from_slice(&[f32::NAN]))]).unwrap();
        scaler.unscale(&[Some(Tensor::from_slice(&[1f32]))]).unwrap();
        let mut saved = std::collections::BTreeMap::new();
        let mut put = |name: &str, tensor: &Tensor| {
            saved.insert(name.to_owned(), tensor.copy());
            Ok(())
        };
        scaler.save(&mut put).unwrap();
        let mut other = Scaler::new(Device::Cpu).unwrap();
        other.load(&mut Tensors::new(saved, 0)).unwrap();
        assert_eq!((other.scale, other.good_steps), (scaler.scale, scaler.good_steps));
    }
}
