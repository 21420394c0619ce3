//! TLS of the daemon: which certificates it takes, how it takes new ones, and what strangers cost.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use torchd::proto::v1;
use torchd::proto::v1::system_service_client::SystemServiceClient;

use super::credentials::{Authority, Files, Good, Headers, Signed, connect, of_file};
use super::daemon::{Daemon, LIMIT, Setup, wait_for};

fn refused(setup: Setup) -> (i32, String) {
    let output = setup.run();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Asks who calls, with the token of the state folder.
async fn whoami(daemon: &Daemon, channel: Channel) -> v1::Caller {
    let link = InterceptedService::new(channel, Headers::token(&of_file(&daemon.state_dir)));
    SystemServiceClient::new(link).get_caller(v1::GetCallerRequest {}).await.unwrap().into_inner()
}

#[test]
fn an_address_that_others_can_reach_needs_tls_and_the_refusal_says_how() {
    let (code, words) = refused(Setup::everywhere());
    assert_eq!(code, 64);
    for expected in [
        "grpc.listen",
        "http.listen",
        "set tls.certificate and tls.key",
        "http.behind_proxy = true",
        "security.allow_unauthenticated_remote = true lets everybody in",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    let (code, words) = refused(Setup::everywhere().set("http.behind_proxy", "true"));
    assert!(code == 64 && words.contains("grpc.listen") && !words.contains("http.listen ("), "{words}");
}

#[test]
fn files_of_tls_that_do_not_go_together_are_refused_at_the_start() {
    let files = Files::new();
    let other = files.server.sign(&["localhost"], Good::Now);
    let path = |name: &str, content: &str| {
        fs::write(files.path(name), content).unwrap();
        files.path(name).to_str().unwrap().to_owned()
    };
    let (other_key, empty) = (path("other.key", &other.key), path("empty.pem", ""));
    let cut = path("cut.crt", &other.certificate[..other.certificate.len() / 2]);
    for (setup, expected) in [
        (files.setup().set("tls.key", &other_key), "tls.certificate = "),
        (files.setup().set("tls.key", &empty), "holds no private key in PEM"),
        (files.setup().set("tls.certificate", &empty), "holds no certificate in PEM"),
        (files.setup().set("tls.certificate", &cut), "tls.certificate: "),
        (files.setup().set("tls.certificate", "/nonexistent"), "tls.certificate (from"),
        (files.setup().set("tls.client_ca", &empty), "tls.client_names"),
        (files.setup().set("tls.client_names", "a=viewer"), "needs tls.client_ca"),
        (files.mutual("a=operator"), "viewer, submitter or admin is right"),
        (files.setup().set("tls.min_version", "1.1"), "\"1.2\" or \"1.3\" is right"),
        (files.setup().set("tls.key", "credential:key"), "CREDENTIALS_DIRECTORY is not set"),
    ] {
        let (code, words) = refused(setup);
        assert!(code == 64 && words.contains(expected), "{expected}: {code} {words}");
    }
}

#[tokio::test]
async fn keys_come_from_the_credentials_of_systemd_too() {
    let files = Files::new();
    let setup = Setup::everywhere().env("CREDENTIALS_DIRECTORY", files.folder.path());
    let daemon = setup.set("tls.certificate", "credential:torchd.crt").set("tls.key", "credential:torchd.key").start();
    let caller = whoami(&daemon, files.connect(&daemon, None).await.unwrap()).await;
    assert_eq!((caller.role(), caller.known_by.as_str()), (v1::Role::Admin, "token file"));
}

#[tokio::test]
async fn clients_refuse_a_certificate_that_is_not_good_for_them() {
    let files = Files::new();
    let daemon = files.setup().start();
    let stranger = Authority::new("strangers");
    let error = connect(&daemon, &stranger.pem, None).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    for (signed, expected) in [
        (files.server.sign(&["localhost"], Good::Before), "expired"),
        (files.server.sign(&["localhost"], Good::Later), "not valid yet"),
        (files.server.sign(&["elsewhere.example.org"], Good::Now), "not valid for"),
    ] {
        files.put(&signed);
        daemon.signal(Signal::SIGHUP);
        let error = wait_for("the other certificate", || {
            refused_by(&daemon, &files.server).filter(|error| error.contains(expected))
        });
        let ctl = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"))
            .args(["--server", &format!("https://localhost:{}", daemon.grpc.port()), "--ca"])
            .arg(files.path("ca.pem"))
            .arg("version")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&ctl.stderr).into_owned();
        assert!(ctl.status.code() == Some(69) && words.contains(expected), "{error}: {words}");
    }
    assert!(daemon.log().contains("a certificate has expired"), "{}", daemon.log());
}

/// Why a new connection is not made, by the certificate of this authority; None where it is.
fn refused_by(daemon: &Daemon, authority: &Authority) -> Option<String> {
    // A thread of its own: the caller may be on one that a runtime has.
    let connecting = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connect(daemon, &authority.pem, None)).err()
    };
    std::thread::scope(|scope| scope.spawn(connecting).join().unwrap())
}

