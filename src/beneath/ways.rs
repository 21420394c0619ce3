//! Resolves a path below roots, links included, without a question to any file system about places
//! outside of them.
//!
//! A path, and the target of each link on its way, is held against the roots by its name before it
//! is looked up. So a refusal tells nothing about files outside: it is the same whether they are
//! there or not. The file at a path may change at once; it is opened as [`Folder::file`] does.
//!
//! [`Folder::file`]: super::Folder::file

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

use super::folder_of;

/// Links on a way, as the kernel bounds them (`man 7 path_resolution`).
const MOST_LINKS: usize = 40;

/// A root, as a path is held against it.
#[derive(Debug)]
pub struct Around<R> {
    /// The caller's name for it.
    pub root: R,
    /// Its canonical path.
    pub real: PathBuf,
    /// The path below it: names alone.
    pub below: PathBuf,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Led<R> {
    /// The root that it ends below.
    pub root: R,
    /// The canonical path of that root.
    pub real: PathBuf,
    /// The canonical path of what is there of it.
    pub there: PathBuf,
    /// The names behind it that are not there; empty where all is.
    pub missing: PathBuf,
}

/// Why a path leads to nothing.
#[derive(Debug)]
pub enum Astray {
    /// It leads out of the roots.
    Outside,
    /// A link on the way leads to what is not there.
    Dangling(PathBuf),
    /// The system refuses to tell.
    Unreadable(PathBuf, io::Error),
}

/// A path without `.` and `..`, by its names alone: `link/..` is the folder that holds the link,
/// not the one that holds its target.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// Finds where an absolute path leads. `around` holds a path against the roots by its name: None
/// where it lies below none of them. Takes time in proportion to the length of the path, once for
/// each link.
pub fn lead<R>(path: &Path, around: impl Fn(&Path) -> Result<Option<Around<R>>, Astray>) -> Result<Led<R>, Astray> {
    let mut wanted = normal(path);
    // A link that was followed, and how many names are behind its target.
    let mut followed: Option<(PathBuf, usize)> = None;
    for _ in 0..=MOST_LINKS {
        let Around { root, real, below } = around(&wanted)?.ok_or(Astray::Outside)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let unreadable = |path: &Path, error: Errno| Astray::Unreadable(path.to_owned(), error.into());
        let mut folder = openat(CWD, &real, flags, Mode::empty()).map_err(|error| unreadable(&real, error))?;
        let mut there = real.clone();
        let mut parts = below.components();
        let target = loop {
            let left = parts.as_path();
            let Some(part) = parts.next() else { break None };
            there.push(part);
            let entry = match openat(&folder, part.as_os_str(), flags, Mode::empty()) {
                Ok(entry) => entry,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    there.pop();
                    return match followed {
                        Some((link, behind)) if left.components().count() > behind => Err(Astray::Dangling(link)),
                        _ => Ok(Led { root, real, there, missing: left.to_owned() }),
                    };
                }
                Err(error) => return Err(unreadable(&there, error)),
            };
            let about = fstat(&entry).map_err(|error| unreadable(&there, error))?;
            if FileType::from_raw_mode(about.st_mode) == FileType::Symlink {
                break Some(readlinkat(&entry, "", Vec::new()).map_err(|error| unreadable(&there, error))?);
            }
            folder = entry;
        };
        let Some(target) = target else { return Ok(Led { root, real, there, missing: PathBuf::new() }) };
        let (link, behind) = (there, parts.as_path());
        wanted = normal(&folder_of(&link).join(OsStr::from_bytes(target.as_bytes())));
        wanted.push(behind);
        followed = Some((link, behind.components().count()));
    }
    Err(Astray::Unreadable(path.to_owned(), Errno::LOOP.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn led(path: &Path, root: &Path) -> Result<Led<()>, Astray> {
        lead(path, |path| {
            let below = path.strip_prefix(root).ok();
            Ok(below.map(|below| Around { root: (), real: root.into(), below: below.into() }))
        })
    }

    #[test]
    fn links_are_followed_below_the_root_and_what_is_missing_is_told() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink("a", root.join("one")).unwrap();
        symlink(root.join("one/b"), root.join("two")).unwrap();
        symlink("../../one/./b/..", root.join("a/b/up")).unwrap();
        for (path, there, missing) in [
            ("", "", ""),
            ("two", "a/b", ""),
            ("a/b/up/file", "a/file", ""),
            ("one/../a//file", "a/file", ""),
            ("two/x/y", "a/b", "x/y"),
            ("a/file/x", "a/file", "x"),
        ] {
            let led = led(&root.join(path), &root).unwrap();
            assert_eq!((led.there, led.missing), (normal(&root.join(there)), missing.into()), "{path}");
        }
    }

    #[test]
    fn what_lies_outside_is_refused_alike_whether_it_is_there_or_not() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let root = place.join("root");
        fs::create_dir_all(root.join("folder")).unwrap();
        fs::write(place.join("there"), "").unwrap();
        for name in ["there", "absent"] {
            symlink(place.join(name), root.join(name)).unwrap();
            symlink("..", root.join(format!("folder/{name}"))).unwrap();
            symlink(format!("../../{name}"), root.join(format!("folder/relative-{name}"))).unwrap();
        }
        for name in ["there", "absent"] {
            for path in [
                place.join(name),
                root.join(format!("../{name}")),
                root.join(name),
                root.join(name).join("x"),
                root.join(format!("folder/relative-{name}")),
            ] {
                assert!(matches!(led(&path, &root), Err(Astray::Outside)), "{}", path.display());
            }
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_and_one_that_leads_to_itself_are_told() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for path in ["dangling", "dangling/x"] {
            assert!(
                matches!(led(&root.join(path), &root), Err(Astray::Dangling(link)) if link == root.join("dangling"))
            );
        }
        let told = led(&root.join("loop"), &root);
        assert!(
            matches!(told, Err(Astray::Unreadable(_, error)) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()))
        );
    }
}
