//! Machines, and what the rules find on them.

use super::super::{Reason, embedded};
use super::*;
use crate::proto::v1::{GpuDescription, GpuList, MachineFacts, TorchFacts};

fn machine(gpus: &[&str], driver: &str, torch: &str) -> MachineFacts {
    let describe = |name: &&str| GpuDescription { name: (*name).into(), compute_capability: String::new() };
    MachineFacts {
        gpus: Some(GpuList { gpus: gpus.iter().map(describe).collect() }),
        driver_version: driver.into(),
        torch: Some(TorchFacts { version: torch.into(), ..TorchFacts::default() }),
        ..MachineFacts::default()
    }
}

fn report(facts: &MachineFacts) -> v1::CompatibilityReport {
    let catalogue = embedded();
    check(catalogue, &Facts::read(facts, catalogue).unwrap(), "2026-11-24".parse().unwrap())
}

fn codes(facts: &MachineFacts) -> Vec<String> {
    report(facts).findings.into_iter().map(|finding| finding.reason).collect()
}

#[track_caller]
fn holds(reason: Reason, facts: &MachineFacts) -> Finding {
    let findings = report(facts).findings;
    let found = findings.iter().find(|finding| finding.reason == reason.code());
    let found = found.unwrap_or_else(|| panic!("{reason:?} is not in {findings:#?}")).clone();
    assert!(!found.remedies.is_empty(), "a remedy for {reason:?}");
    assert!(!found.summary.is_empty() && !found.found.is_empty());
    found
}

#[track_caller]
fn holds_not(reason: Reason, facts: &MachineFacts) {
    let codes = codes(facts);
    assert!(!codes.iter().any(|code| code == reason.code()), "{codes:?}");
}

