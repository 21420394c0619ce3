//! Cuts off HTTP connections whose client sends no request in time or does not read its answer.
//!
//! Slow clients would use up the descriptors. The time that the daemon needs for an answer does not
//! count. Requests have no body that a page reads: the bytes behind a head are the next request. A
//! connection that begins HTTP/2 is cut off at once, since the server would wait for the rest of
//! its preface.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::StreamExt;

use super::visitor::{Io, Visitor, Visitors};
use crate::access::Visit;

/// From connecting, and from the first byte of every further request, to the end of its head.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// From the last byte that was taken off us to the next request. Prometheus asks more often, over
/// the same connection.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// Longer than any answer takes: that is not up to the client.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// How the preface of HTTP/2 begins. No method is called like this. (RFC 9113, 3.4)
const PREFACE: &[u8] = b"PRI ";

/// Accepts connections that are cut off when they are slow.
pub(super) struct Impatient(pub(super) Visitors);

impl Listener for Impatient {
    type Io = Timed<Io>;
    type Addr = Visit;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.next().await {
                Some(Ok(Visitor { io, visit })) => return (Timed::new(io), visit),
                // It was told and waited out.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Impatient>> for Visit {
    fn connect_info(stream: IncomingStream<'_, Impatient>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody asks.
    Idle,
    /// A head comes.
    Asking,
    /// The head was there; the answer is ours to give.
    Answering,
}

pin_project! {
    /// A connection with the time that its client has.
    pub(super) struct Timed<C> {
        #[pin]
        inner: C,
        limit: Pin<Box<Sleep>>,
        stage: Stage,
        head: Head,
    }
}

impl<C> Timed<C> {
    /// The time begins now.
    fn new(inner: C) -> Self {
        Self { inner, limit: Box::pin(sleep(REQUEST_LIMIT)), stage: Stage::Asking, head: Head::new() }
    }
}

/// The head of a request, as far as it has come.
#[derive(Default)]
struct Head {
    has_words: bool,
    line_has_words: bool,
    /// How much of the preface of HTTP/2 it begins with; None where it does not.
    preface: Option<usize>,
}

impl Head {
    fn new() -> Self {
        Self { preface: Some(0), ..Self::default() }
    }

    /// Whether everything so far is the beginning of HTTP/2's preface, and long enough to be
    /// nothing else.
    fn is_preface_with(&mut self, byte: u8) -> bool {
        self.preface = self.preface.filter(|place| PREFACE.get(*place) == Some(&byte)).map(|place| place + 1);
        self.preface == Some(PREFACE.len())
    }

    /// Whether this byte ends it: that of an empty line. Those before the first line do not count.
    /// (RFC 9112, 2.2)
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.has_words && !self.line_has_words => return true,
            b'\n' => self.line_has_words = false,
            b'\r' => {}
            _ => (self.has_words, self.line_has_words) = (true, true),
        }
        false
    }
}

/// The result of a poll, or a timeout once the limit has passed.
fn within<T>(limit: &mut Pin<Box<Sleep>>, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    if poll.is_pending() && limit.as_mut().poll(context).is_ready() {
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    poll
}

impl<C: AsyncRead> AsyncRead for Timed<C> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.inner.poll_read(context, buffer);
        for byte in &buffer.filled()[before..] {
            if *this.stage == Stage::Idle {
                (*this.stage, *this.head) = (Stage::Asking, Head::new());
                this.limit.as_mut().reset(Instant::now() + REQUEST_LIMIT);
            }
            if *this.stage == Stage::Asking && this.head.is_preface_with(*byte) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::Unsupported, "HTTP/2 is not spoken here")));
            }
            if *this.stage == Stage::Asking && this.head.ends_with(*byte) {
                *this.stage = Stage::Answering;
                this.limit.as_mut().reset(Instant::now() + ANSWER_LIMIT);
            }
        }
        // In every stage: hyper does not read again after a write where the read before had to
        // wait, and is woken by what that waited for.
        within(this.limit, context, read)
    }
}

impl<C> Timed<C> {
    /// Takes note of a write: one that goes on gives the client new time, one that waits for the
    /// client uses it up.
    fn wrote(
        limit: &mut Pin<Box<Sleep>>,
        stage: &mut Stage,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() || *stage == Stage::Answering {
            *stage = Stage::Idle;
            limit.as_mut().reset(Instant::now() + IDLE_LIMIT);
        }
        within(limit, context, written)
    }
}

