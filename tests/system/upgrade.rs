//! PyTorch is installed anew while torchd runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use torchd::proto::v1;

use super::daemon::{Daemon, LIMIT, Setup};
use super::spec;

/// Asks for the version until libtorch is as wanted.
async fn until(daemon: &Daemon, is_wanted: impl Fn(&v1::LibraryVersion) -> bool) -> v1::LibraryVersion {
    let begun = Instant::now();
    loop {
        let version = daemon.system().await.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner();
        let libtorch = version.libtorch.unwrap();
        if is_wanted(&libtorch) {
            return libtorch;
        }
        assert!(begun.elapsed() < LIMIT, "it did not get there: {libtorch:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_libtorch_that_is_replaced_is_probed_again_and_jobs_wait_until_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (runner, libraries) = (folder.path().join("runner"), folder.path().join("lib"));
    let library = libraries.join("libtorch_cpu.so");
    fs::create_dir(&libraries).unwrap();
    fs::write(&library, "whole").unwrap();
    // A library of which pip has written the first half ends a program that loads it by SIGBUS.
    let script = format!(
        "#!/bin/sh\n[ \"$(cat {})\" = half ] && kill -BUS $$\nexec env -u LD_LIBRARY_PATH {} \"$@\"\n",
        library.display(),
        env!("CARGO_BIN_EXE_torchd-runner")
    );
    fs::write(&runner, script).unwrap();
    fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup::new().set("runner.path", runner.to_str().unwrap()).set("jobs.cpu_slots", "1");
    let daemon = setup.set("runner.libtorch_dir", libraries.to_str().unwrap()).start();
    let running = daemon.create(spec::endless()).await;
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    let waits = daemon.create(spec::short()).await;

    fs::write(&library, "half").unwrap();
    let broken = until(&daemon, |libtorch| !libtorch.absent_reason.is_empty()).await;
    assert!(broken.absent_reason.contains("SIGBUS"), "{broken:?}");
    let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    let told = "the runner does not work and will be asked again";
    daemon.watch_until(&waits.name, |job| job.waiting_reason.starts_with(told)).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: running.name.clone(), now: true }).await.unwrap();
    assert_eq!(daemon.watch_to_end(&running.name).await.state(), v1::JobState::Cancelled, "it was left alone");

    fs::write(&library, "whole again").unwrap();
    until(&daemon, |libtorch| libtorch.absent_reason.is_empty() && !libtorch.version.is_empty()).await;
    assert_eq!(daemon.watch_to_end(&waits.name).await.state(), v1::JobState::Succeeded);
}
