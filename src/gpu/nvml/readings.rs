//! The readings of one GPU, in groups by how often they change. Each is read by itself. (nvml.h;
//! units as it has them, turned into those that the protocol's field names say)

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{
    Clock, ComputeMode, EccCounter, MemoryError, MemoryLocation, PcieUtilCounter, PerformancePolicy, RetirementCause,
    TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::MemoryInfo;
use nvml_wrapper::structs::device::{FieldId, UtilizationInfo};
use nvml_wrapper::sys_exports::field_id;

use super::error;
use super::ranges::{Number, Range};
use crate::proto::v1::{self, ClockReduction};

/// NVLinks that a GPU may have. (nvml.h, NVML_NVLINK_MAX_LINKS)
const MOST_NVLINKS: u32 = 18;

/// Why readings are absent, by their path in `Gpu`.
pub(super) struct Absences<'a> {
    reasons: &'a mut BTreeMap<&'static str, String>,
    /// A call has said that the GPU is lost.
    pub(super) is_lost: bool,
}

impl<'a> Absences<'a> {
    pub(super) fn new(reasons: &'a mut BTreeMap<&'static str, String>) -> Self {
        Self { reasons, is_lost: false }
    }

    /// A reading, or the reason why there is none.
    pub(super) fn take<T>(&mut self, path: &'static str, read: Result<T, NvmlError>) -> Option<T> {
        self.forget(path);
        self.next(path, read)
    }

    /// A reading that is a number and in that range, or the reason why there is none.
    pub(super) fn number<T: Number>(
        &mut self,
        path: &'static str,
        range: Range,
        read: Result<T, NvmlError>,
    ) -> Option<T> {
        self.forget(path);
        self.next_number(path, range, read)
    }

    /// The next of several numbers of one path. The reason of any of them stays until it is
    /// forgotten.
    pub(super) fn next_number<T: Number>(
        &mut self,
        path: &'static str,
        range: Range,
        read: Result<T, NvmlError>,
    ) -> Option<T> {
        let value = self.next(path, read)?;
        if range.has(value) {
            return Some(value);
        }
        self.explain(path, &range.refusal(value));
        None
    }

    /// Forgets why a reading was absent.
    pub(super) fn forget(&mut self, path: &'static str) {
        self.reasons.remove(path);
    }

    fn next<T>(&mut self, path: &'static str, read: Result<T, NvmlError>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                self.is_lost |= matches!(error, NvmlError::GpuLost);
                self.reasons.insert(path, error::absence(&error));
                None
            }
        }
    }

    fn explain(&mut self, path: &'static str, reason: &str) {
        self.reasons.insert(path, reason.to_owned());
    }
}