fn is_served_by(daemon: &Daemon, authority: &Authority) -> bool {
    refused_by(daemon, authority).is_none()
}

#[tokio::test]
async fn new_certificates_are_taken_whole_and_connections_stay() {
    let files = Files::new();
    let daemon = files.setup().start();
    let before = files.connect(&daemon, None).await.unwrap();
    whoami(&daemon, before.clone()).await;
    let next = Authority::new("next");
    let Signed { certificate, key } = next.sign(&["localhost"], Good::Now);
    // Half of the change: a certificate whose key is not there yet.
    fs::write(files.path("torchd.crt"), &certificate).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_for("the refusal", || daemon.log().contains("certificates stay as they were").then_some(()));
    assert!(is_served_by(&daemon, &files.server) && !is_served_by(&daemon, &next));
    // And half of a file.
    fs::write(files.path("torchd.crt"), &certificate[..certificate.len() / 2]).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_for("another refusal", || (daemon.log().matches("certificates stay as they were").count() > 1).then_some(()));
    assert!(is_served_by(&daemon, &files.server));
    // The change is found without a signal.
    fs::write(files.path("torchd.crt"), &certificate).unwrap();
    fs::write(files.path("torchd.key"), &key).unwrap();
    wait_for("the new certificate", || is_served_by(&daemon, &next).then_some(()));
    assert!(!is_served_by(&daemon, &files.server));
    whoami(&daemon, before).await;
    let bearer = super::pages::bearer(&daemon);
    let (_, page) = super::pages::page(&next, &daemon, &[("authorization", &bearer)], "/metrics");
    let series = "torchd_tls_certificate_expiry_timestamp_seconds{certificate=\"server\"} ";
    let expiry = page.lines().find_map(|line| line.strip_prefix(series)).unwrap();
    // 2090-01-01.
    assert_eq!(expiry.parse::<f64>().unwrap(), 3_786_912_000.0);
}

#[tokio::test]
async fn ten_thousand_connections_that_never_finish_tls_keep_nobody_out_and_cost_little() {
    let files = Files::new();
    let daemon = files.setup().start();
    let address = format!("127.0.0.1:{}", daemon.grpc.port());
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (before, memory) = (open(), resident());
    let mut most = 0;
    let mut strangers = Vec::new();
    for number in 0..10_000 {
        let mut stranger = TcpStream::connect(&address).unwrap();
        // The beginning of a ClientHello, and no more of it.
        let _ = stranger.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
        strangers.push(stranger);
        if strangers.len() > 500 {
            // They are kept open as long as this process may: the daemon has closed its end.
            drop(strangers.remove(0));
        }
        if number % 1000 == 999 {
            most = most.max(open());
            let channel = tokio::time::timeout(LIMIT, files.connect(&daemon, None)).await.unwrap().unwrap();
            whoami(&daemon, channel).await;
        }
    }
    assert!(most < before + 700, "{most} descriptors, {before} before");
    assert!(resident() < memory + 50_000, "{} kB, {memory} kB before", resident());
}

#[tokio::test]
async fn tls_1_2_is_spoken_unless_the_settings_want_1_3_alone() {
    let files = Files::new();
    for (least, is_taken) in [("1.2", true), ("1.3", false)] {
        let daemon = files.setup().set("tls.min_version", least).start();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(files.server.pem.as_bytes()).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", daemon.grpc.port())).await.unwrap();
        let connected = connector.connect("localhost".try_into().unwrap(), stream).await;
        assert_eq!(connected.is_ok(), is_taken, "{least}");
    }
}
