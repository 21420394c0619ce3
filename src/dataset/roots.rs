//! The data roots: the folders below which files of requests may lie. Nothing outside of them is
//! read, whatever a request says: not by `..`, not by a symbolic link, not by a link that takes a
//! file's place while it is judged.
//!
//! A path is resolved first, so that links inside the roots work, and opened by its canonical form
//! then, beneath its root and without following any link. The judge and the reader use the
//! descriptor of that open. A path that leads out of the roots by its name, or by the name of a
//! link's target, is refused before it is looked up: nobody learns what is there.

use std::io;
use std::path::{Path, PathBuf};

use super::DataFile;
use super::data_file::Hollow;
use crate::beneath::{Around, Astray, Folder, Led, NotAFile, lead, normal};
use crate::shortage::Unjudged;

/// Files that a pattern may stand for: each is open while a job runs.
const MOST_FILES: usize = 1024;

/// The folders that data files may lie in, in the order in which relative paths are looked up.
#[derive(Debug, Clone, Default)]
pub struct DataRoots {
    roots: Vec<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    /// As the settings name it: an absolute path, perhaps by way of links.
    named: PathBuf,
    /// Its canonical path.
    real: PathBuf,
}

/// Why a path of a request is not read.
#[derive(Debug, thiserror::Error)]
pub enum PathProblem {
    /// There are no roots.
    #[error("{path:?} cannot be read: the settings name no data.roots; start torchd with --data-root DIR")]
    NoRoots {
        /// The path of the request.
        path: String,
    },
    /// No such file under any root.
    #[error("{path:?} is not there; looked in {looked}")]
    Missing {
        /// The path of the request.
        path: String,
        /// The roots.
        looked: String,
    },
    /// The path leads elsewhere.
    #[error("{path:?} leads out of the data roots, which are {roots}")]
    Outside {
        /// The path of the request.
        path: String,
        /// The roots.
        roots: String,
    },
    /// A pattern that no file matches.
    #[error("{path:?} matches no file; looked in {looked}")]
    NoMatch {
        /// The pattern of the request.
        path: String,
        /// The roots.
        looked: String,
    },
    /// A pattern that cannot be one.
    #[error("{path:?} is no pattern: {what}")]
    NoPattern {
        /// The pattern of the request.
        path: String,
        /// The mistake.
        what: String,
    },
    /// A pattern that matches more files than a set may have.
    #[error("{path:?} matches more than {MOST_FILES} files; put them together into fewer")]
    TooMany {
        /// The pattern of the request.
        path: String,
    },
    /// Not a regular file.
    #[error("{path:?} is {found}, and a file is needed")]
    NotAFile {
        /// The path of the request.
        path: String,
        /// The kind of thing that it is instead.
        found: &'static str,
    },
    /// Not a folder.
    #[error("{path:?} is a file, and a folder is needed")]
    NotAFolder {
        /// The path of the request.
        path: String,
    },
    /// A large file of which next to nothing is stored.
    #[error(
        "{path:?} is a sparse file: of its {size_bytes} bytes {stored_bytes} are stored, and the rest would be read as null bytes; a download that failed leaves such a file"
    )]
    Hollow {
        /// The path of the request.
        path: String,
        /// Its length.
        size_bytes: u64,
        /// The bytes that the file system has.
        stored_bytes: u64,
    },
    /// The system refuses.
    #[error("{path:?} cannot be read: {cause}")]
    Unreadable {
        /// The path of the request.
        path: String,
        /// The system's words.
        cause: io::Error,
    },
}

impl PathProblem {
    /// Why the path could not be judged, where nothing is known to be wrong with it.
    pub fn unjudged(&self) -> Option<Unjudged> {
        match self {
            Self::Unreadable { cause, .. } => Unjudged::of(cause),
            Self::NoRoots { .. }
            | Self::Missing { .. }
            | Self::Outside { .. }
            | Self::NoMatch { .. }
            | Self::NoPattern { .. }
            | Self::TooMany { .. }
            | Self::NotAFile { .. }
            | Self::NotAFolder { .. }
            | Self::Hollow { .. } => None,
        }
    }
}

