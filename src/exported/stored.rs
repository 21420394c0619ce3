//! The tensors of an archive. Several can be views of one storage: tied weights name the same
//! entry.

use std::collections::HashMap;
use std::fmt;

use super::problem::{Problem, Result, shown};
use super::program::Size;
use super::{dtype, json, resolve, schema};
use crate::tensor_file::archive::Archive;
use crate::tensor_file::{Layout, ReaderAt, Tensor};

/// A tensor in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the module, and where its values lie.
    pub tensor: Tensor,
    /// Whether it is a parameter.
    pub is_parameter: bool,
    /// Whether training may change it.
    pub requires_grad: bool,
}

/// Tensors by name, in the order of the file.
#[derive(Debug, Default)]
pub struct Tensors {
    list: Vec<Stored>,
    places: HashMap<String, usize>,
}

impl Tensors {
    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.places.get(name).and_then(|&place| self.list.get(place))
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Stored> {
        self.list.iter()
    }
}

impl FromIterator<Stored> for Tensors {
    fn from_iter<I: IntoIterator<Item = Stored>>(tensors: I) -> Self {
        let list: Vec<_> = tensors.into_iter().collect();
        let places = list.iter().enumerate().map(|(place, stored)| (stored.tensor.name.clone(), place)).collect();
        Self { list, places }
    }
}

impl Stored {
    /// Whether both names stand for the same tensor: tied weights.
    pub fn is_tied_to(&self, other: &Self) -> bool {
        self.tensor.layout == other.tensor.layout && self.is_like(other)
    }

    /// Whether both have the same type and sizes.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.tensor.dtype, &self.tensor.shape) == (other.tensor.dtype, &other.tensor.shape)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", dtype::name(self.tensor.dtype), self.tensor.shape)
    }
}

/// The tensors that an entry lists, which lie in `folder`.
pub(super) fn read(
    archive: &Archive,
    source: &dyn ReaderAt,
    config: &str,
    folder: &str,
    most_bytes: u64,
) -> Result<Tensors> {
    let json = archive.bytes(source, config, most_bytes)?;
    let schema::PayloadConfig { config: listed } = json::read(&json, config)?;
    listed.0.into_iter().map(|(name, meta)| stored(archive, name, meta, config, folder)).collect()
}

fn stored(archive: &Archive, name: String, meta: schema::PayloadMeta, config: &str, folder: &str) -> Result<Stored> {
    let place = format!("{}, {}", shown(config), shown(&name));
    if meta.use_pickle {
        let what = "it is stored as a pickle, which is a program; tensors are taken that are stored as their bytes";
        return Err(Problem::unsupported(place, what));
    }
    let tensor = meta.tensor_meta.ok_or_else(|| Problem::damaged(&place, "nothing tells its type and sizes"))?;
    let info = resolve::tensor(&tensor, &place)?;
    let fixed = |size: &schema::SymInt| match resolve::size(size) {
        Size::Fixed(size) if size >= 0 => Ok(size.unsigned_abs()),
        other => Err(Problem::damaged(&place, format!("{other} is no size, stride or offset of a stored tensor"))),
    };
    let shape = tensor.sizes.iter().map(fixed).collect::<Result<Vec<_>>>()?;
    let strides = tensor.strides.iter().map(fixed).collect::<Result<Vec<_>>>()?;
    let bytes = archive.place(&format!("{folder}{}", meta.path_name))?;
    let storage_bytes = bytes.end - bytes.start;
    let first = fixed(&tensor.storage_offset)?;
    let within = Layout { offset: bytes.start, storage_bytes, first, strides };
    let tensor = Tensor::new(name, info.dtype, shape, within).map_err(|what| Problem::damaged(&place, what))?;
    // A stride of 0 shows one number in many places: so few bytes stand for no large tensor.
    if tensor.size_bytes() > storage_bytes {
        let what = format!("it has {} bytes, and its entry {storage_bytes}", tensor.size_bytes());
        return Err(Problem::unsupported(place, what));
    }
    Ok(Stored { tensor, is_parameter: meta.is_param, requires_grad: info.requires_grad })
}
