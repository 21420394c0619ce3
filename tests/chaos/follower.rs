//! A client that watches a job to its end, across the deaths of the daemon, and notes everything
//! that it is told wrongly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::{self, watch_event::Event};

/// The observations of a follower.
#[derive(Default)]
pub(crate) struct Seen {
    /// The number of the last record.
    pub(crate) sequence: u64,
    /// The last snapshot.
    pub(crate) job: Option<v1::Job>,
    /// The mistakes that it found.
    pub(crate) wrong: Vec<String>,
    /// Streams that were needed.
    pub(crate) streams: u64,
}

/// Follows a job until it is told its end, or the job is not there any more. `pace` is how long it
/// takes over each message.
pub(crate) async fn follow(name: String, mut address: watch::Receiver<Option<SocketAddr>>, pace: Duration) -> Seen {
    let mut seen = Seen::default();
    loop {
        let Ok(now) = address.wait_for(Option::is_some).await.map(|now| *now) else { return seen };
        let address = now.unwrap();
        match stream(&name, address, pace, &mut seen).await {
            Ok(()) => return seen,
            Err(tonic::Code::NotFound) => return seen,
            Err(tonic::Code::OutOfRange) => {
                seen.wrong.push(format!("the journal of {name} ends before record {}", seen.sequence));
                return seen;
            }
            Err(code) if !is_lost(code) => {
                seen.wrong.push(format!("the watch of {name} ended with {code:?}"));
                return seen;
            }
            // The daemon has died, or is about to.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Whether an answer says that the daemon is gone, and nothing of the job.
pub(crate) fn is_lost(code: tonic::Code) -> bool {
    // The last is what a connection that breaks off within a frame looks like; of our own answers
    // none has it while a job is watched.
    matches!(code, tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled | tonic::Code::Internal)
}

async fn stream(name: &str, address: SocketAddr, pace: Duration, seen: &mut Seen) -> Result<(), tonic::Code> {
    let connected = JobServiceClient::connect(format!("http://{address}")).await;
    let mut jobs = connected.map_err(|_| tonic::Code::Unavailable)?;
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: seen.sequence, ..Default::default() };
    let mut stream = jobs.watch_job(request).await.map_err(|status| status.code())?.into_inner();
    seen.streams += 1;
    let mut is_first = true;
    loop {
        match stream.message().await.map_err(|status| status.code())? {
            Some(message) => {
                for event in message.events {
                    if let Some(event) = event.event {
                        seen.event(name, event, is_first);
                        is_first = false;
                    }
                }
                tokio::time::sleep(pace).await;
            }
            None => {
                if seen.job.as_ref().is_none_or(|job| job.end.is_none()) {
                    seen.wrong.push(format!("the watch of {name} ended in order, and not with the end of the job"));
                }
                return Ok(());
            }
        }
    }
}

impl Seen {
    fn event(&mut self, name: &str, event: Event, is_first: bool) {
        match event {
            Event::Record(record) => {
                if is_first {
                    self.wrong.push(format!("{name}: a watch begins with a record"));
                }
                if record.sequence != self.sequence + 1 {
                    self.wrong.push(format!("{name}: record {} follows {}", record.sequence, self.sequence));
                }
                self.sequence = record.sequence;
            }
            Event::Snapshot(job) => {
                if let Some(before) = &self.job {
                    if job.generation < before.generation {
                        self.wrong.push(format!("{name}: generation {} after {}", job.generation, before.generation));
                    }
                    if job.generation == before.generation && job.state != before.state {
                        self.wrong.push(format!("{name}: two states of generation {}", job.generation));
                    }
                    if before.end.is_some() && (&before.end, before.state) != (&job.end, job.state) {
                        self.wrong.push(format!("{name}: an end was changed: {:?}, {:?}", before.end, job.end));
                    }
                }
                self.job = Some(job);
            }
        }
    }
}
