//! Install plans: which packages, in which order, from where, and why.

mod choice;
mod pip;

use super::catalogue::{Build, Release, RuntimeRow};
use super::facts::read as read_field;
use super::runtime::RuntimeQuery;
use super::{Catalogue, UnknownRuntime, Version};
use crate::job::Violations;
use crate::proto::v1::{self, Accelerator, InstallPlan};
use choice::Wish;
use pip::{install_line, is_plain, source_line, step};
pub(super) use pip::{repair_command, replace_command};

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
struct Asked {
    query: Option<RuntimeQuery>,
    python: Option<Version>,
    is_gpu: bool,
    pytorch: Option<Version>,
    variant: Option<String>,
    driver: Option<Version>,
    compute: Option<Version>,
}

/// Plans an installation.
pub fn plan(catalogue: &Catalogue, request: &v1::PlanInstallRequest) -> Result<InstallPlan, PlanError> {
    let asked = read(catalogue, request)?;
    let row = asked.query.as_ref().map(|query| catalogue.runtime(query)).transpose()?;
    let runtime = row.zip(asked.query.as_ref());
    let known = runtime.and_then(|(row, query)| if query.is_ml { &row.python } else { &row.standard_python }.as_ref());
    let Some(python) = asked.python.as_ref().or(known) else {
        let words = match &asked.query {
            Some(query) => {
                format!("is missing, and no source tells the Python of {}; `python --version` there does", query.text)
            }
            None => "is missing; a version such as 3.10 is needed without a runtime".into(),
        };
        let mut wrong = Violations::default();
        wrong.add("python_version", words);
        return Err(wrong.into());
    };
    let mut plan = InstallPlan { python_version: python.to_string(), ..InstallPlan::default() };
    if let Some((row, query)) = runtime {
        on_runtime(&mut plan, catalogue, row, query, &asked);
        if plan.already_there {
            return Ok(plan);
        }
        if let Some(known) = known.filter(|known| known.minor() != python.minor()) {
            plan.notes
                .push(format!("The runtime's Python is {known} by the catalogue; the request's {python} counts."));
        }
    }
    let python = python.clone();
    let Asked { is_gpu, pytorch, variant, driver, compute, .. } = asked;
    let wish = Wish { catalogue, python, is_gpu, variant, driver, compute };
    let (release, build) = match &pytorch {
        Some(wanted) => wish.asked_for(wanted)?,
        None => wish.newest()?,
    };
    describe(&wish, &mut plan, release, build, pytorch.is_none());
    Ok(plan)
}

fn read(catalogue: &Catalogue, request: &v1::PlanInstallRequest) -> Result<Asked, Violations> {
    let mut wrong = Violations::default();
    let pytorch =
        read_field(&mut wrong, "pytorch_version", &request.pytorch_version, |text| catalogue.read_torch(text));
    let python = read_field(&mut wrong, "python_version", &request.python_version, |text| catalogue.read_python(text));
    let driver = read_field(&mut wrong, "driver_version", &request.driver_version, str::parse::<Version>);
    let compute = read_field(&mut wrong, "compute_capability", &request.compute_capability, str::parse::<Version>);
    let query = read_field(&mut wrong, "runtime", &request.runtime, |text| catalogue.read_runtime(text));
    let is_gpu = request.accelerator() == Accelerator::Gpu;
    if request.accelerator() == Accelerator::Unspecified {
        wrong.add("accelerator", "is missing; ACCELERATOR_CPU or ACCELERATOR_GPU is needed");
    }
    let told = read_field(&mut wrong, "cuda_variant", &request.cuda_variant, |text| catalogue.read_variant(text));
    let (pytorch, of_version) = pytorch.map_or((None, None), |version| (Some(version.number), version.variant));
    if told.as_deref() == Some("cpu") {
        wrong.add("cuda_variant", format!("is {:?}; a CUDA build such as cu126 is needed", request.cuda_variant));
    }
    for (field, variant) in [("cuda_variant", &told), ("pytorch_version", &of_version)] {
        match (variant.as_deref(), request.accelerator()) {
            (Some("cpu"), Accelerator::Gpu) if field == "pytorch_version" => {
                wrong.add(field, "names the build for the CPU, and the accelerator is the GPU; leave one of them out");
            }
            (Some(variant), Accelerator::Cpu) if variant != "cpu" => {
                wrong.add(field, format!("is {variant}, and the accelerator is the CPU; leave one of them out"));
            }
            _ => {}
        }
    }
    if let (Some(told), Some(build)) = (&told, &of_version)
        && told != build
    {
        wrong.add("cuda_variant", format!("is {told:?}, and pytorch_version says {build:?}; leave one out"));
    }
    let variant = told.or(of_version).filter(|variant| variant != "cpu");
    wrong.or(Some(Asked { query, python, is_gpu, pytorch, variant, driver, compute }))
}

