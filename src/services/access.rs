//! The way of a call past `access`: in with a caller, or back with a status.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request as HttpRequest, header};
use tonic::body::Body;
use tonic::{Code, Request, Status};

use super::status::plain;
use crate::access::{Access, Authorization, Caller, Connection, Entry, KnownBy, Refusal, Until, Visit};
use crate::manager::Author;
use crate::uploads::Owner;

/// A future that is there when a call may go no further, with the status that says why.
pub(super) type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A call that was let in.
#[derive(Default)]
pub(super) struct Admission {
    /// None where nobody is asked.
    pub(super) caller: Option<Caller>,
    /// Its line in the audit; None where it needs none.
    pub(super) audited: Option<Audited>,
}

/// A call that the audit tells at its end.
pub(super) struct Audited {
    caller: Caller,
    connection: Connection,
    target: Target,
}

/// The job, file or token that a call is about, once the service has read the request. It stands in
/// the extensions of the request.
#[derive(Debug, Clone, Default)]
pub(super) struct Target(Arc<OnceLock<String>>);

impl Target {
    /// That of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Tells its name, once.
    pub(super) fn tell(&self, name: &str) {
        let _ = self.0.set(name.to_owned());
    }
}

impl Audited {
    /// Tells the end of the call.
    pub(super) fn tell(&self, access: &Access, path: &str, outcome: &str) {
        let target = self.target.0.get().cloned().unwrap_or_default();
        access.audit().tell(&Entry::of(&self.caller, &self.connection, path, target, outcome));
    }
}

/// Finds the caller, which from here on stands in the extensions of the request. `changes` says
/// that the method changes something.
pub(super) async fn admit(
    access: &Access,
    request: &mut HttpRequest<Body>,
    changes: bool,
) -> Result<Admission, Status> {
    let Some(visit) = request.extensions().get::<Visit>().cloned() else {
        return Err(plain(Code::Internal, "INTERNAL", "the connection of the call is not known"));
    };
    let path = request.uri().path().to_owned();
    let admitted = match from_browser(request.headers()) {
        Some(what) => Err(access.refuse(&path, &visit.connection, Refusal::FromBrowser(what))),
        None => {
            let values = request.headers().get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
            access.admit(&path, &visit.connection, Authorization::of(values)).await
        }
    };
    let caller = admitted.map_err(|refusal| status_of(&refusal))?;
    // Nothing behind this has to know it.
    request.headers_mut().remove(header::AUTHORIZATION);
    let Some(caller) = caller else { return Ok(Admission::default()) };
    visit.note_caller();
    let target = Target::default();
    request.extensions_mut().insert(target.clone());
    request.extensions_mut().insert(caller.clone());
    let is_told = changes || access.audit().tells_reads();
    let audited = is_told.then(|| Audited { caller: caller.clone(), connection: visit.connection, target });
    Ok(Admission { caller: Some(caller), audited })
}

/// A browser adds one of these to what a page asks for, and a page cannot take it away. Clients of
/// gRPC send neither.
fn from_browser(headers: &HeaderMap) -> Option<&'static str> {
    let grpc = |headers: &HeaderMap| {
        let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        kind.unwrap_or(false)
    };
    match headers {
        headers if headers.contains_key(header::ORIGIN) => Some("this one has an Origin"),
        headers if headers.contains_key("sec-fetch-site") => Some("this one has a Sec-Fetch-Site"),
        headers if !grpc(headers) => Some("the content type of gRPC is application/grpc"),
        _ => None,
    }
}

fn status_of(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::TooMany => Code::ResourceExhausted,
        Refusal::NoName { .. } => Code::Unavailable,
        refusal if refusal.is_of_known() => Code::PermissionDenied,
        _ => Code::Unauthenticated,
    };
    plain(code, refusal.reason(), refusal.to_string())
}

/// The end of a caller's rights, if they have one before the call has.
pub(super) fn end_of(caller: Caller) -> Option<End> {
    let Until { revoked, left } = caller.until;
    if revoked.is_none() && left.is_none() {
        return None;
    }
    let (reason, words) = match caller.by {
        KnownBy::Certificate => ("EXPIRED_CERTIFICATE", "the certificate has expired"),
        _ => ("EXPIRED_TOKEN", "the token has expired"),
    };
    Some(Box::pin(async move {
        let revocation = async {
            match revoked {
                Some(revoked) => revoked.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let expiry = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = revocation => plain(Code::Unauthenticated, "REVOKED_TOKEN", "the token was revoked"),
            () = expiry => plain(Code::Unauthenticated, reason, words),
        }
    }))
}

/// The caller of a request that was let in.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let unknown = || plain(Code::Internal, "INTERNAL", "the caller is not known");
    request.extensions().get::<Caller>().cloned().ok_or_else(unknown)
}

/// In whose name a caller makes jobs, and with which uploads.
pub(super) fn author(caller: &Caller) -> Result<Author, Status> {
    Ok(Author { owner: caller.owner.clone(), uploads: uploader(caller)? })
}

/// The owner of a caller's uploads.
pub(super) fn uploader(caller: &Caller) -> Result<Owner, Status> {
    match caller.uid {
        Ok(Some(uid)) => Ok(Owner::User(uid)),
        Ok(None) => Ok(Owner::named(&caller.owner)),
        Err(why) => {
            let words = format!("whether {} is a user of this machine cannot be looked up: {why}", caller.owner);
            Err(plain(Code::Unavailable, "UNKNOWN_USER", words))
        }
    }
}
