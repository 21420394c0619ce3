//! Programs of the user's own as jobs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::tensorboard::{Event, event::What, summary};
use torchd::proto::v1::{self, JobEndReason, JobState};
use torchd::tensorboard::{EventFileWriter, EventReader};

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::torchctl::told;

pub(super) fn setup(root: &Path) -> Setup {
    Setup::new().data_root(root).set("programs.enabled", "true").set("programs.allowed", "/usr/bin:/bin")
}

/// A job that runs a script of the shell.
pub(super) fn shell(script: &str) -> v1::JobSpec {
    let program = v1::Program { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..v1::Program::default() };
    let resources = v1::Resources { cpu_threads: Some(1), device: v1::Device::Cpu.into(), ..Default::default() };
    v1::JobSpec { program: Some(program), resources: Some(resources), ..v1::JobSpec::default() }
}

/// A line that reports some JSON.
pub(super) fn report(json: &str) -> String {
    format!("echo '{json}' >&$TORCHD_REPORT_FD\n")
}

pub(super) async fn scalars(daemon: &Daemon, name: &str, tag: &str) -> Vec<(u64, f64)> {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.into(), ..Default::default() };
    let answer = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner();
    answer.points.into_iter().map(|point| (point.step, point.value)).collect()
}

pub(super) fn log(daemon: &Daemon, job: &v1::Job) -> String {
    String::from_utf8_lossy(&fs::read(daemon.job_folder(&job.name).join("runner.log")).unwrap()).into_owned()
}

#[tokio::test]
async fn a_program_runs_with_its_environment_and_what_it_reports_is_that_of_a_job() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::write(root.join("data.txt"), "of the data root").unwrap();
    let mut events = EventFileWriter::create(&root, 0).unwrap();
    for step in [10, 20] {
        events.scalar(SystemTime::now(), step, "accuracy/epoch", step as f32).unwrap();
    }
    events.scalar(SystemTime::now(), 30, "accuracy/epoch", f32::NAN).unwrap();
    events.flush().unwrap();
    let daemon = setup(&root).start();
    let mut script =
        String::from("pwd; cat data.txt; echo \"$TORCHD_JOB $OMP_NUM_THREADS [$CUDA_VISIBLE_DEVICES] $MINE\"\n");
    script += "cp *tfevents* $TORCHD_TENSORBOARD_DIR/\n";
    script += &report(
        r#"{"step": 1, "scalars": {"loss/train": 0.5, "odd": null}, "epoch": 1, "epochs": 2, "progress": 0.5}"#,
    );
    script += &report("this is no JSON");
    script += &report(r#"{"step": 2, "scalars": {"loss/train": 0.25}, "epoch": 2}"#);
    let mut spec = shell(&script);
    let program = spec.program.as_mut().unwrap();
    program.working_dir = root.display().to_string();
    program.env = BTreeMap::from([("MINE".to_owned(), "yes".to_owned())]);
    let job = daemon.create(spec).await;
    let job = daemon.watch_to_end(&job.name).await;
    let log = log(&daemon, &job);
    assert_eq!(job.state(), JobState::Succeeded, "{:?} {log}", job.end);
    assert_eq!(job.end.as_ref().unwrap().exit_code, Some(0));
    assert!(log.contains(&format!("{}\nof the data root{} 1 [] yes", root.display(), job.name)), "{log}");
    assert!(log.contains("a report is not as it should be: \"this is no JSON\" is no JSON at byte 2;"), "{log}");
    assert!(log.contains("accuracy/epoch is NaN at step 30 of the event file"), "{log}");
    assert_eq!(scalars(&daemon, &job.name, "loss/train").await, [(1, 0.5), (2, 0.25)]);
    assert_eq!(scalars(&daemon, &job.name, "accuracy/epoch").await, [(10, 10.0), (20, 20.0)]);
    let progress = job.progress.unwrap();
    assert_eq!((progress.epoch, progress.total_epochs, progress.progress_ratio), (2, 2, 0.5));
    assert!(daemon.job_folder(&job.name).join("program/tmp").is_dir());
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_its_code_and_retried_as_often_as_was_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let retry = v1::Retry { max_restarts: 1, initial_backoff: Some(Default::default()), ..v1::Retry::default() };
    let spec = v1::JobSpec { retry: Some(retry), ..shell("echo attempt $TORCHD_ATTEMPT >&2; exit 71") };
    let job = daemon.watch_to_end(&daemon.create(spec).await.name).await;
    let end = job.end.clone().unwrap();
    assert_eq!((job.state(), end.reason()), (JobState::Failed, JobEndReason::ProgramFailed), "{end:?}");
    assert_eq!(
        (end.exit_code, job.restarts, end.log_tail.last().map(String::as_str)),
        (Some(71), 1, Some("attempt 2"))
    );
    let job = daemon.watch_to_end(&daemon.create(shell("kill -SEGV $$")).await.name).await;
    let end = job.end.clone().unwrap();
    assert_eq!((end.reason(), end.signal), (JobEndReason::ProgramFailed, Some(11)), "{end:?}");
    let spec = v1::Program { command: vec!["/usr/bin/env".into(), "no-such-program".into()], ..Default::default() };
    let job = daemon.create(v1::JobSpec { program: Some(spec), ..shell("") }).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.end.unwrap().exit_code, Some(127));
}

