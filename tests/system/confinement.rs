//! The limits of a runner: what a job's folder leads to is neither read nor written by it, and what
//! the kernel does not enforce is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::{spec, tools};

/// A runner in the place of the real one that finds a kernel without Landlock; None, and told as
/// skipped, where there is no Python.
fn free_runner(folder: &Path) -> Option<PathBuf> {
    if !tools::is_there("python3", "apt-get install python3") {
        return None;
    }
    let path = folder.join("free-runner");
    let script = Path::new("tests/python/without_landlock.py").canonicalize().unwrap();
    let (script, runner) = (script.display(), env!("CARGO_BIN_EXE_torchd-runner"));
    fs::write(&path, format!("#!/bin/sh\nexec python3 {script} {runner} \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Some(path)
}

async fn limits(daemon: &Daemon) -> v1::Confinement {
    let mut system = daemon.system().await;
    // Answers when the runner has.
    system.get_version(v1::GetVersionRequest {}).await.unwrap();
    system.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner().runner_confinement.unwrap()
}

/// A job after an attempt, and how that ended.
async fn after_attempt(daemon: &Daemon, name: &str) -> (v1::JobState, v1::JobEnd) {
    let job = daemon.watch_until(name, |job| job.end.is_some() || job.last_attempt_end.is_some()).await;
    (job.state(), job.end.or(job.last_attempt_end).unwrap())
}

/// How a job ends whose results would lie elsewhere, and the files there.
async fn with_results_elsewhere(setup: Setup) -> (v1::JobEnd, usize) {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hold = folder.path().join("hold");
    fs::write(&hold, "").unwrap();
    let daemon = setup.env("TORCHD_FAULT", format!("trained@{}", hold.display())).start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    let artifacts = daemon.job_folder(&job.name).join("artifacts");
    fs::remove_dir_all(&artifacts).unwrap();
    symlink(elsewhere.path(), &artifacts).unwrap();
    fs::remove_file(hold).unwrap();
    let (_, end) = after_attempt(&daemon, &job.name).await;
    (end, fs::read_dir(elsewhere.path()).unwrap().count())
}

#[tokio::test]
async fn a_runner_cannot_write_outside_of_its_jobs_folder() {
    let Some(_) = tools::landlock() else { return };
    let (end, written) = with_results_elsewhere(Setup::new()).await;
    assert_eq!((end.reason(), written), (v1::JobEndReason::Storage, 0), "{end:?}");
    assert!(end.message.contains("weights could not be saved: Permission denied"), "{}", end.message);

    // Only Landlock was in its way.
    let folder = tempfile::tempdir().unwrap();
    let Some(free) = free_runner(folder.path()) else { return };
    let (end, written) = with_results_elsewhere(Setup::new().set("runner.path", free.to_str().unwrap())).await;
    assert_eq!((end.reason(), written), (v1::JobEndReason::Finished, 2), "{end:?}");
}

/// How a job ends whose runner is led to a file elsewhere.
async fn with_a_spec_elsewhere(setup: Setup) -> v1::JobEnd {
    let elsewhere = tempfile::tempdir().unwrap();
    let daemon = setup.set("jobs.cpu_slots", "1").start();
    let first = daemon.create(spec::endless()).await;
    let job = daemon.create(v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }).await;
    let (spec, there) = (daemon.job_folder(&job.name).join("spec.json"), elsewhere.path().join("spec.json"));
    fs::rename(&spec, &there).unwrap();
    symlink(&there, &spec).unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name, now: true }).await.unwrap();
    after_attempt(&daemon, &job.name).await.1
}

#[tokio::test]
async fn a_runner_cannot_read_outside_of_its_jobs_folder_and_data() {
    let Some(_) = tools::landlock() else { return };
    let end = with_a_spec_elsewhere(Setup::new()).await;
    assert_eq!(end.reason(), v1::JobEndReason::Storage, "{end:?}");
    assert!(end.message.contains("spec cannot be read: Permission denied"), "{}", end.message);

    let folder = tempfile::tempdir().unwrap();
    let Some(free) = free_runner(folder.path()) else { return };
    let end = with_a_spec_elsewhere(Setup::new().set("runner.path", free.to_str().unwrap())).await;
    assert_eq!(end.reason(), v1::JobEndReason::Finished, "{end:?}");
}

#[tokio::test]
async fn every_thread_of_a_runner_has_lost_the_right_to_gain_privileges() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    let pid = daemon.runner_pid(&job.name).await;
    daemon.watch_until(&job.name, |job| job.progress.is_some()).await;
    let log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(log.contains("training for") && !log.contains("threads ran before"), "{log}");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let states: Vec<_> = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).collect();
    assert!(states.len() > 1, "{states:?}");
    for state in states {
        assert!(state.contains("\nNoNewPrivs:\t1\n"), "{state}");
    }
}

