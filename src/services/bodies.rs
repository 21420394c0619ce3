//! The bodies of requests and answers, held to the limits that all clients share.
//!
//! A request has to come in time, and its bytes wait where those of all clients together are too
//! many: the sender is held back by flow control. Each message of a stream of requests counts by
//! itself, from the moment that the service is done with the one before. An answer that nobody
//! reads is dropped after a time, with the room and the files that it took, and so is a stream that
//! stands still because its client does not read. A stream that has nothing to tell may stand still
//! for ever.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::PollSemaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Code, Status};

use super::clients::{FREE_BYTES, Hold, no_room};
use super::status::{not_read, plain};

/// From the head of a request to its last byte, or from one message of a stream to the next.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// From an answer to the last byte that its client takes of it, and from one piece of a stream to
/// the next that its client could have taken.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Bytes that are handed on at a time: what the client has no window for stays with us, and counts.
const PIECE_BYTES: usize = 16 << 10;

pin_project! {
    /// The body of a request.
    pub(super) struct Incoming {
        #[pin]
        inner: Body,
        room: PollSemaphore,
        held: Option<OwnedSemaphorePermit>,
        received: usize,
        // Has come and waits for room.
        waiting: Option<Bytes>,
        limit: Pin<Box<Sleep>>,
        // None where there is one message alone.
        taken: Option<Taken>,
    }
}

/// Set by a service that is done with a message of a stream of requests: its room is free, and the
/// time of the next one begins. It stands in the extensions of the request.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Arc<AtomicBool>);

impl Taken {
    /// The service is done with what it has read.
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn was_marked(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Incoming {
    /// The body of a request of one message. The time begins now.
    pub(super) fn new(inner: Body, room: Arc<Semaphore>) -> Self {
        Self {
            inner,
            room: PollSemaphore::new(room),
            held: None,
            received: 0,
            waiting: None,
            limit: Box::pin(sleep(REQUEST_LIMIT)),
            taken: None,
        }
    }

    /// The body of a stream of requests.
    pub(super) fn stream(inner: Body, room: Arc<Semaphore>, taken: Taken) -> Self {
        Self { taken: Some(taken), ..Self::new(inner, room) }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        if this.taken.as_ref().is_some_and(Taken::was_marked) {
            (*this.held, *this.received) = (None, 0);
            this.limit.as_mut().reset(Instant::now() + REQUEST_LIMIT);
        }
        if this.waiting.is_none() {
            match this.inner.as_mut().poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        *this.received += data.len();
                        if *this.received <= FREE_BYTES {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        *this.waiting = Some(data);
                    }
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => {}
            }
        }
        if let Some(data) = this.waiting.take() {
            let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
            match this.room.poll_acquire_many(context, bytes) {
                Poll::Ready(permit) => {
                    match (this.held.as_mut(), permit) {
                        (Some(held), Some(permit)) => held.merge(permit),
                        (None, permit) => *this.held = permit,
                        (Some(_), None) => {}
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Pending => *this.waiting = Some(data),
            }
        }
        ready!(this.limit.as_mut().poll(context));
        let status = if this.waiting.is_some() {
            let message =
                format!("for {REQUEST_LIMIT:?} there was no room for the request beside others that come slowly");
            plain(Code::ResourceExhausted, "TOO_MANY_BYTES", message)
        } else {
            let what = if this.taken.is_some() { "a message of the stream" } else { "the request" };
            let message = format!("{what} has not come whole within {REQUEST_LIMIT:?}");
            plain(Code::DeadlineExceeded, "REQUEST_TOO_SLOW", message)
        };
        Poll::Ready(Some(Err(status)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }
}

/// How long a client may take to read an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All of it has to be read in time.
    AtOnce,
    /// Each piece has to be taken in time, counted from the one before. The time that the service
    /// needs for the next one does not count.
    AsItComes,
}

/// The body of an answer, which takes room until it was read.
pub(super) struct Outgoing {
    answer: Arc<Mutex<Answer>>,
    reading: Reading,
    /// Where bytes of answers are counted.
    answers: Arc<Semaphore>,
    _end: AbortOnDropHandle<()>,
}

struct Answer {
    /// None once it has ended.
    source: Option<Source>,
    /// When the client's time began; None while it is the service that is waited for.
    since: Option<Instant>,
    /// How it ended where the service has not ended it; told to a client that reads on.
    end: Option<Status>,
}

struct Source {
    body: Body,
    /// Comes next, and is counted.
    next: Option<Frame<Bytes>>,
    hold: Hold,
}

impl Outgoing {
    /// The client's time begins now.
    pub(super) fn new(body: Body, hold: Hold, reading: Reading, answers: Arc<Semaphore>) -> Self {
        let source = Some(Source { body, next: None, hold });
        let answer = Arc::new(Mutex::new(Answer { source, since: Some(Instant::now()), end: None }));
        // While its client has no window nobody asks the body for anything, so that it cannot end
        // by itself.
        let end = AbortOnDropHandle::new(tokio::spawn(end_in_time(Arc::downgrade(&answer))));
        Self { answer, reading, answers, _end: end }
    }

    /// An answer of one message, which is encoded before its client has a window for it: so it is
    /// known how much waits.
    pub(super) async fn encoded(body: Body, hold: Hold, answers: Arc<Semaphore>) -> Self {
        let this = Self::new(body, hold, Reading::AtOnce, answers);
        poll_fn(|context| this.lock().fill(&this.answers, context)).await;
        this
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    fn end(&mut self, status: Status) {
        (self.source, self.end) = (None, Some(status));
    }

    /// Asks the service for what comes next, if that is not there. Ends the answer where there is
    /// no room for it.
    fn fill(&mut self, answers: &Arc<Semaphore>, context: &mut Context<'_>) -> Poll<()> {
        let Some(Source { body, next, hold }) = self.source.as_mut().filter(|source| source.next.is_none()) else {
            return Poll::Ready(());
        };
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) if frame.data_ref().is_none_or(|data| hold.cover(data.len(), answers)) => {
                *next = Some(frame);
            }
            Some(Ok(_)) => self.end(no_room()),
            Some(Err(status)) => self.end(status),
            None => self.source = None,
        }
        Poll::Ready(())
    }
}

impl Source {
    /// The next piece of what is there.
    fn piece(&mut self) -> Option<Frame<Bytes>> {
        let mut data = match self.next.take()?.into_data() {
            Ok(data) => data,
            Err(trailers) => return Some(trailers),
        };
        let piece = data.split_to(data.len().min(PIECE_BYTES));
        self.next = Some(Frame::data(data)).filter(|rest| rest.data_ref().is_some_and(|rest| !rest.is_empty()));
        Some(Frame::data(piece))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut answer = self.lock();
        if self.reading == Reading::AsItComes {
            answer.since = None;
        }
        if let Some(source) = answer.source.as_ref().filter(|source| source.next.is_none()) {
            // The frame before is handed on.
            source.hold.put(None);
        }
        ready!(answer.fill(&self.answers, context));
        if self.reading == Reading::AsItComes {
            answer.since = Some(Instant::now());
        }
        if let Some(piece) = answer.source.as_mut().and_then(Source::piece) {
            return Poll::Ready(Some(Ok(piece)));
        }
        Poll::Ready(answer.end.take().map(|status| Ok(trailers(&status))))
    }
}

/// Ends an answer whose client does not read it.
async fn end_in_time(answer: Weak<Mutex<Answer>>) {
    loop {
        let ends = {
            let Some(answer) = answer.upgrade() else { return };
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let ends = answer.since.unwrap_or(now) + ANSWER_LIMIT;
            if ends <= now {
                return answer.end(not_read(ANSWER_LIMIT));
            }
            ends
        };
        sleep_until(ends).await;
    }
}

/// The end of an answer with that status.
pub(super) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // A status of ours fits into headers.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use tonic_types::StatusExt;

    use super::super::clients::Clients;
    use super::*;

    /// A body that sends these bytes and then nothing more.
    struct Unfinished(Option<Bytes>);

    impl HttpBody for Unfinished {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.take() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => Poll::Pending,
            }
        }
    }

