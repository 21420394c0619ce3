//! Tokens: what opens the loopback port, and what does not.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::system_service_client::SystemServiceClient;
use torchd::proto::v1::token_service_client::TokenServiceClient;

use super::credentials::{Headers, of_file, over_tcp, refusal, token};
use super::daemon::{Daemon, Setup, wait_for};
use super::spec;
use super::torchctl::told;

async fn ask(daemon: &Daemon, headers: Headers) -> Result<v1::Caller, (Code, String)> {
    let mut client = SystemServiceClient::new(over_tcp(daemon, headers).await);
    let answer = client.get_caller(v1::GetCallerRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|status| refusal(&status))
}

fn refused(reason: &str) -> Result<v1::Caller, (Code, String)> {
    Err((Code::Unauthenticated, reason.to_owned()))
}

#[tokio::test]
async fn a_good_token_opens_the_loopback_port_and_nothing_else_does() {
    let daemon = Daemon::start();
    let secret = of_file(&daemon.state_dir);
    let caller = ask(&daemon, Headers::token(&secret)).await.unwrap();
    assert_eq!((caller.role(), caller.known_by.as_str()), (v1::Role::Admin, "token file"));
    let (cut, longer) = (&secret[..secret.len() - 1], format!("{secret}0"));
    let other = format!("torchd_{}", "0".repeat(64));
    assert_eq!(ask(&daemon, Headers::default()).await, refused("NO_CREDENTIALS"));
    for wrong in [cut, &longer, &other, "x"] {
        assert_eq!(ask(&daemon, Headers::token(wrong)).await, refused("UNKNOWN_TOKEN"), "{wrong}");
    }
    let bearer = format!("Bearer {secret}");
    for odd in [secret.as_str(), "Bearer", "Bearer ", "Basic YTpi", "Digest x"] {
        let headers = Headers::new(&[("authorization", odd)]);
        assert_eq!(ask(&daemon, headers).await, refused("MALFORMED_CREDENTIALS"), "{odd}");
    }
    // Two headers, of which one is right: a proxy and torchd could each take another one.
    for pair in [[bearer.as_str(), "Bearer x"], ["Bearer x", bearer.as_str()], [&bearer, &bearer]] {
        let headers = Headers::new(&[("authorization", pair[0]), ("authorization", pair[1])]);
        assert_eq!(ask(&daemon, headers).await, refused("MALFORMED_CREDENTIALS"), "{pair:?}");
    }
    // Names that requests give themselves count nowhere.
    let claims = [("authorization", bearer.as_str()), ("x-forwarded-user", "eve"), ("x-torchd-owner", "eve")];
    assert_eq!(ask(&daemon, Headers::new(&claims)).await.unwrap().owner, caller.owner);
    let page = daemon.page("/metrics").1;
    for (reason, count) in [("no_credentials", 1), ("unknown_token", 4), ("malformed_credentials", 8)] {
        let series = format!("torchd_auth_failures_total{{door=\"loopback\",reason=\"{reason}\"}} {count}");
        assert!(page.contains(&series), "{series}\n{page}");
    }
}

#[tokio::test]
async fn a_token_that_has_expired_or_was_revoked_says_so_also_after_a_restart() {
    let daemon = Daemon::start();
    let (old, gone) =
        (token(&daemon, "old", v1::Role::Viewer, "").await, token(&daemon, "gone", v1::Role::Viewer, "").await);
    assert_eq!(ask(&daemon, Headers::token(&old)).await.unwrap().owner, "old");
    let (code, out, err) = told(&daemon.ctl(&["token", "revoke", "gone"]));
    assert!(code == 0 && out == "tokens/gone is revoked\n", "{out}{err}");
    assert_eq!(ask(&daemon, Headers::token(&gone)).await, refused("REVOKED_TOKEN"));
    let (_, state_dir, _guard) = daemon.stop();
    let database = rusqlite::Connection::open(state_dir.join("torchd.db")).unwrap();
    assert_eq!(database.execute("UPDATE token SET expires = created WHERE name = 'old'", []).unwrap(), 1);
    drop(database);
    let daemon = Setup::in_state(&state_dir).start();
    assert_eq!(ask(&daemon, Headers::token(&old)).await, refused("EXPIRED_TOKEN"));
    assert_eq!(ask(&daemon, Headers::token(&gone)).await, refused("REVOKED_TOKEN"));
    let (_, list, _) = told(&daemon.ctl(&["token", "list"]));
    assert!(list.contains("gone") && list.contains("old"), "{list}");
    assert!(!list.contains(&old[7..]) && !daemon.log().contains(&old[7..]), "a secret is shown");
}

