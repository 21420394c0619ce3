//! Mailboxes: calls of ranks that have no route to the daemon, as files in a folder that both
//! reach. The same services answer them as those that come over a connection.
//!
//! A request is a file, and so is its answer. Each is written once, from its beginning to its end,
//! and neither appended to nor renamed: file systems that hold whole objects can do neither. Others
//! may write there as well. So each frame of a file bears a seal that the holder of the launch's
//! token alone can make, over its place in the file, and the file's place in the folder. A request
//! that is not answered is sent again under another number; all calls of ranks may come twice.

mod letter;
mod receiver;
mod sender;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

pub use receiver::{Place, Receiver};
pub use sender::Mailbox;

/// The folder is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Frames of a body that wait to be taken.
const FRAMES_AHEAD: usize = 4;

/// A body whose frames come from another thread.
struct Received(mpsc::Receiver<Result<Frame<Bytes>, Status>>);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context)
    }
}

/// The next frame of a body.
async fn next_frame(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
    std::future::poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut *body), context)).await
}

/// A body that is what is left of a letter. `done` is called when all of it was read.
fn body_of(mut letter: letter::Reader, done: impl FnOnce() + Send + 'static) -> Body {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let frame = match letter.next() {
                Ok(letter::Frame::Data(data)) => Ok(Frame::data(data)),
                Ok(letter::Frame::End(trailers)) => {
                    if !trailers.is_empty() {
                        let _ = sender.blocking_send(Ok(Frame::trailers(to_map(&trailers))));
                    }
                    break;
                }
                Err(error) => Err(unavailable(&error)),
            };
            let is_last = frame.is_err();
            if sender.blocking_send(frame).is_err() || is_last {
                break;
            }
        }
        done();
    });
    Body::new(Received(frames))
}

/// Headers as letters have them. Those that are no text are left out: gRPC has none.
fn of_map(map: &HeaderMap) -> letter::Headers {
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    map.iter().filter_map(text).collect()
}

fn to_map(headers: &letter::Headers) -> HeaderMap {
    let parsed = |(name, value): &(String, String)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?));
    headers.iter().filter_map(parsed).collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect()
}

fn unavailable(error: &io::Error) -> Status {
    Status::unavailable(format!("the mailbox: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
