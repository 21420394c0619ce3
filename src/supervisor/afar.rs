//! Ranks on other machines: their outposts look after the runners, and what these tell comes into
//! the job's folder, where it is heard as if they ran here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::hearing::{Heard, Silence};
use super::listening::Tail;
use super::runner::{Charge, LOOK_EVERY, Origin, RunnerHandle};
use super::stopping::Stop;
use super::{Fault, FaultKind, Supervisor};
use crate::job::end::Exit;
use crate::journal::{ExitNote, JobLock};
use crate::launches::{Launch, Launches, RankState, Trouble, Wish};

impl Supervisor {
    /// Looks after the ranks of a launch until all have ended, and then ends it.
    pub fn follow_launch(&self, launches: Launches, launch: Arc<Launch>) -> RunnerHandle {
        let (stop, asked) = watch::channel(Stop::No);
        let silence = Silence::default();
        let (id, ranks) = (launch.job().clone(), launch.world_size());
        let charge = Charge::new(id.clone(), launch.folder_of(0), launch.attempt(), asked, silence.clone());
        let (this, stops) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            let news = this.see_ranks_through(charge, Origin::Afar(launch.clone()), ranks, stops).await;
            // It waits for whatever is being written.
            if let Err(error) = tokio::task::spawn_blocking(move || launches.finish(&launch)).await {
                tracing::error!(job.id = %id, %error, "the launch could not be ended");
            }
            this.tell(&id, news).await;
        });
        RunnerHandle::new(stop, silence)
    }

    /// Follows a rank to its end, as [`Supervisor::follow`] does a runner of this machine.
    pub(super) async fn follow_afar(
        &self,
        charge: &Charge,
        launch: &Launch,
        tail: &mut Tail,
        mut doubt: Option<String>,
    ) -> Result<Exit, Fault> {
        let mut asked = None;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let heard = self.listen(&charge.id, &charge.folder, tail).await;
            let why = match heard {
                Heard::Unknown(error) => Some(format!("what the rank tells cannot be heard: {error}")),
                Heard::Something | Heard::Nothing => tail.trouble.as_ref().map(|trouble| trouble.words.clone()),
            };
            let why = why.or_else(|| {
                launch.disk_trouble().map(|error| format!("its folder takes nothing of its ranks: {error}"))
            });
            let why = why.or_else(|| {
                launch.mailbox_trouble().map(|error| format!("the mailbox of its ranks cannot be looked at: {error}"))
            });
            self.settle(&charge.id, &mut doubt, why).await;
            let wish = match charge.asked() {
                Stop::No => Wish::GoOn,
                Stop::Gently => {
                    let waited = asked.get_or_insert_with(Instant::now).elapsed();
                    // A disk that is full keeps no job from being cancelled.
                    let is_hopeless = launch.is_unwanted() && launch.disk_trouble().is_some();
                    if is_hopeless && waited >= self.settings.stop_grace { Wish::Kill } else { Wish::Stop }
                }
                Stop::AtOnce => Wish::Kill,
            };
            launch.ask(charge.rank, wish);
            let (exit, trouble) = match launch.state(charge.rank, Instant::now()) {
                RankState::Over(exit, trouble) => (exit, trouble),
                // Its journal tells nothing before a checkpoint has come.
                RankState::Runs if launch.carries(charge.rank, Instant::now()) => {
                    charge.silence.set(Duration::ZERO);
                    continue;
                }
                RankState::Runs => continue,
                // The engine takes its time, and nobody has begun to be silent.
                RankState::Waits => {
                    charge.silence.set(Duration::ZERO);
                    continue;
                }
            };
            if let Some(trouble) = trouble {
                tail.fault = Some(match trouble {
                    Trouble::NotStarted(words) => Fault { kind: FaultKind::Other, words },
                    Trouble::Lost(words) => Fault { kind: FaultKind::Lost, words },
                    Trouble::Full(words) => Fault { kind: FaultKind::Storage, words },
                });
            }
            let (folder, note) = (charge.folder.clone(), ExitNote::new(charge.attempt, exit));
            let end = move || {
                if let Some(lock) = JobLock::take(&folder)? {
                    folder.sweep(&lock)?;
                }
                note.write(&folder)
            };
            let noted = tokio::task::spawn_blocking(end).await;
            if let Err(error) = noted.map_err(std::io::Error::other).flatten() {
                tracing::error!(job.id = %charge.id, rank = charge.rank, %error, "the end of the rank could not be noted");
            }
            return Ok(exit);
        }
    }
}