#[tokio::test]
async fn a_revoked_token_ends_the_streams_that_were_begun_with_it() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    let secret = token(&daemon, "watcher", v1::Role::Viewer, "").await;
    let mut watching = JobServiceClient::new(over_tcp(&daemon, Headers::token(&secret)).await);
    let request = v1::WatchJobRequest { name: job.name.clone(), ..Default::default() };
    let mut stream = watching.watch_job(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let revoke = v1::RevokeTokenRequest { name: "tokens/watcher".into() };
    TokenServiceClient::new(daemon.channel().await).revoke_token(revoke).await.unwrap();
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if the job had"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&end), (Code::Unauthenticated, "REVOKED_TOKEN".into()));
}

/// A client that has said hello, and nothing else.
fn hello(address: SocketAddr) -> TcpStream {
    let mut stranger = TcpStream::connect(address).unwrap();
    // Preface and empty settings. (RFC 9113, 3.4)
    stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    stranger
}

/// Whether the daemon has closed it.
fn is_closed(mut stranger: &TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match stranger.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

#[tokio::test]
async fn clients_that_never_call_make_room_and_those_that_have_called_stay() {
    // Half of the descriptors are for strangers, and half of these for one address.
    let daemon = Setup::new().shell("ulimit -n 400").start();
    let most = 100;
    let secret = token(&daemon, "watcher", v1::Role::Viewer, "").await;
    let mut known = SystemServiceClient::new(over_tcp(&daemon, Headers::token(&secret)).await);
    known.get_caller(v1::GetCallerRequest {}).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", daemon.grpc)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest::default()).await.unwrap();
    let strangers: Vec<_> = (0..2 * most).map(|_| hello(daemon.grpc)).collect();
    wait_for("the end of the oldest strangers", || {
        let closed = strangers.iter().filter(|stranger| is_closed(stranger)).count();
        (closed == most).then_some(())
    });
    assert!(strangers[..most].iter().all(is_closed), "the oldest go first");
    assert!(strangers[most..].iter().all(|stranger| !is_closed(stranger)));
    // No new connection was needed for it.
    known.get_caller(v1::GetCallerRequest {}).await.unwrap();
    // Its connection was closed, since nobody knows its client; another one is served.
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn torchctl_makes_tokens_and_tells_every_mistake() {
    let daemon = Daemon::start();
    let (code, secret, err) = told(&daemon.ctl(&["token", "create", "ci", "--role", "submitter", "--ttl", "90d"]));
    assert!(code == 0 && secret.starts_with("torchd_") && secret.lines().count() == 1, "{err}");
    assert!(err.contains("tokens/ci acts as ci, with the role submitter"), "{err}");
    let (code, _, err) = told(&daemon.ctl(&["token", "create", "ci", "--role", "admin"]));
    assert!(code == 1 && err.contains("there is a token ci already"), "{err}");
    let wrong = ["token", "create", "a b", "--role", "viewer", "--owner", "a/b", "--ttl", "1s"];
    let (code, _, err) = told(&daemon.ctl(&wrong));
    for words in ["token_id is \"a b\"", "owner is \"a/b\"", "ttl is 1s"] {
        assert!(code == 64 && err.contains(words), "{err}");
    }
    let (code, _, err) = told(&daemon.ctl(&["token", "revoke", "nobody"]));
    assert!(code == 1 && err.contains("there is no token nobody"), "{err}");
    let (code, _, err) = told(&daemon.ctl(&["token", "revoke", "file"]));
    assert!(code == 1 && err.contains("remove its file"), "{err}");

    // As a client with that token.
    let ctl = |secret: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().env("TORCHD_TOKEN", secret).env("TORCHD_SERVER", daemon.grpc.to_string());
        told(&command.args(arguments).output().unwrap())
    };
    let (code, out, err) = ctl(&secret, &["whoami"]);
    assert!(code == 0 && out.contains("owner     ci\nrole      submitter\nknown by  token ci"), "{out}{err}");
    let (code, _, err) = ctl(&secret, &["token", "list"]);
    assert!(code == 1 && err.contains("ci is a submitter here, and this needs an admin"), "{err}");
    let (code, _, err) = ctl("", &["jobs"]);
    assert!(code == 1 && err.contains("a token is needed, in TORCHD_TOKEN"), "{err}");
}

#[test]
fn torchctl_finds_the_token_of_the_users_own_daemon_and_sends_none_in_clear() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join(".local/state/torchd");
    fs::create_dir_all(&state).unwrap();
    let daemon = Setup::in_state(&state).start();
    let ctl = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().env("HOME", home.path()).envs(variables.iter().copied());
        told(&command.args(arguments).output().unwrap())
    };
    // The socket comes first, then what is named.
    let (code, out, err) = ctl(&[], &["whoami"]);
    assert!(code == 0 && out.contains("known by  socket"), "{out}{err}");
    let grpc = daemon.grpc.to_string();
    let (code, out, err) = ctl(&[("TORCHD_SERVER", &grpc)], &["whoami"]);
    assert!(code == 0 && out.contains("known by  token file"), "{out}{err}");
    let file = state.join("token");
    let named = [("TORCHD_SERVER", grpc.as_str()), ("TORCHD_TOKEN_FILE", file.to_str().unwrap())];
    assert_eq!(ctl(&named, &["whoami"]).0, 0);
    let (code, _, err) = ctl(&[("TORCHD_TOKEN", "x")], &["--server", "http://192.0.2.1:7080", "jobs"]);
    assert!(code == 64 && err.contains("the connection would not be encrypted"), "{err}");
    drop(daemon);
    let (code, _, err) = ctl(&[], &["jobs"]);
    let tried =
        [state.join("torchd.sock").display().to_string(), "/run/torchd/torchd.sock".into(), "127.0.0.1:7080".into()];
    assert!(code == 69 && tried.iter().all(|place| err.contains(place.as_str())), "{err}");
}

#[test]
fn a_token_file_that_others_can_read_is_refused_at_the_start() {
    let (_, state_dir, _guard) = Daemon::start().stop();
    let file = state_dir.join("token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = Setup::in_state(&state_dir).run();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(69) && words.contains("its mode is 0644"), "{words}");
    fs::remove_file(&file).unwrap();
    let daemon = Setup::in_state(&state_dir).start();
    assert!(of_file(&daemon.state_dir).starts_with("torchd_"));
}

#[tokio::test]
async fn an_open_loopback_port_takes_everybody_as_an_admin_and_says_so_at_the_start() {
    let daemon = Setup::new().open().start();
    let caller = ask(&daemon, Headers::default()).await.unwrap();
    assert_eq!(
        (caller.owner.as_str(), caller.role(), caller.known_by.as_str()),
        ("local", v1::Role::Admin, "nobody asked")
    );
    assert!(daemon.log().contains("every program on this machine is an admin there"), "{}", daemon.log());
    // A token that is shown has to be right all the same.
    assert_eq!(ask(&daemon, Headers::token("x")).await, refused("UNKNOWN_TOKEN"));
}
