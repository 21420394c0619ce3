//! Results that outlive the machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tonic_types::StatusExt;
use torchd::mirror::Copied;
use torchd::proto::v1;

use super::daemon::{Daemon, LIMIT, Setup, wait_for};
use super::mounts::{SilentDisk, Volumes};
use super::{spec, tools};

fn copied_to(folder: &Path, spec: v1::JobSpec) -> v1::JobSpec {
    v1::JobSpec { output: Some(v1::Output { mirror: folder.display().to_string(), ..v1::Output::default() }), ..spec }
}

async fn complete(daemon: &Daemon, name: &str) -> v1::MirrorState {
    until(daemon, name, |state| state.complete).await
}

/// Asks until the copy is as wanted.
async fn until(daemon: &Daemon, name: &str, is_wanted: impl Fn(&v1::MirrorState) -> bool) -> v1::MirrorState {
    let asked = async {
        loop {
            let state = daemon.get(name).await.mirror.unwrap();
            if is_wanted(&state) {
                return state;
            }
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap()
}

fn setup(root: &Path) -> Setup {
    Setup::new().set("output.mirror_roots", root.to_str().unwrap()).set("output.mirror_interval", "100ms")
}

#[tokio::test]
async fn what_a_job_leaves_is_copied_while_it_runs_and_whole_when_it_has_ended() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let job = daemon.create(copied_to(&root.path().join("runs"), spec::endless())).await;
    let id = job.name.trim_start_matches("jobs/");
    let copy = root.path().canonicalize().unwrap().join("runs").join(id);
    let list = || -> Option<BTreeMap<String, Copied>> {
        serde_json::from_slice(&fs::read(copy.join("mirror.json")).ok()?).ok()
    };
    wait_for("a checkpoint in the copy", || {
        list()?.keys().any(|path| path.ends_with("/checkpoint.json")).then_some(())
    });
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let state = complete(&daemon, &job.name).await;
    assert_eq!((state.folder.as_str(), state.error.as_str()), (copy.to_str().unwrap(), ""));
    // Byte for byte, as sha256sum sees it, and nothing that the job has removed.
    for (path, told) in list().unwrap() {
        let output = Command::new("sha256sum").arg(copy.join(&path)).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(&told.sha256), "{path}");
        let own = daemon.job_folder(&job.name).join(&path);
        assert!(fs::read(&own).unwrap() == fs::read(copy.join(&path)).unwrap(), "{path}");
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&copy), names(&daemon.job_folder(&job.name)));
    let end: serde_json::Value = serde_json::from_slice(&fs::read(copy.join("job.json")).unwrap()).unwrap();
    assert_eq!(end["job"]["state"], "JOB_STATE_CANCELLED");
    assert!(copy.join("journal").exists() && copy.join("runner.log").exists());

    // The next daemon still knows; and another machine goes on from the copy.
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    assert!(daemon.get(&job.name).await.mirror.unwrap().complete);
    let other = Setup::new().data_root(root.path()).start();
    let newest = names(&copy)
        .into_iter()
        .max_by_key(|name| name.to_str().unwrap().trim_start_matches("step-").parse::<u64>().unwrap());
    let step: u64 = newest.unwrap().to_str().unwrap().trim_start_matches("step-").parse().unwrap();
    let file = format!("runs/{id}/checkpoints/step-{step}");
    let warm = v1::WarmStart { source: Some(v1::warm_start::Source::File(file)), resume: true, ..Default::default() };
    let length = v1::training::Length::MaxSteps(step + 5);
    let again = other.create(v1::JobSpec { warm_start: Some(warm), ..spec::mnist(length) }).await;
    let ended = other.watch_to_end(&again.name).await;
    assert_eq!((ended.state(), ended.progress.unwrap().step), (v1::JobState::Succeeded, step + 5));
}

