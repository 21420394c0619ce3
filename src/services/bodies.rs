//! The bodies of requests and answers, held to the limits that all clients share.
//!
//! A request has to come in time, and its bytes wait where those of all clients together are too
//! many: the sender is held back by flow control. A page that nobody reads is dropped after a time,
//! with the room that it took.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Code, Status};

use super::clients::{FREE_BYTES, Hold};
use super::status::plain;

/// From the head of a request to its last byte.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// From an answer to the last byte that its client takes of it.
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
    }
}

impl Incoming {
    /// The time begins now.
    pub(super) fn new(inner: Body, room: Arc<Semaphore>) -> Self {
        Self {
            inner,
            room: PollSemaphore::new(room),
            held: None,
            received: 0,
            waiting: None,
            limit: Box::pin(sleep(REQUEST_LIMIT)),
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
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
            let message = format!("the request has not come whole within {REQUEST_LIMIT:?}");
            plain(Code::DeadlineExceeded, "REQUEST_TOO_SLOW", message)
        };
        Poll::Ready(Some(Err(status)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }
}

/// The body of an answer that takes room until it was read.
pub(super) struct Held {
    /// None once its time is over.
    answer: Arc<Mutex<Option<Answer>>>,
    _end: AbortOnDropHandle<()>,
}

struct Answer {
    body: Body,
    /// Encoded, and not handed on.
    rest: Bytes,
    _hold: Hold,
}

impl Held {
    /// The time begins now.
    pub(super) fn new(body: Body, hold: Hold) -> Self {
        let answer = Arc::new(Mutex::new(Some(Answer { body, rest: Bytes::new(), _hold: hold })));
        let late = Arc::downgrade(&answer);
        // While its client has no window nobody asks the body for anything, so that it cannot end
        // by itself.
        let end = tokio::spawn(async move {
            sleep(ANSWER_LIMIT).await;
            if let Some(late) = late.upgrade() {
                late.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
        Self { answer, _end: AbortOnDropHandle::new(end) }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Answer { body, rest, .. }) = answer.as_mut() else {
            let message = format!("the answer was not read within {ANSWER_LIMIT:?}");
            return Poll::Ready(Some(Err(plain(Code::DeadlineExceeded, "ANSWER_NOT_READ", message))));
        };
        if rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(rest.split_to(rest.len().min(PIECE_BYTES))))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

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
    async fn a_page_that_nobody_reads_gives_its_room_back_and_one_that_is_read_comes_in_pieces() {
        let clients = Clients::default();
        let all = clients.answers().available_permits();
        let page = async || {
            let hold = clients.hold(1 << 20).await;
            let sent = Bytes::from(vec![7; 40_000]);
            let body = tonic::body::Body::new(Unfinished(Some(sent)));
            Held::new(body, hold)
        };
        let (mut read, mut unread) = (page().await, page().await);
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
        assert_eq!(next(&mut unread).await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }
}
