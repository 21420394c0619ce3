//! Where data may lie. Nothing outside of the configured roots is read, whatever a request says: not by `..`, not by a
//! symbolic link.

use std::io;
use std::path::{Path, PathBuf};

use crate::shortage::is_shortage;

/// The folders that data files may lie in, in the order in which relative paths are looked up.
#[derive(Debug, Clone, Default)]
pub struct DataRoots {
    roots: Vec<PathBuf>,
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
    /// Not a regular file.
    #[error("{path:?} is {found}, and a file is needed")]
    NotAFile {
        /// The path of the request.
        path: String,
        /// What it is instead.
        found: &'static str,
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
    /// Whether nothing is wrong with the path: the machine lacks what it needs to look at it now.
    pub fn is_unjudged(&self) -> bool {
        matches!(self, Self::Unreadable { cause, .. } if is_shortage(cause))
    }
}

impl DataRoots {
    /// Roots as canonical paths. A root that cannot be resolved is an error here, not at the first request.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let resolve = |root: PathBuf| match root.canonicalize() {
            Ok(real) if real.is_dir() => Ok(real),
            Ok(_) => Err((root, io::Error::from(io::ErrorKind::NotADirectory))),
            Err(cause) => Err((root, cause)),
        };
        Ok(Self { roots: roots.into_iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The canonical path of a file that a request names.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, PathProblem> {
        if self.roots.is_empty() {
            return Err(PathProblem::NoRoots { path: path.into() });
        }
        let mut refusal = PathProblem::Missing { path: path.into(), looked: self.describe() };
        // Joining an absolute path gives that path, so absolute paths inside a root work too.
        for root in &self.roots {
            match self.open(path, &root.join(path)) {
                Ok(found) => return Ok(found),
                Err(PathProblem::Missing { .. }) => {}
                Err(worse) => refusal = worse,
            }
        }
        Err(refusal)
    }

    fn open(&self, path: &str, candidate: &Path) -> Result<PathBuf, PathProblem> {
        let unreadable = |cause| PathProblem::Unreadable { path: path.into(), cause };
        let real = match candidate.canonicalize() {
            Ok(real) => real,
            Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(PathProblem::Missing { path: path.into(), looked: self.describe() });
            }
            Err(cause) => return Err(unreadable(cause)),
        };
        if !self.roots.iter().any(|root| real.starts_with(root)) {
            return Err(PathProblem::Outside { path: path.into(), roots: self.describe() });
        }
        let kind = real.metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() {
            let found = if kind.is_dir() { "a folder" } else { "a pipe, socket or device" };
            return Err(PathProblem::NotAFile { path: path.into(), found });
        }
        std::fs::File::open(&real).map_err(unreadable)?;
        Ok(real)
    }

    fn describe(&self) -> String {
        self.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_found_under_the_first_root_that_has_it() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(second.path().join("a"), "x").unwrap();
        let roots = DataRoots::new([first.path().into(), second.path().into()]).unwrap();
        let expected = second.path().canonicalize().unwrap().join("a");
        assert_eq!(roots.resolve("a").unwrap(), expected);
        assert_eq!(roots.resolve(expected.to_str().unwrap()).unwrap(), expected);
    }

    #[test]
    fn nothing_leads_out_of_the_roots() {
        let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "x").unwrap();
        symlink(&secret, root.path().join("link")).unwrap();
        let roots = DataRoots::new([root.path().into()]).unwrap();
        let folder = outside.path().file_name().unwrap().to_str().unwrap();
        for path in ["link", secret.to_str().unwrap(), &format!("../{folder}/secret")] {
            assert!(matches!(roots.resolve(path), Err(PathProblem::Outside { .. })), "{path}");
        }
    }

    #[test]
    fn what_is_no_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        let roots = DataRoots::new([root.path().into()]).unwrap();
        assert!(matches!(roots.resolve("folder"), Err(PathProblem::NotAFile { found: "a folder", .. })));
        assert!(matches!(roots.resolve("nothing"), Err(PathProblem::Missing { .. })));
        assert!(matches!(DataRoots::default().resolve("a"), Err(PathProblem::NoRoots { .. })));
    }
}
