//! GPUs: `torchd_gpu_*`. A reading that is absent has no series, and a GPU that is gone has none at
//! all. Made anew for each sample, not for each scrape; readings that are stale are not told, only
//! how old they are.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::{Kind, Page, Series};
use crate::gpu::XidCount;
use crate::proto::v1::{self, ClockReduction, GpuHealthState, GpuSourceState};

/// A family with one series a GPU.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) value: fn(&v1::Gpu) -> Option<f64>,
}

pub(super) const fn gauge(name: &'static str, help: &'static str, value: fn(&v1::Gpu) -> Option<f64>) -> Family {
    Family { name, help, kind: Kind::Gauge, value }
}

pub(super) const fn counter(name: &'static str, help: &'static str, value: fn(&v1::Gpu) -> Option<f64>) -> Family {
    Family { name, help, kind: Kind::Counter, value }
}

fn whole(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn small(value: Option<u32>) -> Option<f64> {
    value.map(f64::from)
}

fn switch(value: Option<bool>) -> Option<f64> {
    value.map(|value| f64::from(u8::from(value)))
}

/// From thousandths.
fn milli(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64 / 1000.0)
}

const FAMILIES: [Family; 38] = [
    gauge("torchd_gpu_utilization_ratio", "Share of time in which a kernel ran.", |gpu| gpu.utilization?.gpu_ratio),
    gauge("torchd_gpu_memory_utilization_ratio", "Share of time in which memory was read or written.", |gpu| {
        gpu.utilization?.memory_ratio
    }),
    gauge("torchd_gpu_encoder_utilization_ratio", "Share of time in which the encoder worked.", |gpu| {
        gpu.utilization?.encoder_ratio
    }),
    gauge("torchd_gpu_decoder_utilization_ratio", "Share of time in which the decoder worked.", |gpu| {
        gpu.utilization?.decoder_ratio
    }),
    gauge("torchd_gpu_memory_total_bytes", "Memory of the GPU.", |gpu| whole(gpu.memory?.total_bytes)),
    gauge("torchd_gpu_memory_used_bytes", "Memory that is allocated, without the driver's own.", |gpu| {
        whole(gpu.memory?.used_bytes)
    }),
    gauge("torchd_gpu_memory_free_bytes", "Memory that is free.", |gpu| whole(gpu.memory?.free_bytes)),
    gauge("torchd_gpu_memory_reserved_bytes", "Memory that the driver keeps for itself.", |gpu| {
        whole(gpu.memory?.reserved_bytes)
    }),
    gauge("torchd_gpu_power_watts", "Power, the mean of the last second.", |gpu| milli(gpu.power?.average_milliwatts)),
    gauge("torchd_gpu_power_instant_watts", "Power now.", |gpu| milli(gpu.power?.instant_milliwatts)),
    gauge("torchd_gpu_power_enforced_limit_watts", "The limit of power that counts now.", |gpu| {
        milli(gpu.power?.enforced_limit_milliwatts)
    }),
    gauge("torchd_gpu_power_limit_watts", "The limit of power that was set.", |gpu| milli(gpu.power?.limit_milliwatts)),
    gauge("torchd_gpu_power_default_limit_watts", "The limit of power that is set by default.", |gpu| {
        milli(gpu.power?.default_limit_milliwatts)
    }),
    gauge("torchd_gpu_power_min_limit_watts", "The lowest limit of power that can be set.", |gpu| {
        milli(gpu.power?.min_limit_milliwatts)
    }),
    gauge("torchd_gpu_power_max_limit_watts", "The highest limit of power that can be set.", |gpu| {
        milli(gpu.power?.max_limit_milliwatts)
    }),
    counter("torchd_gpu_energy_joules_total", "Energy since the driver was loaded.", |gpu| {
        milli(gpu.power?.energy_millijoules)
    }),
    gauge("torchd_gpu_temperature_celsius", "Temperature of the chip.", |gpu| gpu.temperature?.gpu_celsius),
    gauge("torchd_gpu_memory_temperature_celsius", "Temperature of the memory.", |gpu| gpu.temperature?.memory_celsius),
    gauge("torchd_gpu_performance_state", "0 is the fastest, 15 the slowest.", |gpu| small(gpu.performance_state)),
    gauge("torchd_gpu_ecc_enabled", "Whether errors of memory are corrected.", |gpu| switch(gpu.ecc.as_ref()?.enabled)),
    gauge("torchd_gpu_retired_pages_pending", "Whether pages wait to be retired at the next reboot.", |gpu| {
        switch(gpu.retirement?.pages_pending)
    }),
    gauge("torchd_gpu_remapped_rows_pending", "Whether rows wait to be replaced at the next reset.", |gpu| {
        switch(gpu.retirement?.remapped_rows_pending)
    }),
    gauge("torchd_gpu_row_remapping_failed", "Whether a row could not be replaced.", |gpu| {
        switch(gpu.retirement?.remapping_failed)
    }),
    gauge("torchd_gpu_pcie_link_generation", "Generation of PCI Express now.", |gpu| small(gpu.pcie?.generation)),
    gauge("torchd_gpu_pcie_link_max_generation", "The highest generation that GPU and machine allow.", |gpu| {
        small(gpu.pcie?.max_generation)
    }),
    gauge("torchd_gpu_pcie_link_width", "Lanes of PCI Express now.", |gpu| small(gpu.pcie?.width)),
    gauge("torchd_gpu_pcie_link_max_width", "The most lanes that GPU and machine allow.", |gpu| {
        small(gpu.pcie?.max_width)
    }),
    counter("torchd_gpu_pcie_replays_total", "Packets that were sent again over PCI Express.", |gpu| {
        whole(gpu.pcie?.replays)
    }),
    gauge("torchd_gpu_pcie_transmitted_bytes_per_second", "Over PCI Express from the GPU, in 20 ms.", |gpu| {
        gpu.pcie?.transmitted_bytes_per_second
    }),
    gauge("torchd_gpu_pcie_received_bytes_per_second", "Over PCI Express to the GPU, in 20 ms.", |gpu| {
        gpu.pcie?.received_bytes_per_second
    }),
    counter("torchd_gpu_nvlink_transmitted_bytes_total", "Over all NVLinks from the GPU.", |gpu| {
        whole(gpu.nvlink_traffic?.transmitted_bytes)
    }),
    counter("torchd_gpu_nvlink_received_bytes_total", "Over all NVLinks to the GPU.", |gpu| {
        whole(gpu.nvlink_traffic?.received_bytes)
    }),
    gauge("torchd_gpu_persistence_mode", "Whether the driver stays loaded while nobody uses it.", |gpu| {
        switch(gpu.modes?.persistence)
    }),
    gauge("torchd_gpu_mig_mode", "Whether the GPU is divided into instances.", |gpu| switch(gpu.modes?.mig)),
    gauge("torchd_gpu_draining", "Whether the GPU takes no new work, as it is about to be removed.", |gpu| {
        switch(gpu.modes?.drain)
    }),
    gauge("torchd_gpu_foreign_memory_bytes", "Memory that processes of no job hold.", |gpu| {
        Some(gpu.process_count?.foreign_memory_bytes as f64)
    }),
    gauge("torchd_gpu_healthy", "1 where nothing speaks against the GPU, 0 where something does.", |gpu| {
        Some(f64::from(u8::from(gpu.health.as_ref()?.state() == GpuHealthState::Healthy)))
    }),
    gauge("torchd_gpu_failed", "1 where the GPU gets no new job.", |gpu| {
        Some(f64::from(u8::from(gpu.health.as_ref()?.state() == GpuHealthState::Failed)))
    }),
];

