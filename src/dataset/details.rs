//! Facts of a set that people alone need: nothing in training depends on them.

use serde::{Deserialize, Serialize};

/// Classes that are counted, at most.
pub(super) const MOST_CLASSES: usize = 1000;
/// Columns that are described, at most.
pub(super) const MOST_COLUMNS: usize = 1000;

/// A closer look at a set, for the answer to a request that asks for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Whether all of its values were read. Otherwise the files are large, and their headers or a
    /// sample have to do.
    pub was_read: bool,
    /// The classes among the targets, by their numbers; empty where targets are no classes, and
    /// where there are more than 1,000.
    pub classes: Vec<ClassCount>,
    /// The columns of a table that are taken, in the order of its files: the first 1,000 ...
    pub columns: Vec<ColumnFacts>,
    /// ... of so many.
    pub column_count: u64,
    /// Rows of the files that are left out, since values are missing. Of files that are divided the
    /// training set has it.
    pub left_out: u64,
}

/// A class among targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Its number.
    pub number: i64,
    /// Its name; empty where it has none.
    pub name: String,
    /// Its examples.
    pub examples: u64,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its part.
    pub role: Role,
    /// Rows in which its value is missing.
    pub missing: u64,
    /// The values that it holds.
    pub values: ColumnValues,
}

/// The part of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It becomes a part of an input.
    Feature,
    /// It is the answer, or one of several.
    Target,
    /// It says which rows are held out.
    Split,
    /// It weighs the rows.
    Weight,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ColumnValues {
    /// Numbers: the lowest and the highest; None where all are missing.
    Numbers(Option<[f32; 2]>),
    /// Words: how many different ones there are.
    Words(u64),
}

/// The lowest and the highest of some numbers.
pub(super) fn range(numbers: impl Iterator<Item = f32>) -> Option<[f32; 2]> {
    numbers.fold(None, |range, number| match range {
        _ if number.is_nan() => range,
        None => Some([number; 2]),
        Some([lowest, highest]) => Some([number.min(lowest), number.max(highest)]),
    })
}

/// The classes of examples by their numbers, with their names where they have some; none where
/// there are more than [`MOST_CLASSES`].
pub(super) fn classes(numbers: impl Iterator<Item = i64>, names: &[String]) -> Vec<ClassCount> {
    let mut counts = std::collections::BTreeMap::new();
    for number in numbers {
        *counts.entry(number).or_insert(0) += 1;
        if counts.len() > MOST_CLASSES {
            return Vec::new();
        }
    }
    let class = |(number, examples)| {
        let name = usize::try_from(number).ok().and_then(|place| names.get(place));
        ClassCount { number, name: name.cloned().unwrap_or_default(), examples }
    };
    counts.into_iter().map(class).collect()
}
