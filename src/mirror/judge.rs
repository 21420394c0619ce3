//! Judges, when a job is submitted, where it wants its copy. The folder is judged again at each
//! pass.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Roots;

/// Bytes of a path, so that what is copied below it has one that programs can open.
const MAX_PATH_BYTES: usize = 3_500;
/// Bytes of a name: no file system of Linux takes more.
const MAX_NAME_BYTES: usize = 255;

/// Judges where a request wants its copy: an absolute path below one of the roots, whatever links
/// there are on the way. Returns the path that it has below the root as the settings name it,
/// behind all links.
///
/// Takes time in proportion to the length of the path.
pub fn judge(wanted: &str, roots: &Roots) -> Result<PathBuf, String> {
    let roots = roots.paths();
    if wanted.len() > MAX_PATH_BYTES {
        return Err(format!("has {} bytes; a path of at most {MAX_PATH_BYTES} is needed", wanted.len()));
    }
    let names = || roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
    if roots.is_empty() {
        return Err(format!("is {wanted:?}, and the settings name no output.mirror_roots"));
    }
    let path = Path::new(wanted);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain || wanted.contains('\0') {
        return Err(format!("is {wanted:?}; an absolute path without \"..\" is needed, under {}", names()));
    }
    if let Some(long) = path.iter().map(|part| part.len()).find(|length| *length > MAX_NAME_BYTES) {
        return Err(format!("has a name of {long} bytes in it; names of at most {MAX_NAME_BYTES} are needed"));
    }
    // What is there already decides where it leads; the rest is made later.
    let there = existing(path);
    let rest = path.strip_prefix(&there).unwrap_or(Path::new(""));
    let next = there.join(rest.iter().next().unwrap_or_default());
    if next.symlink_metadata().is_ok_and(|next| next.is_symlink() && rest != Path::new("")) {
        return Err(format!("is {wanted:?}, and {} is a link that leads nowhere", next.display()));
    }
    let real = there.canonicalize().map_err(|error| format!("is {wanted:?}, and {}: {error}", there.display()))?;
    let full = real.join(rest);
    let below = |root: &PathBuf| {
        let rest = full.strip_prefix(root.canonicalize().ok()?).ok()?;
        Some(root.join(rest).components().collect::<PathBuf>())
    };
    // A root that does not answer is not asked about what lies below another one by its name.
    let (around, others): (Vec<_>, Vec<_>) = roots.iter().partition(|root| full.starts_with(root));
    let found = around.into_iter().chain(others).find_map(below);
    let found = found.ok_or_else(|| format!("is {wanted:?}, which does not lie under {}", names()))?;
    // The spec holds it as text.
    if found.to_str().is_some() {
        Ok(found)
    } else {
        Err(format!("is {wanted:?}, which leads to a name that is not UTF-8"))
    }
}

/// The part of an absolute path that is there. Each name is looked up once, in the folder before
/// it.
fn existing(path: &Path) -> PathBuf {
    let mut there = PathBuf::new();
    let mut at = None;
    for part in path.components() {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let next = match &at {
            None => openat(CWD, part.as_os_str(), flags, Mode::empty()),
            Some(at) => openat(at, part.as_os_str(), flags, Mode::empty()),
        };
        let Ok(next) = next else { break };
        at = Some(next);
        there.push(part);
    }
    there
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn roots(paths: &[&Path]) -> Roots {
        Roots::new(paths.iter().map(|path| path.to_path_buf()).collect(), "/none".into())
    }

    #[test]
    fn a_copy_stays_under_its_roots() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join("link")).unwrap();
        symlink("nowhere", root.path().join("dangling")).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        symlink("real", root.path().join("own")).unwrap();
        let roots = roots(&[root.path()]);
        let at = |path: &str| root.path().join(path).to_str().unwrap().to_owned();
        assert_eq!(judge(&at("runs/one"), &roots).unwrap(), root.path().join("runs/one"));
        assert_eq!(judge(&at("own/one"), &roots).unwrap(), root.path().join("real/one"));
        assert_eq!(judge(&at(""), &roots).unwrap().as_os_str(), root.path().as_os_str());
        for wrong in
            ["runs".into(), "/etc".into(), at("../x"), at("link/x"), at("dangling/x"), at("dangling"), at("a\0b")]
        {
            assert!(judge(&wrong, &roots).is_err(), "{wrong}");
        }
        assert!(judge("/x", &Roots::new(Vec::new(), "/none".into())).unwrap_err().contains("output.mirror_roots"));
    }

    #[test]
    fn a_root_that_is_a_link_keeps_its_name() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("real")).unwrap();
        let root = place.path().join("root");
        symlink("real", &root).unwrap();
        let judged = judge(place.path().join("real/runs").to_str().unwrap(), &roots(&[&root])).unwrap();
        assert_eq!(judged, root.join("runs"));
    }

    #[test]
    fn a_path_that_no_program_could_open_is_refused_by_its_length() {
        let root = tempfile::tempdir().unwrap();
        let roots = roots(&[root.path()]);
        let deep = format!("{}{}", root.path().display(), "/a".repeat(200_000));
        let error = judge(&deep, &roots).unwrap_err();
        assert!(error.contains("bytes") && error.len() < 200, "{error}");
        let wide = format!("{}/{}", root.path().display(), "a".repeat(256));
        assert!(judge(&wide, &roots).unwrap_err().contains("256"));
        let most = format!("{}{}", root.path().display(), "/a".repeat(1_700));
        assert_eq!(judge(&most, &roots).unwrap(), Path::new(&most));
    }
}