#[tokio::test]
async fn a_program_is_paused_and_goes_on_from_what_it_has_saved() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let mut events = EventFileWriter::create(&root, 0).unwrap();
    events.scalar(SystemTime::now(), 7, "of a file", 1.0).unwrap();
    events.flush().unwrap();
    let daemon = setup(&root).start();
    let save = report(r#"{"step": 7, "checkpoint": "checkpoints/at-7"}"#);
    let script = format!(
        "if [ -n \"$TORCHD_RESUME_FROM\" ]; then cat $TORCHD_RESUME_FROM; {} exit 0; fi\n\
         cp $DATA/*tfevents* $TORCHD_TENSORBOARD_DIR/\n\
         trap 'echo saved > $TORCHD_CHECKPOINT_DIR/at-7; {} exit 0' TERM\n{}\nwhile :; do sleep 0.05; done",
        report(r#"{"step": 8, "scalars": {"loss": 2}}"#),
        save.replace('\'', "'\\''").replace('\n', ";"),
        report(r#"{"step": 7, "scalars": {"loss": 1}}"#) + &report(r#"{"step": 9, "scalars": {"loss": 9}}"#),
    );
    let mut spec = shell(&script);
    spec.program.as_mut().unwrap().env = BTreeMap::from([("DATA".to_owned(), root.display().to_string())]);
    let job = daemon.create(spec).await;
    let has_read = |told: &v1::JobProgress| told.step == 9 && told.latest_scalars.contains_key("of a file");
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(has_read)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
    assert_eq!(paused.last_attempt_end.unwrap().reason(), JobEndReason::Paused);
    let request = v1::ResumeJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), JobState::Succeeded, "{:?} {}", ended.end, log(&daemon, &ended));
    assert!(log(&daemon, &ended).contains("saved"), "{}", log(&daemon, &ended));
    // The step that was told after the checkpoint counts no longer, and event files of the attempt
    // before are not told again.
    assert_eq!(scalars(&daemon, &job.name, "of a file").await, [(7, 1.0)]);
    assert_eq!(scalars(&daemon, &job.name, "loss").await, [(7, 1.0), (8, 2.0)]);
}

