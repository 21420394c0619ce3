//! Streams that outlast a restart of the daemon: where the connection is lost, or the daemon says
//! that it can be asked again, the missing messages are asked for again. A refusal is final, and a
//! daemon that does not come back is told like one that is not there.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::connection::Connection;
use super::failure::Failure;
use crate::proto::v1::{self, watch_event::Event};

/// From the loss of a connection to giving up: longer than a daemon takes that reads ten thousand
/// jobs.
const LIMIT: Duration = Duration::from_secs(300);
/// From the loss to the first try; each further one comes after twice the time before ...
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// A request for a stream that can be made again for what is behind the last message.
pub(super) trait Followed {
    /// A message of the stream.
    type Message;

    /// Makes the request.
    async fn ask(&self, connection: &Connection) -> Result<Streaming<Self::Message>, Status>;

    /// Takes note of a message, so that the next request is for what is behind it; None where
    /// nothing in it is new. `is_first` of a stream that takes up another.
    fn take(&mut self, message: Self::Message, is_first: bool) -> Option<Self::Message>;
}

/// A stream that is taken up again where it was lost.
pub(super) struct Following<R: Followed> {
    connection: Connection,
    request: R,
    /// None while there is no connection.
    stream: Option<Streaming<R::Message>>,
    /// From the loss of the connection to the next answer, which may be a stream that has nothing
    /// to bring for hours.
    patience: Option<Patience>,
    /// The stream takes up another and has brought nothing yet.
    is_first: bool,
}

impl<R: Followed> Following<R> {
    /// Asks a daemon that has not answered yet: one that cannot be followed now is told at once.
    pub(super) async fn begin(connection: Connection, request: R) -> Result<Self, Failure> {
        let stream = request.ask(&connection).await?;
        Ok(Self { connection, request, stream: Some(stream), patience: None, is_first: false })
    }

    /// Will ask a daemon that has answered already.
    pub(super) fn of(connection: Connection, request: R) -> Self {
        Self { connection, request, stream: None, patience: None, is_first: false }
    }

    /// The next message; None after the last. `tell` gets the messages for people meanwhile.
    pub(super) async fn next(&mut self, tell: impl Fn(&str)) -> Result<Option<R::Message>, Failure> {
        loop {
            let came = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => match self.request.ask(&self.connection).await {
                    Ok(stream) => {
                        self.is_first = self.patience.take().is_some();
                        self.stream = Some(stream);
                        continue;
                    }
                    Err(status) => Err(status),
                },
            };
            match came {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    let is_first = std::mem::take(&mut self.is_first);
                    if let Some(message) = self.request.take(message, is_first) {
                        return Ok(Some(message));
                    }
                }
                Err(status) if is_loss(&status) => {
                    self.stream = None;
                    if self.patience.is_none() {
                        let minutes = LIMIT.as_secs() / 60;
                        let what = match may_ask_again(&status) {
                            true => "torchd has ended the answer for now",
                            false => "the connection to torchd is lost",
                        };
                        tell(&format!("{what} ({}); it is tried again for {minutes} minutes", status.message()));
                    }
                    if !self.patience.get_or_insert_with(Patience::new).wait().await {
                        return Err(self.connection.lost(&status));
                    }
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}

/// Whether a stream ended because the daemon has gone or has no room for it now, and not because it
/// refuses. A status from the daemon has no source; a fault of the connection has one.
fn is_loss(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
        || status.source().is_some()
        || may_ask_again(status)
}

/// Whether the daemon says that the same may be asked for again: the machine was short of
/// something, others took all the room, or we did not read.
fn may_ask_again(status: &Status) -> bool {
    status.get_details_retry_info().is_some()
}

/// How long to wait for a daemon.
struct Patience {
    ends: Instant,
    delay: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { ends: Instant::now() + LIMIT, delay: FIRST_DELAY }
    }

    /// Waits for the next try; false where there should be none.
    async fn wait(&mut self) -> bool {
        if Instant::now() >= self.ends {
            return false;
        }
        sleep(self.delay).await;
        self.delay = LONGEST_DELAY.min(2 * self.delay);
        true
    }
}

/// A watch, and the newest snapshot that it has brought.
pub(super) struct Watched {
    request: v1::WatchJobRequest,
    last: Option<v1::Job>,
}

impl Watched {
    pub(super) fn new(name: String, after_sequence: u64) -> Self {
        Self { request: v1::WatchJobRequest { name, after_sequence, ..Default::default() }, last: None }
    }
}

impl Followed for Watched {
    type Message = v1::WatchJobResponse;

