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
/// Poll interval of the files that runners need. Two polls differ while pip writes them.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Asks the runner which libraries it finds: at once, again while it does not work, and whenever
/// its files have changed, as with an upgrade of PyTorch. It ends with the manager.
pub(super) async fn keep(
    prober: Supervisor,
    told: watch::Sender<ProbeState>,
    is_short: Arc<AtomicBool>,
    catalogue: Arc<Catalogue>,
) {
    let tell = |state| {
        told.send_if_modified(|known| {
            let is_news = known.as_ref() != Some(&state);
            *known = Some(state);
            is_news
        });
    };
    let mut pause = PROBE_AGAIN;
    loop {
        // They may change while the runner is asked.
        let installed = prober.installed().await;
        let at_most = match prober.probe().await {
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
                is_short.store(false, Ordering::Relaxed);
                tell(Ok(report));
                None
            }
            Err(error) => {
                let words = explained(&catalogue, &error.to_string());
                // This is set before the error is told: a client that hears of the error asks for
                // it.
                is_short.store(error.is_shortage(), Ordering::Relaxed);
                tracing::error!("the runner does not work; models wait and new ones are refused: {words}");
                tell(Err(format!("the runner does not work and will be asked again: {words}")));
                Some(pause)
            }
        };
        let is_changed = tokio::select! {
            () = told.closed() => return,
            is_changed = changed(installed, || prober.installed(), at_most) => is_changed,
        };
        pause = if is_changed || at_most.is_none() { PROBE_AGAIN } else { (pause * 2).min(PROBE_AT_LEAST_EVERY) };
    }
}

/// Waits until the files that were `known` have changed and two looks find the same, or until the
/// time is over; whether they have changed.
async fn changed<T: PartialEq, L: Future<Output = T>>(
    known: T,
    look: impl Fn() -> L,
    at_most: Option<Duration>,
) -> bool {
    let change = async {
        let mut before = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = look().await;
            if now != known && before.as_ref() == Some(&now) {
                return;
            }
            before = Some(now);
        }
    };
    match at_most {
        Some(at_most) => tokio::time::timeout(at_most, change).await.is_ok(),
        None => {
            change.await;
            true
        }
    }
}

/// The message of a program that could not begin: in our words with the remedy, if it came from the
/// loader.
fn explained(catalogue: &Catalogue, text: &str) -> String {
    explain_loader(catalogue, text).map_or_else(|| text.to_owned(), |finding| finding.in_words())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Whether files that were 0 are seen to change, and after how many seconds, where the looks
    /// find these values, and the last one from then on.
    async fn seen(looks: &[u32], at_most: Option<u64>) -> (bool, u64) {
        let next = Cell::new(0);
        let look = || {
            let place = next.replace(next.get() + 1);
            std::future::ready(looks[place.min(looks.len() - 1)])
        };
        let begun = tokio::time::Instant::now();
        let is_changed = changed(0, look, at_most.map(Duration::from_secs)).await;
        (is_changed, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_waited_for_until_it_is_over() {
        let every = LOOK_EVERY.as_secs();
        assert_eq!(seen(&[1], None).await, (true, 2 * every));
        assert_eq!(seen(&[0, 0, 0, 1, 2, 3, 3], None).await, (true, 7 * every), "written until the sixth look");
        assert_eq!(seen(&[1, 0, 0, 5], None).await, (true, 5 * every), "as before is no change");
        // A runner that does not work is asked early where its files have changed, else in time.
        assert_eq!(seen(&[0, 1], Some(60)).await, (true, 3 * every));
        assert_eq!(seen(&[0], Some(60)).await, (false, 60));
        let growing: Vec<_> = (1..100).collect();
        assert_eq!(seen(&growing, Some(60)).await, (false, 60));
    }
}