type Labels = &'static [(&'static str, fn(&v1::Gpu) -> Option<f64>)];

/// A family with several series a GPU, which a label tells apart.
struct Labelled {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    label: &'static str,
    values: Labels,
}

const LABELLED: [Labelled; 8] = [
    Labelled {
        name: "torchd_gpu_temperature_limit_celsius",
        help: "Temperatures at which something happens.",
        kind: Kind::Gauge,
        label: "limit",
        values: &[
            ("slowdown", |gpu| gpu.temperature?.slowdown_celsius),
            ("shutdown", |gpu| gpu.temperature?.shutdown_celsius),
            ("gpu_max", |gpu| gpu.temperature?.gpu_max_celsius),
            ("memory_max", |gpu| gpu.temperature?.memory_max_celsius),
        ],
    },
    Labelled {
        name: "torchd_gpu_clock_hertz",
        help: "Clocks now.",
        kind: Kind::Gauge,
        label: "clock",
        values: &[
            ("graphics", |gpu| whole(gpu.clocks?.graphics_hertz)),
            ("sm", |gpu| whole(gpu.clocks?.sm_hertz)),
            ("memory", |gpu| whole(gpu.clocks?.memory_hertz)),
            ("video", |gpu| whole(gpu.clocks?.video_hertz)),
        ],
    },
    Labelled {
        name: "torchd_gpu_max_clock_hertz",
        help: "The highest clocks.",
        kind: Kind::Gauge,
        label: "clock",
        values: &[
            ("graphics", |gpu| whole(gpu.clocks?.max_graphics_hertz)),
            ("sm", |gpu| whole(gpu.clocks?.max_sm_hertz)),
            ("memory", |gpu| whole(gpu.clocks?.max_memory_hertz)),
            ("video", |gpu| whole(gpu.clocks?.max_video_hertz)),
        ],
    },
    Labelled {
        name: "torchd_gpu_clock_reduced_seconds_total",
        help: "Time with reduced clocks since the driver was loaded, by reason.",
        kind: Kind::Counter,
        label: "reason",
        values: &[
            ("power_cap", |gpu| seconds(gpu.clocks?.power_cap_nanoseconds)),
            ("software_thermal", |gpu| seconds(gpu.clocks?.software_thermal_nanoseconds)),
            ("hardware_thermal", |gpu| seconds(gpu.clocks?.hardware_thermal_nanoseconds)),
            ("power_brake", |gpu| seconds(gpu.clocks?.power_brake_nanoseconds)),
            ("sync_boost", |gpu| seconds(gpu.clocks?.sync_boost_nanoseconds)),
        ],
    },
    Labelled {
        name: "torchd_gpu_retired_pages",
        help: "Pages of memory that were taken out of use, by the errors that led to it.",
        kind: Kind::Gauge,
        label: "error",
        values: &[
            ("corrected", |gpu| whole(gpu.retirement?.pages_corrected)),
            ("uncorrected", |gpu| whole(gpu.retirement?.pages_uncorrected)),
        ],
    },
    Labelled {
        name: "torchd_gpu_remapped_rows",
        help: "Rows of memory that were replaced, by the errors that led to it.",
        kind: Kind::Gauge,
        label: "error",
        values: &[
            ("corrected", |gpu| whole(gpu.retirement?.remapped_rows_corrected)),
            ("uncorrected", |gpu| whole(gpu.retirement?.remapped_rows_uncorrected)),
        ],
    },
    Labelled {
        name: "torchd_gpu_processes",
        help: "Processes on the GPU, of jobs and of others.",
        kind: Kind::Gauge,
        label: "owner",
        values: &[
            ("job", |gpu| gpu.process_count.map(|count| f64::from(count.total - count.foreign))),
            ("foreign", |gpu| gpu.process_count.map(|count| f64::from(count.foreign))),
        ],
    },
    Labelled {
        name: "torchd_gpu_activity_ratio",
        help: "How busy the parts of the GPU were since the last sample. On Hopper and later.",
        kind: Kind::Gauge,
        label: "part",
        values: &[
            ("graphics", |gpu| gpu.activity?.graphics_ratio),
            ("sm", |gpu| gpu.activity?.sm_ratio),
            ("sm_occupancy", |gpu| gpu.activity?.sm_occupancy_ratio),
            ("tensor", |gpu| gpu.activity?.tensor_ratio),
            ("dram", |gpu| gpu.activity?.dram_ratio),
            ("fp64", |gpu| gpu.activity?.fp64_ratio),
            ("fp32", |gpu| gpu.activity?.fp32_ratio),
            ("fp16", |gpu| gpu.activity?.fp16_ratio),
        ],
    },
];

