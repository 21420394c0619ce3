//! Clients that ask for too much at once: what is refused before it costs anything, and that others are served meanwhile.

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1;
use torchd::proto::v1::compatibility_service_client::CompatibilityServiceClient;

use super::daemon::{Daemon, LIMIT};
use super::spec;

/// The most memory that the daemon has ever had, in bytes.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn fields(status: &tonic::Status) -> Vec<String> {
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_request_with_millions_of_entries_is_refused_before_anything_is_made_of_it() {
    let daemon = Daemon::start();
    let before = peak(&daemon);
    let mut huge = spec::short();
    // Compared pair by pair these would take hours.
    let (also_on, never_on) = (v1::JobEndReason::OutOfMemory, v1::JobEndReason::KilledBySignal);
    huge.retry = Some(v1::Retry {
        also_on: vec![also_on.into(); 1_950_000],
        never_on: vec![never_on.into(); 1_950_000],
        ..v1::Retry::default()
    });
    let mut jobs = daemon.jobs().await;
    let ask = jobs.validate_job(v1::ValidateJobRequest { spec: Some(huge.clone()) });
    let status = tokio::time::timeout(LIMIT, ask).await.expect("an answer").unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["spec.retry.also_on", "spec.retry.never_on"]);
    assert!(status.message().contains("has 1950000 entries; at most 64 are right"), "{}", status.message());
    let create = v1::CreateJobRequest { spec: Some(huge), ..Default::default() };
    assert_eq!(jobs.create_job(create).await.unwrap_err().code(), Code::InvalidArgument);

    // Empty messages, two bytes each, would be a hundred megabytes; and every one of them would be judged.
    let gpus = Some(v1::GpuList { gpus: vec![v1::GpuDescription::default(); 2_000_000] });
    let facts = Some(v1::MachineFacts { gpus, ..v1::MachineFacts::default() });
    let mut compatibility = CompatibilityServiceClient::new(daemon.channel().await);
    let request = v1::CheckCompatibilityRequest { facts, as_of: String::new() };
    let status = compatibility.check_compatibility(request).await.unwrap_err();
    assert_eq!(fields(&status), ["facts.gpus.gpus"]);
    let grown = peak(&daemon) - before;
    assert!(grown < 32 << 20, "it grew by {grown} bytes");

    let request = v1::ListRuntimesRequest { pytorch_version: "2.".repeat(200_000), ..Default::default() };
    assert_eq!(fields(&compatibility.list_runtimes(request).await.unwrap_err()), ["pytorch_version"]);
    let mut long = spec::short();
    long.output = Some(v1::Output { mirror: "/a".repeat(200_000) });
    let source = v1::warm_start::Source::Checkpoint("jobs/".repeat(600_000));
    long.warm_start = Some(v1::WarmStart { source: Some(source), resume: false });
    let status = jobs.validate_job(v1::ValidateJobRequest { spec: Some(long) }).await.unwrap_err();
    assert_eq!(fields(&status), ["spec.warm_start.checkpoint", "spec.output.mirror"]);
    jobs.validate_job(v1::ValidateJobRequest { spec: Some(spec::short()) }).await.unwrap();
}
