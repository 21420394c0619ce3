//! torchctl with programs: what people read of them, and how they are told of mistakes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1::{self, JobState};

use super::daemon::{Daemon, Setup, wait_for};
use super::programs::{report, setup, shell};
use super::torchctl::{begin, read_until, told};

/// Runs a command that has to succeed; what it prints.
fn out(daemon: &Daemon, arguments: &[&str]) -> String {
    let (code, out, err) = told(&daemon.ctl(arguments));
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// Runs a command that has to be refused; what it says.
fn refused(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let (found, out, err) = told(&daemon.ctl(arguments));
    assert_eq!(found, code, "{arguments:?}: {out}{err}");
    err
}

#[tokio::test]
async fn a_list_has_priorities_and_numbers_of_arrays_where_there_are_some_and_the_steps_of_programs() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let run = |options: &[&str], script: &str| {
        let (own, program) = (["run", "--detach", "--cpus", "1", "--cwd"], ["--", "sh", "-c", script]);
        out(&daemon, &[&own[..], &[root.path().to_str().unwrap()], options, &program].concat())
    };
    let silent = run(&[], "exit 0").trim().to_owned();
    daemon.watch_to_end(&silent).await;
    let steps = run(&[], &report(r#"{"step": 7, "scalars": {"loss": 1}}"#)).trim().to_owned();
    daemon.watch_to_end(&steps).await;
    let listed = |name: &str| -> Vec<String> {
        let list = out(&daemon, &["jobs"]);
        let line = list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {list}"));
        line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(listed("JOB"), ["JOB", "NAME", "STATE", "PROGRESS", "AGE", "NOTE"]);
    assert_eq!(listed(&silent)[2..4], ["succeeded", "-"]);
    assert_eq!(listed(&steps)[2..4], ["succeeded", "step 7"]);
    let array = run(&["--array", "4-5", "--priority", "-3"], "exit 0");
    let [four, five] = array.lines().collect::<Vec<_>>()[..] else { panic!("{array}") };
    assert_eq!(listed("JOB")[1..5], ["NAME", "ARRAY", "STATE", "PRIORITY"]);
    for (job, number) in [(four, "-4"), (five, "-5")] {
        daemon.watch_to_end(job).await;
        let cells = listed(job);
        assert!(cells[2].ends_with(number) && cells[4] == "-3", "{cells:?}");
    }
}

#[tokio::test]
async fn a_program_is_shown_and_judged_without_what_it_does_not_have() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let job = daemon.watch_to_end(&daemon.create(shell("exit 0")).await.name).await;
    let shown = out(&daemon, &["show", &job.name]);
    let has = |text: &str, fact: &str| text.lines().any(|line| line.split("  ").next() == Some(fact));
    assert!(has(&shown, "end") && !has(&shown, "step") && !has(&shown, "epoch"), "{shown}");
    let file = root.path().join("job.toml");
    fs::write(&file, "[program]\ncommand = [\"true\"]\n").unwrap();
    let file = file.to_str().unwrap();
    let judged = out(&daemon, &["validate", file]);
    assert!(has(&judged, "verdict") && !has(&judged, "memory") && !has(&judged, "steps"), "{judged}");
    let err = refused(&daemon, &["validate", "--dry-run", file], 64);
    assert!(err.contains("program is set, and a dry run") && err.contains("`torchctl run --dry-run`"), "{err}");
}

#[tokio::test]
async fn a_program_has_neither_a_recipe_to_edit_nor_a_model_to_apply() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let job = daemon.create(shell("exec sleep 1000")).await;
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
    for (options, words) in [
        (["--learning-rate", "0.1"], "--learning-rate (edits.learning_rate) is set, and the job runs a program"),
        (["--epochs", "3"], "--epochs (edits.epochs) is set, and the job runs a program, which has no recipe"),
        (["--set", "training.batch_size=3"], "training.batch_size may not change: the job runs a program"),
    ] {
        let err = refused(&daemon, &[&["resume", &job.name], &options[..]].concat(), 64);
        assert!(err.contains(words), "{err}");
    }
    let file = root.path().join("evaluate.toml");
    let spec = format!(
        "mode = \"MODE_EVALUATE\"\n[warm_start]\ncheckpoint = \"{}\"\n[data.test.npy]\ntarget = \"x.npy\"\n",
        job.name
    );
    fs::write(&file, spec).unwrap();
    let err = refused(&daemon, &["validate", file.to_str().unwrap()], 64);
    assert!(err.contains("warm_start.checkpoint is \"jobs/") && err.contains("that job runs a program"), "{err}");
}

#[tokio::test]
async fn mistakes_of_a_command_line_are_told_by_its_flags() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let daemon = setup(&root).set("programs.allowed", root.to_str().unwrap()).start();
    let script = root.join("train");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let (script, empty, absent) = (script.to_str().unwrap(), root.join("empty"), root.join("absent"));
    let folder = root.to_str().unwrap();
    fn run<'a>(folder: &'a str, options: &[&'a str], script: &'a str) -> Vec<&'a str> {
        [&["run", "--cwd", folder], options, &["--", script]].concat()
    }
    let err = refused(&daemon, &run(folder, &[], script), 64);
    assert!(err.contains("program.command[0] is ") && err.contains("is not executable; `chmod +x`"), "{err}");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    for (options, words) in [
        (["--gpus", "65"], "--gpus (resources.gpu_count) is 65; at most 64 is right"),
        (["--priority", "7000"], "--priority (priority) is 7000"),
        (["--cwd", "/etc"], "--cwd (program.working_dir) \"/etc\" leads out of the data roots"),
        (["--env", "TORCHD_JOB=x"], "--env (program.env."),
        (["--after", "x"], "--after, --after-success or --after-failure (after[0].job) "),
    ] {
        let err = match options {
            ["--cwd", folder] => refused(&daemon, &["run", "--cwd", folder, "--", script], 64),
            options => refused(&daemon, &run(folder, &options, script), 64),
        };
        assert!(err.contains(words), "{words}: {err}");
    }
    for (venv, words) in [(&empty, "has no bin/python"), (&absent, "cannot be looked at: No such file")] {
        let venv = venv.to_str().unwrap();
        let err = refused(&daemon, &run(folder, &["--venv", venv], script), 64);
        assert!(err.contains(&format!("--venv is {venv}, which {words}")), "{err}");
    }
    let named = run(folder, &["--detach", "--request-id", "mine"], script);
    assert_eq!(out(&daemon, &named), out(&daemon, &named));
}

