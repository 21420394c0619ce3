//! MIG instances, and the activity of GPUs and instances by NVML's GPM: differences between two
//! samples, on Hopper and later.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::nvmlGpmSample_t;

use super::ranges::Range;
use super::readings::{self, Absences};
use crate::proto::v1;

/// The metrics that GPM is asked for, in this order.
const METRICS: [GpmMetricId; 10] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::Fp64Util,
    GpmMetricId::Fp32Util,
    GpmMetricId::Fp16Util,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
];

/// Their paths in `Gpu`.
const PATHS: [&str; 10] = [
    "activity.graphics_ratio",
    "activity.sm_ratio",
    "activity.sm_occupancy_ratio",
    "activity.tensor_ratio",
    "activity.dram_ratio",
    "activity.fp64_ratio",
    "activity.fp32_ratio",
    "activity.fp16_ratio",
    "activity.pcie_transmitted_bytes_per_second",
    "activity.pcie_received_bytes_per_second",
];

/// The last sample of each GPU and instance, by uuid. The handles belong to `nvml`, which is kept
/// alive beside them.
pub(super) struct Activities {
    nvml: Arc<Nvml>,
    last: HashMap<String, SampleHandle>,
}

struct SampleHandle(nvmlGpmSample_t);

// SAFETY: a sample is memory of NVML's that any thread may use, one at a time; nvml-wrapper's own
// type is Send for that reason.
unsafe impl Send for SampleHandle {}

impl Activities {
    pub(super) fn new(nvml: Arc<Nvml>) -> Self {
        Self { nvml, last: HashMap::new() }
    }

    /// The activity of a GPU since its last sample.
    pub(super) fn of_gpu(
        &mut self,
        uuid: &str,
        device: &Device<'_>,
        absent: &mut Absences<'_>,
    ) -> Option<v1::GpuActivity> {
        let told = match device.gpm_support() {
            Ok(true) => self.next(uuid, device, None),
            Ok(false) => Err(NvmlError::NotSupported),
            Err(error) => Err(error),
        };
        match told {
            Ok(told) => Some(activity(told, absent)),
            Err(error) => {
                for path in PATHS {
                    absent.take::<()>(path, Err(super::error::again(&error)));
                }
                None
            }
        }
    }

    /// Forgets GPUs and instances that are gone.
    pub(super) fn keep(&mut self, there: &HashSet<&str>) {
        for (_, handle) in self.last.extract_if(|uuid, _| !there.contains(uuid.as_str())) {
            // SAFETY: the handle came out of `into_handle` in `next`, of a sample of this `nvml`,
            // and is out of the map: freed once.
            drop(unsafe { GpmSample::from_handle(&self.nvml, handle.0) });
        }
    }

    /// The activity of a MIG instance since its last sample; None where it is not told.
    fn of_instance(&mut self, uuid: &str, parent: &Device<'_>, instance: u32) -> Option<v1::GpuActivity> {
        let told = self.next(uuid, parent, Some(instance)).ok()?;
        Some(activity(told, &mut Absences::new(&mut BTreeMap::new())))
    }

    /// Takes a sample and compares it with the last one; the first one has nothing to be compared
    /// with.
    fn next(
        &mut self,
        uuid: &str,
        device: &Device<'_>,
        instance: Option<u32>,
    ) -> Result<Vec<Result<f64, NvmlError>>, NvmlError> {
        let nvml = self.nvml.clone();
        let device = nvml.device_by_uuid(device.uuid()?)?;
        let now = match instance {
            Some(instance) => device.gpm_mig_sample(instance)?,
            None => device.gpm_sample()?,
        };
        // SAFETY: the handle came out of `into_handle` below, of a sample of this `nvml`, and is
        // taken out of the map: freed once.
        let before = self.last.remove(uuid).map(|handle| unsafe { GpmSample::from_handle(&nvml, handle.0) });
        let told = before.map(|before| gpm_metrics_get(&nvml, &before, &now, &METRICS));
        self.last.insert(uuid.to_owned(), SampleHandle(now.into_handle()));
        let told = told.unwrap_or(Err(NvmlError::NoData))?;
        Ok(told.into_iter().map(|metric| metric.map(|metric| metric.value)).collect())
    }
}

