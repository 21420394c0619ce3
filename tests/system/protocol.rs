//! The protocol as clients in other languages meet it.

use prost::Message;
use torchd::proto;

use super::daemon::{Daemon, Setup};
use super::tools;

#[tokio::test]
async fn a_python_client_that_knows_only_reflection_runs_a_job() {
    for version in ["v1", "v1alpha"] {
        let Some(mut python) = tools::python() else { return };
        let daemon = Daemon::start();
        let output = python.args(["tests/python/reflection_client.py", version, &daemon.server()]).output().unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["health"], "SERVING");
        assert_eq!(told["state"], "JOB_STATE_SUCCEEDED");
        assert_eq!(told["steps"], 20);
        for service in ["torchd.v1.JobService", "torchd.v1.SystemService", "grpc.health.v1.Health"] {
            assert!(told["services"].as_array().unwrap().contains(&service.into()), "{told}");
        }
    }
}

/// ListJobsRequest with a page_token that may be any bytes.
#[derive(Clone, PartialEq, Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "2")]
    page_token: Vec<u8>,
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_is_a_mistake_of_the_client() {
    use tonic_types::StatusExt;
    let daemon = Daemon::start();
    let mut client = tonic::client::Grpc::new(daemon.channel().await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Bytes, proto::v1::ListJobsResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/torchd.v1.JobService/ListJobs");
    let request = tonic::Request::new(Bytes { page_token: vec![0xff, 0xfe] });
    let status = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("page_token") && status.message().contains("UTF-8"), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "MALFORMED_REQUEST");
}

#[tokio::test]
async fn the_python_client_of_the_readme_runs_as_it_stands() {
    let Some(mut python) = tools::python() else { return };
    let daemon = Daemon::start();
    let readme = std::fs::read_to_string("README.md").unwrap();
    let blocks = readme.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    let program = blocks.filter(|block| block.contains("insecure_channel")).collect::<String>();
    let program =
        program.replace("pathlib.Path.home() / \".local/state/torchd/torchd.sock\"", &format!("{:?}", daemon.unix));
    let output = python.args(["-c", &program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.lines().any(|line| line.starts_with("189 accuracy/validation 0.")), "{told}");
}

/// Every service, method, message, field, enum and value says what it is for.
#[test]
fn every_name_of_the_protocol_has_a_comment() {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let (mut commented, mut bare) = (0, Vec::new());
    for file in set.file.iter().filter(|file| !file.package().starts_with("google")) {
        let info = file.source_code_info.as_ref().unwrap();
        let mut check = |path: Vec<i32>, name: String| {
            let comment =
                info.location.iter().find(|location| location.path == path).map(|found| found.leading_comments());
            if comment.is_some_and(|comment| !comment.trim().is_empty()) { commented += 1 } else { bare.push(name) }
        };
        // The numbers are those of FileDescriptorProto and its kin in descriptor.proto.
        for (place, service) in (0..).zip(&file.service) {
            check(vec![6, place], service.name().into());
            for (method_place, method) in (0..).zip(&service.method) {
                check(vec![6, place, 2, method_place], format!("{}.{}", service.name(), method.name()));
            }
        }
        let mut messages: Vec<_> =
            (0..).zip(&file.message_type).map(|(place, message)| (vec![4, place], message)).collect();
        let mut enums: Vec<_> = (0..).zip(&file.enum_type).map(|(place, kind)| (vec![5, place], kind)).collect();
        while let Some((path, message)) = messages.pop() {
            if message.options.as_ref().is_some_and(|options| options.map_entry()) {
                continue;
            }
            let below = |kind: i32, place: i32| [path.as_slice(), &[kind, place]].concat();
            for (place, field) in (0..).zip(&message.field) {
                check(below(2, place), format!("{}.{}", message.name(), field.name()));
            }
            messages.extend((0..).zip(&message.nested_type).map(|(place, inner)| (below(3, place), inner)));
            enums.extend((0..).zip(&message.enum_type).map(|(place, inner)| (below(4, place), inner)));
            check(path, message.name().into());
        }
        for (path, kind) in enums {
            for (place, value) in (0..).zip(&kind.value) {
                check([path.as_slice(), &[2, place]].concat(), format!("{}.{}", kind.name(), value.name()));
            }
            check(path, kind.name().into());
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:?}");
    assert!(commented > 150, "{commented}");
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_to_those_whom_its_mode_lets_in() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let daemon = Setup::new().set("grpc.unix_socket_mode", "0600").start();
    assert_eq!(daemon.unix, daemon.state_dir.join("torchd.sock"));
    let file = std::fs::metadata(&daemon.unix).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let server = format!("unix:{}", daemon.unix.display());
    let ctl = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().args(["--server", &server]).args(arguments).output().unwrap()
    };
    let (code, out, err) =
        super::torchctl::told(&ctl(&["submit", "examples/mnist.toml", "--set", "training.max_steps=5"]));
    assert_eq!(code, 0, "{out}{err}");
    let (_, jobs, _) = super::torchctl::told(&daemon.ctl(&["jobs"]));
    assert!(jobs.contains("mnist-cnn"), "the same jobs: {jobs}");
    let place = daemon.unix.clone();
    let (_, state_dir, _guard) = daemon.stop();
    assert!(!place.exists(), "it goes with the daemon");

    // One that a crash has left is replaced, and RUNTIME_DIRECTORY is where systemd wants it.
    let (state_dir, _guard2) = Setup::in_state(&state_dir).start().crash();
    assert!(place.exists());
    let again = Setup::in_state(&state_dir).start();
    assert_eq!(again.unix, place);
    drop(again);
    let runtime = tempfile::tempdir().unwrap();
    let elsewhere = Setup::new().env("RUNTIME_DIRECTORY", runtime.path()).start();
    assert_eq!(elsewhere.unix, runtime.path().join("torchd.sock"));
}

#[test]
fn a_socket_that_cannot_be_is_refused() {
    let refused = |key: &str, value: &str, words: &str| {
        let output = Setup::new().set(key, value).run();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(64) && told.contains(key) && told.contains(words), "{told}");
    };
    refused("grpc.unix_socket_mode", "rw", "octal");
    refused("grpc.unix_socket_mode", "1777", "octal");
    refused("grpc.unix_socket", &format!("/tmp/{}", "x".repeat(120)), "at most 107");
}