fn seconds(nanoseconds: Option<u64>) -> Option<f64> {
    nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e9)
}

/// Families of the GPUs as they were in a sample.
pub(super) fn readings(page: &mut Page, gpus: &[v1::Gpu], source: &v1::GpuSource) {
    let series = |labels: Vec<(&'static str, String)>, value: f64| -> Series { (labels, value) };
    let uuid = |gpu: &v1::Gpu| ("uuid", gpu.uuid.clone());
    let info = gpus.iter().map(|gpu| {
        let minor = gpu.minor_number.map(|minor| minor.to_string()).unwrap_or_default();
        let labels = vec![
            uuid(gpu),
            ("index", gpu.index.to_string()),
            ("minor_number", minor),
            ("model", gpu.model.clone()),
            ("serial", gpu.serial.clone()),
            ("pci_bus_id", gpu.pci_bus_id.clone()),
            ("vbios_version", gpu.vbios_version.clone()),
            ("compute_capability", gpu.compute_capability.clone()),
            ("architecture", gpu.architecture.clone()),
            ("driver_version", source.driver_version.clone()),
            ("replayed_profile", source.replayed_profile.clone()),
        ];
        series(labels, 1.0)
    });
    let help = "What a GPU is; always 1. Where replayed_profile is not empty, it is not of this machine.";
    page.family("torchd_gpu_info", help, Kind::Gauge, info);
    for Family { name, help, kind, value } in FAMILIES {
        page.family(name, help, kind, gpus.iter().filter_map(|gpu| Some(series(vec![uuid(gpu)], value(gpu)?))));
    }
    for Labelled { name, help, kind, label, values } in LABELLED {
        let of_gpu = |gpu: &v1::Gpu| {
            let told = values.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value(gpu)?)));
            told.map(|(key, value)| series(vec![uuid(gpu), (label, key)], value)).collect::<Vec<_>>()
        };
        page.family(name, help, kind, gpus.iter().flat_map(of_gpu));
    }
    let reductions = gpus.iter().filter(|gpu| gpu.clocks.is_some_and(|clocks| clocks.reduction_bits.is_some()));
    let reductions = reductions.flat_map(|gpu| {
        let all = (1..).map_while(|number| ClockReduction::try_from(number).ok());
        all.map(|reason| {
            let name = reason.as_str_name().trim_start_matches("CLOCK_REDUCTION_").to_ascii_lowercase();
            let is_so = gpu.clock_reductions().any(|now| now == reason);
            series(vec![uuid(gpu), ("reason", name)], f64::from(u8::from(is_so)))
        })
        .collect::<Vec<_>>()
    });
    let help = "Whether clocks are lower than they could be, by reason.";
    page.family("torchd_gpu_clock_reduction", help, Kind::Gauge, reductions);
    let fans = gpus.iter().flat_map(|gpu| {
        let told = gpu.fans.iter().filter_map(|fan| Some((fan.index, fan.speed_ratio?)));
        told.map(|(fan, speed)| series(vec![uuid(gpu), ("fan", fan.to_string())], speed)).collect::<Vec<_>>()
    });
    page.family("torchd_gpu_fan_speed_ratio", "Speed, of the highest that its noise allows.", Kind::Gauge, fans);
    ecc(page, gpus);
    nvlinks(page, gpus);
    states(page, gpus);
    instances(page, gpus);
}

