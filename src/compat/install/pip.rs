//! How pip gets a package of a build.

use crate::compat::Version;
use crate::compat::catalogue::{Build, InstallForm, Release};
use crate::proto::v1::InstallStep;

/// Where PyTorch keeps its wheels.
const WHEELS: &str = "https://download.pytorch.org/whl";

/// What stands behind `torch==` or in its place, for one package of a build.
fn requirement(release: &Release, build: &Build, package: &str, version: &Version, python: &Version) -> String {
    let variant = &build.variant;
    match release.install {
        InstallForm::Wheel if build.pypi => format!("{package}=={version}"),
        InstallForm::Wheel => {
            let (major, minor) = python.minor();
            let tag = format!("cp{major}{minor}");
            // CPython marked its builds with pymalloc until 3.7.
            let abi = if (major, minor) < (3, 8) { format!("{tag}m") } else { tag.clone() };
            format!("{WHEELS}/{variant}/{package}-{version}%2B{variant}-{tag}-{abi}-linux_x86_64.whl")
        }
        InstallForm::SuffixExtraIndex => format!("{package}=={version}+{variant}"),
        InstallForm::LtsIndex | InstallForm::Index => format!("{package}=={version}"),
    }
}

/// Where pip has to look for a build; None where it looks there anyway.
pub(super) fn source_line(release: &Release, build: &Build) -> Option<String> {
    let variant = &build.variant;
    match release.install {
        InstallForm::Wheel => None,
        InstallForm::SuffixExtraIndex => Some(format!("--extra-index-url {WHEELS}/{variant}")),
        InstallForm::LtsIndex => {
            let (major, minor) = release.version.minor();
            Some(format!("--extra-index-url {WHEELS}/lts/{major}.{minor}/{variant}"))
        }
        InstallForm::Index => Some(format!("--index-url {WHEELS}/{variant}")),
    }
}

pub(super) fn install_line(command: &str, packages: &[&str], release: &Release, build: &Build) -> String {
    let from = source_line(release, build).map(|line| format!(" {line}")).unwrap_or_default();
    format!("{command} {}{from}", packages.join(" "))
}

pub(super) fn step(
    release: &Release,
    build: &Build,
    package: &str,
    version: &Version,
    python: &Version,
    why: String,
) -> InstallStep {
    let requirement = requirement(release, build, package, version, python);
    InstallStep {
        package: package.into(),
        requirement_lines: source_line(release, build).into_iter().chain([requirement.clone()]).collect(),
        pip_command: install_line("pip install", &[&requirement], release, build),
        notebook_magic: install_line("%pip install", &[&requirement], release, build),
        requirement,
        why,
    }
}

/// The command that installs a build; without a Python, for the newest that it has wheels for.
pub(in crate::compat) fn pip_command(release: &Release, build: &Build, python: Option<&Version>) -> String {
    let python = python.unwrap_or(&release.python.max);
    install_line("pip install", &[&requirement(release, build, "torch", &release.version, python)], release, build)
}