/// Frames of HTTP/2 as far as keep-alive needs them. (RFC 9113, 4.1)
mod frame {
    pub(super) const HEAD_BYTES: usize = 9;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const ACK: u8 = 1;

    pub(super) fn new(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }
}

#[test]
fn a_connection_whose_client_does_not_answer_any_more_is_cut() {
    use std::io::{Read, Write};
    let daemon = Setup::new().set("grpc.keepalive_interval", "1s").open().start();
    let mut connection = std::net::TcpStream::connect(daemon.grpc).unwrap();
    connection.set_read_timeout(Some(super::daemon::LIMIT)).unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    connection.write_all(&frame::new(frame::SETTINGS, 0, &[])).unwrap();
    // As long as it answers it stays.
    const ANSWERED: usize = 3;
    let mut pings = 0;
    let mut head = [0; frame::HEAD_BYTES];
    let end = loop {
        if let Err(error) = connection.read_exact(&mut head) {
            break error;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if let Err(error) = connection.read_exact(&mut payload) {
            break error;
        }
        let (kind, is_ack) = (head[3], head[4] & frame::ACK != 0);
        if kind == frame::SETTINGS && !is_ack {
            connection.write_all(&frame::new(frame::SETTINGS, frame::ACK, &[])).unwrap();
        }
        if kind == frame::PING && !is_ack {
            pings += 1;
            if pings <= ANSWERED {
                connection.write_all(&frame::new(frame::PING, frame::ACK, &payload)).unwrap();
            }
        }
    };
    let is_cut = matches!(end.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset);
    assert!(is_cut && pings == ANSWERED + 1, "{pings} {end}");
}
