//! `torchctl version --licenses` tells of exactly the packages that the programs are built from.
//!
//! After a change of dependencies, `TORCHD_UPDATE=1 cargo test --test licenses` writes the list
//! anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const LIST: &str = "src/cli/licenses.tsv";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Packages that are linked into the programs: what the package depends on, without build scripts'
/// and tests' own.
fn packages() -> Vec<String> {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let metadata: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut linked = BTreeSet::new();
    let mut next = vec![text(&metadata["resolve"], "root")];
    while let Some(id) = next.pop() {
        let is_macro = metadata["packages"].as_array().unwrap().iter().any(|package| {
            let targets = package["targets"].as_array().unwrap();
            text(package, "id") == id && targets.iter().any(|target| target["kind"][0] == "proc-macro")
        });
        // Macros run in the compiler and are no part of what it makes.
        if is_macro || !linked.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|node| text(node, "id") == id).unwrap();
        let needed = node["deps"].as_array().unwrap().iter().filter(|dependency| {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            kinds.iter().any(|kind| kind["kind"].is_null())
        });
        next.extend(needed.map(|dependency| text(dependency, "pkg")));
    }
    let found = metadata["packages"].as_array().unwrap().iter().filter(|package| linked.contains(text(package, "id")));
    let lines = found.map(|package| {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let place = match name {
            "torchd" => "LICENSE, beside the sources of torchd".to_owned(),
            _ => match text(package, "repository") {
                "" => "the package's own files".to_owned(),
                repository => repository.trim_end_matches('/').to_owned(),
            },
        };
        // Older packages write A/B where SPDX has A OR B.
        let license = text(package, "license").replace('/', " OR ");
        let license: Vec<_> = license.split_whitespace().collect();
        format!("{name}\t{version}\t{}\t{place}", license.join(" "))
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn the_licences_that_are_told_are_those_of_the_packages_in_the_lock_file() {
    let packages = packages();
    assert!(packages.len() > 100 && packages.iter().any(|line| line.starts_with("tch\t0.24.0\t")), "{packages:?}");
    if std::env::var_os("TORCHD_UPDATE").is_some() {
        std::fs::write(LIST, packages.join("\n") + "\n").unwrap();
    }
    let listed = std::fs::read_to_string(LIST).unwrap();
    let listed: Vec<_> = listed.lines().collect();
    assert_eq!(listed, packages, "write the list anew with TORCHD_UPDATE=1 cargo test --test licenses");
    let nameless: Vec<_> = listed.iter().filter(|line| line.split('\t').nth(2).is_none_or(str::is_empty)).collect();
    assert!(nameless.is_empty(), "packages without a licence: {nameless:?}");
}
