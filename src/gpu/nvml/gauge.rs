//! A few readings of one GPU or instance, for the runner of its job.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::ranges::Range;
use super::{load, path_of};
use crate::gpu::MeterReading;

/// A connection of its own.
pub(in crate::gpu) struct Gauge {
    nvml: Nvml,
}

impl Gauge {
    pub(in crate::gpu) fn open(library: Option<&Path>) -> Result<Self, NvmlError> {
        Ok(Self { nvml: load(path_of(library))? })
    }

    /// Reads it. `energy_at_start` is the counter, in millijoules, of the first reading, which this
    /// sets.
    pub(in crate::gpu) fn read(&self, uuid: &str, energy_at_start: &mut Option<u64>) -> MeterReading {
        let Ok(device) = self.nvml.device_by_uuid(uuid) else { return MeterReading::default() };
        // An instance has memory of its own, and the power of its GPU.
        let parent = device.mig_parent_device();
        let energy = parent.as_ref().unwrap_or(&device).total_energy_consumption().ok();
        let energy = energy.filter(|told| Range::COUNT_64.has(*told));
        let rates = device.utilization_rates().ok().filter(|rates| Range::PERCENT.has(rates.gpu));
        let memory = device.memory_info().ok();
        let memory = memory.filter(|told| Range::BYTES.has(told.total) && Range::bytes_of(told.total).has(told.used));
        if energy_at_start.is_none() {
            *energy_at_start = energy;
        }
        MeterReading {
            utilization_ratio: rates.map(|rates| f64::from(rates.gpu) / 100.0),
            memory_used_bytes: memory.map(|memory| memory.used),
            energy_joules: energy.zip(*energy_at_start).map(|(now, start)| now.saturating_sub(start) as f64 / 1000.0),
        }
    }
}