/// Readings that change all the time.
pub(super) fn quick(device: &Device<'_>, gpu: &mut v1::Gpu, absent: &mut Absences<'_>) {
    let ratio = |percent: u32| f64::from(percent) / 100.0;
    let busy = |told: UtilizationInfo| told.utilization;
    let rates = device.utilization_rates();
    let rate = |pick: fn(&nvml_wrapper::struct_wrappers::device::Utilization) -> u32| match &rates {
        Ok(rates) => Ok(pick(rates)),
        Err(error) => Err(error::again(error)),
    };
    gpu.utilization = Some(v1::GpuUtilization {
        gpu_ratio: absent.number("utilization.gpu_ratio", Range::PERCENT, rate(|rates| rates.gpu)).map(ratio),
        memory_ratio: absent.number("utilization.memory_ratio", Range::PERCENT, rate(|rates| rates.memory)).map(ratio),
        encoder_ratio: absent
            .number("utilization.encoder_ratio", Range::PERCENT, device.encoder_utilization().map(busy))
            .map(ratio),
        decoder_ratio: absent
            .number("utilization.decoder_ratio", Range::PERCENT, device.decoder_utilization().map(busy))
            .map(ratio),
    });
    gpu.memory = memory(device, absent);
    let [memory_temperature, average, instant, action] = fields(
        device,
        &[
            field_id::NVML_FI_DEV_MEMORY_TEMP,
            field_id::NVML_FI_DEV_POWER_AVERAGE,
            field_id::NVML_FI_DEV_POWER_INSTANT,
            field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
        ],
    );
    // The value of this call is the average on most GPUs, and the only power that old drivers know.
    let average = average.or_else(|_| device.power_usage().map(f64::from));
    let power = gpu.power.get_or_insert_default();
    power.average_milliwatts = absent.number("power.average_milliwatts", Range::MILLIWATTS, average).map(whole);
    power.instant_milliwatts = absent.number("power.instant_milliwatts", Range::MILLIWATTS, instant).map(whole);
    power.energy_millijoules =
        absent.number("power.energy_millijoules", Range::COUNT_64, device.total_energy_consumption());
    let temperature = gpu.temperature.get_or_insert_default();
    let chip = device.temperature(TemperatureSensor::Gpu).map(f64::from);
    temperature.gpu_celsius = absent.number("temperature.gpu_celsius", Range::CELSIUS, chip);
    // A memory without a sensor is at absolute zero for some drivers.
    let memory_temperature =
        memory_temperature.and_then(|told| if told > 0.0 { Ok(told) } else { Err(NvmlError::NotSupported) });
    temperature.memory_celsius = absent.number("temperature.memory_celsius", Range::CELSIUS, memory_temperature);
    let clocks = gpu.clocks.get_or_insert_default();
    let mut clock = |path, which| absent.number(path, Range::MEGAHERTZ, device.clock_info(which)).map(hertz);
    clocks.graphics_hertz = clock("clocks.graphics_hertz", Clock::Graphics);
    clocks.sm_hertz = clock("clocks.sm_hertz", Clock::SM);
    clocks.memory_hertz = clock("clocks.memory_hertz", Clock::Memory);
    clocks.video_hertz = clock("clocks.video_hertz", Clock::Video);
    let bits = device.current_throttle_reasons().map(|reasons| reasons.bits());
    clocks.reduction_bits = absent.take("clocks.reduction_bits", bits);
    gpu.clock_reductions = reductions(clocks.reduction_bits.unwrap_or(0));
    let state = device.performance_state().map(|state| state.as_c());
    // 32 means that the driver does not know. (nvml.h, NVML_PSTATE_UNKNOWN)
    let state = state.and_then(|state| if state < 32 { Ok(state) } else { Err(NvmlError::NoData) });
    gpu.performance_state = absent.take("performance_state", state);
    // Readings that decide about jobs are never old.
    let action = absent.number("recovery_action", Range::PARTS, action);
    gpu.recovery_action = action.and_then(|told| i32::try_from(whole(told) + 1).ok());
    let mig = device.mig_mode();
    let modes = gpu.modes.get_or_insert_default();
    (modes.mig, modes.mig_after_reset) = match absent.take("modes.mig", mig) {
        Some(mode) => {
            absent.forget("modes.mig_after_reset");
            (Some(mode.current == 1), Some(mode.pending == 1))
        }
        None => {
            let reason = absent.reasons.get("modes.mig").cloned().unwrap_or_default();
            absent.explain("modes.mig_after_reset", &reason);
            (None, None)
        }
    };
}

/// Memory of a GPU or of an instance.
pub(super) fn memory(device: &Device<'_>, absent: &mut Absences<'_>) -> Option<v1::GpuMemory> {
    let told = device.memory_info();
    let pick = |pick: fn(&MemoryInfo) -> u64| match &told {
        Ok(told) => Ok(pick(told)),
        Err(error) => Err(error::again(error)),
    };
    let total_bytes = absent.number("memory.total_bytes", Range::BYTES, pick(|told| told.total));
    let part = total_bytes.map_or(Range::BYTES, Range::bytes_of);
    let used_bytes = absent.number("memory.used_bytes", part, pick(|told| told.used));
    let free_bytes = absent.number("memory.free_bytes", part, pick(|told| told.free));
    let reserved_bytes = absent.number("memory.reserved_bytes", part, pick(|told| told.reserved));
    told.is_ok().then_some(v1::GpuMemory { total_bytes, used_bytes, free_bytes, reserved_bytes })
}