    async fn ask(&self, connection: &Connection) -> Result<Streaming<Self::Message>, Status> {
        Ok(connection.jobs().watch_job(self.request.clone()).await?.into_inner())
    }

    fn take(&mut self, mut message: Self::Message, is_first: bool) -> Option<Self::Message> {
        message.events.retain(|event| match &event.event {
            // Every stream begins with one, changed or not.
            Some(Event::Snapshot(job)) if is_first && self.last.as_ref() == Some(job) => false,
            Some(Event::Snapshot(job)) => {
                self.last = Some(job.clone());
                true
            }
            Some(Event::Record(record)) => {
                self.request.after_sequence = record.sequence;
                true
            }
            None => true,
        });
        (!message.events.is_empty()).then_some(message)
    }
}

impl Followed for v1::ReadJobLogRequest {
    type Message = v1::ReadJobLogResponse;

    async fn ask(&self, connection: &Connection) -> Result<Streaming<Self::Message>, Status> {
        Ok(connection.jobs().read_job_log(self.clone()).await?.into_inner())
    }

    fn take(&mut self, message: Self::Message, _is_first: bool) -> Option<Self::Message> {
        self.offset_bytes = message.next_offset_bytes;
        self.tail_lines = 0;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_is_waited_for_with_growing_pauses_and_not_for_ever() {
        let begun = Instant::now();
        let mut patience = Patience::new();
        let mut tries = Vec::new();
        while patience.wait().await {
            tries.push(begun.elapsed().as_millis());
        }
        assert_eq!(tries[..6], [100, 300, 700, 1500, 3100, 5100]);
        assert!(begun.elapsed() >= LIMIT && begun.elapsed() <= LIMIT + LONGEST_DELAY);
    }

    #[test]
    fn a_refusal_is_no_loss() {
        let short = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
        assert!(is_loss(&Status::with_error_details(Code::ResourceExhausted, "too many open files", short)));
        assert!(!is_loss(&Status::resource_exhausted("it is too large")));
        assert!(is_loss(&Status::unavailable("torchd is shutting down")));
        assert!(is_loss(&Status::from_error(Box::new(h2::Error::from(h2::Reason::INTERNAL_ERROR)))));
        for status in [Status::not_found(""), Status::out_of_range(""), Status::internal(""), Status::data_loss("")] {
            assert!(!is_loss(&status), "{status:?}");
        }
    }

    #[test]
    fn what_was_told_is_neither_asked_for_nor_told_again() {
        let snapshot = |generation| Event::Snapshot(v1::Job { generation, ..v1::Job::default() });
        let record = |sequence| Event::Record(v1::JobRecord { sequence, ..v1::JobRecord::default() });
        let message = |events: Vec<Event>| v1::WatchJobResponse {
            events: events.into_iter().map(|event| v1::WatchEvent { event: Some(event) }).collect(),
        };
        let mut watched = Watched::new("jobs/a".into(), 3);
        for whole in [vec![snapshot(1)], vec![record(4), record(5), snapshot(1)]] {
            assert_eq!(watched.take(message(whole.clone()), false), Some(message(whole)));
        }
        assert_eq!(watched.request.after_sequence, 5);
        assert_eq!(watched.take(message(vec![snapshot(1)]), true), None);
        assert_eq!(watched.take(message(vec![snapshot(2)]), true), Some(message(vec![snapshot(2)])));

        let mut log = v1::ReadJobLogRequest { tail_lines: 10, follow: true, ..Default::default() };
        log.take(v1::ReadJobLogResponse { text: "a".into(), next_offset_bytes: 7 }, false);
        assert_eq!(log, v1::ReadJobLogRequest { offset_bytes: 7, follow: true, ..Default::default() });
    }
}
