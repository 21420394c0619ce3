//! GPUs under the names of NVIDIA's dcgm-exporter, so that dashboards and alert rules that were
//! written for it work here: names, units and labels are its own. Readings that NVML does not have
//! are absent. (dcgm-exporter, etc/default-counters.csv)

use super::gpu::{Family, counter, gauge};
use super::text::{Kind, Page, Series};
use crate::proto::v1;

fn megahertz(hertz: Option<u64>) -> Option<f64> {
    hertz.map(|hertz| hertz as f64 / 1e6)
}

fn percent(ratio: Option<f64>) -> Option<f64> {
    ratio.map(|ratio| (ratio * 100.0).round())
}

/// In MiB, as DCGM counts memory.
fn mebibytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| (bytes >> 20) as f64)
}

fn ecc(gpu: &v1::Gpu, uncorrected: bool, aggregate: bool) -> Option<f64> {
    let mut counts = gpu.ecc.as_ref()?.counts.iter();
    let wanted = |count: &&v1::EccCount| {
        count.location == "all" && count.uncorrected == uncorrected && count.aggregate == aggregate
    };
    counts.find(wanted).map(|count| count.count as f64)
}

fn links(gpu: &v1::Gpu, errors: fn(&v1::NvLink) -> Option<u64>) -> Option<f64> {
    let told: Vec<u64> = gpu.nvlinks.iter().filter_map(errors).collect();
    (!told.is_empty()).then(|| told.iter().sum::<u64>() as f64)
}