/// Readings that change slowly.
pub(super) fn slow(device: &Device<'_>, gpu: &mut v1::Gpu, absent: &mut Absences<'_>) {
    gpu.fans.clear();
    if let Some(count) = absent.number("fans", Range::PARTS, device.num_fans()) {
        for index in 0..count {
            let speed = absent.next_number("fans", Range::FAN_PERCENT, device.fan_speed(index));
            let speed = speed.map(|percent| f64::from(percent) / 100.0);
            gpu.fans.push(v1::GpuFan { index, speed_ratio: speed });
        }
        if count == 0 {
            absent.explain("fans", "this GPU has no fan of its own");
        }
    }
    lost_time(device, gpu, absent);
    gpu.ecc.get_or_insert_default().counts = ecc_counts(device, absent);
    let [corrected, uncorrected, pending, failed, transmitted, received] = fields(
        device,
        &[
            field_id::NVML_FI_DEV_REMAPPED_COR,
            field_id::NVML_FI_DEV_REMAPPED_UNC,
            field_id::NVML_FI_DEV_REMAPPED_PENDING,
            field_id::NVML_FI_DEV_REMAPPED_FAILURE,
            field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
            field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
        ],
    );
    let pages = |cause| device.retired_pages(cause).map(|pages| pages.len() as u64);
    gpu.retirement = Some(v1::GpuRetirement {
        pages_corrected: absent.number(
            "retirement.pages_corrected",
            Range::COUNT_32,
            pages(RetirementCause::MultipleSingleBitEccErrors),
        ),
        pages_uncorrected: absent.number(
            "retirement.pages_uncorrected",
            Range::COUNT_32,
            pages(RetirementCause::DoubleBitEccError),
        ),
        pages_pending: absent.take("retirement.pages_pending", device.are_pages_pending_retired()),
        remapped_rows_corrected: absent
            .number("retirement.remapped_rows_corrected", Range::COUNT_32, corrected)
            .map(whole),
        remapped_rows_uncorrected: absent
            .number("retirement.remapped_rows_uncorrected", Range::COUNT_32, uncorrected)
            .map(whole),
        remapped_rows_pending: absent.take("retirement.remapped_rows_pending", pending).map(|told| told != 0.0),
        remapping_failed: absent.take("retirement.remapping_failed", failed).map(|told| told != 0.0),
    });
    // In KiB. (nvml.h, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX)
    gpu.nvlink_traffic = Some(v1::NvLinkTraffic {
        transmitted_bytes: absent
            .number("nvlink_traffic.transmitted_bytes", Range::COUNT_64, transmitted)
            .map(|kib| whole(kib * 1024.0)),
        received_bytes: absent
            .number("nvlink_traffic.received_bytes", Range::COUNT_64, received)
            .map(|kib| whole(kib * 1024.0)),
    });
    let pcie = gpu.pcie.get_or_insert_default();
    pcie.generation = absent.number("pcie.generation", Range::LINK, device.current_pcie_link_gen());
    pcie.width = absent.number("pcie.width", Range::LINK, device.current_pcie_link_width());
    pcie.replays = absent.number("pcie.replays", Range::COUNT_32, device.pcie_replay_counter()).map(u64::from);
    gpu.nvlinks = nvlinks(device, absent);
    let modes = gpu.modes.get_or_insert_default();
    modes.drain = absent.take("modes.drain", device.is_drain_enabled(None));
}

