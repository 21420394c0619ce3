//! The HTTP pages where other machines can reach them, and against what browsers and smugglers send.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::credentials::{Authority, Files, of_file, token};
use super::daemon::{Daemon, LIMIT, Setup, wait_for};
use super::tools;
use torchd::proto::v1;

/// The token of the state folder, as a header has it.
pub(crate) fn bearer(daemon: &Daemon) -> String {
    format!("Bearer {}", of_file(&daemon.state_dir))
}

/// A page over TLS, with these headers besides those that every request has.
pub(crate) fn page(authority: &Authority, daemon: &Daemon, headers: &[(&str, &str)], path: &str) -> (u16, String) {
    let host = format!("localhost:{}", daemon.http.port());
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer =
        say(authority, daemon, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"));
    parted(&answer)
}

fn parted(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or(0), format!("{head}\r\n\r\n{body}"))
}

/// Says something over TLS; everything that comes back.
fn say(authority: &Authority, daemon: &Daemon, words: &str) -> String {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", daemon.http.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = rustls::StreamOwned::new(session, stream);
    stream.write_all(words.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A connection that is cut tells no end.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// The same without TLS.
fn say_plainly(daemon: &Daemon, words: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.http.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(words.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn web_config(files: &Files, users: &[(&str, &str)]) -> String {
    let lines: String =
        users.iter().map(|(user, password)| format!("  {user}: {}\n", bcrypt::hash(password, 4).unwrap())).collect();
    fs::write(files.path("web.yml"), format!("basic_auth_users:\n{lines}")).unwrap();
    files.path("web.yml").to_str().unwrap().to_owned()
}

fn basic(pair: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[tokio::test]
async fn metrics_take_a_token_or_a_password_elsewhere_and_are_open_on_loopback() {
    let files = Files::new();
    let daemon = files.setup().set("http.web_config", &web_config(&files, &[("prometheus", "scrape me")])).start();
    let viewer = format!("Bearer {}", token(&daemon, "scraper", v1::Role::Viewer, "").await);
    let ask = |value: &str| page(&files.server, &daemon, &[("authorization", value)], "/metrics");
    for good in [bearer(&daemon), viewer.clone(), basic("prometheus:scrape me")] {
        let (code, text) = ask(&good);
        assert!(code == 200 && text.contains("torchd_build_info"), "{code} {text}");
    }
    let (code, text) = page(&files.server, &daemon, &[], "/metrics");
    assert!(code == 401 && text.contains("www-authenticate: Bearer") && text.contains("Basic realm"), "{text}");
    assert!(!text.contains("torchd_build_info"));
    for path in ["/healthz", "/readyz"] {
        assert_ne!(page(&files.server, &daemon, &[], path).0, 401, "{path}");
    }
    for wrong in [basic("prometheus:scrape you"), basic("nobody:scrape me"), "Bearer x".into(), "Basic ?".into()] {
        assert_eq!(ask(&wrong).0, 401, "{wrong}");
    }
    let twice = [("authorization", bearer(&daemon)), ("authorization", "Bearer x".into())];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(page(&files.server, &daemon, &twice, "/metrics").0, 401);
    // So many wrong ones that further passwords are not looked at. A right token is, and so is a
    // password that was right before.
    while ask(&basic("prometheus:no")).0 != 429 {}
    assert_eq!(ask(&basic("prometheus:other")).0, 429);
    for good in [viewer, basic("prometheus:scrape me")] {
        assert_eq!(ask(&good).0, 200);
    }
    let refusals = daemon.log().matches("a call was refused").count();
    assert!((10..40).contains(&refusals), "{refusals} lines");
    let local = Daemon::start();
    assert_eq!(local.page("/metrics").0, 200);
}

#[tokio::test]
async fn behind_a_proxy_credentials_are_asked_for_on_loopback_too() {
    let daemon = Setup::new().set("http.behind_proxy", "true").start();
    let ask = |header: &str| {
        let words = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
        parted(&say_plainly(&daemon, &words)).0
    };
    assert_eq!(ask(""), 401);
    assert_eq!(ask("X-Forwarded-For: 127.0.0.1\r\n"), 401);
    assert_eq!(ask(&format!("Authorization: {}\r\n", bearer(&daemon))), 200);
    assert_eq!(daemon.page("/healthz").0, 200);
}

#[test]
fn a_mistake_in_the_file_of_passwords_is_told_at_the_start() {
    let files = Files::new();
    fs::write(files.path("web.yml"), "basic_auth_users:\n  a: plain text\n").unwrap();
    let output = files.setup().set("http.web_config", files.path("web.yml").to_str().unwrap()).run();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && words.contains("the password of a is no hash of bcrypt"), "{words}");
}

#[test]
fn pages_of_browsers_reach_nothing_by_a_name_that_is_not_ours() {
    let daemon = Daemon::start();
    for path in ["/metrics", "/healthz", "/readyz", "/", "/nothing"] {
        let words = format!("GET {path} HTTP/1.1\r\nHost: evil.example:7081\r\nConnection: close\r\n\r\n");
        let (code, text) = parted(&say_plainly(&daemon, &words));
        assert!(code == 403 && text.contains("http.allowed_hosts"), "{path}: {code} {text}");
    }
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"] {
        let words = format!(
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{header}\r\n\r\n"
        );
        let (code, text) = parted(&say_plainly(&daemon, &words));
        assert!(code == 403 && text.contains("another site"), "{header}: {code} {text}");
    }
}

#[test]
fn requests_that_two_servers_would_read_differently_are_refused_or_end_their_connection() {
    let daemon = Setup::new().set("http.behind_proxy", "true").start();
    let good = format!("Authorization: {}\r\n", bearer(&daemon));
    let second = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (name, headers, body) in [
        ("both lengths", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 71\r\n", ""),
        ("an odd coding", "Transfer-Encoding: xchunked\r\n", ""),
        ("a folded header", "X: a\r\n Authorization: Bearer x\r\n", ""),
        ("a space before the colon", "Authorization : Bearer x\r\n", ""),
    ] {
        let words = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{good}{headers}\r\n{body}{second}");
        let answer = say_plainly(&daemon, &words);
        // What follows the request is never answered with the rights of the first.
        let pages = answer.matches("torchd_build_info{").count();
        assert!(pages <= 1, "{name}: {answer}");
        let last = answer.rfind("HTTP/1.1 ").map(|place| parted(&answer[place..]).0);
        assert!(answer.is_empty() || matches!(last, Some(200 | 400 | 401)), "{name}: {last:?} {answer}");
    }
    // Two names of the server: one for a proxy, one for us.
    let words = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_ne!(parted(&say_plainly(&daemon, words)).0, 200);
}

/// Ended with the test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn prometheus_scrapes_over_tls_with_a_token_and_with_a_password() {
    if !tools::is_there("prometheus", "sudo apt-get install prometheus") {
        return;
    }
    let files = Files::new();
    let daemon = files.setup().set("http.web_config", &web_config(&files, &[("prometheus", "scrape me")])).start();
    let secret = token(&daemon, "scraper", v1::Role::Viewer, "").await;
    fs::write(files.path("scrape.token"), &secret).unwrap();
    let (ca, file) = (files.path("ca.pem"), files.path("scrape.token"));
    let target = format!("localhost:{}", daemon.http.port());
    let job = |name: &str, credentials: &str| {
        format!(
            "  - job_name: {name}\n    scheme: https\n    scrape_interval: 100ms\n    scrape_timeout: 100ms\n    tls_config: {{ ca_file: {} }}\n    {credentials}\n    static_configs: [{{ targets: [\"{target}\"] }}]\n",
            ca.display()
        )
    };
    let configuration = [
        "scrape_configs:\n".to_owned(),
        job("by_token", &format!("authorization: {{ credentials_file: {} }}", file.display())),
        job("by_password", "basic_auth: { username: prometheus, password: scrape me }"),
        job("by_nothing", "honor_labels: false"),
    ];
    fs::write(files.path("prometheus.yml"), configuration.concat()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", files.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", files.path("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    let up = |job: &str| {
        let words = format!(
            "GET /api/v1/query?query=up%7Bjob=%22{job}%22%7D HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(words.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        if answer.contains(",\"1\"]") { Some(true) } else { answer.contains(",\"0\"]").then_some(false) }
    };
    for job in ["by_token", "by_password"] {
        wait_for(job, || up(job).filter(|is_up| *is_up));
    }
    assert!(!wait_for("the third", || up("by_nothing")));
}
