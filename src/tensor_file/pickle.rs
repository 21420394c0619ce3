//! Reads pickles of protocol 2 as `torch.save` writes them into plain values. Nothing is executed:
//! the few classes and functions that occur are names to this reader, and any other is refused.
//! (<https://github.com/python/cpython/blob/main/Lib/pickletools.py>; PyTorch 2.11
//! `torch/_weights_only_unpickler.py`)
//!
//! Takes memory in proportion to the pickle, which is bounded, whatever the numbers in it say.

mod globals;
mod machine;
pub(super) mod opcode;

use super::Dtype;
use machine::Machine;

pub(super) use globals::Global;

/// A value of a pickle. Texts and objects are looked up in the [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A text, by its place in the pickle.
    Text(Text),
    /// A value that is read and not kept: a float, a large integer, a plain object such as
    /// `torch.Size`.
    Plain,
    Global(Global),
    /// An object, by its number.
    Object(u32),
}

/// The place of a text in the pickle. It is UTF-8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Text {
    at: u32,
    length: u32,
}

/// An object that other values can refer to.
#[derive(Debug)]
pub(super) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// A dict or an OrderedDict, in the order in which the entries were set.
    Dict(Vec<(Value, Value)>),
    Storage(Storage),
    Tensor(Box<StoredTensor>),
}

/// A storage, which is an entry of the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// The type of its values; None where the tensors tell it.
    pub(super) dtype: Option<Dtype>,
    /// The name of its entry below `data/`.
    pub(super) key: Text,
    /// How many values it has, or bytes where it has no type.
    pub(super) count: u64,
}

/// A tensor, as it was saved.
#[derive(Debug)]
pub(super) struct StoredTensor {
    pub(super) storage: Storage,
    pub(super) dtype: Dtype,
    /// Values of the storage before the first.
    pub(super) first: u64,
    /// Tuples of sizes, which many tensors may share: a copy for each would take more memory than
    /// the pickle has bytes.
    pub(super) shape: Value,
    pub(super) strides: Value,
}

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is broken at that byte.
    Broken { at: usize, what: String },
    /// It may be sound, and holds what is not read.
    Foreign(String),
}

/// The values of a pickle.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    objects: Vec<Object>,
    pub(super) root: Value,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle to its end.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok(Self { bytes, objects: machine.objects, root })
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn text(&self, text: Text) -> &'a str {
        text_of(self.bytes, text)
    }

    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }

    /// The sizes or strides of a tensor.
    pub(super) fn sizes(&self, of: Value) -> Vec<u64> {
        match self.object(of) {
            Some(Object::Tuple(sizes)) => sizes.iter().filter_map(|&size| size_of(size)).collect(),
            _ => Vec::new(),
        }
    }
}

/// A number of at least 0.
fn size_of(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn text_of(bytes: &[u8], text: Text) -> &str {
    let range = text.at as usize..(text.at + text.length) as usize;
    bytes.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
