//! The one way by which everything that has to survive a restart is saved and taken up again.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};
use torchd::job::spec::hidden_name;
use torchd::tensor_file::Values;

use crate::failure::Result;

/// A part of training that a checkpoint holds. Names are unique over all parts of a file.
pub(crate) trait Stateful {
    /// Hands out its tensors by name. They are copied before training goes on.
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()>;

    /// Takes its tensors up, on its device.
    ///
    /// # Errors
    /// Which tensor is missing or is another one than is needed, in words.
    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String>;

    /// The values that its tensor of that name may hold, in a file and as it is saved. Infinities
    /// that were there from the beginning tell nothing of training.
    fn values(&self, _: &str) -> Values {
        Values::Finite
    }
}

impl<T: Stateful> Stateful for Option<T> {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.as_ref().map_or(Ok(()), |part| part.save(put))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.as_mut().map_or(Ok(()), |part| part.load(tensors))
    }

    fn values(&self, name: &str) -> Values {
        self.as_ref().map_or(Values::Finite, |part| part.values(name))
    }
}

/// Buffers that are no weights, by their names in the state of a checkpoint.
pub(crate) struct Hidden(pub(crate) Vec<(String, Tensor)>);

impl Stateful for Hidden {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(name, tensor)| put(&hidden_name(name), tensor))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.0.iter().try_for_each(|(name, tensor)| tensors.copy_to(&hidden_name(name), tensor))
    }

    /// Nobody learns from them, and masks hold infinities.
    fn values(&self, name: &str) -> Values {
        let is_own = self.0.iter().any(|(own, _)| hidden_name(own) == name);
        if is_own { Values::Infinite } else { Values::Finite }
    }
}

/// The tensors of a file, on the CPU, as the parts take theirs.
pub(crate) struct Tensors {
    left: BTreeMap<String, Tensor>,
    /// Examples behind the sums of the file.
    pub(crate) examples: u64,
}

impl Tensors {
    /// The tensors of a file, with sums over that many examples.
    pub(crate) fn new(all: BTreeMap<String, Tensor>, examples: u64) -> Self {
        Self { left: all, examples }
    }

    /// Whether nobody has taken a tensor yet that is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Puts the values of a tensor into another one of the same shape and type.
    pub(crate) fn copy_to(&mut self, name: &str, into: &Tensor) -> std::result::Result<(), String> {
        let values = self.like(name, into)?;
        let copied = tch::no_grad(|| into.shallow_clone().f_copy_(&values));
        copied.map(|_| ()).map_err(|error| words(&error))
    }

    /// A tensor of the shape, the type and the device of another one, which lies in memory as that
    /// does: operators over lists of tensors go over them as they lie.
    pub(crate) fn like(&mut self, name: &str, other: &Tensor) -> std::result::Result<Tensor, String> {
        let values = self.left.remove(name).ok_or_else(|| format!("{name} is missing"))?;
        let (found, needed) = ((values.size(), values.kind()), (other.size(), other.kind()));
        // A number may be written as a list of one.
        let is_number = needed.0.is_empty() && values.numel() == 1;
        if found.1 != needed.1 || (found.0 != needed.0 && !is_number) {
            return Err(format!(
                "{name} is {:?} of {:?}; {:?} of {:?} is needed",
                found.0, found.1, needed.0, needed.1
            ));
        }
        let values = values.f_view(needed.0.as_slice()).and_then(|values| values.f_to_device(other.device()));
        values.and_then(|values| laid_out_like(other, values)).map_err(|error| words(&error))
    }

    /// A number of 64 bits.
    pub(crate) fn number(&mut self, name: &str) -> std::result::Result<f64, String> {
        let like = Tensor::from(0f64);
        self.like(name, &like).and_then(|number| f64::try_from(&number).map_err(|error| words(&error)))
    }

    /// Tells what nobody has taken.
    pub(crate) fn all_taken(self) -> std::result::Result<(), String> {
        match self.left.into_keys().next() {
            Some(name) => Err(format!("{name} belongs to nothing here")),
            None => Ok(()),
        }
    }
}

/// A tensor that lies in memory as another one of its shape does.
pub(crate) fn laid_out_like(other: &Tensor, tensor: Tensor) -> std::result::Result<Tensor, TchError> {
    if tensor.stride() == other.stride() {
        return Ok(tensor);
    }
    let mut copy = other.detach().f_empty_like()?;
    copy.f_copy_(&tensor)?;
    Ok(copy)
}

/// A copy of a tensor that lies in memory as it does, without gradients.
pub(crate) fn copy(tensor: &Tensor) -> std::result::Result<Tensor, TchError> {
    let tensor = tensor.detach();
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(&tensor)?;
    Ok(copy)
}

/// A number of 64 bits on a device, to sum up in.
pub(crate) fn zero(device: tch::Device) -> std::result::Result<Tensor, TchError> {
    Tensor::f_zeros([], (Kind::Double, device))
}

fn words(error: &TchError) -> String {
    crate::failure::first_line(error)
}