const FAMILIES: [Family; 44] = [
    gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", |gpu| megahertz(gpu.clocks?.sm_hertz)),
    gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", |gpu| megahertz(gpu.clocks?.memory_hertz)),
    gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", |gpu| gpu.temperature?.memory_celsius),
    gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", |gpu| gpu.temperature?.gpu_celsius),
    gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", |gpu| {
        gpu.power?.average_milliwatts.map(|power| power as f64 / 1000.0)
    }),
    counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded (in mJ).", |gpu| {
        gpu.power?.energy_millijoules.map(|energy| energy as f64)
    }),
    counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "PCIe packets that were sent again.", |gpu| {
        gpu.pcie?.replays.map(|replays| replays as f64)
    }),
    gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", |gpu| percent(gpu.utilization?.gpu_ratio)),
    gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", |gpu| percent(gpu.utilization?.memory_ratio)),
    gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", |gpu| percent(gpu.utilization?.encoder_ratio)),
    gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", |gpu| percent(gpu.utilization?.decoder_ratio)),
    gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", |gpu| mebibytes(gpu.memory?.free_bytes)),
    gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", |gpu| mebibytes(gpu.memory?.used_bytes)),
    gauge("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", |gpu| {
        mebibytes(gpu.memory?.reserved_bytes)
    }),
    gauge("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory in all (in MiB).", |gpu| mebibytes(gpu.memory?.total_bytes)),
    counter("DCGM_FI_DEV_POWER_VIOLATION", "Time lost to the power limit (in ns).", |gpu| {
        gpu.clocks?.power_cap_nanoseconds.map(|time| time as f64)
    }),
    counter("DCGM_FI_DEV_THERMAL_VIOLATION", "Time lost to heat (in ns).", |gpu| {
        gpu.clocks?.software_thermal_nanoseconds.map(|time| time as f64)
    }),
    counter("DCGM_FI_DEV_SYNC_BOOST_VIOLATION", "Time lost to sync boost (in ns).", |gpu| {
        gpu.clocks?.sync_boost_nanoseconds.map(|time| time as f64)
    }),
    gauge("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "Reasons for reduced clocks, as the driver's bits.", |gpu| {
        gpu.clocks?.reduction_bits.map(|bits| bits as f64)
    }),
    counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "Corrected errors since the driver was loaded.", |gpu| {
        ecc(gpu, false, false)
    }),
    counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Uncorrected errors since the driver was loaded.", |gpu| {
        ecc(gpu, true, false)
    }),
    counter("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "Corrected errors since the board was made.", |gpu| ecc(gpu, false, true)),
    counter("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "Uncorrected errors since the board was made.", |gpu| {
        ecc(gpu, true, true)
    }),
    counter("DCGM_FI_DEV_RETIRED_SBE", "Pages retired after corrected errors.", |gpu| {
        gpu.retirement?.pages_corrected.map(|pages| pages as f64)
    }),
    counter("DCGM_FI_DEV_RETIRED_DBE", "Pages retired after uncorrected errors.", |gpu| {
        gpu.retirement?.pages_uncorrected.map(|pages| pages as f64)
    }),
    counter("DCGM_FI_DEV_RETIRED_PENDING", "Whether pages wait to be retired.", |gpu| {
        gpu.retirement?.pages_pending.map(|pending| f64::from(u8::from(pending)))
    }),
    counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows replaced after uncorrected errors.", |gpu| {
        gpu.retirement?.remapped_rows_uncorrected.map(|rows| rows as f64)
    }),
    counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Rows replaced after corrected errors.", |gpu| {
        gpu.retirement?.remapped_rows_corrected.map(|rows| rows as f64)
    }),
    gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether a row could not be replaced.", |gpu| {
        gpu.retirement?.remapping_failed.map(|failed| f64::from(u8::from(failed)))
    }),
    counter("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "Bytes over all NVLinks, both ways.", |gpu| {
        let traffic = gpu.nvlink_traffic?;
        Some((traffic.transmitted_bytes? + traffic.received_bytes?) as f64)
    }),
    counter("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "Errors in control packets of NVLinks.", |gpu| {
        links(gpu, |link| link.crc_flit_errors)
    }),
    counter("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "Errors in data packets of NVLinks.", |gpu| {
        links(gpu, |link| link.crc_data_errors)
    }),
    counter("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "Packets sent again over NVLinks.", |gpu| {
        links(gpu, |link| link.replay_errors)
    }),
    counter("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "Times that NVLinks were set up again.", |gpu| {
        links(gpu, |link| link.recovery_errors)
    }),
    gauge("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Share of time with the graphics engine busy.", |gpu| {
        gpu.activity?.graphics_ratio
    }),
    gauge("DCGM_FI_PROF_SM_ACTIVE", "Share of time with a warp on a multiprocessor.", |gpu| gpu.activity?.sm_ratio),
    gauge("DCGM_FI_PROF_SM_OCCUPANCY", "Warps, of the most there could be.", |gpu| gpu.activity?.sm_occupancy_ratio),
    gauge("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "Share of time with the tensor cores busy.", |gpu| {
        gpu.activity?.tensor_ratio
    }),
    gauge("DCGM_FI_PROF_DRAM_ACTIVE", "Share of the memory's bandwidth in use.", |gpu| gpu.activity?.dram_ratio),
    gauge("DCGM_FI_PROF_PIPE_FP64_ACTIVE", "Share of time with the fp64 pipe busy.", |gpu| gpu.activity?.fp64_ratio),
    gauge("DCGM_FI_PROF_PIPE_FP32_ACTIVE", "Share of time with the fp32 pipe busy.", |gpu| gpu.activity?.fp32_ratio),
    gauge("DCGM_FI_PROF_PIPE_FP16_ACTIVE", "Share of time with the fp16 pipe busy.", |gpu| gpu.activity?.fp16_ratio),
    gauge("DCGM_FI_PROF_PCIE_TX_BYTES", "Bytes a second over PCIe from the GPU.", |gpu| {
        gpu.activity?.pcie_transmitted_bytes_per_second
    }),
    gauge("DCGM_FI_PROF_PCIE_RX_BYTES", "Bytes a second over PCIe to the GPU.", |gpu| {
        gpu.activity?.pcie_received_bytes_per_second
    }),
];

/// The labels of a machine.
pub(super) struct Host {
    /// How the label is spelled.
    pub(super) label: &'static str,
    /// Its name.
    pub(super) name: String,
    /// Version of the driver.
    pub(super) driver_version: String,
}

