//! Versions and the machine.

use std::process::ExitCode;

use super::connection::Connection;
use super::failure::Failure;
use super::output::Output;
use super::table;
use crate::proto::v1;

pub(super) async fn version(connection: Connection, output: Output) -> Result<ExitCode, Failure> {
    let answer = connection.system().get_version(v1::GetVersionRequest {}).await?.into_inner();
    output.print(&answer, versions)?;
    Ok(ExitCode::SUCCESS)
}

/// The libraries that are loaded, with their places, or why not.
pub(super) fn versions(answer: &v1::GetVersionResponse) -> String {
    let passed_over = |found: &v1::LibraryVersion| {
        found.passed_over.iter().map(|place| format!("; passed over: {place}")).collect::<String>()
    };
    let library = |library: &Option<v1::LibraryVersion>| match library {
        Some(found) if found.absent_reason.is_empty() && found.found_by.is_empty() => {
            format!("{}, from {}", found.version, found.path)
        }
        Some(found) if found.absent_reason.is_empty() => {
            format!("{}, from {} ({}){}", found.version, found.path, found.found_by, passed_over(found))
        }
        Some(absent) => format!("absent: {}", absent.absent_reason),
        None => String::new(),
    };
    let revision = |revision: &str| if revision.is_empty() { String::new() } else { format!(" ({revision})") };
    table::facts(&[
        ("torchctl", format!("{}{}", env!("CARGO_PKG_VERSION"), revision(env!("TORCHD_REVISION")))),
        ("torchd", format!("{}{}", answer.torchd_version, revision(&answer.revision))),
        ("rustc", answer.rustc_version.clone()),
        ("libtorch", library(&answer.libtorch)),
        ("CUDA", library(&answer.cuda)),
        ("cuDNN", library(&answer.cudnn)),
        ("NCCL", library(&answer.nccl)),
        ("NVIDIA driver", library(&answer.nvidia_driver)),
        ("CUDA of the driver", library(&answer.cuda_driver)),
        ("NVML", library(&answer.nvml)),
        ("Python", library(&answer.python)),
        ("PyTorch", library(&answer.pytorch)),
    ])
}

pub(super) async fn cluster(connection: Connection, output: Output) -> Result<ExitCode, Failure> {
    let cluster = connection.system().get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    output.print(&cluster, describe)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(cluster: &v1::Cluster) -> String {
    let node = cluster.driver.clone().unwrap_or_default();
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let gpus: Vec<_> =
        node.gpus.iter().map(|gpu| format!("{} at {}, {}", gpu.model, gpu.pci_address, gpu.uuid)).collect();
    let presence = |presence: &Option<v1::Presence>| {
        let found = presence.clone().unwrap_or_default();
        let is = if found.present { "present" } else { "absent" };
        let version = if found.version.is_empty() { String::new() } else { format!(" {}", found.version) };
        format!("{is}{version} ({})\n{}", found.evidence, found.meaning)
    };
    let mut text = table::facts(&[
        ("mode", cluster.mode().as_str_name().trim_start_matches("CLUSTER_MODE_").to_lowercase().replace('_', "-")),
        ("workers", cluster.workers.to_string()),
        ("driver", node.hostname.clone()),
        ("system", format!("{}, kernel {}, {}", node.os, node.kernel, node.architecture)),
        ("CPUs", format!("{} {}", node.cpu_count, node.cpu_model)),
        ("memory", format!("{}, {} available", gigabytes(node.memory_bytes), gigabytes(node.memory_available_bytes))),
        ("GPUs", if gpus.is_empty() { "none".into() } else { gpus.join("\n") }),
        ("NVIDIA driver", node.nvidia_driver_version.clone()),
        ("Databricks runtime", presence(&cluster.databricks_runtime)),
        ("Spark", presence(&cluster.spark)),
        ("runners", limits(cluster.runner_confinement.as_ref())),
        ("launchers", launchers(&cluster.launchers)),
    ]);
    text.push('\n');
    text + &capabilities(cluster)
}

/// The launchers, each with its engine and its slots.
fn launchers(all: &[v1::Launcher]) -> String {
    let line = |found: &v1::Launcher| {
        let engine = found.engine().as_str_name().trim_start_matches("ENGINE_").to_lowercase();
        let owner = if found.for_all { "all owners" } else { &found.owner };
        format!("{} of {engine}, {} of {} slots taken, for {owner}", found.launcher, found.taken_slots, found.slots)
    };
    if all.is_empty() { "none".to_owned() } else { all.iter().map(line).collect::<Vec<_>>().join("\n") }
}

/// The limits of a runner, those that are enforced first.
fn limits(confinement: Option<&v1::Confinement>) -> String {
    let Some(v1::Confinement { landlock_abi, enforced, missing, .. }) = confinement else {
        return "no runner has answered yet".into();
    };
    let landlock = match landlock_abi {
        0 => "Landlock is not in force".into(),
        abi => format!("Landlock ABI {abi}"),
    };
    let missing = missing.iter().map(|limit| format!("not enforced: {limit}"));
    [landlock].into_iter().chain(enforced.iter().cloned()).chain(missing).collect::<Vec<_>>().join("\n")
}

/// The abilities of this node.
pub(super) fn capabilities(cluster: &v1::Cluster) -> String {
    let rows: Vec<_> = cluster
        .capabilities
        .iter()
        .map(|capability| {
            [capability.name.clone(), if capability.available { "yes" } else { "no" }.into(), capability.reason.clone()]
        })
        .collect();
    table::columns(["CAPABILITY", "HERE", "WHY"], &rows)
}
