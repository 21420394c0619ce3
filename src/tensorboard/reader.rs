//! Reads an event file, also one that is still being written.

use std::io::Read;

use prost::Message;

use crate::proto::tensorboard::Event;
use crate::record::{FrameError, Next, RecordReader};

/// Reads events. `None` is not for ever: when the file has grown, the next call goes on.
pub struct EventReader<R> {
    records: RecordReader<R>,
}

/// Why no further event can be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The framing is damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A record is whole and holds something else.
    #[error("the record before byte {offset} is no event: {cause}")]
    NoEvent {
        /// Where the record ends.
        offset: u64,
        /// The decoder's words.
        cause: prost::DecodeError,
    },
}

impl<R: Read> EventReader<R> {
    /// Reads from the start of a file.
    pub fn new(source: R) -> Self {
        Self { records: RecordReader::new(source) }
    }

    /// The next event; None at the end, or where a record is not complete yet.
    #[expect(clippy::should_implement_trait, reason = "None is not the end of a file that grows")]
    pub fn next(&mut self) -> Result<Option<Event>, EventError> {
        let decoded = match self.records.next()? {
            Next::Record(data) => Event::decode(data),
            Next::End | Next::Torn => return Ok(None),
        };
        decoded.map(Some).map_err(|cause| EventError::NoEvent { offset: self.records.offset(), cause })
    }

    /// All events up to the end.
    pub fn read_all(mut self) -> Result<Vec<Event>, EventError> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        Ok(events)
    }
}
