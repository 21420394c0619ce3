//! Refuses requests for names that are not ours.
//!
//! A page in a browser can have a name of its own point to our address (DNS rebinding) and would
//! then read what we tell; such a request carries that name. A request for an address cannot come
//! from such a page.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Names that are ours besides `localhost`, in lower case.
#[derive(Debug, Clone)]
pub(super) struct Names(Arc<[String]>);

impl Names {
    /// The name of the machine, and those by which a proxy asks.
    pub(super) fn new(host: &str, allowed: &[String]) -> Self {
        let names = allowed.iter().map(String::as_str).chain([host]).filter(|name| !name.is_empty());
        Self(names.map(str::to_lowercase).collect())
    }

    /// Whether `name` or `name:port`, as a request has it, is ours.
    fn is_ours(&self, told: &str) -> bool {
        let address = told.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
        let name = address.unwrap_or_else(|| told.rsplit_once(':').map_or(told, |(name, _)| name));
        let name = name.trim_end_matches('.').to_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.0.contains(&name)
    }
}

/// Refuses requests for names that are not ours. One without a name comes from no browser.
pub(super) async fn check(State(names): State<Names>, request: Request, next: Next) -> Response {
    let told = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let told = told.or_else(|| Some(String::from_utf8_lossy(request.headers().get(header::HOST)?.as_bytes()).into()));
    match told {
        Some(told) if !names.is_ours(&told) => {
            let right = "use the address, or add the name to http.allowed_hosts in the settings";
            (StatusCode::FORBIDDEN, format!("this server is not called {told:?}; {right}\n")).into_response()
        }
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_our_names_are_ours_with_or_without_a_port_and_others_are_not() {
        let names = Names::new("Node-1", &["metrics.example.org".into()]);
        for ours in [
            "localhost",
            "LOCALHOST:7081",
            "localhost.",
            "127.0.0.1:7081",
            "10.0.0.7",
            "[::1]:7081",
            "[::1]",
            "node-1:7081",
            "Metrics.Example.org:443",
        ] {
            assert!(names.is_ours(ours), "{ours}");
        }
        for other in [
            "evil.example",
            "evil.example:7081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1.evil",
            "",
            ":7081",
            "[::1",
            "example.org",
            "node-1.evil.example",
        ] {
            assert!(!names.is_ours(other), "{other}");
        }
    }
}
