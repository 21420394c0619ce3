//! Tables in delimited text: CSV, TSV and their like.
//!
//! The reader is ours, since the crate csv takes all text: a quote that never closes makes one
//! field of the rest of a file, and is not told.

mod cell;
mod plain;
mod read;
pub mod scan;

use serde::{Deserialize, Serialize};

use super::paths::Paths;
use super::table::Tables;
use super::table::layout::Apart;
use super::table::roles::Roles;
use super::{Content, DataFile, Find, Format, Problem, Reading};

/// Files of delimited text, and the roles of their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The files.
    pub paths: Paths<P>,
    /// The roles of their columns.
    pub roles: Roles,
    /// How their text is read.
    pub dialect: Dialect,
}

/// How delimited text is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialect {
    /// The byte between fields; None for a tab in files whose names end in `.tsv` (and `.gz` or
    /// `.zst` behind that), and a comma in others.
    pub delimiter: Option<u8>,
    /// Whether the first record names the columns. If not, they are named by their numbers, from 1
    /// on.
    pub header: bool,
    /// The byte around fields that hold other special bytes; None where there is none.
    pub quote: Option<u8>,
    /// The byte that begins lines that are skipped.
    pub comment: Option<u8>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: None, header: true, quote: Some(b'"'), comment: None }
    }
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        self.paths.files()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        let paths = self.paths.locate(find)?;
        Some(Files { paths, roles: self.roles.clone(), dialect: self.dialect.clone() })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        Ok(Box::new(self.tables(files, &Apart::of(reading), reading)?))
    }
}

impl<P> Files<P> {
    /// Reads the files; some columns have roles apart from those of the set.
    pub(super) fn tables(
        &self,
        files: &[DataFile],
        apart: &Apart,
        reading: &Reading<'_>,
    ) -> Result<Tables, Vec<Problem>> {
        let table = read::table(files, self.paths.field(), &self.roles, &self.dialect, apart, reading);
        let table = table.map_err(|problems| self.paths.told(problems))?;
        // Text has no place at which reading could begin.
        Ok(Tables::whole(table, None))
    }
}

#[cfg(test)]
mod tests;
