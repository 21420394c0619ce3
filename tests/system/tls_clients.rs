//! Clients that show a certificate.

use std::fs;

use tonic::Code;
use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::system_service_client::SystemServiceClient;

use super::credentials::{Authority, Files, Good, Headers, Signed, refusal, token};
use super::daemon::Daemon;
use super::{spec, tools};

/// The caller as the daemon knows it, or the words of the refusal.
async fn ask(files: &Files, daemon: &Daemon, shown: &Signed) -> Result<v1::Caller, String> {
    let channel = files.connect(daemon, Some(shown)).await?;
    let answer = SystemServiceClient::new(channel).get_caller(v1::GetCallerRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{:?} {status:?}", refusal(&status)))
}

#[tokio::test]
async fn a_certificate_of_the_clients_authority_is_a_name_with_a_role() {
    let files = Files::new();
    let daemon = files.mutual("ci.example.org=submitter,ops@example.org=admin").start();
    let sign = |names: &[&str], good| files.clients.sign(names, good);
    let caller = ask(&files, &daemon, &sign(&["ci.example.org"], Good::Now)).await.unwrap();
    let known = (caller.owner.as_str(), caller.role(), caller.known_by.as_str());
    assert_eq!(known, ("ci.example.org", v1::Role::Submitter, "certificate"));
    // The first of its names that the settings have.
    let caller = ask(&files, &daemon, &sign(&["other.example.org", "ci.example.org"], Good::Now)).await.unwrap();
    assert_eq!(caller.owner, "ci.example.org");
    let error = ask(&files, &daemon, &sign(&["other.example.org"], Good::Now)).await.unwrap_err();
    assert!(error.contains("UNKNOWN_CERTIFICATE") && error.contains("is for other.example.org"), "{error}");
    let failures = || {
        let (_, page) = super::pages::page(
            &files.server,
            &daemon,
            &[("authorization", &super::pages::bearer(&daemon))],
            "/metrics",
        );
        let found = page.lines().find_map(|line| line.strip_prefix("torchd_tls_handshake_failures_total ")).unwrap();
        found.parse::<u64>().unwrap()
    };
    for shown in [
        sign(&["ci.example.org"], Good::Before),
        sign(&["ci.example.org"], Good::Later),
        Authority::new("strangers").sign(&["ci.example.org"], Good::Now),
    ] {
        let before = failures();
        // With TLS 1.3 the client believes that it is connected until it asks for something.
        ask(&files, &daemon, &shown).await.unwrap_err();
        super::daemon::wait_for("the refusal of the certificate", || (failures() > before).then_some(()));
    }
    // A key that is not the certificate's: the client itself notices, or the daemon refuses.
    let (one, other) = (sign(&["ci.example.org"], Good::Now), sign(&["ci.example.org"], Good::Now));
    let mixed = Signed { certificate: one.certificate, key: other.key };
    let tried = tokio::spawn({
        let (pem, port) = (files.server.pem.clone(), daemon.grpc.port());
        async move {
            let tls = tonic::transport::ClientTlsConfig::new()
                .ca_certificate(tonic::transport::Certificate::from_pem(pem))
                .domain_name("localhost")
                .identity(tonic::transport::Identity::from_pem(mixed.certificate, mixed.key));
            let endpoint = tonic::transport::Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
            let channel = endpoint.tls_config(tls).ok()?.connect().await.ok()?;
            SystemServiceClient::new(channel).get_caller(v1::GetCallerRequest {}).await.ok()
        }
    });
    assert!(tried.await.unwrap().is_none());
}

#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection_ends_its_streams_and_opens_nothing_more() {
    let files = Files::new();
    let daemon = files.mutual("*=viewer").start();
    let job = daemon.create(spec::endless()).await;
    let brief = files.clients.sign(&["ci.example.org"], Good::For(8));
    let mut jobs = JobServiceClient::new(files.connect(&daemon, Some(&brief)).await.unwrap());
    let request = v1::WatchJobRequest { name: job.name.clone(), ..Default::default() };
    let mut stream = jobs.watch_job(request.clone()).await.unwrap().into_inner();
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if the job had"),
            Err(status) => break status,
        }
    };
    let expired = (Code::Unauthenticated, "EXPIRED_CERTIFICATE".to_owned());
    assert_eq!(refusal(&end), expired);
    // The clock of the certificate has whole seconds.
    let refused = loop {
        match jobs.get_job(v1::GetJobRequest { name: job.name.clone() }).await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&refused), expired);
}

#[tokio::test]
async fn all_other_names_may_have_a_role_and_a_token_decides_before_a_certificate() {
    let files = Files::new();
    let daemon = files.mutual("*=viewer").start();
    let shown = files.clients.sign(&["anybody.example.org"], Good::Now);
    let caller = ask(&files, &daemon, &shown).await.unwrap();
    assert_eq!((caller.owner.as_str(), caller.role()), ("anybody.example.org", v1::Role::Viewer));
    let secret = token(&daemon, "ops", v1::Role::Admin, "").await;
    let channel = files.connect(&daemon, Some(&shown)).await.unwrap();
    let link = tonic::service::interceptor::InterceptedService::new(channel.clone(), Headers::token(&secret));
    let caller = SystemServiceClient::new(link).get_caller(v1::GetCallerRequest {}).await.unwrap().into_inner();
    assert_eq!((caller.owner.as_str(), caller.role()), ("ops", v1::Role::Admin));
    let link = tonic::service::interceptor::InterceptedService::new(channel, Headers::token("x"));
    let status = SystemServiceClient::new(link).get_caller(v1::GetCallerRequest {}).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unauthenticated, "UNKNOWN_TOKEN".into()));
}

#[tokio::test]
async fn torchctl_and_grpcio_show_certificates() {
    let files = Files::new();
    let daemon = files.mutual("ci.example.org=submitter").start();
    let shown = files.clients.sign(&["ci.example.org"], Good::Now);
    let (cert, key) = (files.path("client.crt"), files.path("client.key"));
    fs::write(&cert, &shown.certificate).unwrap();
    fs::write(&key, &shown.key).unwrap();
    let server = format!("https://localhost:{}", daemon.grpc.port());
    let ctl = |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"));
        command.env_clear().env("TORCHD_CA_FILE", files.path("ca.pem")).args(["--server", &server]).args(flags);
        super::torchctl::told(&command.output().unwrap())
    };
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (code, out, err) = ctl(&["--cert", cert, "--key", key, "whoami"]);
    assert!(code == 0 && out.contains("ci.example.org") && out.contains("submitter"), "{out}{err}");
    let (code, _, err) = ctl(&["--cert", cert, "whoami"]);
    assert!(code == 64 && err.contains("--cert and --key go together"), "{err}");
    let (code, _, err) = ctl(&["whoami"]);
    assert!(code == 1 && err.contains("or a client certificate"), "{err}");
    let Some(mut python) = tools::python() else { return };
    let ca = files.path("ca.pem");
    let output = python
        .args(["tests/python/mutual_tls_client.py", &format!("localhost:{}", daemon.grpc.port())])
        .args([ca.to_str().unwrap(), cert, key])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told["caller"],
        serde_json::json!({"owner": "ci.example.org", "role": "ROLE_SUBMITTER", "known_by": "certificate"})
    );
    assert_eq!(told["without"], "UNAUTHENTICATED");
}