fn ecc(page: &mut Page, gpus: &[v1::Gpu]) {
    let counts = |aggregate: bool, is_total: bool| {
        let of_gpu = move |gpu: &v1::Gpu| {
            let counts = gpu.ecc.iter().flat_map(|ecc| &ecc.counts);
            let wanted = counts.filter(|count| count.aggregate == aggregate && (count.location == "all") == is_total);
            let told = wanted.map(|count| {
                let error = if count.uncorrected { "uncorrected" } else { "corrected" };
                let mut labels = vec![("uuid", gpu.uuid.clone()), ("error", error.to_owned())];
                if !is_total {
                    labels.push(("location", count.location.clone()));
                }
                (labels, count.count as f64)
            });
            told.collect::<Vec<Series>>()
        };
        gpus.iter().flat_map(of_gpu).collect::<Vec<_>>()
    };
    let families = [
        ("torchd_gpu_ecc_errors_total", "Errors of memory since the driver was loaded.", false, true),
        ("torchd_gpu_ecc_lifetime_errors_total", "Errors of memory since the board was made.", true, true),
        ("torchd_gpu_ecc_location_errors_total", "Errors since the driver was loaded, by part.", false, false),
        ("torchd_gpu_ecc_location_lifetime_errors_total", "Errors since the board was made, by part.", true, false),
    ];
    for (name, help, aggregate, is_total) in families {
        page.family(name, help, Kind::Counter, counts(aggregate, is_total));
    }
}

