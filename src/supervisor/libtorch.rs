//! Finds libtorch for runners. It runs no Python and loads nothing.
//!
//! PyTorch from PyPI is a libtorch, so that torchd in a Python environment takes the PyTorch there.
//! A libtorch of another minor version is passed over before the loader meets it: its C++ interface
//! is another one, and the loader would tell of a symbol that is missing.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The minor version of libtorch that runners are built for. (tch-rs, README: tch 0.24.0)
const BUILT_FOR: &str = "2.11";

/// The library that says that a folder holds libtorch.
const LIBRARY: &str = "libtorch_cpu.so";

/// The folder of libtorch with which this program was built; empty in a package.
const OF_BUILD: &str = env!("TORCHD_BUILD_LIBTORCH");

/// Where libtorch is looked for.
pub(super) struct Places<'a> {
    /// The folder that the settings name: no other is taken.
    pub(super) setting: Option<&'a Path>,
    /// The value of LIBTORCH: the folder that holds `lib`.
    pub(super) variable: Option<OsString>,
    /// The value of LD_LIBRARY_PATH.
    pub(super) loader: Option<OsString>,
    /// The program of the runner.
    pub(super) runner: &'a Path,
    /// The folder of the build; empty for none.
    pub(super) of_build: &'a str,
}

/// A libtorch that runners can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Libtorch {
    /// The folder of its libraries.
    pub(super) folder: PathBuf,
    /// The place that it was found in.
    pub(super) found_by: &'static str,
}

/// The outcome of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// None where no place has one that can be used.
    pub(super) found: Option<Libtorch>,
    /// The places before it that have none that can be used, each with the reason and a remedy.
    pub(super) passed_over: Vec<String>,
}

impl Search {
    /// The reason why runners would find no libtorch, in words; None where one was found, or where
    /// the loader may still find one.
    pub(super) fn refusal(&self) -> Option<String> {
        let is_refused = self.found.is_none() && !self.passed_over.is_empty();
        is_refused.then(|| format!("no libtorch {BUILT_FOR} was found: {}", self.passed_over.join("; ")))
    }

    /// The folder of the libraries; None where the loader has to find them.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.found.as_ref().map(|found| &*found.folder)
    }

    fn take(&mut self, folder: PathBuf, found_by: &'static str, remedy: &str) {
        match version_of(&folder) {
            Some(version) if !is_built_for(&version) => self.passed_over.push(format!(
                "{} ({found_by}) is libtorch {version}, and the runner is built for {BUILT_FOR}: {remedy}",
                folder.display()
            )),
            _ => self.found = Some(Libtorch { folder, found_by }),
        }
    }
}

impl<'a> Places<'a> {
    /// The places of this machine.
    pub(super) fn of(setting: Option<&'a Path>, runner: &'a Path) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            setting,
            variable: variable("LIBTORCH"),
            loader: variable("LD_LIBRARY_PATH"),
            runner,
            of_build: OF_BUILD,
        }
    }

    /// Looks in each place, in order, until one has a libtorch that runners can use.
    pub(super) fn search(&self) -> Search {
        let mut search = Search::default();
        let own = format!("install libtorch {BUILT_FOR}, or name its folder as runner.libtorch_dir in the settings");
        if let Some(folder) = self.setting {
            search.take(
                folder.to_owned(),
                "runner.libtorch_dir",
                &format!("name a folder that holds libtorch {BUILT_FOR}"),
            );
            return search;
        }
        if let Some(variable) = &self.variable {
            let folder = Path::new(variable).join("lib");
            match holds(&folder) {
                true => {
                    search.take(folder, "LIBTORCH", &format!("let LIBTORCH name libtorch {BUILT_FOR}, or unset it"))
                }
                false => search.passed_over.push(format!(
                    "{} (LIBTORCH) holds no lib/{LIBRARY}: let LIBTORCH name the folder of libtorch, or unset it",
                    Path::new(variable).display()
                )),
            }
        }
        let of_loader = self.loader.iter().flat_map(std::env::split_paths).map(|folder| (folder, "LD_LIBRARY_PATH"));
        let home = self.runner.parent().unwrap_or(Path::new("/"));
        let beside =
            ["../lib/torchd/libtorch/lib", "libtorch/lib"].map(|folder| (home.join(folder), "beside the runner"));
        let of_build = [self.of_build].into_iter().filter(|folder| !folder.is_empty());
        let of_build = of_build.map(|folder| (PathBuf::from(folder), "where torchd was built"));
        for (folder, found_by) in of_loader.chain(beside).chain(of_build).filter(|(folder, _)| holds(folder)) {
            if search.found.is_some() {
                return search;
            }
            search.take(folder, found_by, &own);
        }
        if search.found.is_none()
            && let Some(environment) = home.parent()
        {
            in_python(environment, &mut search);
        }
        search
    }
}

/// Looks for the PyTorch of the Python environment whose programs lie in `bin`.
fn in_python(environment: &Path, search: &mut Search) {
    let packages = packages(environment);
    // Python that is not in an environment of its own calls the folder otherwise on Debian.
    let python = environment.join("bin/python3");
    let python = if python.exists() { python } else { "python3".into() };
    let remedy = format!("{} -m pip install 'torch=={BUILT_FOR}.*'", python.display());
    for folder in packages.iter().map(|folder| folder.join("torch/lib")).filter(|folder| holds(folder)) {
        search.take(folder, "the Python environment of the runner", &remedy);
        if search.found.is_some() {
            return;
        }
    }
    // torchd was installed there as a package, and PyTorch was not.
    if search.passed_over.is_empty()
        && let Some(folder) = packages.iter().find(|folder| folder.join("torchd").is_dir())
    {
        search
            .passed_over
            .push(format!("{} (the Python environment of the runner) has no PyTorch: {remedy}", folder.display()));
    }
}

