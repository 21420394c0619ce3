//! Looks at this machine: gathers its facts, lets `compat` judge them, remembers what was found,
//! and tells it: to the log once, to the metrics, and to the manager where GPUs cannot be used. It
//! changes nothing on the machine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::compat::{self, Catalogue, Date, Facts, RuntimeQuery};
use crate::gate::Gate;
use crate::gpu::{NvmlReading, NvmlSource};
use crate::job::probe::ProbeReport;
use crate::manager::Manager;
use crate::node::NodeSource;
use crate::proto::v1::{self, CompatibilityReport, Severity, Verdict};

/// NVML's library is there, and no driver. (nvml.h, nvmlReturn_t)
const NVML_DRIVER_NOT_LOADED: u32 = 9;

/// Looks at this machine; cheap to clone.
#[derive(Clone)]
pub struct Checkup {
    catalogue: Arc<Catalogue>,
    node: NodeSource,
    nvml: NvmlSource,
    /// Clients ask for facts of this machine too: one look at a time.
    looks: Gate,
    latest: Arc<watch::Sender<Option<CompatibilityReport>>>,
}

impl Checkup {
    /// A checkup that has found nothing yet.
    pub fn new(catalogue: Arc<Catalogue>, node: NodeSource, nvml: NvmlSource) -> Self {
        Self { catalogue, node, nvml, looks: Gate::new(1), latest: Arc::new(watch::channel(None).0) }
    }

    /// The catalogue of versions.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The result of the last look; None before the first.
    pub fn latest(&self) -> Option<CompatibilityReport> {
        self.latest.borrow().clone()
    }

    /// The facts that NVML tells now.
    pub async fn nvml(&self) -> NvmlReading {
        self.nvml.read().await
    }

    /// The source of the path of NVML's library.
    pub fn nvml_found_by(&self) -> &'static str {
        if self.nvml.library.is_some() { "gpu.nvml_library" } else { "the loader's own search" }
    }

    /// The version of the kernel's driver for NVIDIA GPUs; empty where there is none.
    pub fn driver_version(&self) -> String {
        self.node.nvidia_driver().0
    }

    /// Judges this machine on a day, with what the runner's probe told.
    pub async fn judge(&self, probe: &Result<ProbeReport, String>, day: Date) -> CompatibilityReport {
        let facts = self.facts(probe).await;
        // Our own facts read back. A version that a program tells oddly makes a fact unknown.
        let read = Facts::read(&facts, &self.catalogue).unwrap_or_else(|wrong| {
            tracing::warn!(%wrong, "facts of this machine are not understood");
            Facts::default()
        });
        let report = compat::check(&self.catalogue, &read, day);
        CompatibilityReport { facts: Some(facts), ..report }
    }

    /// The facts of this machine.
    async fn facts(&self, probe: &Result<ProbeReport, String>) -> v1::MachineFacts {
        let node = self.node.clone();
        let gathered = self
            .looks
            .run(move |_| (node.libraries(), node.runtime_and_os(), node.nvidia_driver(), node.nvidia_pci_devices()));
        let (nvml, gathered) = tokio::join!(self.nvml.read(), gathered);
        let (libraries, (runtime, os), (kernel_driver, kernel_gpus), pci) = gathered.unwrap_or_default();
        let describe = |name: String, compute_capability: String| v1::GpuDescription { name, compute_capability };
        let gpus: Vec<_> = match &nvml.gpus {
            Some(gpus) => gpus.iter().map(|gpu| describe(gpu.name.clone(), gpu.compute_capability.clone())).collect(),
            None if !kernel_gpus.is_empty() => {
                kernel_gpus.into_iter().map(|name| describe(name, String::new())).collect()
            }
            // Without a driver the bus alone knows of them.
            None => pci.into_iter().map(|place| describe(format!("NVIDIA GPU at {place}"), String::new())).collect(),
        };
        // A driver that is there and fails hides its GPUs: then nobody knows whether there are any.
        let is_hidden = nvml.code.is_some_and(|code| code != 0 && code != NVML_DRIVER_NOT_LOADED);
        let gpus = (!gpus.is_empty() || !is_hidden).then_some(v1::GpuList { gpus });
        let driver_version = if nvml.driver_version.is_empty() { kernel_driver } else { nvml.driver_version };
        v1::MachineFacts {
            gpus,
            driver_version,
            nvml_error: nvml.code,
            torch: Some(torch(probe)),
            glibc_version: libraries.glibc,
            glibcxx_version: libraries.glibcxx,
            // Runtimes have names of other kinds too, such as those of clients; nothing is known of
            // them.
            runtime: runtime.parse::<RuntimeQuery>().map(|_| runtime).unwrap_or_default(),
            node_type: libraries.node_type,
            nvidia_uvm: Some(libraries.nvidia_uvm),
            forward_compatibility_dir: libraries.forward_compatibility_dir,
            model_pytorch_version: String::new(),
            os,
            // The runner needs none.
            python_version: String::new(),
        }
    }

    /// Looks at the machine now, whenever the runner's probe has news, and at intervals, until the
    /// daemon ends.
    pub async fn watch(self, manager: Manager, every: Duration) {
        let mut known = BTreeSet::new();
        let mut probes = manager.probes();
        loop {
            let probe = probes.borrow_and_update().clone();
            if let Some(probe) = probe {
                let report = self.judge(&probe, Date::of(SystemTime::now())).await;
                tell(&report, &mut known);
                manager.block_gpus(gpu_block(&report));
                self.latest.send_replace(Some(report));
            }
            tokio::select! {
                changed = probes.changed() => if changed.is_err() {
                    tokio::time::sleep(every).await;
                },
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

fn torch(probe: &Result<ProbeReport, String>) -> v1::TorchFacts {
    match probe {
        Err(words) => v1::TorchFacts { load_error: words.clone(), ..v1::TorchFacts::default() },
        Ok(report) => v1::TorchFacts {
            version: report.libtorch.version.clone(),
            variant: match (report.has_cuda_half, report.cuda.version.as_str()) {
                (false, _) => "cpu".into(),
                (true, "") => String::new(),
                (true, cuda) => format!("cu{}", cuda.replace('.', "")),
            },
            load_error: String::new(),
            cuda_load_error: report.cuda_load_error.clone(),
            cuda_error: report.cuda_error,
            built_for_version: report.built_for.clone(),
        },
    }
}

/// Why jobs cannot use GPUs; None where they can, or where nobody knows better.
fn gpu_block(report: &CompatibilityReport) -> Option<String> {
    let is_broken = report.gpu_verdict == Some(Verdict::Broken.into());
    let worst = report.findings.iter().find(|finding| finding.severity() == Severity::Error);
    worst.filter(|_| is_broken).map(v1::Finding::in_words)
}

/// Logs what is new and what is gone.
fn tell(report: &CompatibilityReport, known: &mut BTreeSet<(String, String)>) {
    let now: BTreeSet<_> =
        report.findings.iter().map(|finding| (finding.reason.clone(), finding.found.clone())).collect();
    for finding in &report.findings {
        if known.contains(&(finding.reason.clone(), finding.found.clone())) {
            continue;
        }
        let words = finding.in_words();
        match finding.severity() {
            Severity::Error => tracing::error!(reason = finding.reason, "{words}"),
            Severity::Warning | Severity::Unknown => tracing::warn!(reason = finding.reason, "{words}"),
            Severity::Info | Severity::Unspecified => tracing::info!(reason = finding.reason, "{words}"),
        }
    }
    for (reason, found) in known.difference(&now) {
        tracing::info!(reason, "no longer found: {found}");
    }
    *known = now;
}
