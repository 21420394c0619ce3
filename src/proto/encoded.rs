//! `WatchJobResponse` in pieces that were encoded before: what a job tells goes to all of its
//! watchers in the same bytes.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use super::v1;

/// A `WatchJobResponse` that is only ever sent. Its one field is repeated, so that pieces one
/// behind the other are one message: the encoding of repeated fields is made for that.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedWatch {
    pieces: Vec<Bytes>,
}

impl EncodedWatch {
    /// A piece that holds these events.
    pub fn piece(events: impl IntoIterator<Item = v1::watch_event::Event>) -> Bytes {
        let events = events.into_iter().map(|event| v1::WatchEvent { event: Some(event) }).collect();
        v1::WatchJobResponse { events }.encode_to_vec().into()
    }

    /// The message that these pieces make.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Self { pieces }
    }

    /// Whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}

impl Message for EncodedWatch {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        for piece in &self.pieces {
            buffer.put_slice(piece);
        }
    }

    fn encoded_len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Nobody reads this type: clients have `WatchJobResponse`.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::watch_event::Event;

    #[test]
    fn pieces_are_read_as_one_message() {
        let record = |sequence| Event::Record(v1::JobRecord { sequence, ..v1::JobRecord::default() });
        let snapshot = Event::Snapshot(v1::Job { name: "jobs/a".into(), ..v1::Job::default() });
        let pieces = [
            EncodedWatch::piece([record(1), record(2)]),
            EncodedWatch::piece([]),
            EncodedWatch::piece([snapshot.clone()]),
        ];
        let sent = EncodedWatch::new(pieces.to_vec());
        let bytes = sent.encode_to_vec();
        assert_eq!(bytes.len(), sent.encoded_len());
        let read = v1::WatchJobResponse::decode(bytes.as_slice()).unwrap();
        let events: Vec<_> = read.events.into_iter().filter_map(|event| event.event).collect();
        assert_eq!(events, [record(1), record(2), snapshot]);
        assert!(!sent.is_empty() && EncodedWatch::new(vec![EncodedWatch::piece([])]).is_empty());
    }
}
