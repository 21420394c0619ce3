//! Asks for credentials where pages can be reached from elsewhere: a token, or a user and password.
//!
//! On loopback the pages are open, unless a proxy brings requests of others there. `/healthz` and
//! `/readyz` are open everywhere.

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::{Access, Authorization, Connection, Refusal, Visit};

/// Pages that tell nothing but whether torchd is well.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// The rules of the pages.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) access: Access,
    /// Requests on loopback may come from elsewhere.
    pub(super) is_behind_proxy: bool,
}

/// Lets a request in, or refuses it.
pub(super) async fn check(
    State(door): State<Door>,
    ConnectInfo(visit): ConnectInfo<Visit>,
    request: Request,
    next: Next,
) -> Response {
    let (path, connection) = (request.uri().path().to_owned(), &visit.connection);
    if let Some(what) = changes_from_elsewhere(&request) {
        let refusal = door.access.refuse(&path, connection, Refusal::FromBrowser(what));
        return (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response();
    }
    let is_local = matches!(connection, Connection::Plain { is_loopback: true, .. }) && !door.is_behind_proxy;
    if is_local || OPEN.contains(&path.as_str()) {
        return next.run(request).await;
    }
    let admitted = {
        let values = request.headers().get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
        door.access.admit_to_page(&path, connection, Authorization::of(values), door.is_behind_proxy).await
    };
    match admitted {
        Ok(_) => {
            visit.note_caller();
            next.run(request).await
        }
        Err(refusal) => refused(&refusal),
    }
}

/// A page of another site, which a browser tells by these headers, may change nothing here. A
/// request without them comes from no browser.
fn changes_from_elsewhere(request: &Request) -> Option<&'static str> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Some("this one comes from another site");
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").map(|(_, own)| own);
    (own.is_none() || own != host).then_some("this one comes from another site")
}

fn refused(refusal: &Refusal) -> Response {
    let code = match refusal {
        Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Refusal::NoName { .. } => StatusCode::SERVICE_UNAVAILABLE,
        refusal if refusal.is_of_known() => StatusCode::FORBIDDEN,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut answer = (code, format!("{refusal}\n")).into_response();
    if code == StatusCode::UNAUTHORIZED {
        for scheme in ["Bearer realm=\"torchd\"", "Basic realm=\"torchd\""] {
            answer.headers_mut().append(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(scheme));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let ask = |method: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri("/x").header("host", "box:7081");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            changes_from_elsewhere(&request.body(Body::empty()).unwrap()).is_some()
        };
        assert!(!ask("POST", &[]));
        assert!(!ask("POST", &[("sec-fetch-site", "same-origin"), ("origin", "http://box:7081")]));
        assert!(!ask("GET", &[("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")]));
        for headers in [
            [("sec-fetch-site", "cross-site")].as_slice(),
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", "http://box:7081.evil.example")],
        ] {
            assert!(ask("POST", headers) && ask("DELETE", headers), "{headers:?}");
        }
    }
}
