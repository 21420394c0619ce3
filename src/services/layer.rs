//! The layer around every RPC: metrics, the client's deadline, the limits that all clients share,
//! and details for the errors that tonic answers by itself.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::access::{self, Admission, Audited, End};
use super::bodies::{Incoming, Outgoing, Reading, Taken, trailers};
use super::clients::{Clients, Hold};
use super::status::plain;
use crate::access::Access;
use crate::metrics::{GRPC_CODES, Method, Metrics};

/// The method that many clients call at once.
const WATCH_JOB: &str = "/torchd.v1.JobService/WatchJob";

/// Puts the service around all others.
#[derive(Clone)]
pub struct AnswerLayer {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Metrics,
    methods: HashMap<String, Method>,
    clients: Clients,
    access: Access,
}

impl AnswerLayer {
    /// A layer that lets in those who may call, counts these methods, and holds all clients to
    /// their limits.
    pub fn new(metrics: Metrics, methods: Vec<Method>, clients: Clients, access: Access) -> Self {
        let methods =
            methods.into_iter().map(|method| (format!("/{}/{}", method.service, method.name), method)).collect();
        Self { shared: Arc::new(Shared { metrics, methods, clients, access }) }
    }
}

impl<S> Layer<S> for AnswerLayer {
    type Service = AnswerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AnswerService { inner, shared: self.shared.clone() }
    }
}

/// Counts, bounds and completes what the inner service answers.
#[derive(Clone)]
pub struct AnswerService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for AnswerService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().path() == WATCH_JOB {
            // A thousand watchers get the same bytes; packing them for each anew would cost more
            // than it saves.
            request.headers_mut().remove("grpc-accept-encoding");
        }
        let mut count = Count::begin(&self.shared, request.uri().path());
        let deadline = deadline(request.headers());
        let kind = self.shared.methods.get(request.uri().path()).map_or("unary", |method| method.kind);
        let streams = matches!(kind, "server_stream" | "bidi_stream");
        let requests = self.shared.clients.requests();
        let mut request = match kind {
            // One request after the other, with as much time between them as the client wants;
            // those are small.
            "bidi_stream" => request,
            "client_stream" => {
                let taken = Taken::default();
                request.extensions_mut().insert(taken.clone());
                request.map(|body| Body::new(Incoming::stream(body, requests, taken)))
            }
            _ => request.map(|body| Body::new(Incoming::new(body, requests))),
        };
        // The one that was made ready answers; its copy waits for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (shared, changes) = (self.shared.clone(), self.shared.access.changes(request.uri().path()));
        Box::pin(async move {
            let answer = async {
                let Admission { caller, audited } = match access::admit(&shared.access, &mut request, changes).await {
                    Ok(admission) => admission,
                    Err(status) => return Ok((status.into_http(), None)),
                };
                // From here on the call may do something, and is told however it ends.
                count.audited = audited;
                let mut end = caller.and_then(access::end_of);
                let called = inner.call(request);
                let answer = match end.as_mut() {
                    // Such a call does its work before its answer begins.
                    Some(end) if kind == "client_stream" => tokio::select! {
                        answer = called => answer?,
                        status = end => status.into_http(),
                    },
                    _ => called.await?,
                };
                Ok((answer, end))
            };
            let (mut response, end) = match deadline {
                Some(limit) => match tokio::time::timeout(limit, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => {
                        let message = format!("the client's deadline of {limit:?} has passed");
                        let status = plain(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message);
                        (status.into_http(), None)
                    }
                },
                None => answer.await?,
            };
            complete(&mut response);
            // An answer without a body has its status in the headers.
            count.code = code(response.headers());
            let (mut parts, body) = response.into_parts();
            let hold = parts.extensions.remove::<Hold>().unwrap_or_default();
            let answers = count.shared.clients.answers();
            let body = match count.code {
                // It has nothing but its headers.
                Some(_) => body,
                None if streams => Body::new(Outgoing::new(body, hold, Reading::AsItComes, answers)),
                None => Body::new(Outgoing::encoded(body, hold, answers).await),
            };
            // A stream goes on behind its headers, and no longer than its client wants to wait.
            let left = deadline.map(|limit| limit.saturating_sub(count.begun.elapsed()));
            let ends = [left.map(deadline_end), end];
            Ok(Response::from_parts(parts, Body::new(Counted { body, count, ends, is_over: false })))
        })
    }
}

/// tonic has a timer of its own for the client's deadline, whose answer has no details; ours ends a
/// moment before it.
const BEFORE_TONIC: Duration = Duration::from_millis(2);

/// The header of gRPC over HTTP/2: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    let limit = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(limit.saturating_sub(BEFORE_TONIC))
}

