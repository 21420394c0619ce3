//! A GPU as the runner of a job reads it: what its share of the machine's readings is made from. On
//! a thread of its own, as the driver may hang; training never waits for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::nvml::Gauge;

/// Interval between readings.
const EVERY: Duration = Duration::from_secs(1);
/// Older readings say nothing any more.
const FRESH: Duration = Duration::from_secs(5);

/// The newest readings of a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeterReading {
    /// Share of the last sample period in which a kernel ran, 0 to 1.
    pub utilization_ratio: Option<f64>,
    /// Memory in use on the GPU or the instance, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Energy since the meter was started, in joules; of the whole GPU, also where it is shared.
    pub energy_joules: Option<f64>,
}

/// Reads a GPU until the process ends.
#[derive(Debug, Clone)]
pub struct Meter {
    latest: Arc<Mutex<Option<(Instant, MeterReading)>>>,
}

impl Meter {
    /// Starts to read the GPU or the instance of that uuid.
    pub fn start(library: Option<PathBuf>, uuid: String) -> std::io::Result<Self> {
        let latest = Arc::new(Mutex::new(None));
        let told = latest.clone();
        std::thread::Builder::new().name("gpu-meter".into()).spawn(move || {
            // Without a driver to ask, the job has no such readings.
            let Ok(gauge) = Gauge::open(library.as_deref()) else { return };
            let mut energy_at_start = None;
            loop {
                let reading = gauge.read(&uuid, &mut energy_at_start);
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reading));
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Self { latest })
    }

    /// The newest readings; None before the first, and where the driver does not answer any more.
    pub fn latest(&self) -> Option<MeterReading> {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.filter(|(at, _)| at.elapsed() < FRESH).map(|(_, reading)| reading)
    }
}