/// Readings that hardly ever change.
pub(super) fn rare(device: &Device<'_>, gpu: &mut v1::Gpu, absent: &mut Absences<'_>) {
    gpu.minor_number = absent.number("minor_number", Range::COUNT_32, device.minor_number());
    gpu.model = absent.take("model", device.name()).unwrap_or_default();
    gpu.serial = absent.take("serial", device.serial()).unwrap_or_default();
    gpu.pci_bus_id = absent.take("pci_bus_id", device.pci_info().map(|pci| pci.bus_id)).unwrap_or_default();
    gpu.board_part_number = absent.take("board_part_number", device.board_part_number()).unwrap_or_default();
    gpu.vbios_version = absent.take("vbios_version", device.vbios_version()).unwrap_or_default();
    let capability = device.cuda_compute_capability().map(|found| format!("{}.{}", found.major, found.minor));
    gpu.compute_capability = absent.take("compute_capability", capability).unwrap_or_default();
    gpu.architecture = absent.take("architecture", device.architecture().map(architecture)).unwrap_or_default();
    let power = gpu.power.get_or_insert_default();
    let mut limit = |path, read| absent.number(path, Range::MILLIWATTS, read).map(u64::from);
    power.enforced_limit_milliwatts = limit("power.enforced_limit_milliwatts", device.enforced_power_limit());
    power.limit_milliwatts = limit("power.limit_milliwatts", device.power_management_limit());
    power.default_limit_milliwatts = limit("power.default_limit_milliwatts", device.power_management_limit_default());
    let bounds = || device.power_management_limit_constraints();
    power.min_limit_milliwatts = limit("power.min_limit_milliwatts", bounds().map(|bounds| bounds.min_limit));
    power.max_limit_milliwatts = limit("power.max_limit_milliwatts", bounds().map(|bounds| bounds.max_limit));
    let temperature = gpu.temperature.get_or_insert_default();
    let mut threshold =
        |path, which| absent.number(path, Range::CELSIUS, device.temperature_threshold(which)).map(f64::from);
    temperature.slowdown_celsius = threshold("temperature.slowdown_celsius", TemperatureThreshold::Slowdown);
    temperature.shutdown_celsius = threshold("temperature.shutdown_celsius", TemperatureThreshold::Shutdown);
    temperature.gpu_max_celsius = threshold("temperature.gpu_max_celsius", TemperatureThreshold::GpuMax);
    temperature.memory_max_celsius = threshold("temperature.memory_max_celsius", TemperatureThreshold::MemoryMax);
    let clocks = gpu.clocks.get_or_insert_default();
    let mut clock = |path, which| absent.number(path, Range::MEGAHERTZ, device.max_clock_info(which)).map(hertz);
    clocks.max_graphics_hertz = clock("clocks.max_graphics_hertz", Clock::Graphics);
    clocks.max_sm_hertz = clock("clocks.max_sm_hertz", Clock::SM);
    clocks.max_memory_hertz = clock("clocks.max_memory_hertz", Clock::Memory);
    clocks.max_video_hertz = clock("clocks.max_video_hertz", Clock::Video);
    let pcie = gpu.pcie.get_or_insert_default();
    pcie.max_generation = absent.number("pcie.max_generation", Range::LINK, device.max_pcie_link_gen());
    pcie.max_width = absent.number("pcie.max_width", Range::LINK, device.max_pcie_link_width());
    let ecc = gpu.ecc.get_or_insert_default();
    (ecc.enabled, ecc.enabled_after_reboot) = match absent.take("ecc.enabled", device.is_ecc_enabled()) {
        Some(state) => {
            absent.forget("ecc.enabled_after_reboot");
            (Some(state.currently_enabled), Some(state.pending_enabled))
        }
        None => {
            let reason = absent.reasons.get("ecc.enabled").cloned().unwrap_or_default();
            absent.explain("ecc.enabled_after_reboot", &reason);
            (None, None)
        }
    };
    let modes = gpu.modes.get_or_insert_default();
    let compute = absent.take("modes.compute", device.compute_mode());
    modes.compute = compute.map(|mode| match mode {
        ComputeMode::Default => v1::GpuComputeMode::Default.into(),
        ComputeMode::ExclusiveThread => v1::GpuComputeMode::ExclusiveThread.into(),
        ComputeMode::Prohibited => v1::GpuComputeMode::Prohibited.into(),
        ComputeMode::ExclusiveProcess => v1::GpuComputeMode::ExclusiveProcess.into(),
    });
    modes.persistence = absent.take("modes.persistence", device.is_in_persistent_mode());
}

