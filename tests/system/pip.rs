//! The commands of pip that plans and findings print, applied to stand-ins of PyTorch: each has to
//! change what is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use torchd::compat::{self, Catalogue, Facts};
use torchd::proto::v1::{self, Accelerator};

use super::tools;

/// A command, and what it promises on a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    command: String,
    /// Versions that are installed before, by package.
    before: BTreeMap<String, String>,
    /// Versions that have to be installed afterwards.
    after: BTreeMap<String, String>,
}

fn versions<const N: usize>(packages: [(&str, String); N]) -> BTreeMap<String, String> {
    packages.into_iter().map(|(package, version)| (package.to_owned(), version)).collect()
}

/// PyTorch and its torchvision as a build has them. PyPI's own builds of the old releases name no
/// build.
fn both(catalogue: &Catalogue, version: &str, variant: &str) -> BTreeMap<String, String> {
    let number = version.parse().unwrap();
    let release = catalogue.release(&number).unwrap();
    let is_plain = is_plain(catalogue, version, variant);
    let local = if is_plain { String::new() } else { format!("+{variant}") };
    let torchvision = release.torchvision.as_ref().unwrap();
    versions([("torch", format!("{version}{local}")), ("torchvision", format!("{torchvision}{local}"))])
}

fn is_plain(catalogue: &Catalogue, version: &str, variant: &str) -> bool {
    let release = catalogue.release(&version.parse().unwrap()).unwrap();
    format!("{:?}", release.install) == "Wheel" && release.build(variant).unwrap().pypi
}

/// Another build of the same release, which pip may take for the one that is asked for; else one of
/// another release.
fn other_build(catalogue: &Catalogue, version: &str, variant: &str) -> BTreeMap<String, String> {
    let release = catalogue.release(&version.parse().unwrap()).unwrap();
    let other = release.builds.iter().map(|build| build.variant.as_str()).find(|other| *other != variant).unwrap();
    both(catalogue, version, other)
}

/// The promises of `pip install` in every plan.
fn of_plans(catalogue: &Catalogue, cases: &mut BTreeSet<Case>) {
    for release in &catalogue.releases {
        for build in &release.builds {
            let accelerator = if build.cuda.is_some() { Accelerator::Gpu } else { Accelerator::Cpu };
            let request = v1::PlanInstallRequest {
                python_version: release.python.max.to_string(),
                accelerator: accelerator.into(),
                pytorch_version: release.version.to_string(),
                cuda_variant: if build.cuda.is_some() { build.variant.clone() } else { String::new() },
                ..Default::default()
            };
            let plan = compat::plan(catalogue, &request).unwrap_or_else(|error| panic!("{request:?}: {error}"));
            let version = release.version.to_string();
            let mut command = plan.pip_command.clone();
            if is_plain(catalogue, &version, &build.variant) {
                assert!(plan.notes.iter().any(|note| note.contains("--force-reinstall")), "{:?}", plan.notes);
                command = command.replacen("install", "install --force-reinstall", 1);
            }
            let before = other_build(catalogue, &version, &build.variant);
            cases.insert(Case { command, before, after: both(catalogue, &version, &build.variant) });
        }
    }
}

/// Machines on which the rules find something that another build mends.
fn machines(catalogue: &Catalogue) -> Vec<v1::MachineFacts> {
    let gpus = ["", "K80", "V100", "A10", "B200"];
    let mut machines = Vec::new();
    for release in &catalogue.releases {
        for build in &release.builds {
            for gpu in gpus {
                for driver in ["418.39", "470.82.01", "580.95.05"] {
                    let is_runner = release.version.to_string() == "2.11.0";
                    for built_for in ["", "2.11.0"].into_iter().take(1 + usize::from(is_runner)) {
                        let describe = |gpu: &str| v1::GpuDescription { name: gpu.into(), ..Default::default() };
                        let list = [gpu, gpu].map(describe).into_iter().filter(|gpu| !gpu.name.is_empty()).collect();
                        let error = "libcudnn.so.9: cannot open shared object file: No such file or directory";
                        let torch = v1::TorchFacts {
                            cuda_load_error: error.into(),
                            version: release.version.to_string(),
                            variant: build.variant.clone(),
                            built_for_version: built_for.into(),
                            ..Default::default()
                        };
                        machines.push(v1::MachineFacts {
                            gpus: Some(v1::GpuList { gpus: list }),
                            driver_version: driver.into(),
                            node_type: "Standard_NV72ads_A10_v5".into(),
                            model_pytorch_version: "99.0".into(),
                            torch: Some(torch),
                            ..Default::default()
                        });
                    }
                }
            }
        }
    }
    machines
}

