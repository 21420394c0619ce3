//! TLS handshakes, beside each other, with a bound.
//!
//! A client that never finishes costs a little memory and a descriptor, for a time. Where there are
//! too many of them the oldest goes: a handshake takes milliseconds, and those of a flood are the
//! ones that have waited.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::doors::accept_again;
use super::tls::{Certificates, shown};
use super::visitor::{self, Visitor};
use crate::access::{Connection, Strangers};

/// From connecting to the end of the handshake.
const LIMIT: Duration = Duration::from_secs(10);
/// Handshakes under way.
const MOST: usize = 256;
/// Connections that wait to be served.
const MOST_WAITING: usize = 64;

/// Connections with their handshakes made. Ends when nobody takes them.
pub(super) fn made(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    protocol: &'static [u8],
    strangers: Strangers,
) -> impl Stream<Item = io::Result<Visitor>> {
    let (sender, visitors) = mpsc::channel(MOST_WAITING);
    tokio::spawn(async move {
        let mut under_way = UnderWay::default();
        // One that was told to go is there for a moment yet.
        let room = Arc::new(Semaphore::new(2 * MOST));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_again(&error).await;
                    continue;
                }
            };
            let (sender, strangers) = (sender.clone(), strangers.clone());
            let attempt = Attempt { certificates: certificates.clone(), is_made: false, _place: place };
            let one = tokio::spawn(async move {
                match timeout(LIMIT, shake(attempt.certificates.acceptor(protocol), stream, from)).await {
                    Ok(Ok((stream, connection))) => {
                        attempt.succeed();
                        let _ = sender.send(Ok(Visitor::new(stream, connection, &strangers))).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%from, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                }
            });
            under_way.add(one.abort_handle());
        }
    });
    ReceiverStream::new(visitors)
}

/// A handshake, which has failed unless it says otherwise: also one that gives way to others.
struct Attempt {
    certificates: Arc<Certificates>,
    is_made: bool,
    _place: OwnedSemaphorePermit,
}

impl Attempt {
    fn succeed(mut self) {
        self.is_made = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_made {
            self.certificates.note_failure();
        }
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
) -> io::Result<(visitor::Stream, Connection)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(shown).transpose()?;
    Ok((visitor::Stream::Tls(Box::new(stream)), Connection::Tls { from, certificate }))
}

/// The handshakes under way, the oldest first.
#[derive(Default)]
struct UnderWay(VecDeque<AbortHandle>);

impl UnderWay {
    fn add(&mut self, one: AbortHandle) {
        if self.0.len() >= MOST {
            self.0.retain(|one| !one.is_finished());
        }
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_handshake_goes_where_there_are_too_many() {
        let mut under_way = UnderWay::default();
        let begin = || tokio::spawn(std::future::pending::<()>());
        let first = begin();
        under_way.add(first.abort_handle());
        let others: Vec<_> = (1..MOST).map(|_| begin()).collect();
        others.iter().for_each(|one| under_way.add(one.abort_handle()));
        tokio::task::yield_now().await;
        assert!(!first.is_finished());
        let last = begin();
        under_way.add(last.abort_handle());
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(!last.is_finished() && others.iter().all(|one| !one.is_finished()));
        assert_eq!(under_way.0.len(), MOST);
    }
}
