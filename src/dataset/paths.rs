//! The files of a set, or of an array of it, as a spec names them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Find, Problem};

/// One file or pattern, or several. The contents of the files follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "Written<P>")]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub enum Paths<P> {
    /// A file, or the files of a pattern.
    Path(Vec<P>),
    /// A list of files and patterns.
    Paths(Vec<P>),
}

/// The forms in which orders and databases hold them. Earlier versions knew one file of an array.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written<P> {
    One(P),
    Named(Named<P>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named<P> {
    Path(Vec<P>),
    Paths(Vec<P>),
}

impl<P> From<Written<P>> for Paths<P> {
    fn from(written: Written<P>) -> Self {
        match written {
            Written::One(path) => Self::one(path),
            Written::Named(Named::Path(paths)) => Self::Path(paths),
            Written::Named(Named::Paths(paths)) => Self::Paths(paths),
        }
    }
}

impl<'a, P: From<&'a str>> From<&'a str> for Paths<P> {
    fn from(path: &'a str) -> Self {
        Self::one(path.into())
    }
}

impl From<PathBuf> for Paths<PathBuf> {
    fn from(path: PathBuf) -> Self {
        Self::one(path)
    }
}

/// The fields of a spec that name files: that of one file or pattern, and that of a list.
pub(super) type Fields = [&'static str; 2];

/// The fields of most formats.
pub(super) const FIELDS: Fields = ["path", "paths"];

impl<P> Paths<P> {
    /// One file.
    pub fn one(path: P) -> Self {
        Self::Path(vec![path])
    }

    /// The field that names them, of the two that may.
    pub(super) fn field_of(&self, [one, several]: Fields) -> &'static str {
        match self {
            Self::Path(_) => one,
            Self::Paths(_) => several,
        }
    }

    /// The field that names them, in most formats.
    pub(super) fn field(&self) -> &'static str {
        self.field_of(FIELDS)
    }

    /// All of them in their order.
    pub(super) fn all(&self) -> &[P] {
        match self {
            Self::Path(paths) | Self::Paths(paths) => paths,
        }
    }

    /// All of them in their order, each with the field that names it, in most formats.
    pub(super) fn files(&self) -> Vec<(&'static str, &P)> {
        self.files_of(FIELDS)
    }

    /// All of them in their order, each with the field that names it, of the two that may.
    pub(super) fn files_of(&self, fields: Fields) -> Vec<(&'static str, &P)> {
        self.all().iter().map(|path| (self.field_of(fields), path)).collect()
    }

    /// Problems of files with the field that names these, in most formats.
    pub(super) fn told(&self, problems: Vec<Problem>) -> Vec<Problem> {
        told(self.field(), problems)
    }

    /// Those that are found, in most formats.
    pub(super) fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Paths<Q>> {
        self.locate_of(FIELDS, find)
    }

    /// Those that are found, named by one of two fields.
    pub(super) fn locate_of<Q>(&self, fields: Fields, find: &mut dyn Find<P, Q>) -> Option<Paths<Q>> {
        let found = find.all(self.field_of(fields), self.all())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_this_version_and_as_earlier_ones_wrote_them() {
        for (paths, text) in [
            (Paths::Path(vec![PathBuf::from("/a"), "/b".into()]), r#"{"path":["/a","/b"]}"#),
            (Paths::Paths(vec!["/a".into()]), r#"{"paths":["/a"]}"#),
        ] {
            assert_eq!(serde_json::to_string(&paths).unwrap(), text);
            assert_eq!(serde_json::from_str::<Paths<PathBuf>>(text).unwrap(), paths);
        }
        assert_eq!(serde_json::from_str::<Paths<PathBuf>>(r#""/a""#).unwrap(), Paths::from("/a"));
        serde_json::from_str::<Paths<PathBuf>>(r#"{"files":["/a"]}"#).unwrap_err();
    }
}