/// The promises of the commands of every finding: the words of the remedy name the build.
fn of_findings(catalogue: &Catalogue, cases: &mut BTreeSet<Case>) {
    let day = "2026-11-24".parse().unwrap();
    let mut seen = BTreeSet::new();
    for machine in machines(catalogue) {
        let report = compat::check(catalogue, &Facts::read(&machine, catalogue).unwrap(), day);
        for remedy in report.findings.iter().flat_map(|finding| &finding.remedies) {
            for command in remedy.commands.iter().filter(|command| command.starts_with("pip ")) {
                // Single libraries are told in quotes, and judged by themselves.
                if command.contains('\'') || !seen.insert(command.clone()) {
                    continue;
                }
                let word = |after: &str| remedy.text.split(after).nth(1)?.split([' ', ',', '.', '(']).next();
                let (before, version) = remedy.text.split_once("PyTorch ").unwrap();
                let version = version.split([' ', ',']).next().unwrap();
                let variant = word("built for ").unwrap_or("cpu");
                assert!(!before.contains("PyTorch"), "{remedy:?}");
                let after = both(catalogue, version, variant);
                let before = if remedy.text.contains("once more") {
                    // The same build is installed, and files of it are missing.
                    after.iter().map(|(package, version)| (package.clone(), format!("-{version}"))).collect()
                } else {
                    other_build(catalogue, version, variant)
                };
                cases.insert(Case { command: command.clone(), before, after });
            }
        }
    }
}

/// The commands that bring back each library that a build loads: the package is installed, and its
/// files are missing.
fn of_libraries(catalogue: &Catalogue, cases: &mut BTreeSet<Case>, others: &mut Vec<Value>) {
    let pinned = |text: &str| -> (String, Option<String>, String) {
        let (package, version) = text.trim_matches('\'').split_once("==").unwrap();
        match package.split_once('[') {
            Some((package, extra)) => (package.into(), Some(extra.trim_end_matches(']').into()), version.into()),
            None => (package.into(), None, version.into()),
        }
    };
    let mut extras: BTreeMap<(String, String), BTreeMap<String, String>> = BTreeMap::new();
    for command in catalogue.libraries.iter().flat_map(|row| &row.commands).filter(|line| line.starts_with("pip ")) {
        let (package, extra, version) = pinned(command.rsplit(' ').next().unwrap());
        let entry = extras.entry((package.clone(), version.clone())).or_default();
        let damaged = format!("-{version}");
        let (mut before, mut after) =
            (BTreeMap::from([(package.clone(), damaged)]), BTreeMap::from([(package, version.clone())]));
        if let Some(extra) = extra {
            let part = format!("nvidia-{extra}");
            entry.insert(extra, part.clone());
            before.insert(part.clone(), format!("-{version}"));
            after.insert(part.clone(), version.clone());
            others.push(json!({ "package": part, "version": version, "extras": {} }));
        }
        cases.insert(Case { command: command.clone(), before, after });
    }
    others.extend(
        extras
            .into_iter()
            .map(|((package, version), extras)| json!({ "package": package, "version": version, "extras": extras })),
    );
}

/// The command without what it promises: commands of one shape differ in nothing but versions,
/// builds and names of packages.
fn shape(case: &Case) -> String {
    let mut shape = case.command.clone();
    for (package, version) in &case.after {
        let (number, variant) = version.split_once('+').unwrap_or((version, "cpu"));
        let number = number.to_owned();
        shape = shape.replace(&number, "VERSION").replace(variant, "BUILD");
        if !package.starts_with("torch") {
            shape = shape.replace(package.trim_start_matches("nvidia-"), "PACKAGE");
        }
    }
    let tags = ["cp37-cp37m", "cp38-cp38", "cp39-cp39"];
    tags.iter().fold(shape, |shape, tag| shape.replace(tag, "PYTHON"))
}

