//! Which paths of requests lead to a file below the roots.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

#[test]
fn a_pattern_stands_for_the_files_that_match_in_the_order_of_their_names() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(first.path().join("parts")).unwrap();
    for name in ["b-2", "b-10", "b-1", ".b-0", "a[1]", "a1"] {
        fs::write(second.path().join(name), "x").unwrap();
    }
    fs::create_dir(second.path().join("parts")).unwrap();
    fs::write(second.path().join("parts/b-3"), "x").unwrap();
    symlink("/etc/passwd", second.path().join("out-1")).unwrap();
    let roots = DataRoots::new([first.path().to_owned(), second.path().to_owned()]).unwrap();
    let names = |pattern: &str| {
        let files = roots.open_all(pattern).map_err(|error| error.to_string())?;
        Ok(files.iter().map(|file| file.path().file_name().unwrap().to_str().unwrap().to_owned()).collect())
    };
    let right = |pattern: &str| -> Vec<String> { names(pattern).unwrap() };
    assert_eq!(right("*b-*"), ["b-1", "b-10", "b-2"]);
    assert_eq!(right("b-[12]"), ["b-1", "b-2"]);
    // The first root has such a folder, and no such file.
    assert_eq!(right("parts/b-?"), ["b-3"]);
    assert_eq!((right("a[1]"), right("a1")), (vec!["a[1]".into()], vec!["a1".into()]));
    let wrong = |pattern: &str| -> String { names(pattern).map(|names: Vec<String>| names.join(", ")).unwrap_err() };
    assert!(wrong("c-*").contains("matches no file; looked in"));
    assert!(wrong("nowhere/b-*").contains("matches no file"));
    assert!(wrong("pa*/b-3").contains("only the last part may be a pattern"));
    // A name that no request can hold is left out by no pattern that means it.
    fs::write(second.path().join(OsStr::from_bytes(b"b-\xe9")), "x").unwrap();
    assert!(wrong("b-*").contains("it holds \"b-\\xe9\", whose name is not UTF-8"), "{}", wrong("b-*"));
    assert_eq!(right("b-[12]"), ["b-1", "b-2"]);
    assert!(wrong("b-[").contains("is no pattern"));
    assert!(wrong("out-*").contains("leads out of the data roots"), "{}", wrong("out-*"));
    assert!(wrong("/etc/pass*").contains("leads out"), "{}", wrong("/etc/pass*"));
}

#[test]
fn a_large_file_of_holes_is_refused_and_one_that_is_short_or_stored_is_not() {
    let root = tempfile::tempdir().unwrap();
    let roots = DataRoots::new([root.path().to_owned()]).unwrap();
    let put = |name: &str, stored: u64, size: u64| {
        fs::write(root.path().join(name), vec![7; stored as usize]).unwrap();
        fs::File::options().write(true).open(root.path().join(name)).unwrap().set_len(size).unwrap();
    };
    put("giant", 100, 1 << 40);
    put("short", 100, 1 << 20);
    put("stored", 4 << 20, 100 << 20);
    let refused = roots.open_data("giant").unwrap_err();
    assert!(matches!(refused, PathProblem::Hollow { size_bytes: 1_099_511_627_776, .. }), "{refused}");
    assert!(refused.unjudged().is_none());
    roots.open("giant").unwrap();
    for name in ["short", "stored"] {
        roots.open_data(name).unwrap();
    }
}

#[test]
fn a_file_is_found_under_the_first_root_that_has_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(second.path().join("a"), "x").unwrap();
    let roots = DataRoots::new([first.path().into(), second.path().into()]).unwrap();
    let expected = second.path().canonicalize().unwrap().join("a");
    assert_eq!(roots.open("a").unwrap().path(), expected);
    assert_eq!(roots.open(expected.to_str().unwrap()).unwrap().path(), expected);
}

#[test]
fn links_inside_the_roots_lead_where_they_lead() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let real = |folder: &tempfile::TempDir| folder.path().canonicalize().unwrap();
    fs::create_dir(root.path().join("v2")).unwrap();
    fs::write(root.path().join("v2/a"), "x").unwrap();
    fs::write(other.path().join("b"), "x").unwrap();
    symlink("v2", root.path().join("current")).unwrap();
    symlink(other.path().join("b"), root.path().join("b")).unwrap();
    let roots = DataRoots::new([root.path().into(), other.path().into()]).unwrap();
    assert_eq!(roots.open("current/a").unwrap().path(), real(&root).join("v2/a"));
    assert_eq!(roots.open("b").unwrap().path(), real(&other).join("b"));
    assert_eq!(roots.open_folder("current").unwrap().0, real(&root).join("v2"));
    assert_eq!(roots.open_folder("").unwrap().0, real(&root));
}

