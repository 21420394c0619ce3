//! CheckCompatibility for given facts and PlanInstall through the real daemon: what a client waits
//! for an answer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot run stops")]

#[path = "harness/daemon.rs"]
mod daemon;

use std::time::Instant;

use daemon::Daemon;
use torchd::proto::v1::compatibility_service_client::CompatibilityServiceClient;
use torchd::proto::v1::{self, Accelerator};

const CALLS: usize = 2000;

fn main() {
    let daemon = Daemon::start(&[], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(daemon.grpc()));
}

async fn measure(address: String) {
    let mut client = CompatibilityServiceClient::connect(address).await.expect("torchd serves");
    let gpu = v1::GpuDescription { name: "NVIDIA A10".into(), compute_capability: String::new() };
    let facts = v1::MachineFacts {
        gpus: Some(v1::GpuList { gpus: vec![gpu; 8] }),
        driver_version: "470.82.01".into(),
        torch: Some(v1::TorchFacts { version: "2.11.0+cu126".into(), ..v1::TorchFacts::default() }),
        runtime: "7.3 ML".into(),
        ..v1::MachineFacts::default()
    };
    let mut checks = Vec::new();
    let mut plans = Vec::new();
    for _ in 0..CALLS {
        let begun = Instant::now();
        let request = v1::CheckCompatibilityRequest { facts: Some(facts.clone()), as_of: String::new() };
        client.check_compatibility(request).await.expect("a report");
        checks.push(begun.elapsed());
        let begun = Instant::now();
        let request = v1::PlanInstallRequest {
            python_version: "3.12".into(),
            accelerator: Accelerator::Gpu.into(),
            driver_version: "535.104.05".into(),
            ..v1::PlanInstallRequest::default()
        };
        client.plan_install(request).await.expect("a plan");
        plans.push(begun.elapsed());
    }
    for (name, mut times) in [("CheckCompatibility", checks), ("PlanInstall", plans)] {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "{name}: {:.3} ms in the middle, {:.3} ms at 99 %, of {CALLS} calls one after the other",
            at(50),
            at(99)
        );
    }
}