#[tokio::test]
async fn the_cluster_tells_which_limits_the_kernel_enforces() {
    let daemon = Daemon::start();
    let v1::Confinement { landlock_abi, no_new_privileges, enforced, missing } = limits(&daemon).await;
    assert!(no_new_privileges && enforced.iter().any(|limit| limit.contains("no privileges")), "{enforced:?}");
    let text = String::from_utf8(daemon.ctl(&["cluster"]).stdout).unwrap();
    for limit in enforced.iter().chain(&missing) {
        assert!(text.contains(limit), "{limit}: {text}");
    }
    let Some(kernel) = tools::landlock() else { return };
    // The newest that torchd knows.
    assert_eq!(landlock_abi, kernel.min(10));
    assert!(enforced.iter().any(|limit| limit.contains("only in the folder of its job")), "{enforced:?}");
    assert!(text.contains(&format!("Landlock ABI {landlock_abi}")), "{text}");
    assert_eq!(daemon.log().contains("does not enforce every limit"), !missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn without_landlock_jobs_are_trained_and_what_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(free) = free_runner(folder.path()) else { return };
    let daemon = Setup::new().set("runner.path", free.to_str().unwrap()).start();
    let v1::Confinement { landlock_abi, no_new_privileges, enforced, missing } = limits(&daemon).await;
    assert_eq!((landlock_abi, no_new_privileges, enforced.len()), (0, true, 2), "{enforced:?}");
    assert!(missing.iter().all(|limit| limit.contains("the kernel has no Landlock")), "{missing:?}");
    let text = String::from_utf8(daemon.ctl(&["cluster"]).stdout).unwrap();
    assert!(text.contains("Landlock is not in force") && text.contains("not enforced: it starts no program"), "{text}");
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let runner_log = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    for log in [daemon.log(), runner_log] {
        assert_eq!(log.matches("does not enforce every limit of a runner").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn neither_the_daemon_nor_what_it_starts_dumps_core_and_runners_have_the_limits_of_the_settings() {
    let (file, space) = (1_u64 << 30, 1_u64 << 40);
    let setup = Setup::new().set("runner.max_file_bytes", &file.to_string());
    let daemon = setup.set("runner.max_address_space_bytes", &space.to_string()).start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.progress.is_some()).await;
    let limit = |pid: i32, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(limit(daemon.pid() as i32, "Max core file size"), "0");
    assert_eq!(limit(daemon.pid() as i32, "Max file size"), "unlimited");
    for who in ["shim", "lock"] {
        let pid = daemon.signed(&job.name, who);
        let limits = ["Max core file size", "Max file size", "Max address space"].map(|name| limit(pid, name));
        assert_eq!(limits, ["0".to_owned(), file.to_string(), space.to_string()], "{who}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{who}: {status}");
    }
    let told = limits(&daemon).await.enforced.join("; ");
    for expected in ["writes no core file", "more than 1073741824 bytes", "at most 1099511627776 bytes"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[tokio::test]
async fn the_daemon_keeps_itself_to_its_settings_and_lifts_what_it_starts() {
    let (file, space) = (1_u64 << 28, 1_u64 << 35);
    let setup = Setup::new().set("daemon.max_file_bytes", &file.to_string());
    let setup = setup.set("daemon.max_address_space_bytes", &space.to_string());
    let daemon = setup.set("programs.enabled", "true").set("programs.allowed", "/usr/bin:/bin").start();
    let model = daemon.create(spec::endless()).await;
    daemon.watch_until(&model.name, |job| job.progress.is_some()).await;
    let limits = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        ["Max file size", "Max address space"].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).take(2).collect::<Vec<_>>()
        })
    };
    let (own, none) = ([file, space].map(|most| vec![most.to_string(), "unlimited".into()]), "unlimited".to_owned());
    assert_eq!(limits(daemon.pid() as i32), own);
    assert_eq!(limits(daemon.signed(&model.name, "shim")), own);
    assert_eq!(limits(daemon.signed(&model.name, "lock")), [vec![none.clone(); 2], vec![none.clone(); 2]]);
    let command = ["sh", "-c", "ulimit -f; ulimit -v"].map(str::to_owned).to_vec();
    let program = v1::JobSpec {
        program: Some(v1::Program { command, ..v1::Program::default() }),
        resources: Some(spec::threads(1)),
        ..v1::JobSpec::default()
    };
    daemon.ctl(&["cancel", &model.name]);
    let program = daemon.create(program).await;
    assert_eq!(daemon.watch_to_end(&program.name).await.state(), v1::JobState::Succeeded);
    let log = fs::read_to_string(daemon.job_folder(&program.name).join("runner.log")).unwrap();
    assert_eq!(log.matches("unlimited").count(), 2, "{log}");
}

#[tokio::test]
async fn a_checkpoint_beyond_the_limit_of_a_file_ends_no_process_and_loses_nothing() {
    let daemon = Setup::new().set("runner.max_file_bytes", "1048576").start();
    let checkpoint = Some(v1::Checkpoint { every_steps: Some(5), ..v1::Checkpoint::default() });
    // Of 2.5 MB; a checkpoint of the usual one has 90 kB.
    let mlp = v1::Mlp { hidden: vec![800], ..v1::Mlp::default() };
    let model = Some(v1::Model { family: Some(v1::model::Family::Mlp(mlp)) });
    let job = daemon.create(v1::JobSpec { model, checkpoint, ..spec::endless() }).await;
    let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let end = paused.last_attempt_end.unwrap();
    assert_eq!((end.reason(), end.signal), (v1::JobEndReason::Storage, None), "{end:?}");
    assert!(end.message.contains("File too large"), "{end:?}");
}
