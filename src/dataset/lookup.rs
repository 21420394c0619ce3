//! The files that a request names, found and opened below the data roots. A name may be a pattern.

use std::path::PathBuf;

use super::{DataFile, DataRoots, Find, PathProblem};

/// Finds and opens the files of a set.
pub struct Lookup<'a> {
    roots: &'a DataRoots,
    /// The files that were found, in the order in which they were asked for.
    pub opened: Vec<DataFile>,
    /// The fields whose files were not found, and why.
    pub problems: Vec<(&'static str, PathProblem)>,
}

impl<'a> Lookup<'a> {
    /// Looks below these roots.
    pub fn new(roots: &'a DataRoots) -> Self {
        Self { roots, opened: Vec::new(), problems: Vec::new() }
    }

    fn take(&mut self, field: &'static str, found: Result<Vec<DataFile>, PathProblem>) -> Option<Vec<PathBuf>> {
        match found {
            Ok(files) => {
                let places = files.iter().map(|file| file.path().to_owned()).collect();
                self.opened.extend(files);
                Some(places)
            }
            Err(problem) => {
                self.problems.push((field, problem));
                None
            }
        }
    }
}

impl Find<String, PathBuf> for Lookup<'_> {
    fn one(&mut self, field: &'static str, name: &String) -> Option<PathBuf> {
        self.take(field, self.roots.open_data(name).map(|file| vec![file]))?.pop()
    }

    fn folder(&mut self, field: &'static str, name: &String) -> Option<PathBuf> {
        self.take(field, self.roots.open_data_folder(name).map(|folder| vec![folder]))?.pop()
    }

    fn all(&mut self, field: &'static str, names: &[String]) -> Option<Vec<PathBuf>> {
        let found: Vec<_> = names.iter().map(|name| self.take(field, self.roots.open_all(name))).collect();
        Some(found.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }
}
