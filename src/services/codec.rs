//! Decodes requests once they were held against the bounds of the protocol.

use std::marker::PhantomData;

use prost::bytes::Buf;
use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::status;
use crate::job::{Violation, Violations, spec};
use crate::proto::bounds::{self, Excess};
use crate::proto::v1;

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

/// The fields that hold too much, and the other mistakes that the rest of the request shows by
/// itself.
fn all_mistakes(name: &str, bytes: &[u8], excess: Vec<Excess>) -> Violations {
    let mut wrong = Violations::default();
    let rest = bounds::without_excess(name, bytes);
    let spec = rest.and_then(|rest| match name {
        "torchd.v1.CreateJobRequest" => v1::CreateJobRequest::decode(&*rest).ok()?.spec,
        "torchd.v1.ValidateJobRequest" => v1::ValidateJobRequest::decode(&*rest).ok()?.spec,
        // A field by itself is right or wrong in all others.
        _ => None,
    });
    let others = spec.map(|spec| spec::read(&spec).mistakes).unwrap_or_default();
    for Excess { field, description } in excess {
        wrong.add(field, description);
    }
    for Violation { field, description, .. } in others.0 {
        let field = format!("spec.{field}");
        // A field without its excess may lack something.
        if !wrong.0.iter().any(|known| is_within(&field, &known.field) || is_within(&known.field, &field)) {
            wrong.add(field, description);
        }
    }
    wrong
}

/// Whether a path is that of a field, or of something in it.
fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Decodes requests that are within their bounds.
pub struct BoundedDecoder<Request>(PhantomData<Request>);

impl<Request: Message + Name + Default> Decoder for BoundedDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let name = Request::full_name();
        let excess = bounds::judge(&name, &bytes);
        if !excess.is_empty() {
            return Err(status::invalid(&all_mistakes(&name, &bytes, excess), ""));
        }
        let malformed =
            |error| status::plain(Code::InvalidArgument, "MALFORMED_REQUEST", format!("no request: {error}"));
        Request::decode(bytes).map(Some).map_err(malformed)
    }
}
