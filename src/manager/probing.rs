//! The probe of the runner: which libraries it finds, and whether it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::ProbeState;
use crate::compat::{Catalogue, explain_loader};
use crate::supervisor::Supervisor;

/// A runner that does not work is asked again after this, then after twice as long, ...
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const PROBE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Asks the runner which libraries it finds, and again while it does not work: somebody may mend
/// it.
pub(super) async fn probe_until_it_works(
    prober: Supervisor,
    told: watch::Sender<ProbeState>,
    is_short: Arc<AtomicBool>,
    catalogue: Arc<Catalogue>,
) {
    let mut pause = PROBE_AGAIN;
    loop {
        match prober.probe().await {
            Ok(report) => {
                tracing::info!(
                    libtorch.version = report.libtorch.version,
                    cuda.devices = report.cuda_devices,
                    landlock.abi = report.confinement.landlock_abi,
                    "the runner was probed"
                );
                if !report.confinement.missing.is_empty() {
                    let missing = report.confinement.missing.join("; ");
                    tracing::warn!("the kernel does not enforce every limit of a runner: {missing}");
                }
                told.send_replace(Some(Ok(report)));
                return;
            }
            Err(error) => {
                let words = explained(&catalogue, &error.to_string());
                // This is set before the error is told: a client that hears of the error asks for
                // it.
                is_short.store(error.is_shortage(), Ordering::Relaxed);
                tracing::error!("the runner does not work; models wait and new ones are refused: {words}");
                told.send_replace(Some(Err(format!("the runner does not work and will be asked again: {words}"))));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PROBE_AT_LEAST_EVERY);
    }
}

/// The message of a program that could not begin: in our words with the remedy, if it came from the
/// loader.
fn explained(catalogue: &Catalogue, text: &str) -> String {
    explain_loader(catalogue, text).map_or_else(|| text.to_owned(), |finding| finding.in_words())
}
