//! The NVIDIA GPUs that the kernel driver lists in /proc: what is there before any library is
//! asked.

use super::NodeSource;
use super::machine::field;
use crate::proto::v1;

const FOLDER: &str = "/proc/driver/nvidia";

/// By PCI address.
pub(super) fn list(source: &NodeSource) -> Vec<v1::NodeGpu> {
    let Ok(folder) = source.path(FOLDER).join("gpus").read_dir() else { return Vec::new() };
    let mut gpus: Vec<_> = folder
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let information = std::fs::read_to_string(entry.path().join("information")).unwrap_or_default();
            Some(v1::NodeGpu {
                model: field(&information, "Model"),
                uuid: field(&information, "GPU UUID"),
                pci_address: entry.file_name().to_string_lossy().into_owned(),
            })
        })
        .collect();
    gpus.sort_by(|one, other| one.pci_address.cmp(&other.pci_address));
    gpus
}

/// Such as `535.161.07`; empty where there is no driver.
pub(super) fn driver_version(source: &NodeSource) -> String {
    let text = source.file(&format!("{FOLDER}/version")).unwrap_or_default();
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next().unwrap_or_default().split_whitespace().find(is_version).unwrap_or_default().to_owned()
}

/// PCI devices of NVIDIA whose class is a display controller. (PCI Code and ID Assignment: class
/// 03)
pub(super) fn on_the_bus(source: &NodeSource) -> Vec<String> {
    let Ok(folder) = source.path("/sys/bus/pci/devices").read_dir() else { return Vec::new() };
    let is_gpu = |path: &std::path::Path| {
        let holds = |file: &str, prefix: &str| {
            std::fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim().starts_with(prefix))
        };
        holds("vendor", "0x10de") && holds("class", "0x03")
    };
    let gpus = folder.flatten().filter(|entry| is_gpu(&entry.path()));
    let mut addresses: Vec<_> = gpus.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    addresses.sort();
    addresses
}
