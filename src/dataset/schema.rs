//! The shape of a set of examples: what one example has, in which type, and how many there are.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::shortage::Unjudged;

/// The contents of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Examples; at least one.
    pub examples: u64,
    /// The inputs of a network; at least one.
    pub inputs: Vec<Field>,
    /// The right answer; without values where the examples have none.
    pub target: Field,
    /// Bytes of its files as they lie on the disk, in the order of the format; none of a folder.
    pub sizes: Vec<u64>,
    /// Whether its examples are in memory as a whole. Those of others are read when they are asked
    /// for.
    pub is_resident: bool,
    /// Whether its inputs may be wider than told: they are as wide as columns have categories, and
    /// the files were read in part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_widen: bool,
}

/// One array of an example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name in the file, or the one that the format gives it.
    pub name: String,
    /// Where a spec names its file, within the format's section: `labels`.
    pub file: Cow<'static, str>,
    /// The type of its values in a batch.
    pub dtype: Dtype,
    /// Its sizes in one example, outermost first; none for a single number.
    pub shape: Vec<u64>,
    /// The range of its values, for floats the whole numbers that they lie between; None where they
    /// were not read, or are pixels.
    pub range: Option<Range>,
}

/// Types of values in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// Bytes of images. A network gets them as 32-bit floats from 0 to 1.
    Pixel,
    /// 32-bit floats.
    F32,
    /// 64-bit integers: classes, tokens.
    I64,
}

/// The values of a field over all examples, between whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The lowest.
    pub lowest: i64,
    /// The highest.
    pub highest: i64,
    /// The first example of the files that has the highest, counted from 0.
    pub highest_at: u64,
}

/// A fault of a file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where a spec names the file, within the format's section: `labels`.
    pub file: Cow<'static, str>,
    /// In a user's words, beginning with the path.
    pub what: String,
    /// Nothing is known to be wrong with it: why it could not be read now.
    pub unjudged: Option<Unjudged>,
}

impl Problem {
    /// The same problem, at another field.
    pub(super) fn at(self, field: &'static str) -> Self {
        Self { file: field.into(), ..self }
    }

    /// A problem of a field of the spec, not of a file.
    pub(super) fn of_field(field: &'static str, what: String) -> Self {
        Self { file: field.into(), what, unjudged: None }
    }

    /// A problem of a file, in words that follow its path.
    pub(super) fn of_file(field: &'static str, path: &Path, what: impl Display) -> Self {
        Self { file: field.into(), what: format!("{} {what}", path.display()), unjudged: None }
    }

    /// The problem of a file that cannot be read, or could not now.
    pub(super) fn unreadable(field: &'static str, path: &Path, error: &io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "is cut off".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Self { unjudged: Unjudged::of(error), ..Self::of_file(field, path, what) }
    }
}

impl From<String> for Problem {
    /// A problem whose field is known to the caller.
    fn from(what: String) -> Self {
        Self { file: "".into(), what, unjudged: None }
    }
}

impl Facts {
    /// Whether its examples have targets: some that a model is to answer have none.
    pub fn has_target(&self) -> bool {
        self.target.values() > 0
    }

    /// The values of all targets.
    pub fn targets(&self) -> u64 {
        self.examples.saturating_mul(self.target.values())
    }

    /// The inputs and the target.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.inputs.iter().chain([&self.target])
    }

    /// Bytes of memory that its examples take as they are in batches.
    pub fn memory_bytes(&self) -> u64 {
        if self.is_resident { self.examples.saturating_mul(self.example_bytes()) } else { 0 }
    }

    /// Bytes of one example in a batch.
    pub fn example_bytes(&self) -> u64 {
        self.fields().fold(0, |sum, field| sum.saturating_add(field.bytes()))
    }
}

impl Field {
    /// The target of examples that have none.
    pub(super) fn no_target(name: &str, file: &'static str) -> Self {
        Self { name: name.into(), file: file.into(), dtype: Dtype::F32, shape: vec![0], range: None }
    }

    /// Values in one example.
    pub fn values(&self) -> u64 {
        self.shape.iter().fold(1, |product, &size| product.saturating_mul(size))
    }

    /// Bytes of one example.
    pub fn bytes(&self) -> u64 {
        self.values().saturating_mul(self.dtype.bytes())
    }
}

impl Field {
    /// The numbers by which an input is normalized: one for each channel of images, or each number
    /// of a row. None for an input that is neither.
    pub fn normalized(&self) -> Option<u64> {
        match (self.dtype, &self.shape[..]) {
            (Dtype::Pixel | Dtype::F32, &[channels, _, _]) => Some(channels),
            (Dtype::F32, &[numbers]) => Some(numbers),
            _ => None,
        }
    }
}

impl Dtype {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Pixel => 1,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixel => "pixels",
            Self::F32 => "32-bit floats",
            Self::I64 => "64-bit integers",
        }
    }
}

impl Range {
    /// The range of some numbers, each the first of `width` of an example; None where there are
    /// none.
    pub fn of(values: impl IntoIterator<Item = i64>, width: u64) -> Option<Self> {
        values.into_iter().zip(0u64..).fold(None, |range, (value, place)| Some(Self::with(range, value, place / width)))
    }

    /// The range of the numbers so far and one more of an example.
    pub fn with(range: Option<Self>, value: i64, example: u64) -> Self {
        let Some(mut range) = range else { return Self { lowest: value, highest: value, highest_at: example } };
        range.lowest = range.lowest.min(value);
        if (value, std::cmp::Reverse(example)) > (range.highest, std::cmp::Reverse(range.highest_at)) {
            (range.highest, range.highest_at) = (value, example);
        }
        range
    }
}