impl Drop for Activities {
    fn drop(&mut self) {
        for (_, handle) in self.last.drain() {
            // SAFETY: as above.
            drop(unsafe { GpmSample::from_handle(&self.nvml, handle.0) });
        }
    }
}

fn activity(told: Vec<Result<f64, NvmlError>>, absent: &mut Absences<'_>) -> v1::GpuActivity {
    let mut told = PATHS.iter().zip(told.into_iter().chain(std::iter::repeat_with(|| Err(NvmlError::NoData))));
    let mut next = |range| told.next().and_then(|(path, read)| absent.number(path, range, read));
    // Ratios come in percent, throughput in MiB a second. (nvml.h, nvmlGpmMetricId_t)
    let ratios: [_; 8] =
        std::array::from_fn(|_| next(Range::SAMPLED_PERCENT).map(|value: f64| (value / 100.0).min(1.0)));
    let mut mebibytes = || next(Range::MEBIBYTES_PER_SECOND).map(|value| value * 1_048_576.0);
    v1::GpuActivity {
        graphics_ratio: ratios[0],
        sm_ratio: ratios[1],
        sm_occupancy_ratio: ratios[2],
        tensor_ratio: ratios[3],
        dram_ratio: ratios[4],
        fp64_ratio: ratios[5],
        fp32_ratio: ratios[6],
        fp16_ratio: ratios[7],
        pcie_transmitted_bytes_per_second: mebibytes(),
        pcie_received_bytes_per_second: mebibytes(),
    }
}

/// The instances of a GPU that is divided.
pub(super) fn read(device: &Device<'_>, activities: &mut Activities) -> Vec<v1::MigInstance> {
    let most = device.mig_device_count().ok().filter(|most| Range::PARTS.has(*most)).unwrap_or(0);
    let mut instances = Vec::new();
    for index in 0..most {
        // Numbers that no instance has are holes.
        let Ok(instance) = device.mig_device_by_index(index) else { continue };
        let Ok(uuid) = instance.uuid() else { continue };
        let gpu_instance_id = instance_id(&instance, |lib| lib.nvmlDeviceGetGpuInstanceId.as_ref().ok());
        let compute_instance_id = instance_id(&instance, |lib| lib.nvmlDeviceGetComputeInstanceId.as_ref().ok());
        let mut reasons = BTreeMap::new();
        instances.push(v1::MigInstance {
            index,
            profile: instance.name().ok().map(|name| profile(&name)).unwrap_or_default(),
            gpu_instance_id,
            compute_instance_id,
            memory: readings::memory(&instance, &mut Absences::new(&mut reasons)),
            activity: gpu_instance_id.and_then(|id| activities.of_instance(&uuid, device, id)),
            jobs: Vec::new(),
            uuid,
        });
    }
    instances
}

type GetId = unsafe extern "C" fn(nvml_wrapper_sys::bindings::nvmlDevice_t, *mut u32) -> u32;

/// A number of an instance that nvml-wrapper does not wrap.
fn instance_id(
    instance: &Device<'_>,
    function: impl FnOnce(&nvml_wrapper_sys::bindings::NvmlLib) -> Option<&GetId>,
) -> Option<u32> {
    let get = function(instance.nvml().lib())?;
    let mut id = 0;
    // SAFETY: the handle is the instance's own, and the function writes one number. (nvml.h,
    // nvmlDeviceGetGpuInstanceId)
    let code = unsafe { get(instance.handle(), &raw mut id) };
    (code == 0).then_some(id)
}

/// `NVIDIA H100 80GB HBM3 MIG 1g.10gb` is of the profile `1g.10gb`.
fn profile(name: &str) -> String {
    name.rsplit_once("MIG ").map(|(_, profile)| profile.to_owned()).unwrap_or_default()
}
