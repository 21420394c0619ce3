//! SystemService.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::clients::Clients;
use super::server::system_service_server::SystemService;
use super::{access, status};
use crate::checkup::Checkup;
use crate::gate::Kept;
use crate::gpu::{NvmlReading, Watcher};
use crate::job::probe::{Confinement, Found, ProbeReport};
use crate::launches::LauncherView;
use crate::manager::{Manager, PythonReport};
use crate::node::NodeSource;
use crate::proto::v1;

/// Answers of Python and of NVML are kept for this long: each costs a process or a thread.
const FRESH: Duration = Duration::from_secs(10);

/// The service.
pub(super) struct System {
    manager: Manager,
    checkup: Checkup,
    watcher: Watcher,
    node: NodeSource,
    cpus: u32,
    clients: Clients,
    control_groups: Result<(), String>,
    python: Kept<PythonReport>,
    nvml: Kept<NvmlReading>,
}

impl System {
    pub(super) fn new(
        manager: Manager,
        checkup: Checkup,
        watcher: Watcher,
        node: NodeSource,
        cpus: u32,
        clients: Clients,
        control_groups: Result<(), String>,
    ) -> Self {
        let (python, nvml) = (Kept::new(FRESH), Kept::new(FRESH));
        Self { manager, checkup, watcher, node, cpus, clients, control_groups, python, nvml }
    }
}

fn library(found: Found) -> v1::LibraryVersion {
    let Found { version, path, absent_reason, found_by, passed_over } = found;
    v1::LibraryVersion { version, path, absent_reason, found_by, passed_over }
}

fn limits(confinement: Confinement) -> v1::Confinement {
    let Confinement { landlock_abi, no_new_privileges, enforced, missing } = confinement;
    v1::Confinement { landlock_abi, no_new_privileges, enforced, missing }
}

fn launcher(view: LauncherView) -> v1::Launcher {
    let LauncherView { offer, taken } = view;
    v1::Launcher {
        launcher: offer.key.name.to_string(),
        owner: offer.key.owner.to_string(),
        for_all: offer.is_for_all,
        engine: offer.engine.to_proto().into(),
        slots: offer.slots,
        taken_slots: taken,
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_caller(&self, request: Request<v1::GetCallerRequest>) -> Result<Response<v1::Caller>, Status> {
        let caller = access::caller(&request)?;
        Ok(Response::new(v1::Caller {
            owner: caller.owner.to_string(),
            role: v1::Role::from(caller.role).into(),
            known_by: caller.known_by(),
        }))
    }

    async fn get_version(
        &self,
        _request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let absent = |absent_reason: String| Found { absent_reason, ..Found::default() };
        let (probe, nvml, PythonReport { python, pytorch }) = tokio::join!(
            self.manager.probed(),
            self.nvml.get(self.checkup.nvml()),
            self.python.get(self.manager.python())
        );
        let report = probe.map_err(status::of)?.unwrap_or_else(|reason| ProbeReport {
            libtorch: absent(reason.clone()),
            cuda: absent(reason.clone()),
            cudnn: absent(reason.clone()),
            nccl: absent(reason),
            ..ProbeReport::default()
        });
        let driver = match (nvml.driver_version.as_str(), self.checkup.driver_version()) {
            ("", kernel) if kernel.is_empty() => absent("the kernel has no NVIDIA driver loaded".into()),
            ("", kernel) => Found { version: kernel, path: "/proc/driver/nvidia/version".into(), ..Found::default() },
            (told, _) => Found { version: told.to_owned(), path: nvml.library.clone(), ..Found::default() },
        };
        let cuda_driver = match nvml.cuda_driver_version.as_str() {
            "" if nvml.absent_reason.is_empty() => absent("NVML does not tell it".into()),
            "" => absent(format!("NVML would tell it: {}", nvml.absent_reason)),
            version => Found { version: version.to_owned(), path: nvml.library.clone(), ..Found::default() },
        };
        let found_by = if nvml.library.is_empty() { String::new() } else { self.checkup.nvml_found_by().into() };
        let nvml = Found {
            version: nvml.version,
            path: nvml.library,
            absent_reason: nvml.absent_reason,
            found_by,
            ..Found::default()
        };
        Ok(Response::new(v1::GetVersionResponse {
            torchd_version: env!("CARGO_PKG_VERSION").into(),
            revision: env!("TORCHD_REVISION").into(),
            rustc_version: env!("TORCHD_RUSTC").into(),
            libtorch: Some(library(report.libtorch)),
            cuda: Some(library(report.cuda)),
            cudnn: Some(library(report.cudnn)),
            nccl: Some(library(report.nccl)),
            nvidia_driver: Some(library(driver)),
            nvml: Some(library(nvml)),
            cuda_driver: Some(library(cuda_driver)),
            python: Some(library(python)),
            pytorch: Some(library(pytorch)),
        }))
    }

    async fn get_cluster(&self, _request: Request<v1::GetClusterRequest>) -> Result<Response<v1::Cluster>, Status> {
        let probe = self.manager.probe();
        let confinement = probe.as_ref().and_then(|told| told.as_ref().ok()).map(|report| report.confinement.clone());
        let devices = probe.map(|told| {
            told.map(|report| match report.cuda_devices {
                0 => Err(report.cuda.absent_reason),
                devices => Ok(devices),
            })
        });
        let (node, cpus) = (self.node.clone(), self.cpus);
        let mut cluster = self.clients.read(move |_| node.cluster(cpus, devices)).await?;
        let runs_programs = self.manager.runs_programs();
        let reason = match runs_programs {
            true => "programs.allowed in the settings lists those that jobs may run; they need no libtorch of torchd",
            false => "programs.enabled in the settings is not set",
        };
        let (name, reason) = ("programs".into(), reason.into());
        cluster.capabilities.push(v1::Capability { name, available: runs_programs, reason });
        let (name, available) = ("control_groups".into(), self.control_groups.is_ok());
        let kept = || "the kernel keeps jobs with resources.memory_limit_bytes to it".to_owned();
        let reason = self.control_groups.clone().err().unwrap_or_else(kept);
        cluster.capabilities.push(v1::Capability { name, available, reason });
        let source = self.watcher.source();
        cluster.capabilities.push(v1::Capability {
            name: "gpu_watching".into(),
            available: source.state() == v1::GpuSourceState::Watching,
            reason: [vec![source.message.clone()], source.remedies.clone()].concat().join("; "),
        });
        cluster.gpu_source = Some(source);
        cluster.runner_confinement = confinement.map(limits);
        cluster.launchers = self.manager.launchers().into_iter().map(launcher).collect();
        Ok(Response::new(cluster))
    }
}