/// The end of a stream whose client wants to wait no longer.
fn deadline_end(left: Duration) -> End {
    Box::pin(async move {
        tokio::time::sleep(left).await;
        plain(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the client's deadline has passed")
    })
}

/// Adds an ErrorInfo to an error that tonic answered by itself. A message that is too large becomes
/// RESOURCE_EXHAUSTED, as with other gRPC servers. One that cannot be decoded, for example because
/// a text is not UTF-8, becomes INVALID_ARGUMENT: the client made the mistake.
fn complete(response: &mut Response<Body>) {
    let Some(status) = Status::from_header_map(response.headers()) else { return };
    if status.code() == Code::Ok || !status.details().is_empty() {
        return;
    }
    let is_too_large = ["message length too large", "Error decompressing: size limit"];
    let completed = if is_too_large.iter().any(|words| status.message().contains(words)) {
        let message = format!(
            "the request is too large: {}; grpc.max_message_bytes in the settings is the limit",
            status.message().trim_start_matches("Error, ")
        );
        plain(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message)
    } else {
        let is_unreadable = ["failed to decode Protobuf message", "Error decompressing", "protocol error"];
        let code = match status.code() {
            Code::Internal if is_unreadable.iter().any(|words| status.message().starts_with(words)) => {
                Code::InvalidArgument
            }
            code => code,
        };
        let reason = match code {
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::DeadlineExceeded | Code::Cancelled => "DEADLINE_EXCEEDED",
            Code::InvalidArgument | Code::OutOfRange => "MALFORMED_REQUEST",
            _ => "TRANSPORT",
        };
        let message = match status.code() {
            Code::Unimplemented if status.message().is_empty() => "there is no such method",
            _ => status.message(),
        };
        plain(code, reason, message)
    };
    *response = completed.into_http();
}

fn code(headers: &HeaderMap) -> Option<usize> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// One RPC in the metrics. Dropped without an end it was given up by the client.
struct Count {
    shared: Arc<Shared>,
    path: String,
    begun: Instant,
    code: Option<usize>,
    /// Its line in the audit.
    audited: Option<Audited>,
}

impl Count {
    fn begin(shared: &Arc<Shared>, path: &str) -> Self {
        if let Some(Method { kind, service, name }) = shared.methods.get(path) {
            shared.metrics.grpc_started.with_label_values(&[*kind, service, name]).inc();
        }
        Self { shared: shared.clone(), path: path.to_owned(), begun: Instant::now(), code: None, audited: None }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let code = self.code.and_then(|code| GRPC_CODES.get(code)).unwrap_or(&"Canceled");
        if let Some(audited) = &self.audited {
            audited.tell(&self.shared.access, &self.path, code);
        }
        // A path that is no method of ours is not counted: its label could be anything.
        let Some(Method { kind, service, name }) = self.shared.methods.get(&self.path) else { return };
        self.shared.metrics.grpc_handled.with_label_values(&[*kind, service, name, code]).inc();
        let seconds = self.begun.elapsed().as_secs_f64();
        self.shared.metrics.grpc_seconds.with_label_values(&[*kind, service, name]).observe(seconds);
    }
}

pin_project! {
    /// A body that sees its trailers pass: the status of an RPC that answered something stands
    /// there.
    struct Counted {
        #[pin]
        body: Body,
        count: Count,
        // It may go no further than the first of these.
        ends: [Option<End>; 2],
        // One of them has come, and was told.
        is_over: bool,
    }
}

impl HttpBody for Counted {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        let mut come = this.ends.iter_mut().flatten().filter_map(|end| match end.as_mut().poll(cx) {
            Poll::Ready(status) => Some(status),
            Poll::Pending => None,
        });
        if let Some(status) = come.next() {
            *this.is_over = true;
            let end = trailers(&status);
            this.count.code = end.trailers_ref().and_then(code);
            return Poll::Ready(Some(Ok(end)));
        }
        let Poll::Ready(frame) = this.body.poll_frame(cx) else { return Poll::Pending };
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.count.code = code(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Connection, Peer, Strangers};

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            deadline(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]))
        };
        assert_eq!(read("1S"), Some(Duration::from_millis(998)));
        assert_eq!(read("250m"), Some(Duration::from_millis(248)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600) - BEFORE_TONIC));
        for text in ["", "S", "1x", "123456789S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn every_answer_is_counted_and_one_that_has_only_headers_is_passed_on() {
        let clients = Clients::default();
        let free = || clients.answers().available_permits();
        let all = free();
        let methods = super::super::methods();
        let folder = tempfile::tempdir().unwrap();
        let metrics = Metrics::new(&[], &methods).unwrap();
        let access = Access::alone(folder.path(), metrics.clone()).await;
        let layer = AnswerLayer::new(metrics, methods, clients.clone(), access);
        let mut large = layer.layer(tower::service_fn(async |_| {
            let frame: Result<_, Status> = Ok(Frame::data(vec![7_u8; 40_000].into()));
            Ok::<_, Status>(Response::new(Body::new(Told(Some(frame)))))
        }));
        let uid = nix::unistd::Uid::effective().as_raw();
        let connection = Connection::Unix(Peer { uid, groups: [].into(), is_of_job: false });
        let visit = Strangers::new().enter(&connection).visit(connection);
        let ask = |path: &str| {
            let request = Request::post(path).header("content-type", "application/grpc").extension(visit.clone());
            request.body(Body::empty()).unwrap()
        };
        let mut answers = Vec::new();
        for (path, counted) in [
            ("/torchd.v1.SystemService/GetVersion", 40_000),
            // A stream is asked for something once its client has a window.
            ("/torchd.v1.GpuService/WatchGpus", 0),
        ] {
            let before = free();
            answers.push(large.call(ask(path)).await.unwrap());
            assert_eq!(before - free(), counted, "{path}");
        }
        let mut stream = answers.pop().unwrap().into_body();
        let frame = std::future::poll_fn(|context| Pin::new(&mut stream).poll_frame(context)).await;
        assert!(frame.unwrap().is_ok_and(|frame| frame.is_data()));
        assert_eq!(free(), all - 80_000);
        drop((answers, stream));
        assert_eq!(free(), all);
        let refusal = async |_| Ok::<_, Status>(Status::not_found("nothing").into_http());
        let mut refused = layer.layer(tower::service_fn(refusal));
        let answer = refused.call(ask("/torchd.v1.JobService/GetJob")).await.unwrap();
        assert!(answer.body().is_end_stream() && code(answer.headers()) == Some(5));
    }

    /// A body of one frame.
    struct Told(Option<Result<Frame<prost::bytes::Bytes>, Status>>);

    impl HttpBody for Told {
        type Data = prost::bytes::Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Ready(self.0.take())
        }
    }
}