/// A file, a link out of the root and a pipe take turns under one name, exchanged by the kernel
/// at once.
#[test]
fn what_takes_the_place_of_a_file_while_it_is_opened_is_neither_read_nor_waited_for() {
    let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = root.path().canonicalize().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    fs::write(place.join("data"), "inside").unwrap();
    symlink(outside.path().join("secret"), place.join("link")).unwrap();
    nix::unistd::mkfifo(&place.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let roots = DataRoots::new([place.clone()]).unwrap();
    let has_ended = AtomicBool::new(false);
    let (mut read, mut refused, mut wrong) = (0, 0, None);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !has_ended.load(Relaxed) {
                for other in ["link", "pipe", "pipe", "link"] {
                    let (data, other) = (place.join("data"), place.join(other));
                    renameat_with(CWD, &data, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        // Both happen often; the bound is for a scheduler that lets one thread run alone.
        for _ in 0..1_000_000 {
            match roots.open("data") {
                Ok(file) => match std::io::read_to_string(file.reader().unwrap()).unwrap() {
                    text if text == "inside" => read += 1,
                    text => wrong = Some(text),
                },
                Err(PathProblem::Unreadable { .. } | PathProblem::NotAFile { .. }) => refused += 1,
                Err(PathProblem::Outside { .. }) => {}
                Err(other) => wrong = Some(other.to_string()),
            }
            if wrong.is_some() || (read >= 100 && refused >= 100) {
                break;
            }
        }
        has_ended.store(true, Relaxed);
    });
    assert_eq!(wrong, None);
    assert!(read >= 100 && refused >= 100, "the race was not provoked: {read} read, {refused} refused");
}

#[test]
fn nothing_leads_out_of_the_roots() {
    let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    fs::write(&secret, "x").unwrap();
    symlink(&secret, root.path().join("link")).unwrap();
    let roots = DataRoots::new([root.path().into()]).unwrap();
    let folder = outside.path().file_name().unwrap().to_str().unwrap();
    symlink(outside.path().join("absent"), root.path().join("link-to-nothing")).unwrap();
    let absent = outside.path().join("absent");
    // An existing path and an absent path are refused alike.
    for path in [
        "link",
        "link-to-nothing",
        secret.to_str().unwrap(),
        absent.to_str().unwrap(),
        &format!("../{folder}/secret"),
        &format!("../{folder}/absent"),
    ] {
        assert!(matches!(roots.open(path), Err(PathProblem::Outside { .. })), "{path}");
        assert!(matches!(roots.open_folder(path), Err(PathProblem::Outside { .. })), "{path}");
    }
}

#[test]
fn a_root_is_known_by_the_name_in_the_settings_and_behind_its_links() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    fs::create_dir(place.join("real")).unwrap();
    fs::write(place.join("real/a"), "x").unwrap();
    symlink("real", place.join("named")).unwrap();
    symlink("real", place.join("other")).unwrap();
    let roots = DataRoots::new([place.join("named")]).unwrap();
    for path in [place.join("named/a"), place.join("real/a"), "a".into()] {
        assert_eq!(roots.open(path.to_str().unwrap()).unwrap().path(), place.join("real/a"), "{}", path.display());
    }
    let refused = roots.open(place.join("other/a").to_str().unwrap());
    assert!(matches!(refused, Err(PathProblem::Outside { .. })), "{refused:?}");
}

#[test]
fn all_ways_to_write_a_path_lead_into_the_same_part() {
    let root = tempfile::tempdir().unwrap();
    let real = root.path().canonicalize().unwrap();
    let roots = DataRoots::new([root.path().into()]).unwrap();
    let part = vec![(real.clone(), real.join("a"))];
    let absolute = real.join("a/x");
    for path in ["a/x", "a/../a/x", "./a//x", "b/../a/y/z", "a", absolute.to_str().unwrap()] {
        assert_eq!(roots.parts(path), part, "{path}");
    }
    assert_eq!(roots.parts("."), [(real.clone(), real)]);
    assert!(roots.parts("../x").is_empty() && roots.parts("/etc/x").is_empty());
}

#[test]
fn what_is_no_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    let roots = DataRoots::new([root.path().into()]).unwrap();
    assert!(matches!(roots.open("folder"), Err(PathProblem::NotAFile { found: "a folder", .. })));
    assert!(matches!(roots.open("nothing"), Err(PathProblem::Missing { .. })));
    assert!(matches!(DataRoots::default().open("a"), Err(PathProblem::NoRoots { .. })));
}
