//! How pip gets a package of a build, so that it takes the place of any other build of the same
//! release.
//!
//! pip takes an installed `2.6.0+cu124` for a `torch==2.6.0`, whatever index it is told to look at.
//! Only a local version (`+cu126`), the address of a wheel, or `--force-reinstall` changes what is
//! installed.

use crate::compat::Version;
use crate::compat::catalogue::{Build, InstallForm, Release};
use crate::proto::v1::InstallStep;

/// The place of PyTorch's wheels.
const WHEELS: &str = "https://download.pytorch.org/whl";

/// A package with its local version, such as `torch==2.6.0+cu126`; without one where PyPI has the
/// build.
fn pin(release: &Release, build: &Build, package: &str, version: &Version) -> String {
    if is_plain(release, build) {
        format!("{package}=={version}")
    } else {
        format!("{package}=={version}+{}", build.variant)
    }
}

/// Whether the version of a build's wheels does not name the build: PyPI's own before local
/// versions were the rule.
pub(super) fn is_plain(release: &Release, build: &Build) -> bool {
    release.install == InstallForm::Wheel && build.pypi
}

/// A pin, or the address of a wheel, for one package of a build.
fn requirement(release: &Release, build: &Build, package: &str, version: &Version, python: &Version) -> String {
    if release.install != InstallForm::Wheel || build.pypi {
        return pin(release, build, package, version);
    }
    let variant = &build.variant;
    let (major, minor) = python.minor();
    let tag = format!("cp{major}{minor}");
    // CPython marked its builds with pymalloc until 3.7.
    let abi = if (major, minor) < (3, 8) { format!("{tag}m") } else { tag.clone() };
    format!("{WHEELS}/{variant}/{package}-{version}%2B{variant}-{tag}-{abi}-linux_x86_64.whl")
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

/// The command that puts a build of PyTorch, with the torchvision that belongs to it, in the place
/// of any other build or release. It is the same for every Python that the release has wheels for.
pub(in crate::compat) fn replace_command(release: &Release, build: &Build) -> String {
    both_packages(release, build, is_plain(release, build))
}

/// The command that installs a build again where it is installed already, with all that it needs.
pub(in crate::compat) fn repair_command(release: &Release, build: &Build) -> String {
    both_packages(release, build, true)
}

fn both_packages(release: &Release, build: &Build, is_forced: bool) -> String {
    let packages = [("torch", Some(&release.version)), ("torchvision", release.torchvision.as_ref())];
    let pins = packages.iter().filter_map(|(package, version)| Some(pin(release, build, package, (*version)?)));
    let pins = pins.collect::<Vec<_>>();
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let command = if is_forced { "pip install --force-reinstall" } else { "pip install" };
    let line = install_line(command, &pins, release, build);
    // Releases of that time are in no index, and on a page with links to all of their wheels.
    let is_on_page = release.install == InstallForm::Wheel && !build.pypi;
    if is_on_page { format!("{line} -f {WHEELS}/torch_stable.html") } else { line }
}