/// A script of two attempts that each report these values of a tag, of which the first fails.
fn two_attempts(first: &[(u64, f64)], last: &str, second: &[(u64, f64)]) -> v1::JobSpec {
    let told = |values: &[(u64, f64)]| -> String {
        values
            .iter()
            .map(|(step, value)| report(&format!(r#"{{"step": {step}, "scalars": {{"loss": {value}}}}}"#)))
            .collect()
    };
    let script = format!("if [ $TORCHD_ATTEMPT = 1 ]; then\n{}{last}exit 1; fi\n{}", told(first), told(second));
    let retry = v1::Retry { max_restarts: 1, initial_backoff: Some(Default::default()), ..v1::Retry::default() };
    v1::JobSpec { retry: Some(retry), ..shell(&script) }
}

/// Steps and values of the job's event files.
fn in_event_files(daemon: &Daemon, name: &str) -> Vec<(u64, f64)> {
    let files = fs::read_dir(daemon.job_folder(name).join("tensorboard")).unwrap();
    let mut paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let events = paths.iter().flat_map(|path| EventReader::new(File::open(path).unwrap()).read_all().unwrap());
    let value = |event: Event| match event.what? {
        What::Summary(summary) => match summary.value.into_iter().next()?.value? {
            summary::value::Value::SimpleValue(value) => Some((event.step as u64, f64::from(value))),
            _ => None,
        },
        _ => None,
    };
    events.filter_map(value).collect()
}

#[tokio::test]
async fn the_newer_value_of_a_step_counts_where_a_program_begins_anew_or_before_its_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let first = [(0, 1.0), (1, 2.0), (2, 3.0)];
    let saved = "echo > checkpoints/at-2\n".to_owned() + &report(r#"{"step": 2, "checkpoint": "checkpoints/at-2"}"#);
    for (last, second, expected) in [
        // From the beginning, and from a step that it has kept by itself.
        ("", &[(0, 10.0), (1, 20.0)][..], &[(0, 10.0), (1, 20.0)][..]),
        ("", &[(1, 20.0)], &[(0, 1.0), (1, 20.0)]),
        // From its checkpoint, and from a step before that; steps backwards count within an
        // attempt.
        (&saved, &[(3, 40.0)], &[(0, 1.0), (1, 2.0), (2, 3.0), (3, 40.0)]),
        (&saved, &[(1, 20.0), (0, 10.0)], &[(0, 1.0), (1, 20.0), (0, 10.0)]),
        (&saved, &[(0, 10.0)], &[(0, 10.0)]),
        (&saved, &[(3, 40.0), (1, 20.0)], &[(0, 1.0), (1, 2.0), (2, 3.0), (3, 40.0), (1, 20.0)]),
    ] {
        let job = daemon.watch_to_end(&daemon.create(two_attempts(&first, last, second)).await.name).await;
        assert_eq!((job.state(), job.attempt), (JobState::Succeeded, 2), "{:?} {}", job.end, log(&daemon, &job));
        assert_eq!(scalars(&daemon, &job.name, "loss").await, expected, "{}", log(&daemon, &job));
        assert_eq!(in_event_files(&daemon, &job.name), expected);
    }
}

#[tokio::test]
async fn a_program_that_was_denied_a_file_is_told_where_it_may_write() {
    let Some(_) = super::tools::landlock() else { return };
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let daemon = setup(&root).start();
    let ended = async |script: &str| {
        let mut spec = shell(script);
        spec.program.as_mut().unwrap().working_dir = root.display().to_string();
        daemon.watch_to_end(&daemon.create(spec).await.name).await.end.unwrap()
    };
    let end = ended("echo result > result.txt || exit 3").await;
    assert_eq!((end.reason(), end.exit_code), (JobEndReason::ProgramFailed, Some(3)), "{end:?}");
    assert!(end.message.contains("a program writes below $TORCHD_PROGRAM_DIR"), "{end:?}");
    let end = ended("echo some other mistake; exit 3").await;
    assert_eq!(end.message, "the program ended with exit code 3");
}

#[tokio::test]
async fn what_a_program_started_is_gone_with_it_and_one_that_ignores_sigterm_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).set("runner.stop_grace", "500ms").start();
    let job = daemon.create(shell("trap '' TERM; setsid sleep 1000 & echo $! > child; sleep 1000")).await;
    let child = daemon.job_folder(&job.name).join("program/child");
    let pid: i32 = wait_for("the child", || fs::read_to_string(&child).ok()?.trim().parse().ok());
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), JobState::Cancelled);
    assert!(is_gone(pid), "{pid}");
}

