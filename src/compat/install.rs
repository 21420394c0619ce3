//! Install plans: which packages, in which order, from where, and why.

use super::catalogue::{Build, InstallForm, Release};
use super::facts::is_variant;
use super::gpu_code::{Coverage, Fit};
use super::runtime::RuntimeQuery;
use super::{Catalogue, UnknownRuntime, Version};
use crate::job::Violations;
use crate::proto::v1::{self, Accelerator, InstallPlan, InstallStep};

/// Where PyTorch keeps its wheels.
const WHEELS: &str = "https://download.pytorch.org/whl";

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The request is wrong, or asks for what was never built.
    #[error(transparent)]
    Invalid(#[from] Violations),
    /// The catalogue does not have the runtime.
    #[error(transparent)]
    Runtime(#[from] UnknownRuntime),
}

/// A request that has been read.
struct Wish<'a> {
    catalogue: &'a Catalogue,
    python: Version,
    is_gpu: bool,
    variant: Option<String>,
    driver: Option<Version>,
    compute: Option<Version>,
}

/// Plans an installation.
pub fn plan(catalogue: &Catalogue, request: &v1::PlanInstallRequest) -> Result<InstallPlan, PlanError> {
    let mut wrong = Violations::default();
    let mut version = |field: &str, text: &str| -> Option<Version> {
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|error| wrong.add(field, format!("{error}"))).ok()
    };
    let pytorch = version("pytorch_version", &request.pytorch_version);
    let python = version("python_version", &request.python_version);
    let driver = version("driver_version", &request.driver_version);
    let compute = version("compute_capability", &request.compute_capability);
    let query: Option<RuntimeQuery> = match request.runtime.as_str() {
        "" => None,
        name => name.parse().map_err(|error| wrong.add("runtime", format!("{error}"))).ok(),
    };
    let is_gpu = match request.accelerator() {
        Accelerator::Gpu => true,
        Accelerator::Cpu => false,
        Accelerator::Unspecified => {
            wrong.add("accelerator", "is missing; ACCELERATOR_CPU or ACCELERATOR_GPU is needed");
            false
        }
    };
    let variant = Some(request.cuda_variant.clone()).filter(|variant| !variant.is_empty());
    if let Some(variant) = &variant {
        if !is_variant(variant) || variant == "cpu" {
            wrong.add("cuda_variant", format!("is {variant:?}; a CUDA build such as cu126 is needed"));
        } else if request.accelerator() == Accelerator::Cpu {
            wrong.add("cuda_variant", format!("is {variant}, and the accelerator is the CPU; leave one of them out"));
        }
    }
    let row = if wrong.0.is_empty() { query.as_ref().map(|query| catalogue.runtime(query)).transpose()? } else { None };
    let runtime_python = row
        .zip(query.as_ref())
        .and_then(|(row, query)| if query.is_ml { row.python.clone() } else { row.standard_python.clone() });
    let python = python.or_else(|| runtime_python.clone());
    if python.is_none() && wrong.0.is_empty() {
        wrong.add(
            "python_version",
            match &query {
                Some(query) => format!(
                    "is missing, and no source tells the Python of {}; `python --version` there does",
                    query.text
                ),
                None => "is missing; a version such as 3.10 is needed without a runtime".into(),
            },
        );
    }
    let (Some(python), true) = (python, wrong.0.is_empty()) else { return Err(wrong.into()) };

    let mut plan = InstallPlan { python_version: python.to_string(), ..InstallPlan::default() };
    if let (Some(row), Some(query)) = (row, &query) {
        plan.runtime = if query.is_ml { row.name.to_string() } else { format!("{} (standard)", row.name.version) };
        plan.sources.extend(catalogue.sources_of(&row.sources));
        match (query.is_ml, &row.pytorch) {
            (true, Some(has)) => {
                let build = row
                    .pytorch_build
                    .as_ref()
                    .map(|build| format!(", on GPU clusters built for {build}"))
                    .unwrap_or_default();
                plan.notes.push(format!("{} comes with PyTorch {has}{build}.", row.name));
                if pytorch.as_ref().is_none_or(|wanted| has.is_of(wanted)) {
                    plan.already_there = true;
                    plan.pytorch_version = has.to_string();
                    plan.torchvision_version = row.torchvision.as_ref().map(ToString::to_string).unwrap_or_default();
                    plan.variant = if is_gpu { row.pytorch_build.clone().unwrap_or_default() } else { "cpu".into() };
                    plan.notes.push("There is nothing to install.".into());
                    return Ok(plan);
                }
                plan.notes.push(
                    "The plan replaces it; what the runtime was built with around it may not fit the other version."
                        .into(),
                );
            }
            (true, None) => plan.notes.push(format!("{} comes with a PyTorch; no source told which.", row.name)),
            (false, _) => plan.notes.push(
                "Standard runtimes come without PyTorch; the runtime for machine learning of the same number has it."
                    .into(),
            ),
        }
        if runtime_python.as_ref().is_some_and(|known| known.minor() != python.minor()) {
            let known = runtime_python.map(|known| known.to_string()).unwrap_or_default();
            plan.notes
                .push(format!("The runtime's Python is {known} by the catalogue; the request's {python} counts."));
        }
    }
    let wish = Wish { catalogue, python, is_gpu, variant, driver, compute };
    let (release, build) = match &pytorch {
        Some(wanted) => wish.asked_for(wanted)?,
        None => wish.newest()?,
    };
    wish.describe(&mut plan, release, build, pytorch.is_none());
    Ok(plan)
}

