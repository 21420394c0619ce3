//! GPUs: what the driver's library NVML tells of them, watched by a thread of its own.
//!
//! NVML is foreign code that may hang in a driver, so nobody but that thread calls it: it samples
//! at an interval and publishes snapshots, and everybody else reads the newest. Behind the narrow
//! traits `Driver` and `Session` stand NVML itself and replayed profiles. The messages of the
//! protocol are the readings: one shape from the driver to the client. A reading that a GPU does
//! not have is absent with a reason, and one reading that fails hides no other.
//!
//! Facts for compatibility are read apart, on request (`NvmlSource`), also where nothing can be
//! watched.

mod events;
mod health;
mod holders;
mod meter;
mod nvml;
mod process;
mod replay;
mod slots;
mod snapshot;
mod watcher;
mod xids;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::proto::v1::{self, GpuSourceState};
pub use events::{EventLog, XidCount};
pub use holders::Holder;
pub use meter::{Meter, MeterReading};
use nvml::reductions as nvml_reductions;
pub use nvml::{GpuIdentity, Nvml, NvmlOptions, NvmlReading, NvmlSource};
pub use replay::{ProfileError, Replay, profile_names};
pub use slots::{GpuSlot, restricted, slots};
pub use snapshot::Snapshot;
pub use watcher::{Watcher, WatcherSettings};
pub use xids::{Xid, xid};

/// The source of readings: NVML, or a profile.
pub trait Driver: Send {
    /// Connects. A fault is told as a state, with words and remedies.
    fn open(&self) -> Result<Box<dyn Session>, Unavailable>;
}

/// A connection to a driver.
pub trait Session: Send {
    /// Versions, and whether this is a replay.
    fn facts(&self) -> DriverFacts;

    /// One pass over all GPUs. An error means that the connection is of no use any more.
    fn sample(&mut self) -> Result<Sample, Unavailable>;

    /// The source of events, for a thread of its own; or why there is none.
    fn events(&self) -> Result<Box<dyn EventSource>, String>;
}

/// Tells what happens to GPUs.
pub trait EventSource: Send {
    /// Waits for events and tells them, until `stop` is set or the connection breaks, which it says
    /// in words.
    fn watch(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(DriverEvent)) -> Result<(), String>;
}

/// Versions of what is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverFacts {
    /// Of the kernel's driver.
    pub driver_version: String,
    /// Of NVML.
    pub nvml_version: String,
    /// Of the newest CUDA that the driver speaks, such as `13.0`.
    pub cuda_driver_version: String,
    /// The name of a replayed profile; empty for real GPUs.
    pub replayed_profile: String,
}

/// One pass over all GPUs.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The GPUs, without health and jobs.
    pub gpus: Vec<v1::Gpu>,
    /// GPUs that the driver lists and cannot reach, by uuid.
    pub lost: Vec<String>,
    /// The processes on them, without jobs.
    pub processes: Vec<v1::GpuProcess>,
}

/// Why GPUs cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// For programs.
    pub state: GpuSourceState,
    /// For people.
    pub message: String,
    /// The remedy.
    pub remedies: Vec<String>,
}

/// An event that a driver reports by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverEvent {
    /// The GPU's uuid; empty where the event is of none.
    pub uuid: String,
    /// The kind.
    pub kind: v1::GpuEventKind,
    /// The number of an Xid, or what the driver tells beside the kind.
    pub data: u64,
}

/// The shortest time from one sample to the next.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The longest.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
