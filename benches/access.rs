//! The cost of asking who calls: a thousand calls over each way in, beside loopback TCP on which
//! nobody is asked, and `/metrics` over TLS with a token, beside the open page. The ways take turns
//! in each round.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;
#[path = "harness/figures.rs"]
mod figures;
#[path = "harness/rounds.rs"]
mod rounds;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use daemon::Daemon;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rounds::{ROUNDS, Spread};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use torchd::proto::v1;
use torchd::proto::v1::system_service_client::SystemServiceClient;

const CALLS: usize = 1000;
const SCRAPES: usize = 200;
const CONNECTIONS: usize = 100;
/// The peer of all of them.
const PEER: &str = "open loopback";
const ANY: &str = "0.0.0.0:0";

/// A certificate and its key, in PEM.
struct Signed(String, String);

fn sign(issuer: &Issuer<'_, KeyPair>, name: &str) -> Signed {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    Signed(params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let (server, client) = (sign(&issuer, "localhost"), sign(&issuer, "client"));
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, cert, key) = (file("ca.pem", &authority), file("torchd.crt", &server.0), file("torchd.key", &server.1));
    let open = Daemon::start(&[], &[]);
    let asking = Daemon::start(&[], &[("security.loopback", "token")]);
    let tls = [
        ("tls.certificate", cert.as_str()),
        ("tls.key", &key),
        ("tls.client_ca", &ca),
        ("tls.client_names", "client=viewer"),
    ];
    let remote = Daemon::start_at(ANY, &[], &tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(calls(&open, &asking, &remote, &authority, &client));
    scrapes(&open, &remote, &authority);
}

/// A way in.
struct Way {
    name: &'static str,
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Way {
    /// Seconds of a thousand calls, one after the other.
    async fn measure(&self) -> f64 {
        let mut client = SystemServiceClient::new(self.channel.clone());
        let begun = Instant::now();
        for _ in 0..CALLS {
            let mut request = tonic::Request::new(v1::GetCallerRequest {});
            if let Some(token) = &self.token {
                request.metadata_mut().insert("authorization", token.clone());
            }
            client.get_caller(request).await.unwrap();
        }
        begun.elapsed().as_secs_f64()
    }
}

fn tls_channel(daemon: &Daemon, authority: &str, shown: Option<&Signed>) -> Endpoint {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name("localhost");
    if let Some(Signed(certificate, key)) = shown {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    Channel::from_shared(format!("https://127.0.0.1:{}", daemon.port("grpc"))).unwrap().tls_config(config).unwrap()
}

async fn calls(open: &Daemon, asking: &Daemon, remote: &Daemon, authority: &str, client: &Signed) {
    let plain = async |address: String| Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let token = |daemon: &Daemon| Some(format!("Bearer {}", daemon.token()).parse().unwrap());
    let shown = tls_channel(remote, authority, Some(client)).connect().await.unwrap();
    let ways = [
        Way { name: PEER, channel: plain(open.grpc()).await, token: None },
        Way { name: "unix", channel: plain(format!("unix:{}", open.unix())).await, token: None },
        Way { name: "token", channel: plain(asking.grpc()).await, token: token(asking) },
        Way {
            name: "tls",
            channel: tls_channel(remote, authority, None).connect().await.unwrap(),
            token: token(remote),
        },
        Way { name: "mutual_tls", channel: shown, token: None },
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for (way, times) in ways.iter().zip(&mut times) {
            let time = way.measure().await;
            // The first round warms up.
            if round > 0 {
                times.push(time / CALLS as f64 * 1e3);
            }
        }
    }
    for (way, own) in ways.iter().zip(&times).skip(1) {
        tell(&format!("access/{}", way.name), "ms a call", own, &times[0]);
    }
    let mut fresh = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..CONNECTIONS {
            plain(open.grpc()).await;
        }
        fresh[0].push(begun.elapsed().as_secs_f64() / CONNECTIONS as f64 * 1e3);
        let begun = Instant::now();
        for _ in 0..CONNECTIONS {
            tls_channel(remote, authority, None).connect().await.unwrap();
        }
        fresh[1].push(begun.elapsed().as_secs_f64() / CONNECTIONS as f64 * 1e3);
    }
    tell("access/connect_tls", "ms a connection", &fresh[1], &fresh[0]);
}

/// Notes a figure beside its peer, and prints it.
fn tell(entry: &str, unit: &str, ours: &[f64], theirs: &[f64]) {
    let ratio = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    let (own, peer) = (Spread::of(ours.iter().copied()).median, Spread::of(theirs.iter().copied()).median);
    println!(
        "{entry}: {own:.3} {unit} beside {peer:.3} ({PEER}), {:.2} times ({:.2} to {:.2})",
        ratio.median, ratio.least, ratio.most
    );
    figures::note_beside(entry, unit, ours, PEER, theirs);
}

fn scrapes(open: &Daemon, remote: &Daemon, authority: &str) {
    let mut plain = TcpStream::connect(open.http()).unwrap();
    plain.set_nodelay(true).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", remote.port("http"))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut encrypted = rustls::StreamOwned::new(session, stream);
    let header = format!("Authorization: Bearer {}\r\n", remote.token());
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let one = [scrape(&mut plain, ""), scrape(&mut encrypted, &header)];
        if round > 0 {
            times.iter_mut().zip(one).for_each(|(times, time)| times.push(time));
        }
    }
    tell("access/metrics_tls", "ms a scrape", &times[1], &times[0]);
}

/// Milliseconds of a scrape, over a connection that stays.
fn scrape(stream: &mut (impl Read + Write), header: &str) -> f64 {
    let begun = Instant::now();
    for _ in 0..SCRAPES {
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").unwrap();
        stream.flush().unwrap();
        let mut answer = Vec::new();
        let mut block = [0; 16 << 10];
        loop {
            let read = stream.read(&mut block).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&block[..read]);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                break;
            }
        }
    }
    begun.elapsed().as_secs_f64() / SCRAPES as f64 * 1e3
}