/// The packages that the runtime has already, and their consequence for the plan.
fn on_runtime(plan: &mut InstallPlan, catalogue: &Catalogue, row: &RuntimeRow, query: &RuntimeQuery, asked: &Asked) {
    plan.runtime = if query.is_ml { row.name.to_string() } else { format!("{} (standard)", row.name.version) };
    plan.sources.extend(catalogue.sources_of(&row.sources));
    if !query.is_ml {
        let note =
            "Standard runtimes come without PyTorch; the runtime for machine learning of the same number has it.";
        return plan.notes.push(note.into());
    }
    let Some(has) = &row.pytorch else {
        return plan.notes.push(format!("{} comes with a PyTorch; no source told which.", row.name));
    };
    let build = row.pytorch_build.as_ref().map(|build| format!(", on GPU clusters built for {build}"));
    plan.notes.push(format!("{} comes with PyTorch {has}{}.", row.name, build.unwrap_or_default()));
    let is_it = asked.pytorch.as_ref().is_none_or(|wanted| has.is_of(wanted))
        && (asked.variant.is_none() || asked.variant == row.pytorch_build);
    if !is_it {
        let note = "The plan replaces it; what the runtime was built with around it may not fit the other one.";
        return plan.notes.push(note.into());
    }
    plan.already_there = true;
    plan.pytorch_version = has.to_string();
    plan.torchvision_version = row.torchvision.as_ref().map(ToString::to_string).unwrap_or_default();
    plan.variant = if asked.is_gpu { row.pytorch_build.clone().unwrap_or_default() } else { "cpu".into() };
    plan.notes.push("There is nothing to install.".into());
}

fn describe(wish: &Wish<'_>, plan: &mut InstallPlan, release: &Release, build: &Build, is_newest: bool) {
    plan.pytorch_version = release.version.to_string();
    plan.torchvision_version = release.torchvision.as_ref().map(ToString::to_string).unwrap_or_default();
    plan.variant.clone_from(&build.variant);
    let on = build.cuda.as_ref().map_or("the CPU".to_owned(), |cuda| format!("CUDA {cuda}"));
    let choice = if is_newest { "the newest that fits" } else { "the release that was asked for" };
    let mut steps =
        vec![step(release, build, "torch", &release.version, &wish.python, format!("{choice}, built for {on}"))];
    match &release.torchvision {
        Some(torchvision) => {
            let why = format!("the release that belongs to PyTorch {}", release.version);
            steps.push(step(release, build, "torchvision", torchvision, &wish.python, why));
        }
        None => plan
            .notes
            .push(format!("No source told which torchvision belongs to PyTorch {}; it is left out.", release.version)),
    }
    if let Some(toolkit) = build.cuda.as_ref().and_then(|cuda| wish.catalogue.toolkit(cuda)) {
        if let Some(floor) = toolkit.floor() {
            plan.notes.push(format!("{} needs the NVIDIA driver {floor} or newer.", build.variant));
        }
        if let (None, Some(coverage)) = (&wish.compute, &build.compute) {
            plan.notes.push(format!("It holds code for the compute capabilities {coverage}."));
        }
    }
    if is_plain(release, build) {
        plan.notes.push(format!(
            "pip takes every build of PyTorch {} for this one: where another is installed, add --force-reinstall.",
            release.version
        ));
    }
    plan.notes.extend(release.notes.iter().cloned());
    if build.experimental {
        plan.notes.push(format!("The release calls {} experimental.", build.variant));
    }
    if release.python.experimental.iter().any(|python| wish.python.is_of(python)) {
        plan.notes.push(format!("The release calls its wheels for Python {} experimental.", minor(&wish.python)));
    }
    let head: Vec<String> = source_line(release, build).into_iter().collect();
    plan.requirement_lines = head.into_iter().chain(steps.iter().map(|step| step.requirement.clone())).collect();
    let packages: Vec<&str> = steps.iter().map(|step| step.requirement.as_str()).collect();
    plan.pip_command = install_line("pip install", &packages, release, build);
    plan.notebook_magic = install_line("%pip install", &packages, release, build);
    plan.steps = steps;
    for source in
        wish.catalogue.sources_of(&release.sources).into_iter().chain(wish.catalogue.sources_of(&build.sources))
    {
        if !plan.sources.contains(&source) {
            plan.sources.push(source);
        }
    }
}