    /// A body of what is sent.
    struct Sent(tokio::sync::mpsc::Receiver<Frame<Bytes>>);

    impl HttpBody for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_recv(context).map(|frame| frame.map(Ok))
        }
    }

    async fn next(body: &mut (impl HttpBody<Data = Bytes, Error = Status> + Unpin)) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    fn half_sent(bytes: usize, room: &Arc<Semaphore>) -> Incoming {
        Incoming::new(Body::new(Unfinished(Some(vec![0; bytes].into()))), room.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_whole_is_ended_and_gives_its_room_back() {
        let room = Arc::new(Semaphore::new(100_000));
        let begun = Instant::now();
        let mut body = half_sent(80_000, &room);
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 80_000);
        assert_eq!(room.available_permits(), 20_000);
        // There is no room for this one, and always some for an ordinary one.
        let mut second = half_sent(50_000, &room);
        assert!(timeout(Duration::from_secs(1), next(&mut second)).await.is_err());
        assert_eq!(next(&mut half_sent(FREE_BYTES, &room)).await.unwrap().unwrap().len(), FREE_BYTES);
        let status = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!((status.code(), begun.elapsed()), (Code::DeadlineExceeded, REQUEST_LIMIT));
        drop(body);
        assert_eq!(next(&mut second).await.unwrap().unwrap().len(), 50_000);
        drop(second);
        assert_eq!(room.available_permits(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_of_a_stream_has_the_time_and_the_room_of_a_request() {
        let room = Arc::new(Semaphore::new(100_000));
        let (send, sent) = tokio::sync::mpsc::channel(8);
        let taken = Taken::default();
        let mut body = Incoming::stream(Body::new(Sent(sent)), room.clone(), taken.clone());
        // All of them together are more than there is room for, and take longer than one may.
        for _ in 0..4 {
            send.try_send(Frame::data(vec![7; 60_000].into())).unwrap();
            assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 60_000);
            assert_eq!(room.available_permits(), 40_000);
            sleep(REQUEST_LIMIT * 2).await;
            taken.mark();
            assert!(timeout(REQUEST_LIMIT * 9 / 10, next(&mut body)).await.is_err());
            assert_eq!(room.available_permits(), 100_000);
        }
        let status = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().starts_with("a message of the stream has not come"), "{}", status.message());
    }

    /// A page of 40,000 bytes for which a megabyte was taken.
    async fn page(clients: &Clients) -> Outgoing {
        let hold = clients.hold(1 << 20).await.unwrap();
        let body = Body::new(Unfinished(Some(vec![7; 40_000].into())));
        Outgoing::encoded(body, hold, clients.answers()).await
    }

    /// The code and the reason that an answer ends with.
    async fn end(body: &mut Outgoing) -> (String, String) {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.unwrap().unwrap();
        let status = Status::from_header_map(frame.trailers_ref().unwrap()).unwrap();
        assert!(next(body).await.is_none(), "trailers are the last");
        (format!("{:?}", status.code()), status.get_details_error_info().unwrap().reason)
    }

    fn told(code: &str, reason: &str) -> (String, String) {
        (code.into(), reason.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_nobody_reads_gives_its_room_back_and_one_that_is_read_comes_in_pieces() {
        let clients = Clients::default();
        let all = clients.answers().available_permits();
        let (mut read, mut unread) = (page(&clients).await, page(&clients).await);
        assert_eq!(clients.answers().available_permits(), all - (2 << 20));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            sizes.push(next(&mut read).await.unwrap().unwrap().len());
        }
        assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, 40_000 - 2 * PIECE_BYTES]);
        drop(read);
        assert_eq!(clients.answers().available_permits(), all - (1 << 20));
        sleep(ANSWER_LIMIT + Duration::from_secs(1)).await;
        assert_eq!(clients.answers().available_permits(), all);
        assert_eq!(end(&mut unread).await, told("DeadlineExceeded", "ANSWER_NOT_READ"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_size_nobody_has_told_is_counted_too() {
        let clients = Clients::default();
        let all = clients.answers().available_permits();
        let whole = async || {
            let body = Body::new(Unfinished(Some(vec![7; 40_000].into())));
            Outgoing::encoded(body, Hold::default(), clients.answers()).await
        };
        let first = whole().await;
        assert_eq!(clients.answers().available_permits(), all - 40_000);
        let rest = clients.answers().acquire_many_owned(all as u32 - 40_000).await.unwrap();
        assert_eq!(end(&mut whole().await).await, told("ResourceExhausted", "BUSY"));
        drop((first, rest));
        assert_eq!(next(&mut whole().await).await.unwrap().unwrap().len(), PIECE_BYTES);
        assert_eq!(clients.answers().available_permits(), all);
    }

    /// A stream of messages of that many bytes, the first of which come at once and the others
    /// when they are sent.
    fn stream(clients: &Clients, at_once: usize) -> (Outgoing, tokio::sync::mpsc::Sender<Frame<Bytes>>) {
        let (send, sent) = tokio::sync::mpsc::channel(8);
        (0..at_once).for_each(|_| send.try_send(Frame::data(vec![7; 20_000].into())).unwrap());
        (Outgoing::new(Body::new(Sent(sent)), Hold::default(), Reading::AsItComes, clients.answers()), send)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_stops_reading_ends_and_one_that_has_nothing_to_tell_does_not() {
        let clients = Clients::default();
        let all = clients.answers().available_permits();
        // One whose client has never had a window, and one that stops amid a message.
        let (mut unread, of_unread) = stream(&clients, 1);
        let (mut begun, of_begun) = stream(&clients, 1);
        let (mut quiet, of_quiet) = stream(&clients, 0);
        assert_eq!(next(&mut begun).await.unwrap().unwrap().len(), PIECE_BYTES);
        assert_eq!(clients.answers().available_permits(), all - 20_000);
        assert!(timeout(10 * ANSWER_LIMIT, next(&mut quiet)).await.is_err());
        for (stream, sender) in [(&mut unread, of_unread), (&mut begun, of_begun)] {
            assert!(sender.is_closed(), "all that it held is gone");
            assert_eq!(end(stream).await, told("DeadlineExceeded", "ANSWER_NOT_READ"));
        }
        assert_eq!(clients.answers().available_permits(), all);
        of_quiet.send(Frame::data(vec![7; 9].into())).await.unwrap();
        assert_eq!(next(&mut quiet).await.unwrap().unwrap().len(), 9);
        // Slow is not still.
        let (mut slow, of_slow) = stream(&clients, 2);
        for _ in 0..4 {
            sleep(ANSWER_LIMIT * 9 / 10).await;
            assert!(next(&mut slow).await.unwrap().is_ok());
        }
        drop(of_slow);
        assert!(next(&mut slow).await.is_none());
    }
}