/// The first and the last of each shape.
fn of_each_shape(cases: &BTreeSet<Case>) -> Vec<Case> {
    let mut shapes: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    cases.iter().for_each(|case| shapes.entry(shape(case)).or_default().push(case));
    let ends = shapes.values().flat_map(|of_shape| [of_shape.first(), of_shape.last()].into_iter().flatten());
    ends.map(|case| (*case).clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Applies commands one after the other; what is installed after each.
fn apply(folder: &Path, catalogue: &Catalogue, others: &[Value], cases: &[Case]) -> Vec<BTreeMap<String, String>> {
    let python =
        Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(folder.join("venv")).status().unwrap();
    assert!(python.success());
    let pip =
        Command::new("python3").args(["-c", "import os, pip; print(os.path.dirname(pip.__file__))"]).output().unwrap();
    let pip = String::from_utf8(pip.stdout).unwrap();
    let lib = folder.join("lib");
    std::fs::create_dir(&lib).unwrap();
    std::os::unix::fs::symlink(pip.trim(), lib.join("pip")).unwrap();
    let builds: Vec<_> = catalogue
        .releases
        .iter()
        .flat_map(|release| {
            release.builds.iter().map(move |build| {
                json!({
                    "version": release.version.to_string(), "variant": build.variant,
                    "torchvision": release.torchvision.as_ref().map(ToString::to_string),
                    "pypi": build.pypi, "form": format!("{:?}", release.install),
                })
            })
        })
        .collect();
    let told: Vec<_> = cases.iter().map(|case| json!({ "before": case.before, "command": case.command })).collect();
    let asked = json!({ "folder": folder, "builds": builds, "others": others, "cases": told });
    let mut child = Command::new(folder.join("venv/bin/python"))
        .arg("tests/python/pip_stand_ins.py")
        .env("PYTHONPATH", &lib)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), cases.len(), "{words}");
    let after = told.iter().map(|line| serde_json::from_value(line["after"].clone()).unwrap());
    after.collect()
}

#[test]
fn each_command_of_pip_that_is_printed_changes_what_is_installed() {
    if !tools::is_there("python3", "apt-get install python3-pip python3-venv") {
        return;
    }
    let catalogue = Catalogue::load(&[]).unwrap();
    let (mut cases, mut others) = (BTreeSet::new(), Vec::new());
    of_plans(&catalogue, &mut cases);
    of_findings(&catalogue, &mut cases);
    of_libraries(&catalogue, &mut cases, &mut others);
    // The fault that all this is about: pip takes another build for the one that is asked for, and
    // changes nothing.
    let before = both(&catalogue, "2.3.1", "cu121");
    let command = "pip install torch==2.3.1 torchvision==0.18.1 --index-url https://download.pytorch.org/whl/cu118";
    let fault = Case { command: command.into(), before: before.clone(), after: before };
    // pip does the same with every version: one command of each shape stands for all, unless all
    // are asked for.
    let chosen = if std::env::var_os("TORCHD_TESTS_ALL_COMMANDS").is_some() {
        cases.iter().cloned().collect()
    } else {
        of_each_shape(&cases)
    };
    eprintln!("{} of {} commands", chosen.len(), cases.len());
    let cases: Vec<Case> = std::iter::once(fault).chain(chosen).collect();
    let kinds =
        ["--target", "--force-reinstall", "torch_stable.html", "/lts/", "--index-url", "--extra-index-url", ".whl"];
    for kind in kinds {
        assert!(cases.iter().any(|case| case.command.contains(kind)), "{kind} is among {} commands", cases.len());
    }
    // pip syncs and removes hundreds of files.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let found = apply(folder.path(), &catalogue, &others, &cases);
    for (case, found) in cases.iter().zip(found) {
        assert_eq!(found, case.after, "{} on {:?}", case.command, case.before);
    }
}