fn nvlinks(page: &mut Page, gpus: &[v1::Gpu]) {
    let links = || gpus.iter().flat_map(|gpu| gpu.nvlinks.iter().map(move |link| (gpu, link)));
    let labels = |gpu: &v1::Gpu, link: &v1::NvLink| vec![("uuid", gpu.uuid.clone()), ("link", link.index.to_string())];
    let active = links().filter_map(|(gpu, link)| Some((labels(gpu, link), switch(link.active)?)));
    page.family("torchd_gpu_nvlink_active", "Whether the link is up.", Kind::Gauge, active);
    let errors = links().flat_map(|(gpu, link)| {
        let all = [
            ("crc_flit", link.crc_flit_errors),
            ("crc_data", link.crc_data_errors),
            ("replay", link.replay_errors),
            ("recovery", link.recovery_errors),
        ];
        let told = all.into_iter().filter_map(|(error, count)| Some((error, count?)));
        told.map(|(error, count)| {
            let mut labels = labels(gpu, link);
            labels.push(("error", error.to_owned()));
            (labels, count as f64)
        })
        .collect::<Vec<Series>>()
    });
    page.family("torchd_gpu_nvlink_errors_total", "Errors of the link.", Kind::Counter, errors);
}

/// The states of a GPU: one series that is 1 for each.
fn states(page: &mut Page, gpus: &[v1::Gpu]) {
    let named = |gpu: &v1::Gpu, label: &'static str, name: &str, prefix: &str| -> Series {
        let name = name.trim_start_matches(prefix).to_ascii_lowercase();
        (vec![("uuid", gpu.uuid.clone()), (label, name)], 1.0)
    };
    let modes = gpus.iter().filter_map(|gpu| {
        let modes = gpu.modes.filter(|modes| modes.compute.is_some())?;
        Some(named(gpu, "mode", modes.compute().as_str_name(), "GPU_COMPUTE_MODE_"))
    });
    page.family("torchd_gpu_compute_mode", "Who may compute; 1 for the mode that is set.", Kind::Gauge, modes);
    let actions = gpus.iter().filter(|gpu| gpu.recovery_action.is_some());
    let actions = actions.map(|gpu| named(gpu, "action", gpu.recovery_action().as_str_name(), "GPU_RECOVERY_ACTION_"));
    page.family("torchd_gpu_recovery_action", "What the driver asks for; 1 for that.", Kind::Gauge, actions);
    let reasons = gpus.iter().flat_map(|gpu| {
        let reasons = gpu.health.iter().flat_map(|health| &health.reasons);
        reasons
            .map(|reason| {
                let state = if reason.state() == GpuHealthState::Failed { "failed" } else { "degraded" };
                let labels =
                    vec![("uuid", gpu.uuid.clone()), ("reason", reason.code.clone()), ("state", state.to_owned())];
                (labels, 1.0)
            })
            .collect::<Vec<Series>>()
    });
    page.family("torchd_gpu_health_reason", "What speaks against a GPU; 1 for each reason.", Kind::Gauge, reasons);
    let jobs = gpus.iter().flat_map(|gpu| {
        let own = gpu.jobs.iter().map(|job| (gpu.uuid.clone(), job));
        let instances = gpu.mig_instances.iter();
        let instances = instances.flat_map(|instance| instance.jobs.iter().map(|job| (instance.uuid.clone(), job)));
        let all = own.chain(instances);
        all.map(|(uuid, job)| {
            let job = job.trim_start_matches("jobs/").to_owned();
            (vec![("uuid", uuid), ("job", job)], 1.0)
        })
        .collect::<Vec<Series>>()
    });
    page.family("torchd_gpu_job", "The jobs that hold a GPU; 1 for each.", Kind::Gauge, jobs);
}

