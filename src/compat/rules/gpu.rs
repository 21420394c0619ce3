//! GPUs against the code in a build.

use super::Case;
use super::builds::{to_build, to_other_builds};
use super::remedy::{Change, Way};
use crate::compat::catalogue::Release;
use crate::compat::facts::GpuFact;
use crate::compat::gpu_code::Fit;
use crate::compat::{Reason, Version, finding};
use crate::proto::v1::Finding;

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
            .remedy("Nothing has to be done; the build for the CPU is much smaller.", &[]);
            let cpu = case.release.and_then(|release| Some(to_build(case, release, release.build("cpu")?)));
            case.add_with(found, vec![cpu.into_iter().collect()]);
        }
        (Some(true), Some(false)) => without_cuda(case),
        (Some(true), _) => capabilities(case),
        (Some(false), _) => {}
    }
}

fn without_cuda(case: &mut Case<'_>) {
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let names: Vec<_> = gpus.iter().map(|gpu| gpu.name.clone()).collect();
    let torch = case.torch();
    let found =
        finding(Reason::GpuWithoutCudaBuild, format!("{torch} is built for the CPU and leaves the GPUs unused"))
            .found(names.join(", "))
            .needed("a build for CUDA");
    let ways = to_other_builds(case, Vec::new());
    case.add_with(found, ways);
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
    // Where the code of a build is not listed, its toolkit may tell all the same that there is
    // none.
    let is_listed = case.build.is_some_and(|build| build.compute.is_some());
    if !is_listed && left_behind(case) {
        return;
    }
    let (Some(release), Some(build)) = (case.release, case.build) else { return unknown_build(case) };
    let torch = case.torch();
    let sources: Vec<String> = release.sources.iter().chain(&build.sources).cloned().collect();
    let Some(coverage) = &build.compute else {
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
        let (found, ways) = match coverage.fit(compute) {
            Fit::Binary => continue,
            Fit::None => (without_code(case, gpu, compute), to_other_builds(case, Vec::new())),
            Fit::Ptx => by_ptx(case, gpu, compute),
        };
        let found = found.found(format!("{}, compute capability {compute}; the build has {coverage}", gpu.name));
        case.add_with(found.sources(case.catalogue, &sources), ways);
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

/// GPUs whose generation the build's toolkit has no compiler for: no build with it has their code,
/// whatever is known of it.
fn left_behind(case: &mut Case<'_>) -> bool {
    let Some(toolkit) = case.toolkit else { return false };
    let cuda = &toolkit.version;
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let is_beyond = |last: &&Version| cuda > *last && !cuda.is_of(last);
    let behind = gpus.iter().find_map(|gpu| {
        let row = case.generation(gpu)?;
        Some((gpu, row, row.last_cuda.as_ref().filter(is_beyond)?))
    });
    let Some((gpu, row, last)) = behind else { return false };
    let Some(compute) = &gpu.compute else { return false };
    let found = without_code(case, gpu, compute)
        .found(format!("{}, compute capability {compute} ({}); CUDA {cuda}", gpu.name, row.name))
        .needed(format!("a build for CUDA {last} or older: later toolkits have no {}", row.name))
        .sources(case.catalogue, &row.sources);
    let ways = to_other_builds(case, Vec::new());
    case.add_with(found, ways);
    true
}

fn without_code(case: &Case<'_>, gpu: &GpuFact, compute: &Version) -> Finding {
    let summary = format!("{} holds no code that {} can run", case.torch(), gpu.name);
    finding(Reason::CapabilityNotInBuild, summary).needed(format!("a build with code for {compute}"))
}

fn by_ptx(case: &Case<'_>, gpu: &GpuFact, compute: &Version) -> (Finding, Vec<Vec<Way>>) {
    let (torch, name) = (case.torch(), &gpu.name);
    let too_new = case.facts.driver.as_ref().zip(case.toolkit).filter(|(driver, toolkit)| !toolkit.is_known_to(driver));
    let cuda = case.toolkit.map(|toolkit| toolkit.version.to_string()).unwrap_or_default();
    let needed = format!("code for {compute}, or a driver that compiles PTX of CUDA {cuda}");
    if let Some((_, toolkit)) = too_new {
        let summary =
            format!("{name} needs code that the driver has to compile, and the driver is older than CUDA {cuda}");
        let text = format!("Update the NVIDIA driver to one that came with CUDA {cuda} or later.");
        let driver = toolkit.driver.as_ref().or(toolkit.driver_branch.as_ref()).cloned();
        let update = driver.map(|driver| Way::new(text, &[], vec![Change::Driver(driver)]));
        let ways = to_other_builds(case, update.into_iter().collect());
        (finding(Reason::PtxNeedsNewerDriver, summary).needed(needed), ways)
    } else {
        let summary = format!(
            "{torch} holds no finished code for {name}: the driver compiles it at the first start, which takes minutes"
        );
        let found = finding(Reason::CapabilityByPtx, summary)
            .needed(needed)
            .remedy("Nothing has to be done: the driver keeps what it compiled in ~/.nv/ComputeCache.", &[]);
        (found, Vec::new())
    }
}

fn variants(release: &Release) -> String {
    release.builds.iter().map(|build| build.variant.as_str()).collect::<Vec<_>>().join(", ")
}
