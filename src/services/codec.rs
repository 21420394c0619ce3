//! Decodes requests once they were held against the bounds of the protocol.

use std::marker::PhantomData;

use prost::bytes::Buf;
use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::status;
use crate::job::Violations;
use crate::proto::bounds;

/// The codec of our services: `Answer` out, `Request` in.
pub struct BoundedCodec<Answer, Request>(PhantomData<(Answer, Request)>);

impl<Answer, Request> Default for BoundedCodec<Answer, Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Answer, Request> Codec for BoundedCodec<Answer, Request>
where
    Answer: Message + Send + 'static,
    Request: Message + Name + Default + Send + 'static,
{
    type Encode = Answer;
    type Decode = Request;
    type Encoder = ProstEncoder<Answer>;
    type Decoder = BoundedDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Answer, Request>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Decodes requests that are within their bounds.
pub struct BoundedDecoder<Request>(PhantomData<Request>);

impl<Request: Message + Name + Default> Decoder for BoundedDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let mut wrong = Violations::default();
        for excess in bounds::judge(&Request::full_name(), &bytes) {
            wrong.add(excess.field, excess.description);
        }
        if !wrong.0.is_empty() {
            return Err(status::invalid(&wrong, ""));
        }
        let malformed =
            |error| status::plain(Code::InvalidArgument, "MALFORMED_REQUEST", format!("no request: {error}"));
        Request::decode(bytes).map(Some).map_err(malformed)
    }
}
