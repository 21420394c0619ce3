//! Beats through the parts that the daemon needs in order to work. `/readyz` names a part that does
//! not move, and systemd hears nothing any more once it has not moved for long.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::gate::Gate;

/// From one beat to the next.
const EVERY: Duration = Duration::from_secs(1);
/// A part that has not moved for this long is told.
const LATE: Duration = Duration::from_secs(5);
/// A part that has not moved for this long never will. A disk that hangs comes back before; a new
/// daemon would not help it.
const HOPELESS: Duration = Duration::from_secs(300);

/// Goes through a part, and returns once it has moved.
pub(super) type Beat = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// When each part has last moved; cheap to clone.
#[derive(Clone)]
pub(super) struct Heartbeat {
    parts: Vec<(&'static str, Arc<Mutex<Instant>>)>,
    gates: Vec<(&'static str, Gate)>,
}

impl Heartbeat {
    /// Begins to beat through parts, each by itself; what goes through the gates beats by itself.
    /// Parts are called by what they do.
    pub(super) fn start(parts: Vec<(&'static str, Beat)>, gates: impl Into<Vec<(&'static str, Gate)>>) -> Self {
        let start = |(name, beat): (&'static str, Beat)| {
            let moved = Arc::new(Mutex::new(Instant::now()));
            let told = moved.clone();
            tokio::spawn(async move {
                loop {
                    beat().await;
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    sleep(EVERY).await;
                }
            });
            (name, moved)
        };
        Self { parts: parts.into_iter().map(start).collect(), gates: gates.into() }
    }

    fn ages(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let age = |moved: &Mutex<Instant>| moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        self.parts.iter().map(move |(name, moved)| (*name, age(moved)))
    }

    /// The part that makes no progress, in words; None if all do.
    pub(super) fn standstill(&self) -> Option<String> {
        let gates = self.gates.iter().filter_map(|(name, gate)| Some((*name, gate.standstill()?)));
        let (name, age) = self.ages().chain(gates).filter(|(_, age)| *age > LATE).max_by_key(|(_, age)| *age)?;
        Some(format!("{name} has made no progress for {} s", age.as_secs()))
    }

    /// A part without which nothing works will not move any more. Work for clients that hangs is no
    /// reason to end the daemon.
    pub(super) fn is_hopeless(&self) -> bool {
        self.ages().any(|(_, age)| age > HOPELESS)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_move_is_told_and_after_long_hopeless() {
        let hangs = Arc::new(AtomicBool::new(false));
        let asked = hangs.clone();
        let beat: Beat = Box::new(move || match asked.load(Ordering::Relaxed) {
            true => Box::pin(pending()),
            false => Box::pin(ready(())),
        });
        let moves: Beat = Box::new(|| Box::pin(ready(())));
        let heartbeat = Heartbeat::start(vec![("managing jobs", beat), ("something else", moves)], []);
        sleep(2 * HOPELESS).await;
        assert_eq!((heartbeat.standstill(), heartbeat.is_hopeless()), (None, false));
        hangs.store(true, Ordering::Relaxed);
        sleep(LATE + 2 * EVERY).await;
        let words = heartbeat.standstill().unwrap();
        assert!(words.starts_with("managing jobs has made no progress for "), "{words}");
        assert!(!heartbeat.is_hopeless());
        sleep(HOPELESS).await;
        assert!(heartbeat.is_hopeless());
    }

    #[tokio::test(start_paused = true)]
    async fn work_for_clients_that_hangs_is_told_and_not_hopeless() {
        let gate = Gate::new(1);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let work = gate.clone();
        let work = tokio::spawn(async move {
            let hangs = move |_: &crate::gate::Wanted| {
                begin.send(()).unwrap();
                released.recv().unwrap();
            };
            work.run(hangs).await
        });
        let heartbeat = Heartbeat::start(Vec::new(), [("reading files for clients", gate.clone())]);
        begun.await.unwrap();
        assert_eq!(heartbeat.standstill(), None, "not for long yet");
        tokio::time::advance(2 * HOPELESS).await;
        assert_eq!(heartbeat.standstill().unwrap(), "reading files for clients has made no progress for 600 s");
        assert!(!heartbeat.is_hopeless());
        release.send(()).unwrap();
        work.await.unwrap().unwrap();
        assert_eq!(heartbeat.standstill(), None);
    }
}
