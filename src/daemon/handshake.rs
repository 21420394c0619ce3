//! Cuts off gRPC connections that do not send the preface of HTTP/2 in time, and tells each request
//! over which connection it came.
//!
//! Keep-alive pings reach a client only after its preface. Without this limit silent connections
//! would use up the descriptors.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::access::Visit;

/// From connecting to the last byte of the preface.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// `PRI * HTTP/2.0`, two empty lines and `SM` between them. (RFC 9113, 3.4)
const PREFACE_BYTES: usize = 24;

pin_project! {
    /// A connection that has to begin in time.
    pub(super) struct Punctual<C> {
        #[pin]
        inner: C,
        // None once the preface is there.
        limit: Option<Pin<Box<Sleep>>>,
        received: usize,
        visit: Visit,
    }
}

impl<C> Punctual<C> {
    /// The time begins now.
    pub(super) fn new(inner: C, visit: Visit) -> Self {
        Self { inner, limit: Some(Box::pin(sleep(LIMIT))), received: 0, visit }
    }
}

impl<C: AsyncRead> AsyncRead for Punctual<C> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.inner.poll_read(context, buffer);
        if let Some(limit) = this.limit {
            *this.received += buffer.filled().len() - before;
            if *this.received >= PREFACE_BYTES {
                *this.limit = None;
            } else if read.is_pending() && limit.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<C: AsyncWrite> AsyncWrite for Punctual<C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<C> Connected for Punctual<C> {
    type ConnectInfo = Visit;

    fn connect_info(&self) -> Visit {
        self.visit.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::access::{Connection, Strangers};

    #[tokio::test(start_paused = true)]
    async fn who_says_hello_may_be_silent_afterwards_and_who_dribbles_is_cut_off() {
        for (sent, is_cut) in [(PREFACE_BYTES, false), (PREFACE_BYTES - 1, true), (0, true)] {
            let (mut client, server) = tokio::io::duplex(100);
            let from = "127.0.0.1:1".parse().unwrap();
            let connection = Connection::Plain { from, is_loopback: true };
            let visit = Strangers::new().enter(&connection).visit(connection);
            let mut server = Punctual::new(server, visit);
            client.write_all(&vec![1; sent]).await.unwrap();
            let mut received = vec![0; sent];
            server.read_exact(&mut received).await.unwrap();
            // Time stands still but for those who wait for it.
            let further = tokio::time::timeout(2 * LIMIT, server.read_u8()).await;
            let error = further.ok().map(|read| read.unwrap_err().kind());
            assert_eq!(error, is_cut.then_some(io::ErrorKind::TimedOut), "{sent}");
        }
    }
}