#[tokio::test]
async fn a_daemon_that_ends_copies_what_is_new_and_the_next_one_writes_no_checkpoint_again() {
    let root = tempfile::tempdir().unwrap();
    // Nothing is copied by the clock.
    let daemon = setup(root.path()).set("output.mirror_interval", "1h").start();
    let job = daemon.create(copied_to(root.path(), spec::endless())).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 5)).await;
    let copy = root.path().canonicalize().unwrap().join(job.name.trim_start_matches("jobs/"));
    let (status, state_dir, _guard) = daemon.stop();
    assert!(status.success());
    let newest = torchd::journal::checkpoints(&torchd::journal::JobFolder::new(copy.clone())).unwrap().remove(0);
    for file in &newest.manifest.files {
        newest.read(&file.name).unwrap();
    }

    let settings = |setup: Setup| setup.set("output.mirror_roots", root.path().to_str().unwrap());
    let daemon = settings(Setup::in_state(&state_dir)).start();
    let running = |job: &v1::Job| job.attempt == 2 && job.state() == v1::JobState::Running;
    assert_eq!(daemon.watch_until(&job.name, running).await.resume_from.unwrap().step, newest.step());
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    daemon.stop();
    let written = |name: &str| fs::metadata(newest.path.join(name)).unwrap().modified().unwrap();
    let names = || newest.manifest.files.iter().map(|file| file.name.as_str());
    let before: Vec<_> = names().map(written).collect();
    let daemon = settings(Setup::in_state(&state_dir)).start();
    until(&daemon, &job.name, |state| state.last_success_time.is_some()).await;
    assert_eq!(names().map(written).collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn a_copy_is_complete_only_with_the_end_that_the_next_daemon_writes_down() {
    let root = tempfile::tempdir().unwrap();
    // It dies once the database has the third change of the job, its end, and before job.json has.
    let mut daemon = setup(root.path()).env("TORCHD_FAULT", "job-committed:3").start();
    let job = daemon.create(copied_to(root.path(), spec::short())).await;
    let own = daemon.job_folder(&job.name).join("job.json");
    daemon.wait();
    let (state_dir, _guard) = daemon.crash();
    let generation = |file: &Path| -> String {
        let told: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        told["job"]["generation"].as_str().unwrap().into()
    };
    assert_eq!(generation(&own), "3", "job.json is older than the database");
    // The next daemon copies before it comes to job.json.
    let stays = root.path().join("stays");
    fs::write(&stays, "").unwrap();
    let daemon = Setup::in_state(&state_dir)
        .set("output.mirror_roots", root.path().to_str().unwrap())
        .env("TORCHD_FAULT", format!("job-file-late@{}", stays.display()))
        .start();
    let state = until(&daemon, &job.name, |state| state.complete || state.last_success_time.is_some()).await;
    assert!(!state.complete, "{state:?}");
    fs::remove_file(&stays).unwrap();
    complete(&daemon, &job.name).await;
    assert_eq!(daemon.get(&job.name).await.generation, 4);
    let copied = root.path().join(job.name.trim_start_matches("jobs/")).join("job.json");
    assert_eq!(generation(&copied), "4");
    assert!(fs::read(&copied).unwrap() == fs::read(&own).unwrap());
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_is_told_and_tried_until_it_can_and_the_job_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let in_the_way = root.path().join("volume");
    fs::write(&in_the_way, "not mounted").unwrap();
    let ttl_after_end = Some(prost_types::Duration::default());
    let spec = v1::JobSpec { ttl_after_end, ..copied_to(&in_the_way, spec::short()) };
    let job = daemon.create(spec).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let error = until(&daemon, &job.name, |state| !state.error.is_empty()).await.error;
    assert!(error.contains("ot a directory") || error.contains("exists"), "{error}");
    // It is not removed before it is copied, also where the daemon is another one by then.
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).set("output.mirror_roots", root.path().to_str().unwrap()).start();
    assert!(daemon.job_folder(&job.name).exists());
    fs::remove_file(&in_the_way).unwrap();
    let copy = in_the_way.join(job.name.trim_start_matches("jobs/"));
    wait_for("the copy", || copy.join("artifacts/model.safetensors").exists().then_some(()));
    wait_for("the job to be removed", || (!daemon.job_folder(&job.name).exists()).then_some(()));
    assert!(copy.join("mirror.json").exists());
}