fn minor(python: &Version) -> String {
    let (major, minor) = python.minor();
    format!("Python {major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::super::embedded;
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
        plan(embedded(), request).unwrap_or_else(|error| panic!("{error}"))
    }

    fn requirements(request: &v1::PlanInstallRequest) -> Vec<String> {
        planned(request).steps.into_iter().map(|step| step.requirement).collect()
    }

    #[track_caller]
    fn refused(request: &v1::PlanInstallRequest) -> (String, String) {
        match plan(embedded(), request) {
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
            "pip install torch==2.0.1+cu117 torchvision==0.15.2+cu117 --index-url https://download.pytorch.org/whl/cu117"
        );
        let plan = planned(&ask("", "3.8", Accelerator::Gpu, "1.8.2"));
        assert_eq!(
            plan.pip_command,
            "pip install torch==1.8.2+cu111 torchvision==0.9.2+cu111 --extra-index-url https://download.pytorch.org/whl/lts/1.8/cu111"
        );
        let plan = planned(&ask("", "3.12", Accelerator::Gpu, "2.6.0"));
        assert_eq!(
            plan.requirement_lines,
            ["--index-url https://download.pytorch.org/whl/cu124", "torch==2.6.0+cu124", "torchvision==0.21.0+cu124"]
        );
        assert_eq!(
            plan.steps[1].notebook_magic,
            "%pip install torchvision==0.21.0+cu124 --index-url https://download.pytorch.org/whl/cu124"
        );
    }

    #[test]
    fn versions_are_read_as_people_write_them() {
        let plan = planned(&ask("", "Python 3.10.12", Accelerator::Gpu, "1.13.1+cu117"));
        assert_eq!((plan.pytorch_version.as_str(), plan.variant.as_str()), ("1.13.1", "cu117"));
        let same = v1::PlanInstallRequest {
            cuda_variant: "CUDA 11.7".into(),
            ..ask("", "3.10", Accelerator::Gpu, "torch==1.13.1")
        };
        assert_eq!(planned(&same).pip_command, plan.pip_command);
        let cpu =
            planned(&ask("15.4 LTS (includes Apache Spark 3.5.0, Scala 2.12)", "", Accelerator::Cpu, "2.3.1+cpu"));
        assert_eq!((cpu.runtime.as_str(), cpu.variant.as_str()), ("15.4 (standard)", "cpu"));
        let there = planned(&ask("Databricks Runtime 7.3 LTS for Machine Learning", "", Accelerator::Gpu, ""));
        assert!(there.already_there);
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
        assert_eq!(newest("3.12", "470.82.01", "8.0"), is("2.7.1", "cu118"));
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
        let (field, words) = refused(&driver);
        assert!(field == "driver_version" && words.contains("525.60.13"), "{words}");
        assert!(words.contains("the nearest is PyTorch 2.7.1 (cu118), which needs driver 450.80.02"), "{words}");
        let newest =
            v1::PlanInstallRequest { compute_capability: "3.7".into(), ..ask("", "3.14", Accelerator::Gpu, "") };
        let (field, words) = refused(&newest);
        assert!(field == "compute_capability" && words.contains("no build for Python 3.14"), "{words}");
        let volta = v1::PlanInstallRequest {
            driver_version: "580.95.05".into(),
            compute_capability: "7.0".into(),
            cuda_variant: "cu130".into(),
            ..ask("", "3.12", Accelerator::Gpu, "2.11.0")
        };
        let (field, words) = refused(&volta);
        assert!(field == "compute_capability" && words.ends_with("; the nearest is cu126"), "{words}");
        let old = v1::PlanInstallRequest {
            driver_version: "470.82.01".into(),
            compute_capability: "8.6".into(),
            ..ask("", "3.12", Accelerator::Gpu, "2.11.0")
        };
        let (field, words) = refused(&old);
        assert!(
            field == "driver_version" && words.ends_with("; the nearest that fits is PyTorch 2.7.1 (cu118)"),
            "{words}"
        );
        let cpu = refused(&ask("", "3.12", Accelerator::Cpu, "2.14")).1;
        assert!(cpu.contains("the nearest that fits is PyTorch 2.13.0 (cpu)"), "{cpu}");
        let ptx = v1::PlanInstallRequest {
            driver_version: "525.60.13".into(),
            compute_capability: "13.0".into(),
            cuda_variant: "cu129".into(),
            ..ask("", "3.12", Accelerator::Gpu, "2.8.0")
        };
        let (field, words) = refused(&ptx);
        assert!(field == "driver_version" && words.contains("cannot compile"), "{field} {words}");
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
        let twice = v1::PlanInstallRequest {
            cuda_variant: "CUDA 11.6".into(),
            ..ask("", "3.10", Accelerator::Gpu, "1.13.1+cu117")
        };
        let (field, words) = refused(&twice);
        assert!(field == "cuda_variant" && words.contains("pytorch_version says \"cu117\""), "{words}");
        assert_eq!(refused(&ask("", "3.10", Accelerator::Gpu, "1.13.1+cpu")).0, "pytorch_version");
        assert_eq!(refused(&ask("", "3.10", Accelerator::Cpu, "1.13.1+cu117")).0, "pytorch_version");
        let unknown = plan(embedded(), &ask("7.9 ML", "", Accelerator::Cpu, ""));
        assert!(matches!(unknown, Err(PlanError::Runtime(unknown)) if unknown.nearest.len() == 3));
    }
}