/// Bytes over PCI Express; two calls of 20 ms each.
pub(super) fn pcie_throughput(device: &Device<'_>, gpu: &mut v1::Gpu, absent: &mut Absences<'_>, is_wanted: bool) {
    let pcie = gpu.pcie.get_or_insert_default();
    let paths = ["pcie.transmitted_bytes_per_second", "pcie.received_bytes_per_second"];
    if !is_wanted {
        for path in paths {
            absent.explain(path, "not read: gpu.pcie_throughput is false");
        }
        return;
    }
    let mut told = |path, which| {
        let told = absent.number(path, Range::KILOBYTES_PER_SECOND, device.pcie_throughput(which));
        told.map(|kilobytes| f64::from(kilobytes) * 1000.0)
    };
    pcie.transmitted_bytes_per_second = told(paths[0], PcieUtilCounter::Send);
    pcie.received_bytes_per_second = told(paths[1], PcieUtilCounter::Receive);
}

/// Time with reduced clocks: the newer counters, else the older ones, of which there are fewer.
fn lost_time(device: &Device<'_>, gpu: &mut v1::Gpu, absent: &mut Absences<'_>) {
    let [power, sync, software, hardware, brake] = fields(
        device,
        &[
            field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP,
            field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST,
            field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
            field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
            field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
        ],
    );
    let older = |policy| device.violation_status(policy).map(|told| told.violation_time as f64);
    let power = power.or_else(|_| older(PerformancePolicy::Power));
    let sync = sync.or_else(|_| older(PerformancePolicy::SyncBoost));
    let software = software.or_else(|_| older(PerformancePolicy::Thermal));
    let clocks = gpu.clocks.get_or_insert_default();
    clocks.power_cap_nanoseconds = absent.number("clocks.power_cap_nanoseconds", Range::COUNT_64, power).map(whole);
    clocks.sync_boost_nanoseconds = absent.number("clocks.sync_boost_nanoseconds", Range::COUNT_64, sync).map(whole);
    clocks.software_thermal_nanoseconds =
        absent.number("clocks.software_thermal_nanoseconds", Range::COUNT_64, software).map(whole);
    clocks.hardware_thermal_nanoseconds =
        absent.number("clocks.hardware_thermal_nanoseconds", Range::COUNT_64, hardware).map(whole);
    clocks.power_brake_nanoseconds = absent.number("clocks.power_brake_nanoseconds", Range::COUNT_64, brake).map(whole);
}

fn ecc_counts(device: &Device<'_>, absent: &mut Absences<'_>) -> Vec<v1::EccCount> {
    const LOCATIONS: [(MemoryLocation, &str); 8] = [
        (MemoryLocation::Device, "dram"),
        (MemoryLocation::SRAM, "sram"),
        (MemoryLocation::L1Cache, "l1_cache"),
        (MemoryLocation::L2Cache, "l2_cache"),
        (MemoryLocation::RegisterFile, "register_file"),
        (MemoryLocation::Texture, "texture_memory"),
        (MemoryLocation::Shared, "shared_memory"),
        (MemoryLocation::Cbu, "cbu"),
    ];
    let mut counts = Vec::new();
    absent.forget("ecc.counts");
    for (error, uncorrected) in [(MemoryError::Corrected, false), (MemoryError::Uncorrected, true)] {
        for (counter, aggregate) in [(EccCounter::Volatile, false), (EccCounter::Aggregate, true)] {
            let count =
                |location: &str, count| v1::EccCount { uncorrected, aggregate, location: location.into(), count };
            let all = device.total_ecc_errors(error, counter);
            match absent.next_number("ecc.counts", Range::COUNT_64, all) {
                Some(all) => counts.push(count("all", all)),
                // A GPU without ECC has no counter of any part either.
                None => continue,
            }
            for (location, name) in LOCATIONS {
                // Which parts count differs from one architecture to the next; those that do not
                // are no absence to tell.
                match device.memory_error_counter(error, counter, location) {
                    Ok(told) if Range::COUNT_64.has(told) => counts.push(count(name, told)),
                    _ => {}
                }
            }
        }
    }
    counts
}

