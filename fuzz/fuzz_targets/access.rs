//! What is read of a call before its caller is known: the path and the headers with credentials. No
//! input is let in that holds no token of ours, and none costs much memory.
//!
//! The first byte chooses the way in; behind it the path, and each `authorization` header behind a
//! line feed. A header that is `@` stands for the token, so that good ones are seen too.

#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use torchd::access::{Access, Audit, AuditSettings, Authorization, Certificate, Connection, KnownBy};
use torchd::config::Security;
use torchd::metrics::Metrics;
use torchd::store::Store;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

struct Daemon {
    runtime: Runtime,
    access: Access,
    token: Vec<u8>,
}

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let folder = scratch::folder("access");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let file = folder.join("token");
    let audit = AuditSettings { path: folder.join("audit.jsonl"), max_bytes: 1 << 20, files: 1, reads: false };
    let (audit, store) = (Audit::open(audit).unwrap(), Store::open(&folder.join("torchd.db")).unwrap());
    let metrics = Metrics::new(&[], &[]).unwrap();
    let security = Security::default();
    let access = runtime.block_on(Access::open(&security, store, &file, metrics, audit)).unwrap();
    let token = std::fs::read(&file).unwrap();
    Daemon { runtime, access, token: [b"Bearer ".as_slice(), token.trim_ascii_end()].concat() }
});

fuzz_target!(|data: &[u8]| {
    let Some((way, rest)) = data.split_first() else { return };
    let daemon = &*DAEMON;
    let from: SocketAddr = ([10, 0, way >> 4, 7], 1).into();
    let connection = match way & 3 {
        0 => Connection::Plain { from, is_loopback: true },
        1 => Connection::Plain { from, is_loopback: false },
        2 => Connection::Tls { from, certificate: None },
        _ => {
            let expires = SystemTime::now() + Duration::from_secs(3600);
            Connection::Tls { from, certificate: Some(Certificate { names: ["a".to_owned()].into(), expires }) }
        }
    };
    let mut parts = rest.split(|byte| *byte == b'\n');
    let path = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let headers: Vec<&[u8]> = parts.map(|part| if part == b"@" { daemon.token.as_slice() } else { part }).collect();
    let is_known = headers.len() == 1 && headers[0].eq_ignore_ascii_case(&daemon.token);
    let authorization = || Authorization::of(headers.iter().copied());
    let (call, page) = bounded((1 << 20) + 64 * data.len(), || {
        let call = daemon.runtime.block_on(daemon.access.admit(&path, &connection, authorization()));
        (call, daemon.runtime.block_on(daemon.access.admit_to_page(&path, &connection, authorization(), way & 8 != 0)))
    });
    match call {
        Ok(None) => assert!(path.starts_with("/grpc.health.v1.Health/"), "{path}"),
        Ok(Some(caller)) => assert!(is_known && caller.by == KnownBy::Token("file".into()), "{caller:?}"),
        Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.reason().is_empty()),
    }
    assert!(is_known || page.is_err());
});
