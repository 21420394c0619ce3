//! The driver, NVML, the forward-compatibility package, and what the CUDA runtime says of them.
//!
//! Minor-version compatibility (since CUDA 11) lets a driver run programs of every toolkit of its
//! family; the forward-compatibility package lets an older driver run newer ones, on data-center
//! GPUs alone. (NVIDIA, CUDA Compatibility)

use super::Case;
use super::builds::{builds_with_driver, to_other_builds};
use super::remedy::{Change, LastBranch, Way};
use crate::compat::catalogue::Toolkit;
use crate::compat::{Reason, finding};

/// Where the rules themselves were read.
const RULES: [&str; 1] = ["cuda-compatibility"];

pub(super) fn judge(case: &mut Case<'_>) {
    nvml(case);
    generation(case);
    floor(case);
    uvm(case);
}

/// Return codes of NVML. (nvml.h, nvmlReturn_t)
const NVML_DRIVER_NOT_LOADED: u32 = 9;
const NVML_LIB_RM_VERSION_MISMATCH: u32 = 18;

fn nvml(case: &mut Case<'_>) {
    // Where there is no GPU nobody misses the driver.
    if case.facts.has_gpus() == Some(false) {
        return;
    }
    let words = |commands: &[&str]| -> Vec<String> { commands.iter().map(|&command| command.into()).collect() };
    let finding = match case.facts.nvml_error {
        None | Some(0) => {
            if case.facts.driver.is_none() && case.facts.has_gpus() == Some(true) {
                let found =
                    finding(Reason::DriverUnknown, "There are GPUs, and the version of their driver is not known");
                let found = found.found("no driver_version").needed("the version of the driver");
                case.add(
                    found.remedy("Ask the machine.", &words(&["nvidia-smi --query-gpu=driver_version --format=csv"])),
                );
            }
            return;
        }
        Some(NVML_LIB_RM_VERSION_MISMATCH) => {
            finding(Reason::DriverLibraryMismatch, "The driver was upgraded while its old kernel module stayed loaded")
                .found("NVML error 18: driver/library version mismatch")
                .needed("kernel module and libraries of one version")
                .remedy(
                    "Restart the machine; jobs that run go on until then, new ones cannot begin.",
                    &words(&["sudo reboot"]),
                )
        }
        Some(NVML_DRIVER_NOT_LOADED) => finding(Reason::DriverNotLoaded, "The NVIDIA driver is not loaded")
            .found("NVML error 9: driver not loaded")
            .needed("the kernel module nvidia")
            .remedy(
                "Load it; the kernel's log tells what keeps it from loading.",
                &words(&["sudo modprobe nvidia", "sudo dmesg | grep -i nvrm"]),
            ),
        Some(code) => finding(Reason::NvmlFailed, "NVML cannot be used")
            .found(format!("NVML error {code}"))
            .remedy("`nvidia-smi` asks the same library and tells more.", &words(&["nvidia-smi"])),
    };
    case.add(finding.sources(case.catalogue, &["nvml-return"]));
}

/// GPUs that the driver no longer knows, or that the driver library of a forward-compatibility
/// package does not know.
fn generation(case: &mut Case<'_>) {
    let (Some(LastBranch { branch, gpu, sources }), Some(driver)) = (case.last_branch(), &case.facts.driver) else {
        return;
    };
    let floor = case.toolkit.and_then(Toolkit::floor);
    if driver.major() > branch.major() {
        let found = finding(Reason::GpuUnknownToDriver, format!("The NVIDIA driver is too new for {gpu}"))
            .found(format!("driver {driver}"))
            .needed(format!("a driver of R{branch} or older: no later branch knows {gpu}"))
            .sources(case.catalogue, sources);
        let back = case.to_driver(floor.unwrap_or(branch)).into_iter().collect();
        return case.add_with(found, vec![back, builds_with_driver(case)]);
    }
    let of_package = case.toolkit.and_then(|toolkit| toolkit.driver.as_ref().or(toolkit.driver_branch.as_ref()));
    let is_used = !case.facts.forward_dir.is_empty() && floor.is_some_and(|floor| driver < floor);
    if let Some(newer) = of_package.filter(|newer| is_used && newer.major() > branch.major()) {
        let found = finding(
            Reason::ForwardCompatibilityUnsupported,
            format!("The forward-compatibility package that the loader finds first no longer knows {gpu}"),
        )
        .found(format!("{}, a driver library of R{} or newer", case.facts.forward_dir, newer.major()))
        .needed(format!("driver libraries of R{branch} or older"))
        .sources(case.catalogue, sources);
        let ways = to_other_builds(case, vec![without_package(case)]);
        case.add_with(found, ways);
    }
}