fn instances(page: &mut Page, gpus: &[v1::Gpu]) {
    let all = || gpus.iter().flat_map(|gpu| gpu.mig_instances.iter().map(move |instance| (gpu, instance)));
    let labels = |gpu: &v1::Gpu, instance: &v1::MigInstance| {
        vec![("uuid", gpu.uuid.clone()), ("mig_uuid", instance.uuid.clone())]
    };
    let info = all().map(|(gpu, instance)| {
        let id = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
        let mut labels = labels(gpu, instance);
        labels.push(("gpu_instance_id", id(instance.gpu_instance_id)));
        labels.push(("compute_instance_id", id(instance.compute_instance_id)));
        labels.push(("profile", instance.profile.clone()));
        (labels, 1.0)
    });
    page.family("torchd_gpu_mig_info", "What an instance is; always 1.", Kind::Gauge, info);
    type Value = fn(&v1::GpuMemory) -> Option<u64>;
    let families: [(&str, &str, Value); 4] = [
        ("torchd_gpu_mig_memory_total_bytes", "Memory of the instance.", |memory| memory.total_bytes),
        ("torchd_gpu_mig_memory_used_bytes", "Memory of it that is allocated.", |memory| memory.used_bytes),
        ("torchd_gpu_mig_memory_free_bytes", "Memory of it that is free.", |memory| memory.free_bytes),
        ("torchd_gpu_mig_memory_reserved_bytes", "Memory of it that the driver keeps.", |memory| memory.reserved_bytes),
    ];
    for (name, help, value) in families {
        let series =
            all().filter_map(|(gpu, instance)| Some((labels(gpu, instance), value(instance.memory.as_ref()?)? as f64)));
        page.family(name, help, Kind::Gauge, series);
    }
    let activity = all().flat_map(|(gpu, instance)| {
        let told = instance.activity.unwrap_or_default();
        let parts = [
            ("graphics", told.graphics_ratio),
            ("sm", told.sm_ratio),
            ("tensor", told.tensor_ratio),
            ("dram", told.dram_ratio),
        ];
        let told = parts.into_iter().filter_map(|(part, ratio)| Some((part, ratio?)));
        told.map(|(part, ratio)| {
            let mut labels = labels(gpu, instance);
            labels.push(("part", part.to_owned()));
            (labels, ratio)
        })
        .collect::<Vec<Series>>()
    });
    page.family("torchd_gpu_mig_activity_ratio", "How busy the instance's parts were.", Kind::Gauge, activity);
}

/// The series of every scrape, whether GPUs can be read or not.
pub(super) fn about(page: &mut Page, source: &v1::GpuSource, xids: &BTreeMap<(String, u64), XidCount>) {
    let states = (1..).map_while(|number| GpuSourceState::try_from(number).ok());
    let states = states.map(|state| {
        let name = state.as_str_name().trim_start_matches("GPU_SOURCE_STATE_").to_ascii_lowercase();
        (vec![("state", name)], f64::from(u8::from(state == source.state())))
    });
    page.family("torchd_gpu_source", "Whether GPUs can be watched; 1 for the state that is.", Kind::Gauge, states);
    let age = source.age.and_then(|age| std::time::Duration::try_from(age).ok());
    let age = age.map(|age| (Vec::new(), age.as_secs_f64()));
    page.family("torchd_gpu_sample_age_seconds", "How old the newest readings are.", Kind::Gauge, age);
    let labels = |(uuid, xid): &(String, u64)| vec![("uuid", uuid.clone()), ("xid", xid.to_string())];
    let counts = xids.iter().map(|(key, seen)| (labels(key), seen.count as f64));
    page.family("torchd_gpu_xid_errors_total", "Xids since the daemon was started.", Kind::Counter, counts);
    let times = xids.iter().map(|(key, seen)| (labels(key), timestamp(seen.last)));
    let help = "When the last Xid of that number was, in seconds since 1970.";
    page.family("torchd_gpu_xid_last_timestamp_seconds", help, Kind::Gauge, times);
}

/// Seconds since 1970.
pub(super) fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
