//! The layers of the house: a module uses only what stands above it in `src/lib.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that all may use, wherever they stand.
const LEAVES: [&str; 11] =
    ["role", "config", "metrics", "fault", "beneath", "umask", "terminal", "shortage", "looks", "gate", "sha256"];

/// Pairs that must not know each other although their places would allow it.
const FORBIDDEN: [(&str, &str); 6] = [
    ("services", "store"),
    ("services", "supervisor"),
    ("supervisor", "store"),
    ("supervisor", "scheduler"),
    ("scheduler", "store"),
    ("store", "journal"),
];

/// Modules of the library that the runner's tree may use.
const RUNNER: [&str; 14] = [
    "attempt",
    "beneath",
    "shortage",
    "proto",
    "job",
    "tensor_file",
    "exported",
    "dataset",
    "fault",
    "gpu",
    "journal",
    "record",
    "sha256",
    "tensorboard",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The modules of the library that a file names behind `prefix`, as `crate::store` or in `use
/// crate::{store, job}`.
fn named(file: &Path, prefix: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = BTreeSet::new();
    for (place, _) in code.match_indices(prefix) {
        let rest = &code[place + prefix.len()..];
        for name in members(rest) {
            modules.insert(name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    modules
}

/// `{a, b::{c, d}}` has the members `a` and `b::{c, d}`; anything else is one itself.
fn members(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![path.chars().take(100).collect()] };
    let (mut depth, mut members) = (0, vec![String::new()]);
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            other => members.last_mut().unwrap().push(other),
        }
    }
    members
}

#[test]
fn groups_within_groups_are_read() {
    assert_eq!(members("{journal::{A, B}, store}; x, y"), ["journal::A, B", " store"]);
    assert_eq!(members("store::Store;"), ["store::Store;"]);
}

/// The modules in the order of `src/lib.rs`.
fn layers() -> Vec<String> {
    let map = fs::read_to_string("src/lib.rs").unwrap();
    map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

#[test]
fn no_module_uses_what_stands_below_it() {
    let layers = layers();
    assert!(layers.len() >= 15, "{layers:?}");
    let mut arrows = 0;
    for (place, module) in layers.iter().enumerate() {
        let mut files = vec![PathBuf::from(format!("src/{module}.rs"))];
        let folder = PathBuf::from(format!("src/{module}"));
        if folder.is_dir() {
            files.extend(sources(&folder));
        }
        for file in files {
            for used in named(&file, "crate::").intersection(&layers.iter().cloned().collect()) {
                let below = layers.iter().position(|layer| layer == used).unwrap() > place;
                let is_wrong = (below && !LEAVES.contains(&used.as_str()))
                    || FORBIDDEN.contains(&(module.as_str(), used.as_str()))
                    || (module == "cli"
                        && !["cli", "proto", "terminal", "sha256", "tensor_file", "exported"].contains(&used.as_str()));
                assert!(!is_wrong, "{} uses {used}", file.display());
                arrows += 1;
            }
        }
    }
    assert!(arrows > 50, "{arrows}");
}

#[test]
fn the_runner_uses_its_rooms_only_and_alone_names_libtorch() {
    for file in sources(Path::new("src/runner")) {
        for used in named(&file, "torchd::") {
            assert!(RUNNER.contains(&used.as_str()), "{} uses {used}", file.display());
        }
    }
    for file in sources(Path::new("src")).into_iter().filter(|file| !file.starts_with("src/runner")) {
        let text = fs::read_to_string(&file).unwrap();
        let is_named = text.match_indices("tch::").any(|(place, _)| !text[..place].ends_with(char::is_alphanumeric));
        assert!(!is_named, "{} names libtorch", file.display());
    }
}

#[test]
fn every_module_says_what_it_is_and_none_is_a_mod_rs() {
    for file in sources(Path::new("src")) {
        assert_ne!(file.file_name().unwrap(), "mod.rs", "{}", file.display());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} opens without a word", file.display());
        assert!(text.lines().count() <= 500, "{} is long", file.display());
    }
}
