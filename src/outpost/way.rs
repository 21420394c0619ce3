//! The way of a rank's calls to the daemon.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::cli::Link;
use crate::mailbox::Mailbox;

/// The way.
#[derive(Clone)]
pub(super) enum Way {
    /// A connection.
    Connection(Link),
    /// Files in a folder that both reach.
    Mailbox(Mailbox),
}

/// How soon answers come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// A small call has an answer within this time, or none.
    pub(super) answer: Duration,
    /// A daemon that does not answer is asked again for so long, before anything has run.
    pub(super) patience: Duration,
    /// The lease is renewed this often at least, so that wishes of the daemon come soon.
    pub(super) slowest_beat: Duration,
}

impl Way {
    /// A call by a mailbox takes some files, and a shared folder may show them late.
    pub(super) fn pace(&self) -> Pace {
        let (answer, patience, slowest_beat) = match self {
            Self::Connection(_) => (10, 60, 1),
            Self::Mailbox(_) => (120, 600, 3),
        };
        let [answer, patience, slowest_beat] = [answer, patience, slowest_beat].map(Duration::from_secs);
        Pace { answer, patience, slowest_beat }
    }
}

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match self {
            Self::Connection(link) => link.poll_ready(context).map_err(|error| Status::from_error(error.into())),
            Self::Mailbox(mailbox) => mailbox.poll_ready(context),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Connection(link) => {
                let answer = link.call(request);
                Box::pin(async move {
                    let answer = answer.await.map_err(|error| Status::from_error(error.into()))?;
                    Ok(answer.map(Body::new))
                })
            }
            Self::Mailbox(mailbox) => Box::pin(mailbox.call(request)),
        }
    }
}
