//! The files of a set that takes several, as a spec names them.

use serde::{Deserialize, Serialize};

use super::{Find, Problem};

/// One file or pattern, or several. The contents of the files follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Paths<P> {
    /// A file, or the files of a pattern.
    Path(Vec<P>),
    /// A list of files and patterns.
    Paths(Vec<P>),
}

impl<P> Paths<P> {
    /// The field that names them.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Paths(_) => "paths",
        }
    }

    fn all(&self) -> &[P] {
        match self {
            Self::Path(paths) | Self::Paths(paths) => paths,
        }
    }

    /// All of them in their order, each with the field that names it.
    pub(super) fn files(&self) -> Vec<(&'static str, &P)> {
        self.all().iter().map(|path| (self.field(), path)).collect()
    }

    /// Problems of files with the field that names these.
    pub(super) fn told(&self, problems: Vec<Problem>) -> Vec<Problem> {
        told(self.field(), problems)
    }

    /// Those that are found.
    pub(super) fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Paths<Q>> {
        let found = find.all(self.field(), self.all())?;
        Some(match self {
            Self::Path(_) => Paths::Path(found),
            Self::Paths(_) => Paths::Paths(found),
        })
    }
}

/// Problems of files that one of both fields names.
pub(super) fn told(field: &'static str, mut problems: Vec<Problem>) -> Vec<Problem> {
    let unnamed = problems.iter_mut().filter(|problem| problem.file == "path");
    unnamed.for_each(|problem| problem.file = field.into());
    problems
}
