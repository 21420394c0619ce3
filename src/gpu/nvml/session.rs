//! A connection to NVML, and one pass over all GPUs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::instances::{self, Activities};
use super::readings::{self, Absences};
use super::{NvmlOptions, RARE, SLOW, cuda_version, error, events, processes};
use crate::gpu::{DriverFacts, EventSource, Sample, Session, Unavailable};
use crate::proto::v1;

/// A connection. Dropping it ends NVML, when the events' thread has ended too.
pub(super) struct NvmlSession {
    nvml: Arc<Nvml>,
    options: NvmlOptions,
    known: HashMap<String, Known>,
    /// The uuids of the last pass by index: a GPU that is lost cannot tell its own any more.
    order: Vec<String>,
    activities: Activities,
}

/// The facts about a GPU that are kept from one pass to the next.
#[derive(Default)]
struct Known {
    gpu: v1::Gpu,
    absent: BTreeMap<&'static str, String>,
    slow_at: Option<Instant>,
    rare_at: Option<Instant>,
    /// The newest sample of processes' utilisation that was read, in microseconds.
    processes_seen: u64,
}

impl NvmlSession {
    pub(super) fn new(nvml: Arc<Nvml>, options: NvmlOptions) -> Self {
        let activities = Activities::new(nvml.clone());
        Self { nvml, options, known: HashMap::new(), order: Vec::new(), activities }
    }

    /// Reads a GPU; None where it is lost.
    fn read(&mut self, index: u32, uuid: &str, device: &Device<'_>) -> Option<(v1::Gpu, Vec<v1::GpuProcess>)> {
        let known = self.known.entry(uuid.to_owned()).or_default();
        let now = Instant::now();
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| now.duration_since(last) >= every);
        let Known { gpu, absent: reasons, slow_at, rare_at, processes_seen } = known;
        let mut absent = Absences::new(reasons);
        gpu.index = index;
        gpu.uuid = uuid.to_owned();
        gpu.name = format!("gpus/{uuid}");
        gpu.sample_time = Some(SystemTime::now().into());
        readings::quick(device, gpu, &mut absent);
        gpu.activity = self.activities.of_gpu(uuid, device, &mut absent);
        if is_due(*slow_at, SLOW) {
            readings::slow(device, gpu, &mut absent);
            *slow_at = Some(now);
        }
        if is_due(*rare_at, RARE) {
            readings::rare(device, gpu, &mut absent);
            *rare_at = Some(now);
        }
        readings::pcie_throughput(device, gpu, &mut absent, self.options.pcie_throughput);
        let is_divided = gpu.modes.as_ref().is_some_and(|modes| modes.mig == Some(true));
        gpu.mig_instances = if is_divided { instances::read(device, &mut self.activities) } else { Vec::new() };
        let name = gpu.name.clone();
        let processes = processes::read(device, &name, processes_seen, &mut absent);
        let is_lost = absent.is_lost;
        gpu.absent = reasons
            .iter()
            .map(|(field, reason)| v1::AbsentReading { field: (*field).to_owned(), reason: reason.clone() })
            .collect();
        (!is_lost).then(|| (gpu.clone(), processes))
    }
}

impl Session for NvmlSession {
    fn facts(&self) -> DriverFacts {
        DriverFacts {
            driver_version: self.nvml.sys_driver_version().unwrap_or_default(),
            nvml_version: self.nvml.sys_nvml_version().unwrap_or_default(),
            cuda_driver_version: self.nvml.sys_cuda_driver_version().map(cuda_version).unwrap_or_default(),
            replayed_profile: String::new(),
        }
    }

    fn sample(&mut self) -> Result<Sample, Unavailable> {
        let nvml = self.nvml.clone();
        let library = self.options.library.clone();
        let broken = |error: &NvmlError| error::unavailable(super::path_of(library.as_deref()), error);
        let count = nvml.device_count().map_err(|error| broken(&error))?;
        let mut sample = Sample::default();
        let mut order = Vec::new();
        for index in 0..count {
            let before = self.order.get(index as usize).cloned();
            let found = nvml.device_by_index(index).and_then(|device| Ok((device.uuid()?, device)));
            let (uuid, device) = match found {
                Ok(found) => found,
                Err(
                    error @ (NvmlError::DriverNotLoaded | NvmlError::Uninitialized | NvmlError::LibRmVersionMismatch),
                ) => return Err(broken(&error)),
                Err(error) => {
                    let uuid = before.unwrap_or_else(|| format!("index-{index}"));
                    tracing::debug!(gpu.uuid = uuid, %error, "a GPU cannot be reached");
                    sample.lost.push(uuid.clone());
                    order.push(uuid);
                    continue;
                }
            };
            order.push(uuid.clone());
            match self.read(index, &uuid, &device) {
                Some((gpu, processes)) => {
                    sample.gpus.push(gpu);
                    sample.processes.extend(processes);
                }
                None => sample.lost.push(uuid),
            }
        }
        self.known.retain(|uuid, _| order.contains(uuid));
        let instances = sample.gpus.iter().flat_map(|gpu| &gpu.mig_instances).map(|instance| instance.uuid.as_str());
        self.activities.keep(&order.iter().map(String::as_str).chain(instances).collect());
        self.order = order;
        Ok(sample)
    }

    fn events(&self) -> Result<Box<dyn EventSource>, String> {
        Ok(Box::new(events::NvmlEvents::new(self.nvml.clone())))
    }
}
