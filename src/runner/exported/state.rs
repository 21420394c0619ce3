//! Reads the tensors of an archive into memory. Tensors that are views of one storage stay views of
//! one: what changes one changes the other, as in Python.

use std::collections::HashMap;
use std::ops::Range;

use rawzip::ReaderAt;
use tch::{Device, TchError, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::container::Container;
use torchd::exported::{Dtype, Stored};

use crate::dispatcher::{Argument, Call, Output};

/// Tensors that were read, by their storage.
pub(super) struct Reader {
    device: Device,
    /// A storage as bytes.
    storages: HashMap<Range<u64>, Tensor>,
    /// The tensors of a storage, as the file tells of them.
    tensors: HashMap<Range<u64>, Vec<(Stored, Tensor)>>,
}

impl Reader {
    pub(super) fn new(device: Device) -> Self {
        Self { device, storages: HashMap::new(), tensors: HashMap::new() }
    }

    /// A tensor; with the name of another that is the same one, where that was read before.
    pub(super) fn read<R: ReaderAt>(
        &mut self,
        container: &Container<R>,
        stored: &Stored,
    ) -> Result<(Tensor, Option<String>), TchError> {
        let known = self.tensors.entry(stored.storage.clone()).or_default();
        if let Some((first, tensor)) = known.iter().find(|(known, _)| known.is_tied_to(stored)) {
            return Ok((tensor.shallow_clone(), Some(first.name.clone())));
        }
        // Empty storages share a place in the file, and nothing else.
        let key = stored.storage.clone();
        if !self.storages.contains_key(&key) {
            let bytes = container
                .read(&stored.entry, stored.storage.end - stored.storage.start)
                .map_err(|problem| TchError::Torch(format!("the archive {problem}")))?;
            let flat = Tensor::f_from_data_size(&bytes, &[bytes.len() as i64], tch::Kind::Uint8)?;
            self.storages.insert(key.clone(), flat.f_to_device(self.device)?);
        }
        let flat = &self.storages[&key];
        let tensor = viewed(flat, stored.dtype)?.f_as_strided(&stored.sizes, &stored.strides, Some(stored.offset))?;
        // No view to autograd: a parameter is a leaf that is written in place.
        let tensor = tensor.f_detach()?;
        known.push((stored.clone(), tensor.shallow_clone()));
        Ok((tensor, None))
    }
}

/// The bytes of a storage as numbers of this type.
fn viewed(bytes: &Tensor, dtype: Dtype) -> Result<Tensor, TchError> {
    let dtype = Argument::Number(Number::Int(dtype.c10()));
    let view = Call::prepare("aten::view", "dtype", &[Argument::Tensor(bytes), dtype])?;
    match view.run(&[], &[])?.next() {
        Some(Output::Tensor(tensor)) => Ok(tensor),
        other => Err(TchError::Torch(format!("a view of bytes is {other:?}"))),
    }
}