#[tokio::test]
async fn who_runs_a_program_hears_of_its_next_attempt_and_of_its_pause() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
    command.env("TORCHD_SERVER", daemon.server()).args(["run", "--cpus", "1", "--retries", "1", "--cwd"]);
    command.arg(root.path()).args(["--", "sh", "-c", "exit 5"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = |words: &str| lines.by_ref().map(Result::unwrap).find(|line| line.contains(words)).unwrap();
    let name = next("Ctrl-C leaves it").split_whitespace().next().unwrap().to_owned();
    let told = next("restart 1 of 1 follows in ");
    assert!(told.starts_with("queued: ") && told.contains("ended with exit code 5"), "{told}");
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.clone() }).await.unwrap();
    assert!(next("paused").contains(&format!("`torchctl resume {name}` puts it back into the queue")));
    let request = v1::ResumeJobRequest { name: name.clone(), ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    daemon.watch_to_end(&name).await;
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[tokio::test]
async fn who_runs_a_program_hears_that_it_waits_for_its_turn() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).set("jobs.cpu_slots", "1").start();
    let first = daemon.create(shell("while :; do sleep 0.05; done")).await;
    daemon.watch_until(&first.name, |job| job.state() == JobState::Running).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
    command.env("TORCHD_SERVER", daemon.server()).args(["run", "--cpus", "1", "--cwd"]);
    let mut child = command.arg(root.path()).args(["--", "true"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find(|line| line.starts_with("queued: ")).unwrap();
    assert!(told.contains("slot"), "{told}");
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name, now: true }).await.unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_whose_follower_is_interrupted_goes_on_and_that_is_told() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Setup::start(setup(root.path()));
    let folder = root.path().to_str().unwrap();
    let script = "echo begun; while :; do sleep 0.05; done";
    let (mut child, mut log) = begin(&daemon, &["run", "--cpus", "1", "--cwd", folder, "--", "sh", "-c", script]);
    read_until(&mut log, "begun");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{err}");
    let name = err.split_whitespace().next().unwrap();
    let words = format!("{name} goes on: `torchctl watch {name}` follows it, `torchctl cancel {name}` ends it");
    assert!(err.contains(&words), "{err}");
    // The program may have written before the daemon has heard that it runs.
    wait_for("the job that runs", || out(&daemon, &["show", name]).contains("running").then_some(()));
}