/// The way to the driver's own libraries.
fn without_package(case: &Case<'_>) -> Way {
    let dir = &case.facts.forward_dir;
    let text = format!("Take {dir} out of LD_LIBRARY_PATH and of the loader's configuration.");
    Way::new(text, &[], vec![Change::ForwardDir("")])
}

/// Where the packages put their libraries.
const PACKAGE_DIR: &str = "/usr/local/cuda/compat";

fn with_package(package: &str) -> Way {
    let text = format!(
        "Install the forward-compatibility package {package}, which these GPUs allow, and let the loader find it first. \
         NVIDIA's table tells from which driver it works."
    );
    let commands =
        [format!("sudo apt-get install {package}"), format!("export LD_LIBRARY_PATH={PACKAGE_DIR}:$LD_LIBRARY_PATH")];
    Way::new(text, &commands, vec![Change::ForwardDir(PACKAGE_DIR)])
}

fn floor(case: &mut Case<'_>) {
    let (Some(toolkit), Some(driver)) = (case.toolkit, &case.facts.driver) else { return };
    let (Some(floor), Some(true)) = (toolkit.floor(), case.facts.has_gpus()) else { return };
    let sources: Vec<&str> = toolkit.sources.iter().map(String::as_str).chain(RULES).collect();
    let gpus = case.facts.gpus.as_deref().unwrap_or_default();
    let all_allow = gpus.iter().all(|gpu| gpu.forward == Some(true));
    let dir = &case.facts.forward_dir;
    let (torch, cuda) = (case.torch(), &toolkit.version);
    if !dir.is_empty() {
        if let Some(gpu) = gpus.iter().find(|gpu| gpu.forward == Some(false)) {
            let found = finding(
                Reason::ForwardCompatibilityUnsupported,
                format!("{} does not allow the forward-compatibility package that the loader finds first", gpu.name),
            )
            .found(format!("{dir}, and {}", gpu.name))
            .needed("a data-center GPU, or the driver's own libraries")
            .sources(case.catalogue, &sources);
            case.add_with(found, vec![vec![without_package(case)]]);
        } else if driver >= floor {
            let found = finding(
                Reason::ForwardCompatibilityNotNeeded,
                "A forward-compatibility package stands before a driver that needs none, and may break what works without it",
            )
            .found(format!("{dir}, and driver {driver}"))
            .needed(format!("nothing: driver {driver} runs CUDA {cuda} by itself"))
            .sources(case.catalogue, &sources);
            case.add_with(found, vec![vec![without_package(case)]]);
        } else if all_allow {
            let found = finding(
                Reason::ForwardCompatibilityInUse,
                format!("{torch} runs on an older driver through the forward-compatibility package"),
            )
            .found(format!("driver {driver}, and {dir}"))
            .needed(format!("driver {floor} without the package"))
            .remedy(format!("Nothing has to be done; driver {floor} or newer needs no package."), &[])
            .sources(case.catalogue, &sources);
            return case.add(found);
        }
    }
    if driver < floor {
        let found = finding(
            Reason::DriverTooOld,
            format!("The NVIDIA driver is too old for {torch}, which is built with CUDA {cuda}"),
        )
        .found(format!("driver {driver}"))
        .needed(format!("driver {floor} or newer"))
        .sources(case.catalogue, &sources);
        let mut ways = to_other_builds(case, case.to_driver(floor).into_iter().collect());
        if let (Some(package), true, true) = (&toolkit.forward_compatibility_package, all_allow, dir.is_empty()) {
            ways[0].push(with_package(package));
        }
        case.add_with(found, ways);
    } else if !toolkit.is_known_to(driver) {
        let newest = match (&toolkit.driver, &toolkit.driver_branch) {
            (Some(own), _) => own.to_string(),
            (None, branch) => format!("R{}", branch.as_ref().map(ToString::to_string).unwrap_or_default()),
        };
        let own = toolkit.driver.as_ref().or(toolkit.driver_branch.as_ref());
        let remedy = if own.is_none_or(|own| case.has_driver_from(own)) {
            format!("Nothing has to be done; driver {newest} or newer has everything.")
        } else {
            "Nothing has to be done; no driver that has everything knows these GPUs.".into()
        };
        let found = finding(
            Reason::DriverMinorCompatibility,
            format!("The driver is older than CUDA {cuda} and runs {torch} by minor-version compatibility"),
        )
        .found(format!("driver {driver}"))
        .remedy(remedy, &[])
        .needed(format!("driver {newest} for everything that is in CUDA {cuda}, such as compiling its PTX"))
        .sources(case.catalogue, &sources);
        case.add(found);
    }
}

