//! The exponential moving average of weights, as `torch.optim.swa_utils.AveragedModel` keeps it
//! with `get_ema_multi_avg_fn` and `use_buffers=True`.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::average_name;
use torchd::tensor_file::Values;

use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Network;
use crate::stateful::{Stateful, Tensors, copy};

/// Averages of the parameters of a network and of its buffers of floats. The other buffers are
/// those of the network as it is, and so are masks, since infinities have no average (PyTorch makes
/// NaN of them).
pub(crate) struct Average {
    /// Those that are averaged come first.
    weights: Vec<(String, Tensor)>,
    /// So many of the last are masks.
    masks: usize,
    /// None before the first step.
    averages: Vec<Tensor>,
    /// averages, weights
    approach: Call,
}

impl Average {
    /// The average of a network's weights, which keeps the share `decay` of itself at each step.
    pub(crate) fn new(decay: f64, network: &dyn Network) -> Result<Self> {
        let (mut weights, mut masks) = (Vec::new(), Vec::new());
        network.save(&mut |name, tensor| {
            let of_kind = if network.values(name) == Values::Infinite { &mut masks } else { &mut weights };
            if tensor.is_floating_point() {
                of_kind.push((name.to_owned(), tensor.detach()));
            }
            Ok(())
        })?;
        let count = masks.len();
        weights.append(&mut masks);
        let share = Argument::Number(Number::Float(1.0 - decay));
        let approach = Call::prepare("aten::_foreach_lerp_", "Scalar", &[Argument::None, Argument::None, share])?;
        Ok(Self { weights, masks: count, averages: Vec::new(), approach })
    }

    /// Takes the weights after a step in. Those of the first step are the average.
    pub(crate) fn update(&mut self) -> Result<()> {
        if self.averages.is_empty() {
            let copies = self.weights.iter().map(|(_, weights)| copy(weights));
            self.averages = copies.collect::<std::result::Result<_, _>>()?;
            return Ok(());
        }
        let averaged = self.weights.len() - self.masks;
        let averages: Vec<_> = self.averages[..averaged].iter().map(Handle::from).collect();
        let weights: Vec<_> = self.weights[..averaged].iter().map(|(_, weights)| Handle::from(weights)).collect();
        self.approach.run(&[0, 1], &[Argument::Tensors(&averages), Argument::Tensors(&weights)])?;
        for ((_, mask), average) in self.weights.iter().zip(&mut self.averages).skip(averaged) {
            average.f_copy_(mask)?;
        }
        Ok(())
    }

    /// Exchanges the weights of the network and the average. Before the first step they are the
    /// same.
    pub(crate) fn exchange(&mut self) -> Result<()> {
        for ((_, weights), average) in self.weights.iter_mut().zip(&mut self.averages) {
            let before = copy(weights)?;
            weights.f_copy_(average)?;
            average.f_copy_(&before)?;
        }
        Ok(())
    }
}

impl Stateful for Average {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let mut named = self.weights.iter().zip(&self.averages);
        named.try_for_each(|((name, _), average)| put(&average_name(name), average))
    }

    /// Takes up averages of all weights, or of none.
    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.averages = Vec::new();
        let names: Vec<_> = self.weights.iter().map(|(name, weights)| (average_name(name), weights)).collect();
        if names.iter().any(|(name, _)| tensors.has(name)) {
            let taken = names.iter().map(|(name, weights)| tensors.like(name, weights));
            self.averages = taken.collect::<std::result::Result<_, _>>()?;
        }
        Ok(())
    }

    fn values(&self, name: &str) -> Values {
        let mut masks = self.weights.iter().rev().take(self.masks);
        if masks.any(|(mask, _)| average_name(mask) == name) { Values::Infinite } else { Values::Finite }
    }
}