impl<'a> Wish<'a> {
    /// The build of a release that was asked for, or what comes nearest.
    fn asked_for(&self, wanted: &Version) -> Result<(&'a Release, &'a Build), Violations> {
        let of_line = self.catalogue.releases.iter().rev().find(|release| release.version.is_of(wanted));
        let Some(release) = of_line else {
            let near: Vec<_> = self.catalogue.releases.iter().map(|release| &release.version).collect();
            let mut near: Vec<_> = near.into_iter().map(|version| (version.distance(wanted), version)).collect();
            near.sort();
            let near: Vec<_> = near.iter().take(3).map(|(_, version)| version.to_string()).collect();
            return Err(one(
                "pytorch_version",
                format!("is {wanted}, which is not in the catalogue; the nearest are {}", near.join(", ")),
            ));
        };
        if !release.python.has(&self.python) {
            let place = |version: &Version| self.catalogue.releases.partition_point(|other| other.version < *version);
            let other = self.catalogue.releases.iter().filter(|release| release.python.has(&self.python));
            let nearest = other.min_by_key(|release| place(&release.version).abs_diff(place(wanted)));
            let nearest = nearest.map(|release| {
                format!("; the nearest release with wheels for {} is {}", minor(&self.python), release.version)
            });
            return Err(one(
                "python_version",
                format!(
                    "is {}, and PyTorch {} has wheels for {}{}",
                    self.python,
                    release.version,
                    release.python,
                    nearest.unwrap_or_default()
                ),
            ));
        }
        self.build_of(release).map(|build| (release, build)).map_err(|(field, why)| one(field, why))
    }

