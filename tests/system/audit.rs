//! The audit: who did what, and nothing that is secret.

use std::fs;

use torchd::proto::v1;
use torchd::proto::v1::job_service_client::JobServiceClient;

use super::credentials::{Headers, over_tcp, token};
use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

fn lines(daemon: &Daemon) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(daemon.state_dir.join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_change_and_every_refusal_has_a_line_with_who_from_where_what_and_how_it_ended() {
    let programs = "/usr/bin/env";
    let daemon = Setup::new().set("programs.enabled", "true").set("programs.allowed", programs).start();
    let secret = token(&daemon, "ci", v1::Role::Submitter, "alice").await;
    let mut alice = JobServiceClient::new(over_tcp(&daemon, Headers::token(&secret)).await);
    let mut stranger = JobServiceClient::new(over_tcp(&daemon, Headers::token("torchd_not_one")).await);
    let program = v1::Program {
        command: vec![programs.into()],
        env: [("PASSWORD".to_owned(), "open sesame".to_owned())].into(),
        ..Default::default()
    };
    let spec = v1::JobSpec { program: Some(program), display_name: "audited".into(), ..Default::default() };
    let request = v1::CreateJobRequest { spec: Some(spec), request_id: String::new() };
    let job = alice.create_job(request).await.unwrap().into_inner();
    daemon.watch_to_end(&job.name).await;
    let other = daemon.create(spec::endless()).await;
    alice.cancel_job(v1::CancelJobRequest { name: other.name.clone(), now: true }).await.unwrap_err();
    stranger.list_jobs(v1::ListJobsRequest::default()).await.unwrap_err();
    alice.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
    alice.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap();
    let told = wait_for("the last line", || {
        let told = lines(&daemon);
        told.iter().any(|line| line["method"] == "torchd.v1.JobService/DeleteJob").then_some(told)
    });
    let brief = |line: &serde_json::Value| {
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let method = text("method").rsplit('/').next().unwrap().to_owned();
        [text("who"), text("known_by"), text("door"), method, text("target"), text("outcome")]
    };
    let root = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    let expected = [
        [root.as_str(), "socket", "unix", "CreateToken", "tokens/ci", "OK"],
        ["alice", "token ci", "loopback", "CreateJob", &job.name, "OK"],
        [&root, "socket", "unix", "CreateJob", &other.name, "OK"],
        ["alice", "token ci", "loopback", "CancelJob", &other.name, "PermissionDenied"],
        ["", "", "loopback", "ListJobs", "", "UNKNOWN_TOKEN"],
        ["alice", "token ci", "loopback", "DeleteJob", &job.name, "OK"],
    ];
    let found: Vec<_> = told.iter().map(brief).collect();
    assert_eq!(found, expected.map(|line| line.map(str::to_owned)));
    assert!(told[1]["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{told:?}");
    assert!(told[1]["time"].as_str().unwrap().ends_with('Z'));
    let everything = fs::read_to_string(daemon.state_dir.join("audit.jsonl")).unwrap() + &daemon.log();
    for secret in [&secret[7..], "open sesame", "torchd_not_one"] {
        assert!(!everything.contains(secret), "{secret} is in the audit or the log");
    }
    assert!(daemon.log().contains("torchd::audit"), "{}", daemon.log());
}

#[tokio::test]
async fn the_file_is_set_aside_when_it_is_full_and_reads_are_told_where_that_is_wanted() {
    let setup = Setup::new().set("audit.max_file_bytes", "4096").set("audit.files", "2").set("audit.reads", "true");
    let daemon = setup.start();
    let mut client = daemon.jobs().await;
    for _ in 0..60 {
        client.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
    }
    let path = |name: &str| daemon.state_dir.join(name);
    wait_for("the second file", || path("audit.jsonl.1").exists().then_some(()));
    assert!(!path("audit.jsonl.2").exists());
    for name in ["audit.jsonl", "audit.jsonl.1"] {
        assert!(fs::metadata(path(name)).unwrap().len() <= 4096, "{name}");
    }
    assert_eq!(lines(&daemon).last().unwrap()["method"], "torchd.v1.JobService/ListJobs");
}
