//! Judges, when a job is submitted, where it wants its copy. The folder is judged again at each
//! pass.

use std::path::{Component, Path, PathBuf};

use super::Roots;
use crate::beneath::{Around, Astray, lead};
use crate::shortage::Unjudged;

/// Bytes of a path, so that what is copied below it has one that programs can open.
const MAX_PATH_BYTES: usize = 3_500;
/// Bytes of a name: no file system of Linux takes more.
const MAX_NAME_BYTES: usize = 255;

/// Why a copy is not made where a request wants it.
#[derive(Debug)]
pub struct Refusal {
    /// The mistake, in words that follow the name of the field.
    pub what: String,
    /// Nothing is known to be wrong: why it could not be judged now.
    pub unjudged: Option<Unjudged>,
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self { what, unjudged: None }
    }
}

/// Judges where a request wants its copy: an absolute path below one of the roots, whatever links
/// there are on the way. Returns the path that it has below the root as the settings name it,
/// behind all links. The file system is not asked about what lies outside of the roots.
///
/// Takes time in proportion to the length of the path.
pub fn judge(wanted: &str, roots: &Roots) -> Result<PathBuf, Refusal> {
    let roots = roots.paths();
    if wanted.len() > MAX_PATH_BYTES {
        return Err(format!("has {} bytes; a path of at most {MAX_PATH_BYTES} is needed", wanted.len()).into());
    }
    let names = || roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
    if roots.is_empty() {
        return Err(format!("is {wanted:?}, and the settings name no output.mirror_roots").into());
    }
    let path = Path::new(wanted);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain || wanted.contains('\0') {
        return Err(format!("is {wanted:?}; an absolute path without \"..\" is needed, under {}", names()).into());
    }
    if let Some(long) = path.iter().map(|part| part.len()).find(|length| *length > MAX_NAME_BYTES) {
        return Err(format!("has a name of {long} bytes in it; names of at most {MAX_NAME_BYTES} are needed").into());
    }
    let led = lead(path, |path| around(path, roots)).map_err(|astray| match astray {
        Astray::Outside => format!("is {wanted:?}, which does not lie under {}", names()).into(),
        Astray::Dangling(link) => format!("is {wanted:?}, and {} is a link that leads nowhere", link.display()).into(),
        Astray::Unreadable(place, error) => {
            let what = format!("is {wanted:?}, and {} cannot be looked at: {error}", place.display());
            Refusal { what, unjudged: Unjudged::of(&error) }
        }
    })?;
    let below = led.there.strip_prefix(&led.real).unwrap_or(Path::new(""));
    let found: PathBuf = led.root.join(below).join(led.missing).components().collect();
    // The spec holds it as text.
    if found.to_str().is_some() {
        Ok(found)
    } else {
        Err(format!("is {wanted:?}, which leads to a name that is not UTF-8").into())
    }
}

/// The root that a path lies below: by its name, else behind the links of the root. A root that
/// does not answer is not asked about what lies below another one by its name.
fn around<'a>(path: &Path, roots: &'a [PathBuf]) -> Result<Option<Around<&'a Path>>, Astray> {
    let real = |root: &Path| root.canonicalize().map_err(|error| Astray::Unreadable(root.to_owned(), error));
    let named = roots.iter().filter(|root| path.starts_with(root)).max_by_key(|root| root.components().count());
    if let Some((root, below)) = named.and_then(|root| Some((root, path.strip_prefix(root).ok()?))) {
        return Ok(Some(Around { root, real: real(root)?, below: below.to_owned() }));
    }
    let by_place = |root: &'a PathBuf| {
        let real = real(root).ok()?;
        let below = path.strip_prefix(&real).ok()?.to_owned();
        Some(Around { root: root.as_path(), real, below })
    };
    Ok(roots.iter().find_map(by_place))
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
        assert!(judge("/x", &Roots::new(Vec::new(), "/none".into())).unwrap_err().what.contains("output.mirror_roots"));
    }

    #[test]
    fn a_refusal_does_not_tell_what_is_outside_of_the_roots() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(outside.path().join("there")).unwrap();
        fs::write(outside.path().join("file"), "").unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        let roots = roots(&[root.path()]);
        for from in [outside.path().to_owned(), root.path().join("link")] {
            let told = ["there", "file", "absent", "file/x"].map(|name| {
                let path = from.join(name).to_str().unwrap().to_owned();
                judge(&path, &roots).unwrap_err().what.replace(&path, "")
            });
            assert!(told.iter().all(|words| *words == told[0]), "{told:?}");
        }
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
        let error = judge(&deep, &roots).unwrap_err().what;
        assert!(error.contains("bytes") && error.len() < 200, "{error}");
        let wide = format!("{}/{}", root.path().display(), "a".repeat(256));
        assert!(judge(&wide, &roots).unwrap_err().what.contains("256"));
        let most = format!("{}{}", root.path().display(), "/a".repeat(1_700));
        assert_eq!(judge(&most, &roots).unwrap(), Path::new(&most));
    }
}