#[tokio::test]
async fn more_copies_that_cannot_be_made_than_are_looked_at_at_once_keep_no_other_job() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).set("jobs.cpu_slots", "1").start();
    daemon.create(spec::endless()).await;
    let in_the_way = root.path().join("volume");
    fs::write(&in_the_way, "not mounted").unwrap();
    let expires_at_once = |spec| v1::JobSpec { ttl_after_end: Some(prost_types::Duration::default()), ..spec };
    let mut dead = Vec::new();
    for _ in 0..101 {
        let job = daemon.create(expires_at_once(copied_to(&in_the_way, spec::endless()))).await;
        daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
        dead.push(job.name);
    }
    let other = daemon.create(expires_at_once(spec::endless())).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: other.name.clone(), now: false }).await.unwrap();
    wait_for("the other job to be removed", || (!daemon.job_folder(&other.name).exists()).then_some(()));
    assert!(dead.iter().all(|name| daemon.job_folder(name).exists()), "they are not copied");
}

#[tokio::test]
async fn a_copy_goes_nowhere_but_under_its_roots() {
    let root = tempfile::tempdir().unwrap();
    let refused = async |daemon: &Daemon, folder: &str| {
        let spec = copied_to(Path::new(folder), spec::short());
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        let wrong = status.get_details_bad_request().unwrap().field_violations.remove(0);
        assert_eq!(wrong.field, "spec.output.mirror");
        wrong.description
    };
    let daemon = Daemon::start();
    assert!(refused(&daemon, "/Volumes/a").await.contains("the settings name no output.mirror_roots"));
    let daemon = setup(root.path()).start();
    for folder in ["/etc/torchd", "runs", root.path().join("../x").to_str().unwrap()] {
        refused(&daemon, folder).await;
    }
}

#[tokio::test]
async fn links_in_a_copy_lead_nowhere_and_are_told() {
    let (root, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = setup(root.path()).start();
    let runs = root.path().join("runs");
    let job = daemon.create(copied_to(&runs, spec::endless())).await;
    let copy = runs.join(job.name.trim_start_matches("jobs/"));
    wait_for("an event file in the copy", || fs::read_dir(copy.join("tensorboard")).ok()?.next()?.ok());
    // Its folder of event files leads to somebody's letters.
    fs::write(theirs.path().join("letter"), "letter").unwrap();
    fs::rename(copy.join("tensorboard"), copy.join("aside")).unwrap();
    symlink(theirs.path(), copy.join("tensorboard")).unwrap();
    until(&daemon, &job.name, |state| state.error.contains("tensorboard")).await;
    // So does the folder of many copies.
    fs::rename(&runs, root.path().join("runs.old")).unwrap();
    symlink(theirs.path(), &runs).unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: true }).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    until(&daemon, &job.name, |state| state.error.contains("/runs:")).await;
    let left: Vec<_> = fs::read_dir(theirs.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["letter"]);
    fs::remove_file(&runs).unwrap();
    fs::rename(root.path().join("runs.old"), &runs).unwrap();
    fs::remove_file(copy.join("tensorboard")).unwrap();
    complete(&daemon, &job.name).await;
}

/// A job that has ended before it did anything.
async fn cancelled(daemon: &Daemon, copy: &Path) -> String {
    let job = daemon.create(copied_to(copy, spec::endless())).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: true }).await.unwrap();
    job.name
}