#[tokio::test]
async fn a_program_that_leaves_with_another_code_when_it_is_stopped_is_paused_and_cancelled_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let told = report(r#"{"step": 1, "scalars": {"loss": 1}}"#);
    let waits = format!("trap 'exit 1' TERM\n{told}while :; do sleep 0.05; done");
    let job = daemon.create(shell(&waits)).await;
    let runs = |job: &v1::Job| job.progress.as_ref().is_some_and(|told| told.step == 1);
    daemon.watch_until(&job.name, runs).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    let paused = daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
    assert_eq!(paused.last_attempt_end.unwrap().exit_code, Some(1));
    let job = daemon.create(shell(&waits)).await;
    daemon.watch_until(&job.name, runs).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), end.reason()), (JobState::Cancelled, JobEndReason::Cancelled));
    assert_eq!(end.message, "cancelled; the runner stopped its program, which ended with exit code 1");
}

#[tokio::test]
async fn a_program_whose_daemon_does_not_come_back_is_stopped_and_begins_again_with_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).set("jobs.orphan_timeout", "1s").start();
    let job = daemon.create(shell("trap 'exit 1' TERM\nwhile :; do sleep 0.05; done")).await;
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await;
    let (folder, host) = (daemon.job_folder(&job.name), daemon.signed(&job.name, "lock"));
    let (state, _guard) = daemon.crash();
    wait_for("the end of the host", || folder.join("exit.json").exists().then_some(()));
    assert!(is_gone(host), "{host}");
    let daemon = Setup::in_state(&state).start();
    let again = daemon.watch_until(&job.name, |job| job.state() == JobState::Running && job.attempt == 2).await;
    assert_eq!((again.restarts, again.last_attempt_end.unwrap().reason()), (0, JobEndReason::Interrupted));
}

#[tokio::test]
async fn a_program_starts_others_of_those_that_are_allowed() {
    let root = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    let tools = tools.path().canonicalize().unwrap();
    let greet = tools.join("greet");
    fs::write(&greet, "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(&greet, fs::Permissions::from_mode(0o755)).unwrap();
    let allowed = format!("/usr/bin:/bin:{}", tools.display());
    let daemon = setup(root.path()).set("programs.allowed", &allowed).start();
    let job = daemon.watch_to_end(&daemon.create(shell(&greet.display().to_string())).await.name).await;
    let log = log(&daemon, &job);
    assert!(job.state() == JobState::Succeeded && log == "hello\n", "{:?} {log}", job.end);
}

#[tokio::test]
async fn a_program_writes_in_its_folder_alone_and_forges_nothing() {
    let Some(abi) = super::tools::landlock() else { return };
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("data"), "").unwrap();
    let daemon = setup(root.path()).start();
    let script = "cd ..; for file in journal exit.json job.json lock attempts/1.json $DATA /tmp/torchd-forged; do \
                  echo forged >> $file && echo wrote $file; done; cat job.json && echo read; \
                  ln -s /etc program/checkpoints/out; echo fine > program/mine; kill -9 $PPID && echo killed; exit 0";
    let mut spec = shell(script);
    let data = root.path().join("data").display().to_string();
    spec.program.as_mut().unwrap().env = BTreeMap::from([("DATA".to_owned(), data)]);
    let job = daemon.watch_to_end(&daemon.create(spec).await.name).await;
    let log = log(&daemon, &job);
    assert_eq!(job.state(), JobState::Succeeded, "{:?} {log}", job.end);
    assert!(!log.contains("wrote") && !log.contains("read\n") && (abi < 6 || !log.contains("killed")), "{log}");
    assert_eq!(fs::read_to_string(daemon.job_folder(&job.name).join("program/mine")).unwrap(), "fine\n");
    assert_eq!(fs::read(root.path().join("data")).unwrap(), b"");
}

