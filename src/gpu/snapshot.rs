//! The state of the GPUs at one moment.

use std::time::{Duration, Instant, SystemTime};

use super::holders::{self, Holder, Seen};
use super::{DriverFacts, Unavailable};
use crate::proto::v1::{self, GpuSourceState as State};

/// The state of the GPUs at one moment, without jobs.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whether they can be watched, and why not.
    pub state: Unavailable,
    /// Versions.
    pub facts: DriverFacts,
    /// The GPUs, with their health.
    pub(super) gpus: Vec<v1::Gpu>,
    /// The processes on them.
    pub(super) processes: Vec<Seen>,
    /// When the readings were taken; None where there are none.
    pub taken: Option<(SystemTime, Instant)>,
    /// How long that took.
    pub took: Duration,
    /// When GPUs could last be read.
    pub last_success: Option<SystemTime>,
}

impl Snapshot {
    /// Before the driver was asked.
    pub(super) fn starting() -> Self {
        let message = "the driver is being asked".to_owned();
        Self::unavailable(Unavailable { state: State::Starting, message, remedies: Vec::new() })
    }

    /// Nothing can be watched.
    pub(super) fn unavailable(state: Unavailable) -> Self {
        Self {
            state,
            facts: DriverFacts::default(),
            gpus: Vec::new(),
            processes: Vec::new(),
            taken: None,
            took: Duration::ZERO,
            last_success: None,
        }
    }

    /// The GPUs with their jobs, and the processes with theirs.
    pub fn joined(&self, holders: &[Holder]) -> (Vec<v1::Gpu>, Vec<v1::GpuProcess>) {
        let mut gpus = self.gpus.clone();
        let processes = holders::join(&mut gpus, &self.processes, holders);
        (gpus, processes)
    }

    /// The GPUs without jobs.
    pub fn gpus(&self) -> &[v1::Gpu] {
        &self.gpus
    }
}