#[tokio::test]
async fn a_volume_that_is_not_mounted_gets_no_copy_until_it_is_back() {
    let place = tempfile::tempdir().unwrap();
    let (root, held) = (place.path().join("root"), place.path().join("held"));
    fs::create_dir_all(held.join("one")).unwrap();
    fs::create_dir_all(held.join("two")).unwrap();
    // Nothing can be made in the folder of the volumes, as on Databricks; the volumes in it can be
    // written.
    let Some(volumes) = tools::allowed("volumes", Volumes::mount(&root, &held)) else { return };
    let daemon = setup(&root).start();
    let first = cancelled(&daemon, &root.join("one")).await;
    complete(&daemon, &first).await;
    volumes.make_writable();
    let second = cancelled(&daemon, &root.join("two")).await;
    complete(&daemon, &second).await;
    let (_, state_dir, _guard) = daemon.stop();
    // The machine starts again, and the volumes are missing. Their folders could be written.
    volumes.unmount_volumes();
    let daemon = Setup::in_state(&state_dir).set("output.mirror_roots", root.to_str().unwrap());
    let daemon = daemon.set("output.mirror_interval", "100ms").start();
    let mut jobs = Vec::new();
    for name in ["one", "two"] {
        let job = cancelled(&daemon, &root.join(name)).await;
        let state = until(&daemon, &job, |state| !state.error.is_empty()).await;
        assert!(!state.complete && state.error.contains(".torchd-mirror"), "{state:?}");
        assert_eq!(fs::read_dir(root.join(name)).unwrap().count(), 0);
        jobs.push((name, job));
    }
    assert!(daemon.log().contains("may not be mounted there"));
    volumes.mount_volumes();
    for (name, job) in jobs {
        complete(&daemon, &job).await;
        let id = job.trim_start_matches("jobs/");
        assert!(held.join(name).join(id).join("mirror.json").exists());
    }
}

#[tokio::test]
async fn copies_that_hang_are_told_and_hold_up_none_below_another_root() {
    let place = tempfile::tempdir().unwrap();
    let (silent, other) = (place.path().join("silent"), place.path().join("other"));
    fs::create_dir(&silent).unwrap();
    fs::create_dir(&other).unwrap();
    let roots = format!("{}:{}", silent.display(), other.display());
    let daemon = Setup::new().set("output.mirror_roots", &roots).set("output.mirror_interval", "100ms");
    let daemon = daemon.set("jobs.cpu_slots", "1").start();
    // More of them than may be written at once.
    let mut hanging = Vec::new();
    for _ in 0..5 {
        hanging.push(daemon.create(copied_to(&silent, spec::endless())).await.name);
    }
    // The file system answers until they are taken.
    let Some(disk) = tools::allowed("a disk that does not answer", SilentDisk::mount(&silent)) else { return };
    let mut errors = Vec::new();
    for name in &hanging {
        errors.push(until(&daemon, name, |state| !state.error.is_empty()).await.error);
    }
    let count = |words: &str| errors.iter().filter(|error| error.contains(words)).count();
    assert_eq!((count("has not got on"), count("waits for other copies")), (4, 1), "{errors:?}");
    assert!(daemon.log().contains("does not get on"));
    let free = cancelled(&daemon, &other).await;
    complete(&daemon, &free).await;
    drop(disk);
    for name in &hanging {
        until(&daemon, name, |state| state.error.is_empty() && state.last_success_time.is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_keeps_requests_for_copied_jobs_alone_from_being_answered() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = setup(root.path()).start();
    let job = daemon.create(copied_to(&root.path().join("runs"), spec::short())).await;
    daemon.watch_to_end(&job.name).await;
    complete(&daemon, &job.name).await;
    let (_, state_dir, _guard) = daemon.stop();

    // This daemon learns from the job's folder that the copy is complete.
    let hangs = folder.path().join("hangs");
    fs::write(&hangs, "").unwrap();
    let fault = format!("client-read@{}", hangs.display());
    let daemon = Setup::in_state(&state_dir)
        .set("output.mirror_roots", root.path().to_str().unwrap())
        .env("TORCHD_FAULT", fault)
        .start();
    // More than the daemon has threads for requests.
    let (mut asked, jobs) = (tokio::task::JoinSet::new(), daemon.jobs().await);
    for _ in 0..8 {
        let (mut jobs, name) = (jobs.clone(), job.name.clone());
        asked.spawn(async move { jobs.get_job(v1::GetJobRequest { name }).await.unwrap().into_inner() });
    }
    let mut jobs = jobs.clone();
    jobs.validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false }).await.unwrap();
    assert!(asked.try_join_next().is_none(), "they hang");
    fs::remove_file(&hangs).unwrap();
    while let Some(job) = asked.join_next().await {
        assert!(job.unwrap().mirror.unwrap().complete);
    }
}
