//! The rows of a set's files that are examples of a set: all, or those that a split or a limit
//! leaves.

use std::sync::Arc;

/// Rows of the files of a set, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// The first so many, which are all.
    All(u64),
    /// These, in ascending order.
    Chosen(Arc<[u32]>),
}

impl Rows {
    /// How many there are.
    pub fn count(&self) -> u64 {
        match self {
            Self::All(count) => *count,
            Self::Chosen(rows) => rows.len() as u64,
        }
    }

    /// The row of an example, whose place is below the count.
    pub fn row(&self, place: u64) -> u64 {
        match self {
            Self::All(_) => place,
            Self::Chosen(rows) => rows[place as usize].into(),
        }
    }

    /// The rows of all examples.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.count()).map(|place| self.row(place))
    }
}
