//! `.pt` files: what `torch.save` of PyTorch 1.6 and later makes of a state dict, a zip archive
//! with a pickle and an entry for each storage. (PyTorch 2.11 `torch/serialization.py`)

mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rawzip::ReaderAt;

use super::archive::Archive;
use super::pickle::{Object, Pickle, Refusal, Storage};
use super::tensor::{Layout, Tensor};
use super::{Dtype, Format, Problem, TensorFile, state_dict};

pub use write::{Entry, write};

/// The first bytes in the form before PyTorch 1.6: a pickle of protocol 2 with a magic number.
pub(super) const BEFORE_1_6: [u8; 14] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Longer pickles are refused: 60,000 tensors with long names fit.
pub const MAX_PICKLE_BYTES: u64 = 16 << 20;

/// The pickle, beneath the folder that all entries have.
const PICKLE: &str = "data.pkl";

/// Reads the contents of a `.pt` file of `size_bytes` bytes.
///
/// # Errors
/// The mistake in the file.
pub fn read(source: &dyn ReaderAt, size_bytes: u64) -> Result<TensorFile, Problem> {
    let archive = Archive::read(source, size_bytes)?;
    let root = root(&archive)?;
    let byte_order = format!("{root}byteorder");
    // Files of 1.6 to 1.13 do not tell: they were written on little-endian machines.
    if archive.has(&byte_order) && archive.bytes(source, &byte_order, 16)? != b"little" {
        return Err(Problem::Refused("holds values in big-endian order, which are not read".into()));
    }
    let pickle = archive.bytes(source, &format!("{root}{PICKLE}"), MAX_PICKLE_BYTES)?;
    let pickle = Pickle::read(&pickle).map_err(|refusal| match refusal {
        Refusal::Broken { at, what } => damaged(format!("its pickle at byte {at}: {what}")),
        Refusal::Foreign(what) => Problem::Refused(what),
    })?;
    match pickle.object(pickle.root) {
        Some(Object::Tensor(_)) => {
            let what = "holds one tensor without a name: save a dict of names and tensors, as state_dict() gives it";
            return Err(Problem::Refused(what.into()));
        }
        Some(Object::Dict(_) | Object::List(_) | Object::Tuple(_)) => {}
        Some(Object::Storage(_)) | None => {
            return Err(Problem::Refused("holds no tensors: save module.state_dict()".into()));
        }
    }
    let found = state_dict::find(&pickle).map_err(Problem::Refused)?;
    let mut names: Vec<_> = found.tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(damaged(format!("two tensors are called {:?}", pair[0])));
    }
    let mut storages = Storages { archive: &archive, pickle: &pickle, root, known: HashMap::new() };
    let mut tensors = Vec::with_capacity(found.tensors.len());
    for (name, stored) in found.tensors {
        let (offset, storage_bytes) = storages.place(&name, stored.storage, stored.dtype)?;
        let layout = Layout { offset, storage_bytes, first: stored.first, strides: pickle.sizes(stored.strides) };
        let tensor = Tensor::new(name.clone(), stored.dtype, pickle.sizes(stored.shape), layout);
        tensors.push(tensor.map_err(|what| damaged(format!("{name:?} {what}")))?);
    }
    Ok(TensorFile { format: Format::Pt, tensors, state_dicts: found.keys, left_out: found.left_out })
}

fn damaged(what: impl Into<String>) -> Problem {
    Problem::Damaged { format: Format::Pt, what: what.into() }
}

/// The folder that all entries have, with its slash; "" for none.
fn root(archive: &Archive) -> Result<&str, Problem> {
    let mut roots = archive.names().filter_map(|name| name.strip_suffix(PICKLE));
    // Another entry may end so, as `data/data.pkl` does; the folder is the shortest.
    let root = roots.find(|root| root.is_empty() || (root.ends_with('/') && root.matches('/').count() == 1));
    let has = |name: &str| archive.names().any(|entry| entry.rsplit('/').next() == Some(name));
    if has("archive_format") || has("serialized_exported_program.json") {
        return Err(Problem::Refused(
            "is an exported program (.pt2), and the weights alone are needed: save module.state_dict() with \
             torch.save"
                .into(),
        ));
    }
    let Some(root) = root else {
        return Err(Problem::Refused(format!(
            "is a zip archive without {PICKLE}, and a .pt file of torch.save is needed"
        )));
    };
    let is_script =
        |entry: &str| entry.strip_prefix(root).is_some_and(|name| name == "constants.pkl" || name.starts_with("code/"));
    if archive.names().any(is_script) {
        return Err(Problem::Refused(
            "is a TorchScript archive, as torch.jit.save writes it, and the weights alone are needed: save them with \
             torch.save(torch.jit.load(PATH).state_dict(), PATH)"
                .into(),
        ));
    }
    Ok(root)
}

/// The storages of a file, which are looked up once each.
struct Storages<'a> {
    archive: &'a Archive,
    pickle: &'a Pickle<'a>,
    root: &'a str,
    /// Place and bytes, and the type with which it was found.
    known: HashMap<&'a str, (u64, u64, Dtype)>,
}

impl Storages<'_> {
    /// The place in the file and the bytes of a storage of that tensor.
    fn place(&mut self, name: &str, storage: Storage, dtype: Dtype) -> Result<(u64, u64), Problem> {
        let key = self.pickle.text(storage.key);
        let width = storage.dtype.map_or(1, |dtype| dtype.bits() / 8);
        let (offset, bytes, before) = match self.known.get(key) {
            Some(known) => *known,
            None => {
                let entry = format!("{}data/{key}", self.root);
                if !self.archive.has(&entry) {
                    return Err(damaged(format!("{name:?} lies in {entry:?}, which is missing")));
                }
                let place = self.archive.place(&entry)?;
                let known = (place.start, place.end - place.start, dtype);
                self.known.insert(key, known);
                known
            }
        };
        if before != dtype {
            return Err(damaged(format!(
                "{name:?} is {}, and another tensor of its storage is {}",
                dtype.name(),
                before.name()
            )));
        }
        if bytes / width != storage.count {
            return Err(damaged(format!(
                "{name:?} lies in a storage of {} values of {width} bytes, whose entry has {bytes} bytes",
                storage.count
            )));
        }
        Ok((offset, bytes))
    }
}