    /// The newest release that fits.
    fn newest(&self) -> Result<(&'a Release, &'a Build), Violations> {
        let fits = |release: &&Release| release.python.has(&self.python) && self.build_of(release).is_ok();
        let mut found = self.catalogue.releases.iter().rev().filter(fits);
        // Without its torchvision a release is half a plan; an older one that is whole comes first.
        let newest = found.clone().find(|release| release.torchvision.is_some()).or_else(|| found.next());
        let Some(release) = newest else {
            let with_python = self.catalogue.releases.iter().rev().find(|release| release.python.has(&self.python));
            let why = match with_python.map(|release| (release, self.build_of(release))) {
                Some((release, Err((field, why)))) => {
                    return Err(one(field, format!("{why} (PyTorch {}, the newest for this Python)", release.version)));
                }
                _ => {
                    let first = self.catalogue.releases.iter().find_map(|release| release.python.min.clone());
                    let last = self.catalogue.releases.iter().map(|release| release.python.max.clone()).max();
                    let range =
                        first.zip(last).map(|(first, last)| format!("; there are wheels for Python {first} to {last}"));
                    format!(
                        "is {}, and no release in the catalogue has wheels for it{}",
                        self.python,
                        range.unwrap_or_default()
                    )
                }
            };
            return Err(one("python_version", why));
        };
        self.build_of(release).map(|build| (release, build)).map_err(|(field, why)| one(field, why))
    }

    /// The build of a release that fits best, or the field that keeps all from fitting, and why.
    fn build_of<'r>(&self, release: &'r Release) -> Result<&'r Build, (&'static str, String)> {
        let version = &release.version;
        if !self.is_gpu {
            return release.build("cpu").ok_or_else(|| {
                ("pytorch_version", format!("is {version}, of which no source lists a build for the CPU"))
            });
        }
        let cuda: Vec<&Build> = release.builds.iter().filter(|build| build.cuda.is_some()).collect();
        let names = |builds: &[&Build]| builds.iter().map(|build| build.variant.clone()).collect::<Vec<_>>().join(", ");
        if let Some(variant) = &self.variant {
            let Some(build) = release.build(variant) else {
                let number = |text: &str| text.trim_start_matches("cu").parse::<i64>().unwrap_or(0);
                let nearest = cuda.iter().min_by_key(|build| (number(&build.variant) - number(variant)).abs());
                let nearest = nearest.map(|build| build.variant.as_str()).unwrap_or("none");
                return Err((
                    "cuda_variant",
                    format!(
                        "is {variant}, for which PyTorch {version} was never built; there are {}, and the nearest is {nearest}",
                        names(&cuda)
                    ),
                ));
            };
            return self.runs(build).map(|()| build);
        }
        let mut why = ("pytorch_version", format!("is {version}, of which no source lists a build for CUDA"));
        let mut fitting = Vec::new();
        for build in cuda.iter().rev() {
            match self.runs(build) {
                Ok(()) => fitting.push(*build),
                Err(error) => why = error,
            }
        }
        // PyPI's own is what everybody has; then the newest toolkit that the release does not call experimental.
        let best = fitting.iter().find(|build| build.pypi && release.install == InstallForm::Wheel);
        let best = best.or_else(|| fitting.iter().find(|build| !build.experimental)).or(fitting.first());
        best.copied().ok_or(why)
    }

    /// Whether the driver and the GPU of the request, where it told them, run a build.
    fn runs(&self, build: &Build) -> Result<(), (&'static str, String)> {
        let toolkit = build.cuda.as_ref().and_then(|cuda| self.catalogue.toolkit(cuda));
        if let (Some(driver), Some(toolkit)) = (&self.driver, toolkit)
            && let Some(floor) = toolkit.floor().filter(|floor| driver < *floor)
        {
            return Err(("driver_version", format!("is {driver}, and {} needs {floor} or newer", build.variant)));
        }
        let Some(compute) = &self.compute else { return Ok(()) };
        let fit = Coverage::read(&build.compute)
            .ok()
            .filter(|_| !build.compute.is_empty())
            .map(|coverage| coverage.fit(compute));
        match fit {
            Some(Fit::Binary | Fit::Ptx) => Ok(()),
            Some(Fit::None) => Err((
                "compute_capability",
                format!("is {compute}, and {} holds code for {}", build.variant, build.compute.join(", ")),
            )),
            None => Err((
                "compute_capability",
                format!("is {compute}, and no source told what {} holds code for", build.variant),
            )),
        }
    }

    fn describe(&self, plan: &mut InstallPlan, release: &Release, build: &Build, is_newest: bool) {
        plan.pytorch_version = release.version.to_string();
        plan.torchvision_version = release.torchvision.as_ref().map(ToString::to_string).unwrap_or_default();
        plan.variant.clone_from(&build.variant);
        let on = build.cuda.as_ref().map_or("the CPU".to_owned(), |cuda| format!("CUDA {cuda}"));
        let choice = if is_newest { "the newest that fits" } else { "the release that was asked for" };
        let mut steps =
            vec![step(release, build, "torch", &release.version, &self.python, format!("{choice}, built for {on}"))];
        match &release.torchvision {
            Some(torchvision) => {
                let why = format!("the release that belongs to PyTorch {}", release.version);
                steps.push(step(release, build, "torchvision", torchvision, &self.python, why));
            }
            None => plan.notes.push(format!(
                "No source told which torchvision belongs to PyTorch {}; it is left out.",
                release.version
            )),
        }
        if let Some(toolkit) = build.cuda.as_ref().and_then(|cuda| self.catalogue.toolkit(cuda)) {
            if let Some(floor) = toolkit.floor() {
                plan.notes.push(format!("{} needs the NVIDIA driver {floor} or newer.", build.variant));
            }
            if self.compute.is_none() && !build.compute.is_empty() {
                plan.notes.push(format!("It holds code for the compute capabilities {}.", build.compute.join(", ")));
            }
        }
        plan.notes.extend(release.notes.iter().cloned());
        if build.experimental {
            plan.notes.push(format!("The release calls {} experimental.", build.variant));
        }
        if release.python.experimental.iter().any(|python| self.python.is_of(python)) {
            plan.notes.push(format!("The release calls its wheels for Python {} experimental.", minor(&self.python)));
        }
        let head: Vec<String> = source_line(release, build).into_iter().collect();
        plan.requirement_lines = head.into_iter().chain(steps.iter().map(|step| step.requirement.clone())).collect();
        let packages: Vec<&str> = steps.iter().map(|step| step.requirement.as_str()).collect();
        plan.pip_command = install_line("pip install", &packages, release, build);
        plan.notebook_magic = install_line("%pip install", &packages, release, build);
        plan.steps = steps;
        for source in
            self.catalogue.sources_of(&release.sources).into_iter().chain(self.catalogue.sources_of(&build.sources))
        {
            if !plan.sources.contains(&source) {
                plan.sources.push(source);
            }
        }
    }
}