#[tokio::test]
async fn programs_are_off_by_default_and_only_those_that_are_allowed_run() {
    let root = tempfile::tempdir().unwrap();
    let refused = async |daemon: &Daemon, spec: v1::JobSpec| {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let wrong = status.get_details_bad_request().unwrap().field_violations.swap_remove(0);
        (wrong.field, wrong.description)
    };
    let off = Setup::new().data_root(root.path()).start();
    let (field, what) = refused(&off, shell("true")).await;
    assert!(field == "spec.program" && what.contains("programs.enabled"), "{field} {what}");
    let on =
        Setup::new().data_root(root.path()).set("programs.enabled", "true").set("programs.allowed", "/usr/bin/env");
    let on = on.start();
    let (field, what) = refused(&on, shell("true")).await;
    assert!(field == "spec.program.command[0]" && what.contains("programs.allowed"), "{field} {what}");
    let mut spec = shell("true");
    spec.program.as_mut().unwrap().working_dir = "/etc".into();
    let (field, what) = refused(&on, spec).await;
    assert!(field == "spec.program.working_dir" && what.contains("data roots"), "{field} {what}");
}

#[tokio::test]
async fn torchctl_runs_a_program_and_ends_with_its_code() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let daemon = setup(&root).start();
    let run = |arguments: &[&str], script: &str| {
        let options =
            [&["run", "--cpus", "1", "--cwd", root.to_str().unwrap()], arguments, &["--", "sh", "-c", script]];
        told(&daemon.ctl(&options.concat()))
    };
    let (code, out, err) = run(&["--env", "A=b", "--name", "mine"], "echo out $A; exit 3");
    assert!(code == 3 && out == "out b\n" && err.contains("ended with exit code 3"), "{code} {out} {err}");
    let (code, out, err) = run(&[], "exit 0");
    assert!(code == 0 && out.is_empty(), "{code} {out} {err}");
    let (code, out, err) = run(&["--dry-run"], "exit 1");
    assert!(code == 0 && out.contains("was not submitted"), "{code} {out} {err}");
    let (code, out, err) = run(&["--detach", "--priority", "-3"], "exit 1");
    assert!(code == 0 && out.starts_with("jobs/"), "{code} {out} {err}");
    assert_eq!(daemon.watch_to_end(out.trim()).await.spec.unwrap().priority, -3);
}

#[tokio::test]
async fn files_and_folders_that_a_program_names_become_artifacts_and_nothing_else_does() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let mut script = String::from(
        "cd $TORCHD_PROGRAM_DIR; mkdir -p out/deep; echo first > out/model; echo two > out/deep/two; echo no > out/.hidden\n\
         ln -s ../../job.json out/link; echo none > unnamed\n",
    );
    script += &report(r#"{"artifact": "out"}"#);
    // The same name, as another file: the newest counts.
    script += "echo newest > next; mv next out/model\n";
    script += &report(r#"{"artifact": "out/model"}"#);
    script += &report(r#"{"artifact": "out/model"}"#);
    for wrong in ["../job.json", "out/link", "/etc/passwd", "out/absent", ""] {
        script += &report(&format!(r#"{{"artifact": "{wrong}"}}"#));
    }
    let job = daemon.watch_to_end(&daemon.create(shell(&script)).await.name).await;
    let log = log(&daemon, &job);
    assert_eq!(job.state(), JobState::Succeeded, "{:?} {log}", job.end);
    let request = v1::ListArtifactsRequest { name: job.name.clone(), ..Default::default() };
    let listed = daemon.jobs().await.list_artifacts(request).await.unwrap().into_inner().artifacts;
    let prefix = format!("{}/artifacts/", job.name);
    let names: Vec<_> = listed.iter().map(|found| found.name.trim_start_matches(&prefix)).collect();
    assert_eq!(names, ["out/deep/two", "out/model"], "{log}");
    let read = |name: &str| fs::read_to_string(daemon.job_folder(&job.name).join("artifacts").join(name)).unwrap();
    assert_eq!((read("out/model").as_str(), read("out/deep/two").as_str()), ("newest\n", "two\n"));
    for wrong in ["\"../job.json\"", "\"out/link\"", "\"/etc/passwd\"", "\"out/absent\"", "\"\""] {
        assert!(log.contains(&format!("{wrong} cannot be an artifact: ")), "{wrong} {log}");
    }
}