/// The folders with packages of an environment, that of the newest Python first.
fn packages(environment: &Path) -> Vec<PathBuf> {
    let minor = |name: &OsStr| name.to_str()?.strip_prefix("python3.")?.parse::<u32>().ok();
    let entries = fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| Some((minor(&entry.file_name())?, entry.path()))).collect();
    found.sort_unstable();
    let kinds = |folder: PathBuf| ["site-packages", "dist-packages"].map(|kind| folder.join(kind));
    found.into_iter().rev().flat_map(|(_, folder)| kinds(folder)).filter(|folder| folder.is_dir()).collect()
}

fn holds(folder: &Path) -> bool {
    folder.join(LIBRARY).is_file()
}

/// The version of libtorch in a folder, as PyPI's package or an archive of libtorch tells it; None
/// where neither does.
fn version_of(folder: &Path) -> Option<String> {
    let torch = folder.parent()?;
    if let Ok(text) = fs::read_to_string(torch.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let entries = fs::read_dir(torch.parent().filter(|_| torch.ends_with("torch"))?).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("torch-")?.strip_suffix(".dist-info")?.to_owned())
    })
}

fn is_built_for(version: &str) -> bool {
    version.strip_prefix(BUILT_FOR).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a file below a folder.
    fn put(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn search(root: &Path, variable: Option<&str>, setting: Option<&Path>) -> Search {
        let variable = variable.map(|folder| root.join(folder).into());
        let runner = root.join("bin/torchd-runner");
        Places { setting, variable, loader: None, runner: &runner, of_build: "" }.search()
    }

    fn found(search: &Search, root: &Path) -> (String, &'static str) {
        let found = search.found.as_ref().unwrap();
        let folder = found.folder.strip_prefix(root).unwrap().display().to_string();
        (folder, found.found_by)
    }

    #[test]
    fn the_places_are_looked_at_in_order() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(search(root, None, None), Search::default());
        put(root, "lib/python3.9/site-packages/torch/lib/libtorch_cpu.so", "");
        put(root, "lib/python3.9/site-packages/torch-2.11.0.dist-info/METADATA", "");
        put(root, "lib/python3.12/site-packages/torch/lib/libtorch_cpu.so", "");
        put(root, "lib/python3.12/site-packages/torch-2.11.1+cu130.dist-info/METADATA", "");
        let python = "the Python environment of the runner";
        let newest = "lib/python3.12/site-packages/torch/lib".to_owned();
        assert_eq!(found(&search(root, None, None), root), (newest, python));
        put(root, "bin/libtorch/lib/libtorch_cpu.so", "");
        assert_eq!(found(&search(root, None, None), root), ("bin/libtorch/lib".into(), "beside the runner"));
        put(root, "own/lib/libtorch_cpu.so", "");
        assert_eq!(found(&search(root, Some("own"), None), root), ("own/lib".into(), "LIBTORCH"));
        let setting = root.join("own/lib");
        assert_eq!(search(root, Some("elsewhere"), Some(&setting)).found.unwrap().found_by, "runner.libtorch_dir");
    }

    #[test]
    fn another_minor_version_is_passed_over_with_the_line_that_installs_the_right_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let packages = "lib/python3.11/site-packages";
        put(root, &format!("{packages}/torchd/__init__.py"), "");
        let told = search(root, None, None).refusal().unwrap();
        assert!(told.contains("has no PyTorch: python3 -m pip install 'torch==2.11.*'"), "{told}");
        put(root, "bin/python3", "");
        put(root, &format!("{packages}/torch/lib/libtorch_cpu.so"), "");
        for version in ["2.12.0", "2.1.0", "2.110.0"] {
            let info = format!("{packages}/torch-{version}.dist-info");
            put(root, &format!("{info}/METADATA"), "");
            let told = search(root, None, None).refusal().unwrap();
            let line = format!("{}/bin/python3 -m pip install 'torch==2.11.*'", root.display());
            assert!(
                told.contains(&format!("is libtorch {version}, and the runner is built for 2.11: {line}")),
                "{told}"
            );
            fs::remove_dir_all(root.join(info)).unwrap();
        }
        // A wrong LIBTORCH is passed over for the next place; a wrong folder of the settings is not.
        put(root, "old/lib/libtorch_cpu.so", "");
        put(root, "old/build-version", "2.10.0+cpu\n");
        put(root, &format!("{packages}/torch-2.11.0.dist-info/METADATA"), "");
        let other = search(root, Some("old"), None);
        assert_eq!(other.found.as_ref().unwrap().found_by, "the Python environment of the runner");
        assert!(other.passed_over[0].contains("(LIBTORCH) is libtorch 2.10.0+cpu"), "{other:?}");
        assert_eq!(other.refusal(), None);
        let named = search(root, None, Some(&root.join("old/lib"))).refusal().unwrap();
        assert!(named.contains("(runner.libtorch_dir) is libtorch 2.10.0+cpu"), "{named}");
        let missing = search(root, Some("nowhere"), None);
        assert!(missing.passed_over[0].contains("holds no lib/libtorch_cpu.so"), "{missing:?}");
    }
}
