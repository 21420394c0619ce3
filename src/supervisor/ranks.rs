//! The ranks of a job: a runner each, which end together. The job ends as the rank that is the
//! cause; one that only lost the others never is.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::runner::{Charge, Origin};
use super::stopping::Stop;
use super::{RunnerEvent, RunnerNews, Supervisor};
use crate::job::end::Exit;
use crate::proto::v1::JobEndReason;

impl Supervisor {
    /// Looks after all ranks of a job until their end: once one has ended before its time, the
    /// others are asked to. `charge` is that of the first: of the others only the start is told.
    pub(super) async fn see_ranks_through(
        &self,
        charge: Charge,
        origin: Origin,
        count: u32,
        stop: watch::Sender<Stop>,
    ) -> RunnerNews {
        let id = charge.id.clone();
        let quiet = Self { settings: self.settings.clone(), events: starts_of_others(self.events.clone()) };
        let mut ranks = JoinSet::new();
        for rank in 0..count {
            let (this, charge) = match rank {
                0 => (self.clone(), charge.clone()),
                _ => (quiet.clone(), charge.of_rank(rank)),
            };
            let origin = origin.clone();
            ranks.spawn(async move { (rank, this.see_through(charge, origin).await) });
        }
        let mut ends: Vec<(u32, RunnerNews)> = Vec::new();
        while let Some(ended) = ranks.join_next().await {
            match ended {
                Ok((rank, news)) => {
                    // The first leaves after the last call that the others take part in.
                    let how = failure(&news).or_else(|| (rank == 0).then(|| "as it should".to_owned()));
                    if let Some(how) = how.filter(|_| !ranks.is_empty()) {
                        tracing::debug!(job.id = %id, rank, "a rank has ended ({how}); the others are asked to end");
                        stop.send_if_modified(|wanted| {
                            std::mem::replace(wanted, Stop::Gently.max(*wanted)) < Stop::Gently
                        });
                    }
                    ends.push((rank, news));
                }
                Err(error) => tracing::error!(job.id = %id, %error, "a rank is not looked after any more"),
            }
        }
        let cause = cause(ends);
        cause.unwrap_or(RunnerNews::Ended {
            exit: Exit::Unknown,
            fault: None,
            log_tail: Vec::new(),
            said: None,
            rank: 0,
        })
    }
}

/// Hands on which process groups there are, and nothing else, until all senders are gone.
fn starts_of_others(to: mpsc::Sender<RunnerEvent>) -> mpsc::Sender<RunnerEvent> {
    let (told, mut heard) = mpsc::channel::<RunnerEvent>(1);
    tokio::spawn(async move {
        while let Some(event) = heard.recv().await {
            if matches!(event.what, RunnerNews::Spawned { .. }) {
                // Nobody listens after the end of the manager.
                let _ = to.send(event).await;
            }
        }
    });
    told
}

/// How a rank has failed, in words; None where it has ended as it should.
fn failure(news: &RunnerNews) -> Option<String> {
    let RunnerNews::Ended { exit, fault, .. } = news else { return None };
    match (exit, fault) {
        (Exit::Code(0), None) => None,
        (_, Some(fault)) => Some(fault.words.clone()),
        (exit, None) => Some(format!("{exit:?}")),
    }
}

/// Whether a rank only lost the others.
fn has_lost_others(news: &RunnerNews) -> bool {
    matches!(news, RunnerNews::Ended { said: Some(said), .. } if said.reason() == JobEndReason::PeerLost)
}

/// The end of the job, from the ends of its ranks in the order in which they came: that of the
/// first where it has finished or there is no cause, else that of the cause that came first.
fn cause(mut ends: Vec<(u32, RunnerNews)>) -> Option<RunnerNews> {
    let first = ends.iter().position(|(rank, _)| *rank == 0);
    let has_finished = |place: usize| match &ends[place].1 {
        // As for a job of one rank.
        RunnerNews::Ended {
            exit: Exit::Code(0) | Exit::Unknown | Exit::OutOfMemory | Exit::Signal(nix::libc::SIGKILL),
            said: Some(said),
            ..
        } => said.reason() == JobEndReason::Finished,
        _ => false,
    };
    let is_cause = |(_, news): &(u32, RunnerNews)| failure(news).is_some() && !has_lost_others(news);
    let reason = |place: usize| match &ends[place].1 {
        RunnerNews::Ended { said: Some(said), .. } => Some(said.reason),
        _ => None,
    };
    // Nobody saw how the others ended where the machine went down.
    let is_known =
        |(_, news): &(u32, RunnerNews)| !matches!(news, RunnerNews::Ended { exit: Exit::Unknown, fault: None, .. });
    let found = ends.iter().position(|end| is_cause(end) && is_known(end));
    let found = found.or(first.filter(|first| is_cause(&ends[*first]))).or_else(|| ends.iter().position(is_cause));
    // Data that are bad are so for all: the first speaks for the job.
    let found = found.map(|found| {
        first.filter(|first| reason(*first).is_some() && reason(*first) == reason(found)).unwrap_or(found)
    });
    let place = first.filter(|place| has_finished(*place)).or(found).or(first)?;
    let (cause, news) = ends.swap_remove(place);
    Some(match news {
        RunnerNews::Ended { exit, fault, log_tail, said, .. } => {
            RunnerNews::Ended { exit, fault, log_tail, said, rank: cause }
        }
        news => news,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::RunnerEnded;

    #[test]
    fn a_rank_that_lost_the_others_is_the_cause_only_where_no_other_is() {
        use JobEndReason::{Finished, Interrupted, OutOfMemory, PeerLost};
        let ended = |rank: u32, exit, reason: Option<JobEndReason>| {
            let said = reason.map(|reason| RunnerEnded { reason: reason.into(), ..RunnerEnded::default() });
            (rank, RunnerNews::Ended { exit, fault: None, log_tail: Vec::new(), said, rank: 0 })
        };
        let found = |ends: Vec<_>| match cause(ends) {
            Some(RunnerNews::Ended { rank, .. }) => rank,
            other => panic!("{other:?}"),
        };
        let lost = |rank| ended(rank, Exit::Code(1), Some(PeerLost));
        let good = |rank, reason| ended(rank, Exit::Code(0), Some(reason));
        assert_eq!(found(vec![good(1, Finished), good(0, Finished)]), 0);
        assert_eq!(found(vec![lost(0), ended(1, Exit::Signal(9), None)]), 1);
        assert_eq!(found(vec![lost(1), ended(2, Exit::Code(1), Some(OutOfMemory)), lost(0)]), 2);
        assert_eq!(found(vec![ended(0, Exit::Signal(9), None), lost(1)]), 0);
        assert_eq!(found(vec![lost(2), lost(1), lost(0)]), 0);
        assert_eq!(found(vec![good(0, Finished), lost(1)]), 0);
        assert_eq!(
            found(vec![ended(1, Exit::Code(1), Some(OutOfMemory)), ended(0, Exit::Code(1), Some(OutOfMemory))]),
            0
        );
        assert_eq!(found(vec![ended(1, Exit::Unknown, None), ended(0, Exit::Unknown, None)]), 0);
        assert_eq!(found(vec![ended(1, Exit::Signal(9), None), ended(0, Exit::Signal(9), Some(Finished))]), 0);
        // The first was asked to end, since another had failed.
        assert_eq!(found(vec![ended(1, Exit::Signal(11), None), good(0, Interrupted)]), 1);
    }
}