/// All families. `last_xids` holds the newest Xid of each GPU by uuid, with its words.
pub(super) fn readings(page: &mut Page, gpus: &[v1::Gpu], host: &Host, last_xids: &[(String, u64, String)]) {
    for Family { name, help, kind, value } in FAMILIES {
        let whole = gpus.iter().filter_map(|gpu| Some((gpu, value(gpu)?)));
        // A counter whose labels change with each job begins anew each time, so that no rate of it
        // is right.
        let jobs_of = |gpu: &v1::Gpu| if kind == Kind::Gauge { gpu.jobs.clone() } else { Vec::new() };
        let whole = whole.flat_map(|(gpu, value)| each_job(labels(gpu, host), &jobs_of(gpu), value));
        page.family(name, help, kind, whole.chain(instances(name, gpus, host)));
    }
    let xids = gpus.iter().map(|gpu| {
        let last = last_xids.iter().find(|(uuid, ..)| *uuid == gpu.uuid);
        let (number, words) = last.map_or((0, "No Error"), |(_, number, words)| (*number, words.as_str()));
        let mut labels = labels(gpu, host);
        labels.push(("err_code", number.to_string()));
        labels.push(("err_msg", words.to_owned()));
        (labels, number as f64)
    });
    let help = "The last Xid since the daemon was started; 0 for none.";
    page.family("DCGM_FI_DEV_XID_ERRORS", help, Kind::Gauge, xids);
}

/// The series of MIG instances in a family: an instance has memory of its own, under the GPU's
/// labels and two more.
fn instances(name: &str, gpus: &[v1::Gpu], host: &Host) -> Vec<Series> {
    let value: fn(&v1::GpuMemory) -> Option<u64> = match name {
        "DCGM_FI_DEV_FB_FREE" => |memory| memory.free_bytes,
        "DCGM_FI_DEV_FB_USED" => |memory| memory.used_bytes,
        "DCGM_FI_DEV_FB_RESERVED" => |memory| memory.reserved_bytes,
        "DCGM_FI_DEV_FB_TOTAL" => |memory| memory.total_bytes,
        _ => return Vec::new(),
    };
    let all = gpus.iter().flat_map(|gpu| gpu.mig_instances.iter().map(move |instance| (gpu, instance)));
    let series = all.filter_map(|(gpu, instance)| {
        let memory = mebibytes(value(instance.memory.as_ref()?))?;
        let id = instance.gpu_instance_id.map(|id| id.to_string()).unwrap_or_default();
        let mut labels = labels(gpu, host);
        labels.splice(5..5, [("GPU_I_PROFILE", instance.profile.clone()), ("GPU_I_ID", id)]);
        Some(each_job(labels, &instance.jobs, memory))
    });
    series.flatten().collect()
}

fn labels(gpu: &v1::Gpu, host: &Host) -> Vec<(&'static str, String)> {
    let device = gpu.minor_number.unwrap_or(gpu.index);
    vec![
        ("gpu", gpu.index.to_string()),
        ("UUID", gpu.uuid.clone()),
        ("pci_bus_id", gpu.pci_bus_id.clone()),
        ("device", format!("nvidia{device}")),
        ("modelName", gpu.model.clone()),
        (host.label, host.name.clone()),
        ("DCGM_FI_DRIVER_VERSION", host.driver_version.clone()),
    ]
}

/// As dcgm-exporter has it: a series for each job on the GPU, and one without the label where there
/// is none. Unlike there, on gauges alone.
fn each_job(labels: Vec<(&'static str, String)>, jobs: &[String], value: f64) -> Vec<Series> {
    if jobs.is_empty() {
        return vec![(labels, value)];
    }
    let of_job = |job: &String| {
        let mut labels = labels.clone();
        labels.push(("hpc_job", job.trim_start_matches("jobs/").to_owned()));
        (labels, value)
    };
    jobs.iter().map(of_job).collect()
}
