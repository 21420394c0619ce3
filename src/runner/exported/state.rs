//! Reads the tensors of an archive into memory. Tensors that are views of one storage stay views of
//! one: what changes one changes the other, as in Python.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tch::{Device, TchError, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::{Stored, dtype};
use torchd::tensor_file::{Dtype, ReaderAt};

use crate::dispatcher::{Argument, Call, Output};

/// Tensors that were read.
pub(super) struct Reader<'a> {
    source: &'a dyn ReaderAt,
    device: Device,
    /// By the place and the length of the storage in the file.
    storages: HashMap<(u64, u64), Storage>,
}

/// Bytes that tensors are views of.
struct Storage {
    bytes: Tensor,
    /// Its tensors, as the file tells of them.
    tensors: Vec<(Stored, Tensor)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn ReaderAt, device: Device) -> Self {
        Self { source, device, storages: HashMap::new() }
    }

    /// A tensor. Tied ones are the same tensor.
    pub(super) fn read(&mut self, stored: &Stored) -> Result<Tensor, TchError> {
        let place = &stored.tensor.layout;
        let storage = match self.storages.entry((place.offset, place.storage_bytes)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let length = usize::try_from(place.storage_bytes).unwrap_or(usize::MAX);
                let mut bytes = vec![0; length];
                self.source.read_exact_at(&mut bytes, place.offset)?;
                let bytes = Tensor::f_from_data_size(&bytes, &[length as i64], tch::Kind::Uint8)?;
                new.insert(Storage { bytes: bytes.f_to_device(self.device)?, tensors: Vec::new() })
            }
        };
        if let Some((_, tensor)) = storage.tensors.iter().find(|(known, _)| known.is_tied_to(stored)) {
            return Ok(tensor.shallow_clone());
        }
        let signed = |sizes: &[u64]| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>();
        let (shape, strides) = (signed(&stored.tensor.shape), signed(&place.strides));
        let numbers = viewed(&storage.bytes, stored.tensor.dtype)?;
        // No view to autograd: a parameter is a leaf that is written in place.
        let tensor = numbers.f_as_strided(&shape, &strides, Some(place.first as i64))?.f_detach()?;
        storage.tensors.push((stored.clone(), tensor.shallow_clone()));
        Ok(tensor)
    }
}

/// The bytes of a storage as numbers of this type.
pub(super) fn viewed(bytes: &Tensor, dtype: Dtype) -> Result<Tensor, TchError> {
    let number =
        dtype::c10(dtype).ok_or_else(|| TchError::Kind(format!("{} is no type of PyTorch's", dtype.name())))?;
    let dtype = Argument::Number(Number::Int(number));
    let view = Call::prepare("aten::view", "dtype", &[Argument::Tensor(bytes), dtype])?;
    match view.run(&[], &[])?.next() {
        Some(Output::Tensor(tensor)) => Ok(tensor),
        other => Err(TchError::Torch(format!("a view of bytes is {other:?}"))),
    }
}
