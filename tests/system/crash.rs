//! Deaths of daemon, shim and runner, and the jobs that go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1;

use super::daemon::{Setup, is_gone, wait_for};
use super::spec;

/// A program in the runner's place that answers the probe as the real one, and does something else
/// with a job.
pub(crate) fn odd_runner(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("odd-runner");
    let runner = env!("CARGO_BIN_EXE_torchd-runner");
    fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = probe ] && exec {runner} probe\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_killed_runner_ends_its_own_job_and_nothing_else() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").start();
    let (victim, other) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    let pid = daemon.runner_pid(&victim.name).await;
    daemon.watch_until(&other.name, |job| job.state() == v1::JobState::Running).await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let ended = daemon.watch_to_end(&victim.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(
        (ended.state(), end.reason(), end.signal),
        (v1::JobState::Failed, v1::JobEndReason::KilledBySignal, Some(9))
    );
    assert!(end.message.contains("SIGKILL"), "{}", end.message);
    assert!(end.log_tail.iter().any(|line| line.contains("training for")), "{:?}", end.log_tail);
    let note: serde_json::Value =
        serde_json::from_slice(&fs::read(daemon.job_folder(&victim.name).join("exit.json")).unwrap()).unwrap();
    assert_eq!(note, serde_json::json!({"attempt": 1, "signal": 9}));

    let before = daemon.watch_until(&other.name, |job| job.progress.is_some()).await.progress.unwrap().step;
    daemon
        .watch_until(&other.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > before + 10))
        .await;
}

#[tokio::test]
async fn a_runner_that_does_not_stop_is_killed_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let children = folder.path().join("children");
    let script = format!(
        "trap '' TERM\nsleep 1000 &\necho $! > {0}.new; mv {0}.new {0}\nwhile :; do sleep 1000; done",
        children.display()
    );
    let runner = odd_runner(folder.path(), &script);
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).set("runner.stop_grace", "100ms").start();
    let job = daemon.create(spec::short()).await;
    let child: i32 = wait_for("the runner's child", || fs::read_to_string(&children).ok()?.trim().parse().ok());
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.end.as_ref().unwrap().signal), (v1::JobState::Cancelled, Some(9)));
    assert!(is_gone(child), "before the job is told to be over");
}

#[tokio::test]
async fn a_runner_that_cannot_begin_fails_its_job_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let runner = odd_runner(folder.path(), "echo 'libtorch is not here' >&2; exit 127");
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).start();
    let job = daemon.create(spec::short()).await;
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(
        (ended.state(), end.reason(), end.exit_code),
        (v1::JobState::Failed, v1::JobEndReason::StartFailed, Some(127))
    );
    assert_eq!(end.log_tail, ["libtorch is not here"]);
}

#[tokio::test]
async fn a_runner_that_does_not_work_at_all_is_told_at_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken");
    fs::write(&path, "#!/bin/sh\necho 'error while loading shared libraries: libc10.so: cannot open shared object file' >&2\nexit 127\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Setup::new().set("runner.path", path.to_str().unwrap()).start();
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("libc10.so"), "{}", status.message());
    let (code, page) = daemon.page("/readyz");
    assert!(code == 503 && page.contains("libc10.so"), "{page}");
    let version = daemon.system().await.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner();
    assert!(version.libtorch.unwrap().absent_reason.contains("libc10.so"));
}

#[tokio::test]
async fn a_loss_that_is_no_number_ends_the_job_as_diverged() {
    let daemon = Setup::new().start();
    // Also where no scalars are due before the end.
    for scalar_every_steps in [10, 1000] {
        let logging = Some(v1::Logging { scalar_every_steps: Some(scalar_every_steps) });
        let spec = v1::JobSpec { optimizer: Some(spec::sgd(1e30, 0.0)), logging, ..spec::short() };
        let job = daemon.create(spec).await;
        let ended = daemon.watch_to_end(&job.name).await;
        let end = ended.end.clone().unwrap();
        assert_eq!(
            (ended.state(), end.reason()),
            (v1::JobState::Failed, v1::JobEndReason::Diverged),
            "{}",
            end.message
        );
        assert!(end.message.contains("learning rate"), "{}", end.message);
        assert!(!daemon.job_folder(&job.name).join("artifacts/model.safetensors").exists());
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_daemon_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("begun");
    let runner =
        odd_runner(folder.path(), &format!("trap '' TERM\ntouch {}\nwhile :; do sleep 0.1; done", marker.display()));
    let mut daemon = Setup::new()
        .set("runner.path", runner.to_str().unwrap())
        .set("runner.stop_grace", "1h")
        .set("shutdown.timeout", "2h")
        .start();
    let job = daemon.create(spec::short()).await;
    wait_for("the runner", || marker.exists().then_some(()));
    daemon.signal(Signal::SIGTERM);
    wait_for("the shutdown to begin", || daemon.log().contains("shutting down").then_some(()));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    wait_for("the end of the runner, which the daemon does not leave behind", || {
        let folder = daemon.job_folder(&job.name).display().to_string();
        let mut programs = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&folder).then_some(())
        });
        programs.next().is_none().then_some(())
    });
}

#[tokio::test]
async fn a_job_whose_folder_keeps_its_runner_from_being_started_fails_once_and_says_why() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let (ahead, job) = (daemon.create(spec::endless()).await, daemon.create(spec::short()).await);
    fs::create_dir(daemon.job_folder(&job.name).join("shim")).unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: ahead.name, now: true }).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.unwrap();
    assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::StartFailed, 1), "{end:?}");
    assert!(end.message.contains("the runner cannot be looked after: Is a directory"), "{end:?}");
}

#[tokio::test]
async fn the_words_of_an_earlier_attempt_do_not_explain_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let loader = "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file";
    let second = folder.path().join("second");
    let script = format!(
        "[ -e {0} ] && {{ echo 'of the second' >&2; exit 3; }}\ntouch {0}; echo 'torchd-runner: {loader}' >&2; exit 127",
        second.display()
    );
    let runner = odd_runner(folder.path(), &script);
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_until(&job.name, |job| job.waiting_reason.contains("libtorch_cpu.so")).await;
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.unwrap();
    assert_eq!((end.reason(), end.exit_code, ended.attempt), (v1::JobEndReason::StartFailed, Some(3), 2), "{end:?}");
    assert_eq!(end.log_tail, ["of the second"]);
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(log.contains(loader), "the log is that of all attempts");
}
