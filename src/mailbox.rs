//! Mailboxes: calls of ranks that have no route to the daemon, as files in a folder that both
//! reach. The same services answer them as those that come over a connection.
//!
//! A request is a file, and so is its answer. Each is written once, from its beginning to its end,
//! and neither appended to nor renamed: file systems that hold whole objects can do neither. Others
//! may write there as well. So each frame of a file bears a seal that the holder of the launch's
//! token alone can make, over its place in the file, and the file's place in the folder. A request
//! that is not answered is sent again under another number; all calls of ranks may come twice.

mod letter;
mod opened;
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

use crate::access::SealKey;
use crate::beneath::Folder;
pub use opened::Opened;
use opened::Threads;
pub use receiver::{HERE, Place, Receiver, clear};
pub use sender::Mailbox;

/// The folder is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Frames of a body that wait to be taken.
const FRAMES_AHEAD: usize = 1;

/// A body whose frames come from another task.
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

/// The rest of a letter as a body. `kept` is dropped at its end, or with the body.
fn body_of(letter: letter::Reader, threads: Threads, kept: impl Send + 'static) -> Body {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    tokio::spawn(async move {
        let (mut letter, _kept) = (letter, kept);
        loop {
            let read = threads.run(move || letter.next().map(|frame| (letter, frame))).await;
            let (frame, is_last) = match read {
                Ok((rest, letter::Frame::Data(data))) => {
                    letter = rest;
                    if sender.send(Ok(Frame::data(data))).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok((_, letter::Frame::End(trailers))) => (Ok(Frame::trailers(to_map(&trailers))), trailers.is_empty()),
                Err(error) => (Err(Status::unavailable(format!("a letter cannot be read: {error}"))), false),
            };
            if !is_last {
                let _ = sender.send(frame).await;
            }
            return;
        }
    });
    Body::new(Received(frames))
}

/// The data of a letter, all at once; None where there is none of that name, or its end has not
/// come.
///
/// # Errors
/// `InvalidData` where a seal is wrong, or the errors of the file system.
pub fn read_letter(folder: Folder, name: &str, key: &SealKey) -> io::Result<Option<Vec<u8>>> {
    let Some(name) = letter::Name::read(name) else { return Ok(None) };
    let from = Opened { folder, is_for_group: false };
    let Some((mut letter, _)) = letter::Reader::open(&from, name, key)? else { return Ok(None) };
    let mut all = Vec::new();
    while let letter::Frame::Data(data) = letter.next()? {
        all.extend(data);
    }
    Ok(Some(all))
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

#[cfg(test)]
mod tests;
