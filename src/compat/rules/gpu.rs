//! GPUs against the code in a build.

use super::Case;
use crate::compat::catalogue::{Build, Release};
use crate::compat::facts::GpuFact;
use crate::compat::gpu_code::{Coverage, Fit};
use crate::compat::install::pip_command;
use crate::compat::{Catalogue, Reason, Version, finding};
use crate::proto::v1;

/// Other builds are named up to this many.
const MOST_BUILDS: usize = 2;

pub(super) fn judge(case: &mut Case<'_>) {
    let is_cuda = case.facts.torch.variant.as_deref().map(|variant| variant != "cpu");
    match (case.facts.has_gpus(), is_cuda) {
        (None, _) => {
            let found = finding(Reason::GpusUnknown, "Whether there are GPUs is not known").found("no gpus");
            let found = found.needed("the list of GPUs, empty where there are none");
            case.add(
                found.remedy("Ask the machine.", &["nvidia-smi --query-gpu=name,compute_cap --format=csv".to_owned()]),
            );
        }
        (Some(false), Some(true)) => {
            let torch = case.torch();
            let found = finding(
                Reason::CudaBuildWithoutGpu,
                format!("{torch} is built for CUDA and there is no GPU: it computes on the CPU"),
            )
            .found("no GPU")
            .remedy("Leave it so, or install the build for the CPU, which is much smaller.", &cpu_command(case));
            case.add(found);
        }
        (Some(true), Some(false)) => without_cuda(case),
        (Some(true), _) => capabilities(case),
        (Some(false), _) => {}
    }
}

fn cpu_command(case: &Case<'_>) -> Vec<String> {
    let build = case.release.and_then(|release| Some((release, release.build("cpu")?)));
    build.map(|(release, build)| pip_command(release, build, None)).into_iter().collect()
}

fn without_cuda(case: &mut Case<'_>) {
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let names: Vec<_> = gpus.iter().map(|gpu| gpu.name.clone()).collect();
    let torch = case.torch();
    let mut found =
        finding(Reason::GpuWithoutCudaBuild, format!("{torch} is built for the CPU and leaves the GPUs unused"))
            .found(names.join(", "))
            .needed("a build for CUDA");
    for (text, command) in other_builds(case, &Wanted { driver: case.facts.driver.as_ref(), gpus }) {
        found = found.remedy(text, &[command]);
    }
    if found.remedies.is_empty() {
        found = found.remedy("Install a build of PyTorch for CUDA that these GPUs and their driver run.", &[]);
    }
    if case.facts.torch.built_for.is_some() {
        found = found.remedy(
            "For torchd: put such a build's libraries into a folder and name it as runner.libtorch_dir in the settings.",
            &[],
        );
    }
    case.add(found);
}

fn capabilities(case: &mut Case<'_>) {
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    for gpu in gpus.iter().filter(|gpu| gpu.compute.is_none()) {
        let found =
            finding(Reason::GpuCapabilityUnknown, format!("The compute capability of {} is not known", gpu.name))
                .found(gpu.name.clone())
                .needed("its compute capability")
                .remedy("Ask the driver.", &["nvidia-smi --query-gpu=compute_cap --format=csv".to_owned()]);
        case.add(found);
    }
    if case.facts.torch.version.is_none() {
        return;
    }
    let (Some(release), Some(build)) = (case.release, case.build) else { return unknown_build(case) };
    let torch = case.torch();
    let sources: Vec<String> = release.sources.iter().chain(&build.sources).cloned().collect();
    let coverage = Coverage::read(&build.compute).ok().filter(|_| !build.compute.is_empty());
    let Some(coverage) = coverage else {
        let tell = "python3 -c 'import torch; print(torch.cuda.get_arch_list())'".to_owned();
        let summary = format!("No source told which GPUs {torch} holds code for");
        let found = finding(Reason::BuildCapabilitiesUnknown, summary)
            .found(format!("{torch}, compute capabilities unknown"))
            .needed("code for the compute capabilities of the GPUs")
            .remedy("Ask PyTorch itself, or try it.", &[tell])
            .sources(case.catalogue, &sources);
        return case.add(found);
    };
    let mut seen: Vec<&Version> = Vec::new();
    for gpu in gpus {
        let Some(compute) = gpu.compute.as_ref().filter(|compute| !seen.contains(compute)) else { continue };
        seen.push(compute);
        let found = match coverage.fit(compute) {
            Fit::Binary => continue,
            Fit::None => without_code(case, gpu, compute),
            Fit::Ptx => by_ptx(case, gpu, compute),
        };
        let has = build.compute.join(", ");
        let found = found.found(format!("{}, compute capability {compute}; the build has {has}", gpu.name));
        case.add(found.sources(case.catalogue, &sources));
    }
}

