//! Which GPUs jobs can lease, as the watcher of GPUs and the runner's probe tell together.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::ProbeState;
use crate::gpu::{self, GpuSlot, Watcher};
use crate::proto::v1::GpuSourceState;

/// The GPUs that jobs can lease; None before they are known.
pub(super) type Slots = Option<Vec<GpuSlot>>;

/// The longest wait for the first answer of the driver, which may hang.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A driver that does not answer publishes nothing, so we look by ourselves too.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells which GPUs jobs can lease, whenever that changes, until the manager is gone. `visible` is
/// CUDA_VISIBLE_DEVICES of the daemon.
pub(super) async fn keep(
    watcher: Watcher,
    mut probe: watch::Receiver<ProbeState>,
    visible: Option<String>,
    tell: watch::Sender<Slots>,
) {
    let mut changes = watcher.changes();
    loop {
        let devices = match &*probe.borrow_and_update() {
            Some(Ok(report)) => report.cuda_devices,
            // Programs bring libraries of their own.
            Some(Err(_)) | None => 0,
        };
        changes.borrow_and_update();
        let now = slots(&watcher, devices, visible.as_deref(), tell.borrow().as_deref());
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

/// The GPUs that jobs can lease, as far as they are known; none while that is not known yet.
pub(super) async fn known(mut slots: watch::Receiver<Slots>) -> Vec<GpuSlot> {
    let known = timeout(LONGEST_WAIT, slots.wait_for(Option::is_some)).await;
    known.ok().and_then(Result::ok).and_then(|slots| slots.clone()).unwrap_or_default()
}

fn slots(watcher: &Watcher, devices: u32, visible: Option<&str>, known: Option<&[GpuSlot]>) -> Slots {
    let (snapshot, source) = (watcher.latest(), watcher.source());
    let before = known.unwrap_or_default();
    let is_real = source.replayed_profile.is_empty();
    let now = match source.state() {
        GpuSourceState::Watching if is_real && !source.stale => {
            gpu::restricted(gpu::slots(&snapshot, &watcher.holders()), visible)
        }
        GpuSourceState::NoGpu if is_real => Vec::new(),
        GpuSourceState::Starting => return known.map(<[GpuSlot]>::to_vec),
        // GPUs that were known by their uuids stay known: jobs hold them.
        state if is_real && before.iter().any(|slot| slot.uuid.contains('-')) => {
            let reason = format!("the state of {{}} is not known: {}", source.message);
            let is_down = state != GpuSourceState::Watching || source.stale;
            let told = |slot: &GpuSlot| GpuSlot {
                unusable: is_down.then(|| reason.replacen("{}", &slot.label, 1)),
                ..slot.clone()
            };
            before.iter().map(told).collect()
        }
        // CUDA works without anybody who tells of GPUs: they are given away by CUDA's numbers.
        _ => (0..devices).map(by_number).collect(),
    };
    Some(now)
}

fn by_number(index: u32) -> GpuSlot {
    GpuSlot {
        uuid: index.to_string(),
        gpu_uuid: String::new(),
        model: String::new(),
        label: format!("CUDA device {index}"),
        index,
        memory_bytes: None,
        foreign_processes: 0,
        foreign_memory_bytes: 0,
        unusable: None,
        lost: None,
    }
}
