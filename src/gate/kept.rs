//! An answer that costs something, asked for once for everybody who wants it at the same time, and
//! kept for a while.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The newest answer to one question.
#[derive(Debug)]
pub struct Kept<T> {
    turn: Semaphore,
    told: Mutex<Option<(Instant, T)>>,
    fresh: Duration,
}

impl<T: Clone> Kept<T> {
    /// Answers are kept for that long.
    pub fn new(fresh: Duration) -> Self {
        Self { turn: Semaphore::new(1), told: Mutex::new(None), fresh }
    }

    /// The answer: the one that is kept, or that of `ask`, for which all others wait. Where its
    /// caller leaves, the next one asks.
    pub async fn get(&self, ask: impl Future<Output = T>) -> T {
        if let Some(told) = self.told() {
            return told;
        }
        // Nobody closes it.
        let _turn = self.turn.acquire().await.ok();
        if let Some(told) = self.told() {
            return told;
        }
        let answer = ask.await;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answer.clone()));
        answer
    }

    fn told(&self) -> Option<T> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref().filter(|(time, _)| time.elapsed() < self.fresh).map(|(_, answer)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_cost_one_question_also_where_the_first_leaves() {
        let kept = Arc::new(Kept::new(Duration::from_secs(10)));
        let asked = Arc::new(AtomicU32::new(0));
        let ask = |kept: Arc<Kept<u32>>, asked: Arc<AtomicU32>| async move {
            let question = async {
                let count = asked.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(Duration::from_secs(1)).await;
                count
            };
            kept.get(question).await
        };
        let first = timeout(Duration::from_millis(500), ask(kept.clone(), asked.clone()));
        let others: Vec<_> = (0..100).map(|_| tokio::spawn(ask(kept.clone(), asked.clone()))).collect();
        assert!(first.await.is_err());
        let told = asked.load(Ordering::Relaxed);
        for other in others {
            other.await.unwrap();
        }
        assert!(told >= 1 && asked.load(Ordering::Relaxed) <= 2);
        sleep(Duration::from_secs(11)).await;
        let count = asked.load(Ordering::Relaxed);
        assert_eq!(ask(kept.clone(), asked.clone()).await, count + 1, "it is old");
    }
}