#[test]
fn a_machine_on_which_everything_fits_is_ok() {
    for (gpu, driver, torch) in [
        ("NVIDIA A10", "580.65.06", "2.11.0+cu130"),
        ("Tesla V100-SXM2-16GB", "560.28.03", "2.11.0+cu126"),
        ("NVIDIA B200", "590.48.01", "2.11.0+cu130"),
    ] {
        let report = report(&machine(&[gpu], driver, torch));
        assert_eq!(report.verdict(), Verdict::Ok, "{gpu} {driver} {torch}: {:#?}", report.findings);
        assert_eq!((report.gpu_verdict(), report.cpu_verdict()), (Verdict::Ok, Verdict::Ok));
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
    let cpu = report(&machine(&[], "", "2.11.0+cpu"));
    assert_eq!((cpu.verdict(), cpu.gpu_verdict), (Verdict::Ok, None));
}

#[test]
fn a_driver_below_the_floor_is_told_with_the_builds_that_it_runs() {
    let old = machine(&["NVIDIA A10"], "470.82.01", "2.11.0+cu126");
    let found = holds(Reason::DriverTooOld, &old);
    assert!(found.needed.contains("525.60.13") && found.found.contains("470.82.01"), "{found:#?}");
    assert!(
        found.remedies.iter().any(|remedy| remedy.commands.iter().any(|line| line.contains("cu118"))),
        "{found:#?}"
    );
    assert!(found.remedies.iter().any(|remedy| remedy.text.contains("cuda-compat-12-6")), "{found:#?}");
    assert_eq!((report(&old).verdict(), report(&old).cpu_verdict()), (Verdict::Broken, Verdict::Ok));
    // A GPU that does not allow the package is not offered it.
    let found = holds(Reason::DriverTooOld, &machine(&["NVIDIA GeForce RTX 3090"], "470.82.01", "2.11.0+cu126"));
    assert!(!found.remedies.iter().any(|remedy| remedy.text.contains("cuda-compat")), "{found:#?}");
    holds_not(Reason::DriverTooOld, &machine(&["NVIDIA A10"], "525.60.13", "2.11.0+cu126"));
    // Before CUDA 11 there is no minor-version compatibility.
    holds(Reason::DriverTooOld, &machine(&["Tesla T4"], "440.31", "1.5.0+cu102"));
    holds_not(Reason::DriverTooOld, &machine(&["Tesla T4"], "440.33", "1.5.0+cu102"));
}

#[test]
fn minor_version_compatibility_is_told_apart() {
    let minor = machine(&["NVIDIA A10"], "525.60.13", "2.11.0+cu126");
    holds(Reason::DriverMinorCompatibility, &minor);
    assert_eq!(report(&minor).verdict(), Verdict::Ok);
    holds_not(Reason::DriverMinorCompatibility, &machine(&["NVIDIA A10"], "560.28.03", "2.11.0+cu126"));
    holds(Reason::DriverMinorCompatibility, &machine(&["NVIDIA A10"], "590.48.01", "2.13.0+cu132"));
    holds_not(Reason::DriverMinorCompatibility, &machine(&["NVIDIA A10"], "595.58.03", "2.13.0+cu132"));
}

#[test]
fn forward_compatibility_depends_on_gpu_and_driver() {
    let with = |gpu, driver| MachineFacts {
        forward_compatibility_dir: "/usr/local/cuda/compat".into(),
        ..machine(&[gpu], driver, "2.11.0+cu126")
    };
    let used = with("NVIDIA A100-SXM4-80GB", "470.82.01");
    holds(Reason::ForwardCompatibilityInUse, &used);
    holds_not(Reason::DriverTooOld, &used);
    let found = holds(Reason::ForwardCompatibilityUnsupported, &with("NVIDIA GeForce RTX 3090", "470.82.01"));
    assert!(found.remedies[0].text.contains("/usr/local/cuda/compat"), "{found:#?}");
    holds(Reason::ForwardCompatibilityNotNeeded, &with("NVIDIA A100-SXM4-80GB", "535.104.05"));
    holds_not(Reason::ForwardCompatibilityNotNeeded, &used);
}

#[test]
fn a_gpu_without_code_in_the_build_is_told_the_build_that_has_it() {
    let found = holds(Reason::CapabilityNotInBuild, &machine(&["NVIDIA B200"], "590.48.01", "2.11.0+cu126"));
    let commands: Vec<_> = found.remedies.iter().flat_map(|remedy| &remedy.commands).collect();
    assert!(commands.iter().any(|line| line.contains("torch==2.11.0") && line.contains("cu130")), "{commands:?}");
    assert!(found.found.contains("10.0") && found.needed.contains("10.0"), "{found:#?}");
    let volta = holds(Reason::CapabilityNotInBuild, &machine(&["Tesla V100-SXM2-16GB"], "590.48.01", "2.11.0+cu128"));
    let commands: Vec<_> = volta.remedies.iter().flat_map(|remedy| &remedy.commands).collect();
    assert!(commands.iter().any(|line| line.contains("cu126")), "{commands:?}");
    holds_not(Reason::CapabilityNotInBuild, &machine(&["Tesla V100-SXM2-16GB"], "590.48.01", "2.10.0+cu128"));
    holds_not(Reason::CapabilityNotInBuild, &machine(&["NVIDIA L40S"], "590.48.01", "2.11.0+cu126"));
}

#[test]
fn ptx_needs_a_driver_that_knows_the_toolkit() {
    let with = |driver: &str| {
        let mut facts = machine(&["a GPU of tomorrow"], driver, "2.11.0+cu130");
        facts.gpus.as_mut().unwrap().gpus[0].compute_capability = "13.0".into();
        facts
    };
    holds(Reason::CapabilityByPtx, &with("590.48.01"));
    let mut old = with("580.65.06");
    old.torch.as_mut().unwrap().version = "2.13.0+cu132".into();
    holds(Reason::PtxNeedsNewerDriver, &old);
    holds_not(Reason::PtxNeedsNewerDriver, &with("590.48.01"));
}

#[test]
fn cuda_and_gpus_have_to_come_together() {
    holds(Reason::CudaBuildWithoutGpu, &machine(&[], "", "2.11.0+cu126"));
    assert_eq!(report(&machine(&[], "", "2.11.0+cu126")).verdict(), Verdict::Ok);
    let found = holds(Reason::GpuWithoutCudaBuild, &machine(&["Tesla V100"], "535.104.05", "2.11.0+cpu"));
    assert!(
        found.remedies.iter().any(|remedy| remedy.commands.iter().any(|line| line.contains("cu126"))),
        "{found:#?}"
    );
    assert_eq!(report(&machine(&["NVIDIA A10"], "535.104.05", "2.11.0+cpu")).verdict(), Verdict::Degraded);
    holds_not(Reason::GpuWithoutCudaBuild, &machine(&[], "", "2.11.0+cpu"));
}

#[test]
fn what_nvml_says_is_judged() {
    let with = |code| MachineFacts { nvml_error: Some(code), ..machine(&["NVIDIA A10"], "", "2.11.0+cu126") };
    let found = holds(Reason::DriverLibraryMismatch, &with(18));
    assert!(found.remedies[0].commands.contains(&"sudo reboot".to_owned()), "{found:#?}");
    holds(Reason::DriverNotLoaded, &with(9));
    holds(Reason::NvmlFailed, &with(999));
    for reason in [Reason::DriverLibraryMismatch, Reason::DriverNotLoaded, Reason::NvmlFailed] {
        holds_not(reason, &with(0));
    }
    holds_not(Reason::DriverNotLoaded, &MachineFacts { nvml_error: Some(9), ..machine(&[], "", "2.11.0+cpu") });
    holds(Reason::DriverUnknown, &with(0));
}

#[test]
fn errors_of_the_cuda_runtime_are_judged() {
    let with = |code| {
        let mut facts = machine(&["NVIDIA A10"], "580.65.06", "2.11.0+cu126");
        facts.torch.as_mut().unwrap().cuda_error = Some(code);
        facts
    };
    assert!(holds(Reason::CudaSystemDriverMismatch, &with(803)).found.contains("803"));
    assert!(holds(Reason::CudaCompatNotSupported, &with(804)).found.contains("804"));
    holds(Reason::CudaSystemNotReady, &with(802));
    assert!(holds(Reason::CudaError, &with(46)).found.contains("46"));
    let found = holds(Reason::CudaError, &with(304));
    assert!(found.found.contains("cudaErrorOperatingSystem") && found.summary.contains("devices"), "{found:#?}");
    assert!(holds(Reason::CudaError, &with(12345)).found.contains("12345"));
    assert_eq!(codes(&with(0)), [""; 0]);
}

#[test]
fn nvidia_uvm_is_needed_beside_a_working_nvml() {
    let with = |uvm| MachineFacts {
        nvidia_uvm: uvm,
        nvml_error: Some(0),
        ..machine(&["NVIDIA A10"], "580.65.06", "2.11.0+cu126")
    };
    let found = holds(Reason::NvidiaUvmMissing, &with(Some(false)));
    assert!(found.remedies[0].commands.iter().any(|line| line.contains("nvidia_uvm")), "{found:#?}");
    holds_not(Reason::NvidiaUvmMissing, &with(Some(true)));
    holds_not(Reason::NvidiaUvmMissing, &with(None));
}

#[test]
fn libraries_that_cannot_be_loaded_are_named() {
    let with = |error: &str| {
        let mut facts = machine(&["NVIDIA A10"], "580.65.06", "2.11.0+cu130");
        facts.torch.as_mut().unwrap().cuda_load_error = error.into();
        facts
    };
    let error = "/x/libtorch_cuda.so cannot be loaded: libcudnn.so.9: cannot open shared object file: No such file or directory";
    let found = holds(Reason::LibtorchCudaNotLoadable, &with(error));
    assert!(found.summary.contains("libcudnn.so.9"), "{found:#?}");
    assert!(found.remedies[0].commands.iter().any(|line| line.contains("nvidia-cudnn-cu13")), "{found:#?}");
    // The package of another build is of no use.
    let mut other = with(error);
    other.torch.as_mut().unwrap().version = "2.11.0+cu126".into();
    let found = holds(Reason::LibtorchCudaNotLoadable, &other);
    assert!(
        found.remedies[0].commands[0].starts_with("pip install --force-reinstall torch==2.11.0+cu126"),
        "{found:#?}"
    );
    holds_not(Reason::LibtorchCudaNotLoadable, &with(""));
    let mut cpu = machine(&[], "", "");
    cpu.torch.as_mut().unwrap().load_error =
        "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file".into();
    let report = report(&cpu);
    assert_eq!((report.cpu_verdict(), report.findings[0].reason.as_str()), (Verdict::Broken, "LIBTORCH_NOT_LOADABLE"));
}

#[test]
fn the_systems_libraries_are_judged() {
    let with = |glibc: &str, glibcxx: &str| MachineFacts {
        glibc_version: glibc.into(),
        glibcxx_version: glibcxx.into(),
        ..machine(&[], "", "2.11.0+cpu")
    };
    holds(Reason::GlibcTooOld, &with("2.17", "3.4.30"));
    holds(Reason::LibstdcxxTooOld, &with("2.36", "3.4.19"));
    let good = with("2.36", "3.4.30");
    holds_not(Reason::GlibcTooOld, &good);
    holds_not(Reason::LibstdcxxTooOld, &good);
    let other = |built_for: &str| {
        let mut facts = machine(&[], "", "2.10.0+cpu");
        facts.torch.as_mut().unwrap().built_for_version = built_for.into();
        facts
    };
    holds(Reason::LibtorchVersionMismatch, &other("2.11.0"));
    holds_not(Reason::LibtorchVersionMismatch, &other("2.10.0"));
    holds_not(Reason::LibtorchVersionMismatch, &other(""));
}

#[test]
fn runtimes_are_judged_by_support_and_exchange() {
    let on = |runtime: &str| MachineFacts { runtime: runtime.into(), ..machine(&[], "", "2.11.0+cpu") };
    holds(Reason::RuntimeEndOfSupport, &on("7.3 ML"));
    holds_not(Reason::RuntimeEndOfSupport, &on("16.4 ML"));
    holds(Reason::RuntimePytorchOlder, &on("16.4 ML"));
    // A standard runtime ships no PyTorch.
    holds_not(Reason::RuntimePytorchOlder, &on("16.4"));
    holds(Reason::RuntimeUnknown, &on("77.7 ML"));
    assert_eq!(report(&on("77.7 ML")).verdict(), Verdict::Ok, "what is not known of support decides nothing");
    let mut newer = on("17.3 ML");
    newer.torch.as_mut().unwrap().version = "2.6.0+cpu".into();
    holds(Reason::RuntimePytorchNewer, &newer);
    let model =
        |version: &str| MachineFacts { model_pytorch_version: version.into(), ..machine(&[], "", "2.11.0+cpu") };
    holds(Reason::ModelFileNewer, &model("2.12.1"));
    holds_not(Reason::ModelFileNewer, &model("2.11.0"));
}

#[test]
fn the_a10_v5_breaks_pytorch_2_across_gpus() {
    let on = |gpus: &[&str], torch: &str| MachineFacts {
        node_type: "Standard_NV72ads_A10_v5".into(),
        ..machine(gpus, "560.28.03", torch)
    };
    let found = holds(Reason::NodeTypeBreaksMultiGpu, &on(&["NVIDIA A10", "NVIDIA A10"], "2.4.0+cu124"));
    assert!(
        found.remedies.iter().any(|remedy| remedy.commands.iter().any(|line| {
            line.starts_with("pip install torch==1.13.1+cu116 torchvision==0.14.1+cu116 --extra-index-url")
        })),
        "{found:#?}"
    );
    holds_not(Reason::NodeTypeBreaksMultiGpu, &on(&["NVIDIA A10"], "2.4.0+cu124"));
    holds_not(Reason::NodeTypeBreaksMultiGpu, &on(&["NVIDIA A10", "NVIDIA A10"], "1.13.1+cu117"));
}

#[test]
fn what_is_not_known_is_told_as_not_known() {
    let nothing = MachineFacts::default();
    let report_of_nothing = report(&nothing);
    assert_eq!(report_of_nothing.verdict(), Verdict::Unknown);
    holds(Reason::TorchUnknown, &nothing);
    holds(Reason::GpusUnknown, &nothing);
    holds(Reason::BuildCapabilitiesUnknown, &machine(&["NVIDIA A10"], "580.65.06", "2.11.0+cu129"));
    holds(Reason::GpuCapabilityUnknown, &machine(&["a GPU of nobody"], "580.65.06", "2.11.0+cu126"));
    holds(Reason::BuildUnknown, &machine(&["NVIDIA A10"], "580.65.06", "9.9.9+cu126"));
    holds(Reason::BuildUnknown, &machine(&["NVIDIA A10"], "580.65.06", "2.11.0+cu118"));
}

/// All that the remedies of a machine tell to do.
fn remedies(facts: &MachineFacts) -> Vec<String> {
    let findings = report(facts).findings;
    let remedies = findings.into_iter().flat_map(|finding| finding.remedies);
    remedies.map(|remedy| format!("{} {}", remedy.text, remedy.commands.join(" "))).collect()
}

#[test]
fn no_remedy_leads_to_a_driver_that_does_not_know_the_gpu() {
    let k80 = machine(&["Tesla K80"], "470.82.01", "2.6.0+cu124");
    let told = remedies(&k80);
    assert!(told.iter().all(|way| !way.contains("Update the") && !way.contains("cuda-compat")), "{told:#?}");
    assert!(told[0].contains("torch==2.6.0+cu118 torchvision==0.21.0+cu118"), "{told:#?}");
    // R418 runs nothing for CUDA 11; R470 does, and still knows the GPU.
    let told = remedies(&machine(&["Tesla K80"], "418.39", "2.1.0+cu118"));
    assert!(told.iter().any(|way| way.contains("450.80.02 or newer, up to R470")), "{told:#?}");
    assert!(told.iter().all(|way| !way.contains("cuda-compat")), "{told:#?}");
    // A driver update would help against DRIVER_TOO_OLD, and the build would still have no code for
    // the GPU.
    let volta = machine(&["Tesla V100-SXM2-16GB"], "570.124.06", "2.11.0+cu130");
    assert!(
        codes(&volta).iter().filter(|code| *code == "DRIVER_TOO_OLD" || *code == "CAPABILITY_NOT_IN_BUILD").count()
            == 2
    );
    let told = remedies(&volta);
    assert!(told.iter().all(|way| !way.contains("driver to") && way.contains("+cu126")), "{told:#?}");
    let found = holds(Reason::GpuUnknownToDriver, &machine(&["Tesla V100"], "590.48.01", "2.11.0+cu126"));
    assert!(found.remedies[0].text.contains("R580") && found.summary.contains("too new"), "{found:#?}");
    holds_not(Reason::GpuUnknownToDriver, &machine(&["Tesla V100"], "580.95.05", "2.11.0+cu126"));
    holds_not(Reason::GpuUnknownToDriver, &machine(&["Tesla T4"], "615.10", "2.11.0+cu126"));
}

#[test]
fn what_a_toolkit_left_behind_is_known_without_the_list_of_a_build() {
    let unlisted = |torch: &str| machine(&["Tesla V100"], "580.95.05", torch);
    let found = holds(Reason::CapabilityNotInBuild, &unlisted("9.9.9+cu130"));
    assert!(found.found.contains("Volta") && found.needed.contains("CUDA 12 or older"), "{found:#?}");
    holds(Reason::BuildCapabilitiesUnknown, &unlisted("2.11.0+cu129"));
    holds(Reason::CapabilityNotInBuild, &machine(&["Tesla K80"], "470.82.01", "2.11.0+cu129"));
}

#[test]
fn a_remedy_is_for_the_python_of_the_machine() {
    let mut facts = machine(&["Tesla K80"], "470.82.01", "2.1.0+cu121");
    facts.python_version = "3.13".into();
    let told = remedies(&facts);
    assert!(told.iter().any(|way| way.contains("torch==2.5.0+cu118")), "{told:#?}");
    assert!(told.iter().all(|way| !way.contains("torch==2.1.0")), "{told:#?}");
    // PyTorch 1.13.1 has no wheels for the Python of this runtime.
    let mut facts = machine(&["NVIDIA A10", "NVIDIA A10"], "560.28.03", "2.6.0+cu124");
    (facts.node_type, facts.runtime) = ("Standard_NV72ads_A10_v5".into(), "16.4 LTS ML".into());
    let found = holds(Reason::NodeTypeBreaksMultiGpu, &facts);
    assert!(found.remedies.iter().all(|remedy| remedy.commands.is_empty()), "{found:#?}");
}

#[test]
fn where_only_driver_and_build_together_help_both_are_told() {
    let found = holds(Reason::CapabilityNotInBuild, &machine(&["NVIDIA B200"], "470.82.01", "2.5.1+cu118"));
    let told = &found.remedies[0];
    assert!(told.text.contains("Update the NVIDIA driver to 525.60.13"), "{found:#?}");
    assert!(told.commands[0].contains("+cu128"), "{found:#?}");
    // A Kepler card beside one that no build for Kepler runs on: nothing helps, and it is said.
    let mut both = machine(&["Tesla K80", "NVIDIA B200"], "470.82.01", "2.5.1+cu118");
    both.python_version = "3.12".into();
    let none = holds(Reason::CapabilityNotInBuild, &both);
    assert!(none.remedies[0].text.contains("choose other GPUs") && none.remedies[0].commands.is_empty(), "{none:#?}");
}

#[test]
fn the_last_builds_of_the_generations_are_the_published_ones() {
    let catalogue = embedded();
    for (compute, version, variant) in
        [("3.7", "2.7.1", "cu118"), ("5.2", "2.14", "cu126"), ("6.1", "2.14", "cu126"), ("7.0", "2.14", "cu126")]
    {
        let compute: Version = compute.parse().unwrap();
        let has_code = |build: &&Build| {
            let fit = build.compute.as_ref().map(|coverage| coverage.fit(&compute));
            fit == Some(super::super::gpu_code::Fit::Binary)
        };
        let last =
            catalogue.releases.iter().rev().find_map(|release| Some((release, release.builds.iter().find(has_code)?)));
        let (release, build) = last.unwrap();
        assert_eq!((release.version.to_string().as_str(), build.variant.as_str()), (version, variant), "{compute}");
    }
}

#[test]
fn the_worst_comes_first() {
    let facts = MachineFacts { runtime: "7.3 ML".into(), ..machine(&["NVIDIA B200"], "525.60.13", "2.11.0+cu126") };
    let severities: Vec<_> = report(&facts).findings.iter().map(Finding::severity).collect();
    assert!(severities.windows(2).all(|pair| pair[0] >= pair[1]) && severities[0] == Severity::Error, "{severities:?}");
}