fn one(field: &str, description: String) -> Violations {
    let mut wrong = Violations::default();
    wrong.add(field, description);
    wrong
}

fn minor(python: &Version) -> String {
    let (major, minor) = python.minor();
    format!("Python {major}.{minor}")
}

impl super::catalogue::PythonRange {
    /// Whether there are wheels for a Python.
    fn has(&self, python: &Version) -> bool {
        // Where the first is not known, only of the last there is a source.
        let first = self.min.as_ref().unwrap_or(&self.max);
        let in_range = (first.minor()..=self.max.minor()).contains(&python.minor());
        in_range || self.experimental.iter().any(|experimental| python.is_of(experimental))
    }
}

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
fn source_line(release: &Release, build: &Build) -> Option<String> {
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

fn install_line(command: &str, packages: &[&str], release: &Release, build: &Build) -> String {
    let from = source_line(release, build).map(|line| format!(" {line}")).unwrap_or_default();
    format!("{command} {}{from}", packages.join(" "))
}

fn step(
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
pub(super) fn pip_command(release: &Release, build: &Build, python: Option<&Version>) -> String {
    let python = python.unwrap_or(&release.python.max);
    install_line("pip install", &[&requirement(release, build, "torch", &release.version, python)], release, build)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(runtime: &str, python: &str, accelerator: Accelerator, pytorch: &str) -> v1::PlanInstallRequest {
        v1::PlanInstallRequest {
            runtime: runtime.into(),
            python_version: python.into(),
            accelerator: accelerator.into(),
            pytorch_version: pytorch.into(),
            ..Default::default()
        }
    }

    fn planned(request: &v1::PlanInstallRequest) -> InstallPlan {
        plan(&Catalogue::load(&[]).unwrap(), request).unwrap_or_else(|error| panic!("{error}"))
    }

    fn requirements(request: &v1::PlanInstallRequest) -> Vec<String> {
        planned(request).steps.into_iter().map(|step| step.requirement).collect()
    }

    #[track_caller]
    fn refused(request: &v1::PlanInstallRequest) -> (String, String) {
        match plan(&Catalogue::load(&[]).unwrap(), request) {
            Err(PlanError::Invalid(mut wrong)) => {
                let first = wrong.0.remove(0);
                (first.field, first.description)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_published_example_comes_out_to_the_letter() {
        let gpu = ["torch==1.5.0", "torchvision==0.6.0"];
        let cpu = [
            "https://download.pytorch.org/whl/cpu/torch-1.5.0%2Bcpu-cp37-cp37m-linux_x86_64.whl",
            "https://download.pytorch.org/whl/cpu/torchvision-0.6.0%2Bcpu-cp37-cp37m-linux_x86_64.whl",
        ];
        for (runtime, python) in [("", "3.7"), ("7.0.x-scala2.12", ""), ("7.3", ""), ("7.3.x-scala2.12", "3.7.5")] {
            assert_eq!(requirements(&ask(runtime, python, Accelerator::Gpu, "1.5.0")), gpu, "{runtime} {python}");
            assert_eq!(requirements(&ask(runtime, python, Accelerator::Cpu, "1.5.0")), cpu, "{runtime} {python}");
        }
        let plan = planned(&ask("", "3.7", Accelerator::Gpu, "1.5.0"));
        assert_eq!(plan.pip_command, "pip install torch==1.5.0 torchvision==0.6.0");
        assert_eq!(plan.notebook_magic, "%pip install torch==1.5.0 torchvision==0.6.0");
        assert_eq!(plan.requirement_lines, gpu);
        assert!(!plan.sources.is_empty());
    }

    #[test]
    fn later_versions_use_the_index_that_pytorch_documents() {
        let plan = planned(&ask("", "3.10", Accelerator::Cpu, "1.13.1"));
        assert_eq!(
            plan.pip_command,
            "pip install torch==1.13.1+cpu torchvision==0.14.1+cpu --extra-index-url https://download.pytorch.org/whl/cpu"
        );
        let plan = planned(&ask("", "3.11", Accelerator::Gpu, "2.0.1"));
        assert_eq!(
            plan.pip_command,
            "pip install torch==2.0.1 torchvision==0.15.2 --index-url https://download.pytorch.org/whl/cu117"
        );
        let plan = planned(&ask("", "3.8", Accelerator::Gpu, "1.8.2"));
        assert_eq!(
            plan.pip_command,
            "pip install torch==1.8.2 torchvision==0.9.2 --extra-index-url https://download.pytorch.org/whl/lts/1.8/cu111"
        );
        let plan = planned(&ask("", "3.12", Accelerator::Gpu, "2.6.0"));
        assert_eq!(
            plan.requirement_lines,
            ["--index-url https://download.pytorch.org/whl/cu124", "torch==2.6.0", "torchvision==0.21.0"]
        );
        assert_eq!(
            plan.steps[1].notebook_magic,
            "%pip install torchvision==0.21.0 --index-url https://download.pytorch.org/whl/cu124"
        );
    }

    #[test]
    fn the_newest_that_fits_depends_on_python_driver_and_gpu() {
        let newest = |python: &str, driver: &str, compute: &str| {
            let request = v1::PlanInstallRequest {
                driver_version: driver.into(),
                compute_capability: compute.into(),
                ..ask("", python, Accelerator::Gpu, "")
            };
            let plan = planned(&request);
            (plan.pytorch_version, plan.variant)
        };
        let is = |version: &str, variant: &str| (version.to_owned(), variant.to_owned());
        assert_eq!(newest("3.7", "", ""), is("1.13.1", "cu116"));
        assert_eq!(newest("3.12", "535.104.05", "7.0"), is("2.14", "cu126"));
        assert_eq!(newest("3.12", "470.82.01", "8.0"), is("2.5.1", "cu118"));
        assert_eq!(newest("3.12", "", "12.0"), is("2.14", "cu132"));
    }

    #[test]
    fn a_runtime_for_machine_learning_has_pytorch() {
        let plan = planned(&ask("7.3 LTS ML", "", Accelerator::Gpu, ""));
        assert!(plan.already_there && plan.steps.is_empty() && plan.pytorch_version == "1.6.0");
        assert!(plan.notes[0].contains("comes with PyTorch 1.6.0"), "{:?}", plan.notes);
        let other = planned(&ask("7.3 LTS ML", "", Accelerator::Cpu, "1.5.0"));
        assert!(!other.already_there && other.notes.iter().any(|note| note.contains("replaces")), "{:?}", other.notes);
        assert!(other.steps[0].requirement.contains("cp37-cp37m"));
    }

    #[test]
    fn what_was_never_built_is_refused_with_the_nearest_that_was() {
        let (field, words) = refused(&ask("", "3.12", Accelerator::Cpu, "1.5.0"));
        assert!(
            field == "python_version" && words.contains("Python 3.5 to 3.8") && words.contains("is 2.2.0"),
            "{words}"
        );
        let variant =
            v1::PlanInstallRequest { cuda_variant: "cu124".into(), ..ask("", "3.12", Accelerator::Gpu, "2.11.0") };
        let (field, words) = refused(&variant);
        assert!(field == "cuda_variant" && words.contains("the nearest is cu126"), "{words}");
        let (field, words) = refused(&ask("", "3.12", Accelerator::Cpu, "2.11.7"));
        assert!(field == "pytorch_version" && words.contains("2.11.0"), "{words}");
        let (field, words) = refused(&ask("", "2.7", Accelerator::Cpu, ""));
        assert!(field == "python_version" && words.contains("3.5 to 3.14"), "{words}");
        let driver =
            v1::PlanInstallRequest { driver_version: "450.0".into(), ..ask("", "3.12", Accelerator::Gpu, "2.11.0") };
        assert!(refused(&driver).1.contains("525.60.13"));
    }

    #[test]
    fn what_is_missing_or_contradictory_is_told_by_its_field() {
        assert_eq!(refused(&ask("", "", Accelerator::Cpu, "")).0, "python_version");
        assert_eq!(refused(&ask("", "3.10", Accelerator::Unspecified, "")).0, "accelerator");
        assert_eq!(refused(&ask("my laptop", "", Accelerator::Cpu, "")).0, "runtime");
        assert_eq!(refused(&ask("", "three", Accelerator::Cpu, "")).0, "python_version");
        let (field, words) = refused(&ask("19.x-scala2.13", "", Accelerator::Cpu, ""));
        assert!(field == "python_version" && words.contains("no source tells the Python of 19.x-scala2.13"), "{words}");
        let both = v1::PlanInstallRequest { cuda_variant: "cu118".into(), ..ask("", "3.10", Accelerator::Cpu, "") };
        assert_eq!(refused(&both).0, "cuda_variant");
        let unknown = plan(&Catalogue::load(&[]).unwrap(), &ask("7.9 ML", "", Accelerator::Cpu, ""));
        assert!(matches!(unknown, Err(PlanError::Runtime(unknown)) if unknown.nearest.len() == 3));
    }
}