impl<C: AsyncWrite> AsyncWrite for Timed<C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.inner.poll_write(context, bytes);
        Self::wrote(this.limit, this.stage, context, written)
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
        let this = self.project();
        let written = this.inner.poll_write_vectored(context, slices);
        Self::wrote(this.limit, this.stage, context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::sync::mpsc;

    use super::*;

    struct Made(mpsc::Receiver<DuplexStream>);

    impl Listener for Made {
        type Io = Timed<DuplexStream>;
        type Addr = ();

        async fn accept(&mut self) -> (Self::Io, ()) {
            match self.0.recv().await {
                Some(connection) => (Timed::new(connection), ()),
                None => pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A server with a page that is there at once, one that takes a minute, and a large one.
    fn serve() -> mpsc::Sender<DuplexStream> {
        let (connect, connections) = mpsc::channel(1);
        let slow = async || {
            sleep(Duration::from_secs(60)).await;
            "here"
        };
        let pages = Router::new().route("/", get(async || "here")).route("/slow", get(slow));
        let pages = pages.route("/large", get(async || "x".repeat(1 << 20)));
        tokio::spawn(async move { axum::serve(Made(connections), pages).await });
        connect
    }

    /// The words that are sent, each with its second.
    type Sent<'a> = &'a [(u64, &'a str)];

    fn asks(page: &str) -> String {
        format!("GET {page} HTTP/1.1\r\nHost: here\r\n\r\n")
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_us_waiting_is_cut_off_and_whom_we_keep_waiting_is_not() {
        let connect = serve();
        let (whole, half) = (asks("/"), "GET / HTTP/1.1\r\nHost: he");
        let dribble: Vec<_> = (0..whole.len()).map(|place| (place as u64, &whole[place..=place])).collect();
        let lines: Vec<_> = (0..40).map(|second| (second, "\r\n")).collect();
        let both = format!("{whole}{half}");
        let slow = asks("/slow");
        // How many answers come before the connection is cut off in which second.
        let cases: [(&str, Sent, usize, u64); 13] = [
            ("silence", &[], 0, 10),
            ("half a request", &[(0, half)], 0, 10),
            ("a byte a second", &dribble, 0, 10),
            ("empty lines", &lines, 0, 10),
            ("a request", &[(9, &whole)], 1, 309),
            ("another one later", &[(0, &whole), (250, half), (255, &whole[half.len()..])], 2, 555),
            ("half of another one later", &[(0, &whole), (250, half)], 1, 260),
            ("half of another one at once", &[(0, &both)], 1, 300),
            ("the preface of HTTP/2", &[(0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], 0, 0),
            ("half of that", &[(0, "PRI * HTTP/2.0\r\n\r\n")], 0, 0),
            ("a little of it", &[(0, "PRI")], 0, 10),
            ("that behind empty lines", &[(0, "\r\n\r\nPRI * HTTP/2.0\r\n\r\n")], 0, 0),
            ("a page that takes its time", &[(0, &slow)], 1, 360),
        ];
        for (name, sent, answers, end) in cases {
            let (client, server) = duplex(1 << 16);
            connect.send(server).await.unwrap();
            let (mut reader, mut writer) = split(client);
            let begun = Instant::now();
            let sending = async {
                for (second, words) in sent {
                    tokio::time::sleep_until(begun + Duration::from_secs(*second)).await;
                    // It may be cut off by now.
                    let _ = writer.write_all(words.as_bytes()).await;
                }
            };
            let receiving = async {
                let mut text = String::new();
                // Where nothing has a time, this one is the next.
                let end = tokio::time::timeout(2 * ANSWER_LIMIT, reader.read_to_string(&mut text)).await;
                end.expect(name).unwrap();
                (text, begun.elapsed().as_secs())
            };
            let ((), (text, ended)) = tokio::join!(sending, receiving);
            assert_eq!((text.matches("200 OK").count(), ended), (answers, end), "{name}: {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_and_does_not_read_is_cut_off() {
        let connect = serve();
        let (mut client, server) = duplex(1 << 16);
        connect.send(server).await.unwrap();
        client.write_all(asks("/large").as_bytes()).await.unwrap();
        sleep(IDLE_LIMIT + Duration::from_secs(1)).await;
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_gets_all_of_it() {
        let connect = serve();
        let (mut client, server) = duplex(1 << 16);
        connect.send(server).await.unwrap();
        client.write_all(asks("/large").as_bytes()).await.unwrap();
        let (mut count, mut block) = (0, vec![0; 1 << 16]);
        while count < 1 << 20 {
            sleep(IDLE_LIMIT / 2).await;
            let read = client.read(&mut block).await.unwrap();
            assert!(read > 0, "{count}");
            count += read;
        }
    }
}