fn nvlinks(device: &Device<'_>, absent: &mut Absences<'_>) -> Vec<v1::NvLink> {
    let mut links = Vec::new();
    for index in 0..MOST_NVLINKS {
        let link = device.link_wrapper_for(index);
        let active = match link.is_active() {
            Ok(active) => active,
            Err(error) => {
                if index == 0 {
                    absent.take::<()>("nvlinks", Err(error));
                }
                break;
            }
        };
        let errors = |counter| link.error_counter(counter).ok().filter(|told| active && Range::COUNT_64.has(*told));
        links.push(v1::NvLink {
            index,
            active: Some(active),
            crc_flit_errors: errors(ErrorCounter::DlCrcFlit),
            crc_data_errors: errors(ErrorCounter::DlCrcData),
            replay_errors: errors(ErrorCounter::DlReplay),
            recovery_errors: errors(ErrorCounter::DlRecovery),
        });
    }
    if !links.is_empty() {
        absent.forget("nvlinks");
    }
    links
}

/// Several values in one call.
fn fields<const N: usize>(device: &Device<'_>, ids: &[u32; N]) -> [Result<f64, NvmlError>; N] {
    let wanted = ids.map(FieldId);
    let mut told = match device.field_values_for(&wanted) {
        Ok(told) => told.into_iter(),
        Err(error) => {
            return std::array::from_fn(|_| Err(error::again(&error)));
        }
    };
    std::array::from_fn(|_| match told.next() {
        Some(Ok(sample)) => sample.value.map(|value| match value {
            SampleValue::F64(value) => value,
            SampleValue::U32(value) => f64::from(value),
            SampleValue::U64(value) => value as f64,
            SampleValue::I64(value) => value as f64,
        }),
        Some(Err(error)) => Err(error),
        None => Err(NvmlError::NoData),
    })
}

/// The driver's bits as reasons. (nvml.h, nvmlClocksEventReason*)
pub(in crate::gpu) fn reductions(bits: u64) -> Vec<i32> {
    const KNOWN: [(u64, ClockReduction); 9] = [
        (0x1, ClockReduction::Idle),
        (0x2, ClockReduction::ApplicationClocks),
        (0x4, ClockReduction::PowerCap),
        (0x8, ClockReduction::HardwareSlowdown),
        (0x10, ClockReduction::SyncBoost),
        (0x20, ClockReduction::SoftwareThermal),
        (0x40, ClockReduction::HardwareThermal),
        (0x80, ClockReduction::PowerBrake),
        (0x100, ClockReduction::DisplayClocks),
    ];
    let known = KNOWN.iter().fold(0, |all, (bit, _)| all | bit);
    let named = KNOWN.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, reason)| i32::from(*reason));
    let other = (bits & !known != 0).then_some(ClockReduction::Other.into());
    named.chain(other).collect()
}

fn architecture(told: DeviceArchitecture) -> String {
    match told {
        DeviceArchitecture::Ada => "Ada Lovelace".into(),
        // Newer than this version.
        DeviceArchitecture::Unknown => String::new(),
        other => format!("{other:?}"),
    }
}

/// From MHz.
fn hertz(megahertz: u32) -> u64 {
    u64::from(megahertz) * 1_000_000
}

/// Counters and sizes are whole; a float holds them exactly up to 2^53.
fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