impl DataRoots {
    /// Roots as the settings name them. One that cannot be resolved is an error here, not at the
    /// first request.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let resolve = |root: PathBuf| match (root.canonicalize(), std::path::absolute(&root)) {
            (Ok(real), Ok(named)) if real.is_dir() => Ok(Root { named: normal(&named), real }),
            (Ok(_), Ok(_)) => Err((root, io::Error::from(io::ErrorKind::NotADirectory))),
            (Err(cause), _) | (_, Err(cause)) => Err((root, cause)),
        };
        Ok(Self { roots: roots.into_iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The canonical paths of all roots.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.roots.iter().map(|root| root.real.clone())
    }

    /// These roots and another one behind them, by its canonical path. No file system is asked.
    pub fn with(&self, real: PathBuf) -> Self {
        let mut roots = self.clone();
        roots.roots.push(Root { named: real.clone(), real });
        roots
    }

    /// Opens the file that a request names. Never waits for a pipe or a device.
    pub fn open(&self, path: &str) -> Result<DataFile, PathProblem> {
        self.find(path, |root, found| match DataFile::open_beneath(root, found) {
            Ok(file) => Ok(file),
            Err(cause) => match NotAFile::of(&cause) {
                Some(&NotAFile { found, .. }) => Err(PathProblem::NotAFile { path: path.into(), found }),
                None => Err(PathProblem::Unreadable { path: path.into(), cause }),
            },
        })
    }

    /// Opens a file of examples. A large one that is nothing but holes is refused: a model may well
    /// begin with null bytes, and examples that are nothing else teach nothing.
    pub fn open_data(&self, path: &str) -> Result<DataFile, PathProblem> {
        let file = self.open(path)?;
        match file.hollow() {
            Ok(None) => Ok(file),
            Ok(Some(Hollow { size_bytes, stored_bytes })) => {
                Err(PathProblem::Hollow { path: path.into(), size_bytes, stored_bytes })
            }
            Err(cause) => Err(PathProblem::Unreadable { path: path.into(), cause }),
        }
    }

    /// Opens a folder of examples.
    pub fn open_data_folder(&self, path: &str) -> Result<DataFile, PathProblem> {
        self.open_folder(path).map(|(place, folder)| DataFile::of_folder(place, folder))
    }

    /// Opens the files that a request names by a pattern, in the order of their names: `*`, `?` and
    /// `[...]` stand for characters of a name, not for `/`, and not for a dot at its beginning. A
    /// file whose name is the pattern itself is taken alone.
    pub fn open_all(&self, pattern: &str) -> Result<Vec<DataFile>, PathProblem> {
        match self.open_data(pattern) {
            Err(PathProblem::Missing { .. }) if pattern.contains(['*', '?', '[']) => {}
            found => return found.map(|file| vec![file]),
        }
        let (folders, name) = pattern.rsplit_once('/').map_or((None, pattern), |(rest, name)| (Some(rest), name));
        if let Some(rest) = folders.filter(|rest| rest.contains(['*', '?', '['])) {
            let what = format!("{rest:?} stands for a folder, and only the last part may be a pattern");
            return Err(PathProblem::NoPattern { path: pattern.into(), what });
        }
        let matcher = glob::Pattern::new(name)
            .map_err(|error| PathProblem::NoPattern { path: pattern.into(), what: error.msg.into() })?;
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let folder = match folders {
            Some("") => "/",
            Some(rest) => rest,
            None => ".",
        };
        for candidate in self.candidates(folder) {
            let (place, entries) = match self.open_folder(&candidate.to_string_lossy()) {
                Err(PathProblem::Missing { .. }) => continue,
                found => found.and_then(|(place, folder)| {
                    let unreadable = |cause| PathProblem::Unreadable { path: pattern.into(), cause };
                    let is_meant = |name: &str| matcher.matches_with(name, options);
                    Ok((place, folder.entries_of_others(is_meant).map_err(unreadable)?))
                })?,
            };
            let names = entries.into_iter().map(|entry| entry.name);
            let mut names: Vec<_> = names.filter(|name| matcher.matches_with(name, options)).collect();
            names.sort_unstable();
            match names.len() {
                0 => {}
                count if count > MOST_FILES => return Err(PathProblem::TooMany { path: pattern.into() }),
                _ => {
                    return names.into_iter().map(|name| self.open_data(&place.join(name).to_string_lossy())).collect();
                }
            }
        }
        Err(PathProblem::NoMatch { path: pattern.into(), looked: self.describe() })
    }

    /// Opens the folder that a request names, and tells its canonical path.
    pub fn open_folder(&self, path: &str) -> Result<(PathBuf, Folder), PathProblem> {
        self.find(path, |root, found| {
            let folder = Folder::open(root).and_then(|root_folder| match found.strip_prefix(root) {
                Ok(below) if below.as_os_str().is_empty() => Ok(root_folder),
                Ok(below) => root_folder.folder(below),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
            });
            let refused = |cause: io::Error| match cause.kind() {
                io::ErrorKind::NotADirectory => PathProblem::NotAFolder { path: path.into() },
                _ => PathProblem::Unreadable { path: path.into(), cause },
            };
            Ok((found.to_owned(), folder.map_err(refused)?))
        })
    }

    /// Calls `open` for the first place where a path is found, with the root and the canonical
    /// path.
    fn find<T>(&self, path: &str, open: impl Fn(&Path, &Path) -> Result<T, PathProblem>) -> Result<T, PathProblem> {
        if self.roots.is_empty() {
            return Err(PathProblem::NoRoots { path: path.into() });
        }
        let mut refusal = self.missing(path);
        for candidate in self.candidates(path) {
            match self.resolve(path, &candidate).and_then(|(root, found)| open(root, &found)) {
                Ok(opened) => return Ok(opened),
                Err(PathProblem::Missing { .. }) => {}
                Err(worse) => refusal = worse,
            }
        }
        Err(refusal)
    }

    /// The root that a candidate leads to, and its canonical path.
    fn resolve(&self, path: &str, candidate: &Path) -> Result<(&Path, PathBuf), PathProblem> {
        match lead(candidate, |wanted| Ok(self.around(wanted))) {
            Ok(Led { root, there, missing, .. }) if missing.as_os_str().is_empty() => Ok((root, there)),
            Ok(Led { .. }) | Err(Astray::Dangling(_)) => Err(self.missing(path)),
            Err(Astray::Outside) => Err(PathProblem::Outside { path: path.into(), roots: self.describe() }),
            Err(Astray::Unreadable(_, cause)) => Err(PathProblem::Unreadable { path: path.into(), cause }),
        }
    }

    /// The places in which a path is looked for: an absolute one at its own, another one in each
    /// root.
    fn candidates(&self, path: &str) -> Vec<PathBuf> {
        match Path::new(path).is_absolute() {
            true => vec![path.into()],
            false => self.roots.iter().map(|root| root.real.join(path)).collect(),
        }
    }

    /// The innermost root that a path lies below by its name.
    fn around(&self, wanted: &Path) -> Option<Around<&Path>> {
        let below = |root: &'_ Root| {
            let below = wanted.strip_prefix(&root.real).or_else(|_| wanted.strip_prefix(&root.named)).ok()?;
            Some(below.to_owned())
        };
        let around = self.roots.iter().filter_map(|root| Some((root, below(root)?)));
        let (root, below) = around.min_by_key(|(_, below)| below.components().count())?;
        Some(Around { root: &root.real, real: root.real.clone(), below })
    }

    /// The parts of the file system that a path leads into by its name, each as its root and the
    /// first folder or file below that. No file system is asked.
    pub fn parts(&self, path: &str) -> Vec<(PathBuf, PathBuf)> {
        let part = |candidate: PathBuf| {
            let Around { real, below, .. } = self.around(&normal(&candidate))?;
            let first = real.join(below.iter().next().unwrap_or_default());
            Some((real, first))
        };
        self.candidates(path).into_iter().filter_map(part).collect()
    }

    fn missing(&self, path: &str) -> PathProblem {
        PathProblem::Missing { path: path.into(), looked: self.describe() }
    }

    fn describe(&self) -> String {
        self.roots.iter().map(|root| root.real.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
