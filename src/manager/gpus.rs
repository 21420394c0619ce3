//! Which GPUs jobs can lease, as the watcher of GPUs and the runner's probe tell together.

use std::time::Duration;

use tokio::sync::watch;

use super::ProbeState;
use crate::gpu::{self, GpuSlot, Watcher};
use crate::proto::v1::GpuSourceState;

/// A driver that does not answer publishes nothing, so we look by ourselves too.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells which GPUs jobs can lease, whenever that changes, until the manager is gone. `visible` is
/// CUDA_VISIBLE_DEVICES of the daemon.
pub(super) async fn keep(
    watcher: Watcher,
    mut probe: watch::Receiver<ProbeState>,
    visible: Option<String>,
    tell: watch::Sender<Vec<GpuSlot>>,
) {
    let mut changes = watcher.changes();
    loop {
        let devices = match &*probe.borrow_and_update() {
            Some(Ok(report)) => report.cuda_devices,
            Some(Err(_)) | None => 0,
        };
        changes.borrow_and_update();
        let now = slots(&watcher, devices, visible.as_deref(), &tell.borrow());
        tell.send_if_modified(|known| {
            let is_news = *known != now;
            *known = now;
            is_news
        });
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Ok(()) = probe.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tell.closed() => return,
        }
    }
}

fn slots(watcher: &Watcher, devices: u32, visible: Option<&str>, known: &[GpuSlot]) -> Vec<GpuSlot> {
    if devices == 0 {
        return Vec::new();
    }
    let (snapshot, source) = (watcher.latest(), watcher.source());
    let is_real = source.replayed_profile.is_empty();
    match source.state() {
        GpuSourceState::Watching if is_real && !source.stale => {
            gpu::restricted(gpu::slots(&snapshot, &watcher.holders()), visible)
        }
        GpuSourceState::NoGpu if is_real => Vec::new(),
        GpuSourceState::Starting => known.to_vec(),
        // GPUs that were known by their uuids stay known: jobs hold them.
        state if is_real && known.iter().any(|slot| slot.uuid.contains('-')) => {
            let reason = format!("the state of {{}} is not known: {}", source.message);
            let is_down = state != GpuSourceState::Watching || source.stale;
            let told = |slot: &GpuSlot| GpuSlot {
                unusable: is_down.then(|| reason.replacen("{}", &slot.label, 1)),
                ..slot.clone()
            };
            known.iter().map(told).collect()
        }
        // CUDA works without anybody who tells of GPUs: they are given away by CUDA's numbers.
        _ => (0..devices).map(by_number).collect(),
    }
}

fn by_number(index: u32) -> GpuSlot {
    GpuSlot {
        uuid: index.to_string(),
        gpu_uuid: String::new(),
        label: format!("CUDA device {index}"),
        index,
        memory_bytes: None,
        foreign_processes: 0,
        foreign_memory_bytes: 0,
        unusable: None,
        lost: None,
    }
}
