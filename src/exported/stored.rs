//! The tensors of an archive: name, type, sizes and the range of the file that holds their numbers.
//! Several can be views of one range: tied weights have the same name of an entry.

use std::collections::HashMap;
use std::ops::Range;

use rawzip::ReaderAt;

use super::container::Container;
use super::dtype::Dtype;
use super::problem::{Problem, Result, shown};
use super::program::Size;
use super::{json, resolve, schema};

/// A tensor in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the module.
    pub name: String,
    /// Whether it is a parameter.
    pub is_parameter: bool,
    /// Whether training may change it.
    pub requires_grad: bool,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its sizes, outermost first.
    pub sizes: Vec<i64>,
    /// How many numbers of the storage lie between two neighbours, by dimension.
    pub strides: Vec<i64>,
    /// The place of its first number in the storage.
    pub offset: i64,
    /// The entry of the archive that holds the storage.
    pub entry: String,
    /// The bytes of the storage in the file: every number of the tensor lies within it.
    pub storage: Range<u64>,
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
        let places = list.iter().enumerate().map(|(place, stored)| (stored.name.clone(), place)).collect();
        Self { list, places }
    }
}

impl Stored {
    /// Its numbers.
    pub fn elements(&self) -> u64 {
        // Fits, since as many bytes are in the file.
        self.sizes.iter().map(|&size| size.unsigned_abs()).product()
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.bytes()
    }

    /// Whether both names stand for the same tensor: tied weights.
    pub fn is_tied_to(&self, other: &Self) -> bool {
        self.storage == other.storage
            && (self.dtype, &self.sizes, &self.strides, self.offset)
                == (other.dtype, &other.sizes, &other.strides, other.offset)
    }
}

/// The tensors that a configuration lists, which lie in `folder`.
pub(super) fn read<R: ReaderAt>(
    container: &Container<R>,
    config: &str,
    folder: &str,
    most_bytes: u64,
) -> Result<Tensors> {
    let json = container.read(config, most_bytes)?;
    let schema::PayloadConfig { config: listed } = json::read(&json, config)?;
    listed.0.into_iter().map(|(name, meta)| stored(container, name, meta, config, folder)).collect()
}

fn stored<R: ReaderAt>(
    container: &Container<R>,
    name: String,
    meta: schema::PayloadMeta,
    config: &str,
    folder: &str,
) -> Result<Stored> {
    let place = format!("{}, {}", shown(config), shown(&name));
    if meta.use_pickle {
        let what = "it is stored as a pickle, which is a program; tensors are taken that are stored as their bytes";
        return Err(Problem::unsupported(place, what));
    }
    let tensor = meta.tensor_meta.ok_or_else(|| Problem::damaged(&place, "nothing tells its type and sizes"))?;
    let info = resolve::tensor(&tensor, &place)?;
    let fixed = |size: &schema::SymInt| match resolve::size(size) {
        Size::Fixed(size) if size >= 0 => Ok(size),
        other => Err(Problem::damaged(&place, format!("{other} is no size, stride or offset of a stored tensor"))),
    };
    let sizes = tensor.sizes.iter().map(fixed).collect::<Result<Vec<_>>>()?;
    let strides = tensor.strides.iter().map(fixed).collect::<Result<Vec<_>>>()?;
    let offset = fixed(&tensor.storage_offset)?;
    let entry = format!("{folder}{}", meta.path_name);
    let storage = container
        .find(&entry)
        .ok_or_else(|| Problem::damaged(&place, format!("the archive has no entry {}", shown(&entry))))?;
    let bytes = storage.bytes();
    let held = bytes / info.dtype.bytes();
    let is_within = bytes.is_multiple_of(info.dtype.bytes())
        && sizes.len() == strides.len()
        && reach(&sizes, &strides, offset).is_some_and(|reach| reach <= held)
        // A stride of 0 shows one number in many places: so few bytes stand for no large tensor.
        && sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size.unsigned_abs())).is_some_and(|all| all <= held);
    if !is_within {
        let what = format!(
            "it is {} {sizes:?} with strides {strides:?} from {offset}, and its entry {} has {bytes} bytes",
            info.dtype.name(),
            shown(&entry)
        );
        return Err(Problem::damaged(place, what));
    }
    Ok(Stored {
        name,
        is_parameter: meta.is_param,
        requires_grad: info.requires_grad,
        dtype: info.dtype,
        sizes,
        strides,
        offset,
        storage: storage.place.clone(),
        entry,
    })
}

/// Numbers of the storage up to the last one of the tensor; None beyond what a file can hold.
fn reach(sizes: &[i64], strides: &[i64], offset: i64) -> Option<u64> {
    let offset = u64::try_from(offset).ok()?;
    if sizes.contains(&0) {
        return Some(offset);
    }
    let last = sizes.iter().zip(strides).try_fold(offset, |last, (&size, &stride)| {
        u64::try_from(size - 1).ok()?.checked_mul(u64::try_from(stride).ok()?)?.checked_add(last)
    });
    last?.checked_add(1)
}