fn unknown_build(case: &mut Case<'_>) {
    let torch = case.torch();
    let found = match (case.release, &case.facts.torch.version) {
        (Some(release), _) => {
            finding(Reason::BuildUnknown, format!("Which build {torch} is, the catalogue cannot tell"))
                .needed(format!("one of {}", variants(release)))
                .sources(case.catalogue, &release.sources)
        }
        (None, Some(version)) => {
            let releases = &case.catalogue.releases;
            let place = releases.partition_point(|release| release.version < *version);
            let near = releases
                .iter()
                .take(place + 2)
                .skip(place.saturating_sub(1))
                .map(|release| release.version.to_string());
            let near: Vec<_> = near.collect();
            finding(Reason::BuildUnknown, format!("{torch} is not in the catalogue, so what it runs on is not known"))
                .needed(format!("a release that is, such as {}", near.join(" or ")))
        }
        (None, None) => return,
    };
    let found = found.found(torch).remedy(
        "Ask PyTorch itself.",
        &["python3 -c 'import torch; print(torch.__version__, torch.cuda.get_arch_list())'".to_owned()],
    );
    let add = "Add it to the catalogue: a pytorch.toml in the folder that compatibility.catalogue_dir names.";
    case.add(found.remedy(add, &[]));
}

fn without_code(case: &Case<'_>, gpu: &GpuFact, compute: &Version) -> v1::Finding {
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let summary = format!("{} holds no code that {} can run", case.torch(), gpu.name);
    let mut found = finding(Reason::CapabilityNotInBuild, summary).needed(format!("a build with code for {compute}"));
    for (text, command) in other_builds(case, &Wanted { driver: case.facts.driver.as_ref(), gpus }) {
        found = found.remedy(text, &[command]);
    }
    if found.remedies.is_empty() {
        let text = "No build in the catalogue runs on all of these GPUs with this driver: update the driver, or choose other GPUs.";
        found = found.remedy(text, &[]);
    }
    found
}

fn by_ptx(case: &Case<'_>, gpu: &GpuFact, compute: &Version) -> v1::Finding {
    let (torch, name) = (case.torch(), &gpu.name);
    let (driver, toolkit) = (case.facts.driver.as_ref(), case.toolkit);
    let is_too_old = driver.zip(toolkit).is_some_and(|(driver, toolkit)| !toolkit.is_known_to(driver));
    let cuda = toolkit.map(|toolkit| toolkit.version.to_string()).unwrap_or_default();
    let needed = format!("code for {compute}, or a driver that compiles PTX of CUDA {cuda}");
    if is_too_old {
        let summary =
            format!("{name} needs code that the driver has to compile, and the driver is older than CUDA {cuda}");
        let text = format!("Update the NVIDIA driver to one that came with CUDA {cuda} or later.");
        finding(Reason::PtxNeedsNewerDriver, summary).needed(needed).remedy(text, &[])
    } else {
        let summary = format!(
            "{torch} holds no finished code for {name}: the driver compiles it at the first start, which takes minutes"
        );
        finding(Reason::CapabilityByPtx, summary)
            .needed(needed)
            .remedy("Nothing has to be done: the driver keeps what it compiled in ~/.nv/ComputeCache.", &[])
    }
}

fn variants(release: &Release) -> String {
    release.builds.iter().map(|build| build.variant.as_str()).collect::<Vec<_>>().join(", ")
}

/// What a build has to run on.
pub(super) struct Wanted<'a> {
    pub(super) driver: Option<&'a Version>,
    pub(super) gpus: &'a [GpuFact],
}

impl Wanted<'_> {
    fn is_met_by(&self, catalogue: &Catalogue, build: &Build) -> bool {
        let Some(toolkit) = build.cuda.as_ref().and_then(|cuda| catalogue.toolkit(cuda)) else { return false };
        let runs = self.driver.is_none_or(|driver| toolkit.floor().is_some_and(|floor| driver >= floor));
        let Ok(coverage) = Coverage::read(&build.compute) else { return false };
        let has_code = |compute: &Version| match coverage.fit(compute) {
            Fit::Binary => true,
            Fit::Ptx => self.driver.is_some_and(|driver| toolkit.is_known_to(driver)),
            Fit::None => false,
        };
        runs && !build.compute.is_empty() && self.gpus.iter().filter_map(|gpu| gpu.compute.as_ref()).all(has_code)
    }
}

/// Builds that meet what is wanted: of the same release first, then of the newest that has any. With the command that installs each.
pub(super) fn other_builds(case: &Case<'_>, wanted: &Wanted<'_>) -> Vec<(String, String)> {
    let own = case.release.into_iter();
    let newest_first = case
        .catalogue
        .releases
        .iter()
        .rev()
        .filter(|release| case.release.is_none_or(|own| release.version != own.version));
    let mut found: Vec<(&Release, &Build)> = Vec::new();
    for release in own.chain(newest_first) {
        let builds = release.builds.iter().rev().filter(|build| wanted.is_met_by(case.catalogue, build));
        let plain = builds.clone().find(|build| !build.experimental);
        found.extend(plain.or_else(|| builds.clone().next()).map(|build| (release, build)));
        if found.len() >= MOST_BUILDS || (!found.is_empty() && case.release.is_none()) {
            break;
        }
    }
    let told = |(release, build): (&Release, &Build)| {
        let (version, variant, python) = (&release.version, &build.variant, &release.python);
        (format!("Install PyTorch {version} built for {variant} ({python})."), pip_command(release, build, None))
    };
    found.into_iter().map(told).collect()
}
