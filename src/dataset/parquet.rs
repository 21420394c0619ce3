//! Tables in Parquet files: the columns that have a role, row group by row group.

mod columns;
mod read;

use serde::{Deserialize, Serialize};

use super::paths::Paths;
use super::table::roles::Roles;
use super::{Content, DataFile, Find, Format, Problem, Reading};

/// Parquet files, and the roles of their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The files.
    pub paths: Paths<P>,
    /// The roles of their columns.
    pub roles: Roles,
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        self.paths.files()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        Some(Files { paths: self.paths.locate(find)?, roles: self.roles.clone() })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        let tables = read::tables(files, self.paths.field(), &self.roles, reading);
        Ok(Box::new(tables.map_err(|problems| self.paths.told(problems))?))
    }
}

#[cfg(test)]
mod tests;
