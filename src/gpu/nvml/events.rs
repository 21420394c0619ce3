//! NVML's events. The library's own functions are called: nvml-wrapper drops the bits that it does
//! not know, among them those of a GPU that has become unavailable, and gives up the set of a GPU
//! that supports none. (nvml.h, nvmlEventSetWait_v2)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlEventData_t, nvmlEventSet_t};

use crate::gpu::{DriverEvent, EventSource};
use crate::proto::v1::GpuEventKind;

/// A wait, after which we look whether we have to end.
const WAIT_MILLISECONDS: u32 = 500;
/// Interval between two looks for new GPUs.
const LOOK_FOR_GPUS: Duration = Duration::from_secs(10);

const OK: u32 = 0;
const TIMEOUT: u32 = 10;
const GPU_LOST: u32 = 15;

const SINGLE_BIT_ECC: u64 = 0x1;
const DOUBLE_BIT_ECC: u64 = 0x2;
const XID: u64 = 0x8;
const MIG_CONFIG: u64 = 0x100;
const UNAVAILABLE: u64 = 0x4000;
const RECOVERY_ACTION: u64 = 0x8000;
/// The events that we register for.
const WANTED: u64 = SINGLE_BIT_ECC | DOUBLE_BIT_ECC | XID | MIG_CONFIG | UNAVAILABLE | RECOVERY_ACTION;

/// Waits for events of all GPUs.
pub(super) struct NvmlEvents {
    nvml: Arc<Nvml>,
}

impl NvmlEvents {
    pub(super) fn new(nvml: Arc<Nvml>) -> Self {
        Self { nvml }
    }
}

/// A set that is freed at its end.
struct Set<'a> {
    lib: &'a NvmlLib,
    handle: nvmlEventSet_t,
    /// GPUs that are in it: handle and uuid. A GPU that is lost cannot tell its uuid any more.
    gpus: Vec<(usize, String)>,
}

impl<'a> Set<'a> {
    fn new(lib: &'a NvmlLib) -> Result<Self, String> {
        let create = lib.nvmlEventSetCreate.as_ref().map_err(|_| "this driver is too old to tell events".to_owned())?;
        let mut handle: nvmlEventSet_t = std::ptr::null_mut();
        // SAFETY: it writes one handle.
        match unsafe { create(&raw mut handle) } {
            OK => Ok(Self { lib, handle, gpus: Vec::new() }),
            code => Err(format!("the driver gives no events (error {code} of nvmlEventSetCreate)")),
        }
    }

    /// Takes in GPUs that are not in the set yet.
    fn add(&mut self, nvml: &Nvml) {
        let (Ok(supported), Ok(register)) =
            (&self.lib.nvmlDeviceGetSupportedEventTypes, &self.lib.nvmlDeviceRegisterEvents)
        else {
            return;
        };
        for index in 0..nvml.device_count().unwrap_or(0) {
            let Ok(device) = nvml.device_by_index(index) else { continue };
            let Ok(uuid) = device.uuid() else { continue };
            if self.gpus.iter().any(|(_, known)| *known == uuid) {
                continue;
            }
            let mut types = 0;
            // SAFETY: the handle is the device's own; the functions write one number and keep the
            // set that is ours.
            let code = unsafe {
                match supported(device.handle(), &raw mut types) {
                    OK => register(device.handle(), types & WANTED, self.handle),
                    code => code,
                }
            };
            if code == OK {
                // SAFETY: only the address is kept, to tell GPUs apart.
                self.gpus.push((unsafe { device.handle() } as usize, uuid));
            } else {
                tracing::debug!(gpu.uuid = uuid, code, "a GPU tells no events");
            }
        }
    }
}

impl Drop for Set<'_> {
    fn drop(&mut self) {
        if let Ok(free) = &self.lib.nvmlEventSetFree {
            // SAFETY: the set is ours and is freed once.
            unsafe { free(self.handle) };
        }
    }
}

impl EventSource for NvmlEvents {
    fn watch(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(DriverEvent)) -> Result<(), String> {
        let lib = self.nvml.lib();
        let wait = lib.nvmlEventSetWait_v2.as_ref().map_err(|_| "this driver is too old to tell events".to_owned())?;
        let mut set = Set::new(lib)?;
        let mut looked: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            if looked.is_none_or(|at| at.elapsed() >= LOOK_FOR_GPUS) {
                set.add(&self.nvml);
                looked = Some(Instant::now());
            }
            if set.gpus.is_empty() {
                std::thread::sleep(Duration::from_millis(WAIT_MILLISECONDS.into()));
                continue;
            }
            // SAFETY: all its fields are numbers and a pointer, for which zero is fine.
            let mut data: nvmlEventData_t = unsafe { std::mem::zeroed() };
            // SAFETY: the set is ours, and it writes one event.
            match unsafe { wait(set.handle, &raw mut data, WAIT_MILLISECONDS) } {
                OK => {}
                TIMEOUT => continue,
                GPU_LOST => {
                    // It does not say which; the next sample does. The set may say so again at
                    // once.
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
                code => return Err(format!("waiting for events failed (error {code} of nvmlEventSetWait)")),
            }
            let known = set.gpus.iter().find(|(handle, _)| *handle == data.device as usize);
            let uuid = known.map(|(_, uuid)| uuid.clone()).unwrap_or_default();
            let kind = match data.eventType {
                XID => GpuEventKind::Xid,
                SINGLE_BIT_ECC => GpuEventKind::EccCorrected,
                DOUBLE_BIT_ECC => GpuEventKind::EccUncorrected,
                MIG_CONFIG => GpuEventKind::MigChanged,
                UNAVAILABLE => GpuEventKind::Lost,
                RECOVERY_ACTION => GpuEventKind::RecoveryAction,
                other => {
                    tracing::debug!(gpu.uuid = uuid, other, "an event that is not known");
                    continue;
                }
            };
            tell(DriverEvent { uuid, kind, data: data.eventData });
        }
        Ok(())
    }
}