fn uvm(case: &mut Case<'_>) {
    let works = case.facts.nvml_error.is_none_or(|code| code == 0) && case.facts.driver.is_some();
    // Where CUDA has found its devices, the module is there, whatever the name of its device.
    let cuda_works = case.facts.torch.cuda_error == Some(0);
    if case.facts.has_uvm == Some(false) && case.facts.has_gpus() == Some(true) && works && !cuda_works {
        let commands = ["sudo modprobe nvidia_uvm", "sudo nvidia-modprobe -u -c=0"].map(str::to_owned);
        let found = finding(
            Reason::NvidiaUvmMissing,
            "The device of nvidia_uvm is missing: NVML sees the GPUs, and CUDA cannot use them",
        )
        .found("no /dev/nvidia-uvm")
        .needed("the kernel module nvidia_uvm and its device")
        .remedy("Load the module and make its device. In a container, hand /dev/nvidia-uvm in.", &commands)
        .sources(case.catalogue, &["nvidia-modprobe"]);
        case.add(found);
    }
}

/// Errors that other rules tell better where they know more.
const INSUFFICIENT_DRIVER: u32 = 35;
const CALL_REQUIRES_NEWER_DRIVER: u32 = 36;
const INVALID_DEVICE_FUNCTION: u32 = 98;
const NO_DEVICE: u32 = 100;
const NO_KERNEL_IMAGE: u32 = 209;
const UNSUPPORTED_PTX: u32 = 222;

/// The error of the CUDA runtime, where no other rule has explained it better.
pub(super) fn cuda_error(case: &mut Case<'_>) {
    let Some(code) = case.facts.torch.cuda_error.filter(|&code| code != 0) else { return };
    let is_told = |reason: Reason| case.findings.iter().any(|found| found.finding.reason == reason.code());
    let is_known = match code {
        INSUFFICIENT_DRIVER => is_told(Reason::DriverTooOld) || case.facts.has_gpus() == Some(false),
        NO_DEVICE => case.facts.has_gpus() == Some(false),
        CALL_REQUIRES_NEWER_DRIVER => is_told(Reason::DriverTooOld),
        INVALID_DEVICE_FUNCTION | NO_KERNEL_IMAGE => is_told(Reason::CapabilityNotInBuild),
        UNSUPPORTED_PTX => is_told(Reason::PtxNeedsNewerDriver),
        804 => is_told(Reason::ForwardCompatibilityUnsupported),
        803 => is_told(Reason::DriverLibraryMismatch),
        _ => false,
    };
    if is_known {
        return;
    }
    let reason = match code {
        802 => Reason::CudaSystemNotReady,
        803 => Reason::CudaSystemDriverMismatch,
        804 => Reason::CudaCompatNotSupported,
        _ => Reason::CudaError,
    };
    let row = case.catalogue.cuda_errors.iter().find(|row| row.code == code);
    let found = match row {
        Some(row) => finding(reason, row.meaning.clone())
            .found(format!("CUDA error {code}: {}", row.name))
            .needed("a CUDA runtime that finds its devices")
            .remedy(row.remedy.clone(), &row.commands)
            .sources(case.catalogue, &row.sources),
        None => finding(reason, "CUDA cannot be used")
            .found(format!("CUDA error {code}"))
            .needed("a CUDA runtime that finds its devices")
            .remedy(
                "Look the number up in the CUDA runtime's list of errors; the kernel's log may tell more.",
                &["sudo dmesg | grep -i nvrm".to_owned()],
            )
            .sources(case.catalogue, &["cuda-runtime-errors"]),
    };
    case.add(found);
}
