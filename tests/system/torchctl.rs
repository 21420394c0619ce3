//! torchctl, as people and scripts use it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

pub(crate) fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_example_of_an_exported_model_is_trained() {
    let daemon = Setup::new().data_root("tests/data/exported".as_ref()).start();
    let (code, out, err) = told(&daemon.ctl(&["submit", "examples/gpt.toml", "--watch"]));
    assert!(code == 0 && out.contains("succeeded: trained to the end"), "{out}{err}");
}

#[test]
fn mistakes_of_the_first_minutes_are_told_with_the_way_out() {
    let daemon = Daemon::start();
    // The port of the HTTP server.
    let (code, _, err) = told(&daemon.ctl(&["--server", &daemon.http.to_string(), "jobs"]));
    assert!(
        code == 69 && err.contains("the server gave no answer of gRPC: ") && err.contains("/metrics"),
        "{code} {err}"
    );

    // A job without validation, and with a metric: a line an epoch, and one for the last.
    let mut own = fs::read_to_string("examples/mnist.toml").unwrap().parse::<toml::Table>().unwrap();
    own["data"].as_table_mut().unwrap().remove("validation");
    own["training"].as_table_mut().unwrap().remove("validation_batch_size");
    let file = daemon.state_dir.join("own.toml");
    fs::write(&file, own.to_string()).unwrap();
    let set = ["--set", "training.max_steps=90", "--set", "training.batch_size=64"];
    let (code, out, err) = told(&daemon.ctl(&[&["submit", file.to_str().unwrap(), "--watch"][..], &set].concat()));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("epoch 1, step 60: loss ") && out.contains("epoch 2, step 90: loss "), "{out}");
    assert!(out.contains(", accuracy "), "{out}");

    let name = out.split_whitespace().next().unwrap().to_owned();
    let (code, _, err) = told(&daemon.ctl(&["download", &name, "model.pt"]));
    assert!(code == 1 && err.contains("did you mean artifacts/model.pt?"), "{code} {err}");
    let (code, _, err) = told(&daemon.ctl(&["download", &name, "artifacts/nope.pt"]));
    assert!(code == 1 && err.contains(&format!("`torchctl download {name}` lists its files")), "{code} {err}");
    let (_, _, err) = told(&daemon.ctl(&["resume", &name]));
    assert!(err.contains("the job has succeeded; only a paused job can be resumed"), "{err}");

    fs::remove_dir_all(daemon.state_dir.join(&name)).unwrap();
    let (code, out, err) = told(&daemon.ctl(&["logs", &name]));
    assert!(code == 1 && out.is_empty() && err.contains(&format!("the folder of {name} is gone")), "{code} {err}");
}

const SHORT: [&str; 2] = ["--set", "training.max_steps=20"];

#[test]
fn a_job_is_submitted_and_followed_to_its_end() {
    let daemon = Daemon::start();
    let (code, out, err) =
        told(&daemon.ctl(&["submit", "examples/mnist.toml", "--watch", "--set", "training.epochs=1"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("epoch 1, step 63: loss ") && out.contains("succeeded: trained to the end"), "{out}");
    assert!(out.contains("validation accuracy "), "{out}");

    let name = out.split_whitespace().next().unwrap().to_owned();
    let id = name.strip_prefix("jobs/").unwrap();
    let (_, out, _) = told(&daemon.ctl(&["jobs"]));
    assert!(out.starts_with("JOB") && out.contains(&name) && out.contains("succeeded"), "{out}");
    let shown = json(&daemon.ctl(&["show", id, "-o", "json"]));
    assert_eq!((shown["name"].as_str(), shown["state"].as_str()), (Some(name.as_str()), Some("JOB_STATE_SUCCEEDED")));
    assert_eq!(shown["waiting_reason"], "", "defaults are printed");
    assert_eq!(shown["spec"]["training"]["epochs"], 1);
    let (_, out, _) = told(&daemon.ctl(&["scalars", id]));
    assert!(out.contains("loss/validation") && out.contains("LAST VALUE"), "{out}");
    let points = json(&daemon.ctl(&["-o", "json", "scalars", &name, "--tag", "loss/train"]));
    assert_eq!(points["points"].as_array().unwrap().len(), 6);
    let (_, log, _) = told(&daemon.ctl(&["logs", id]));
    assert!(log.contains("training for 63 steps") && log.contains("trained to the end"), "{log}");
    let (_, last, _) = told(&daemon.ctl(&["logs", id, "--tail", "1"]));
    assert_eq!(last.lines().collect::<Vec<_>>(), log.lines().last().into_iter().collect::<Vec<_>>());
    let watched = daemon.ctl(&["watch", id, "-o", "json"]);
    let lines: Vec<serde_json::Value> =
        String::from_utf8(watched.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.last().unwrap()["events"].as_array().unwrap().last().unwrap()["snapshot"].is_object());

    let (code, _, err) = told(&daemon.ctl(&["cancel", id]));
    assert!(code == 1 && err.contains("the job has succeeded"), "{err}");
    assert_eq!(told(&daemon.ctl(&["delete", id])).0, 0);
    let (code, _, err) = told(&daemon.ctl(&["show", id]));
    assert!(code == 1 && err.contains("there is no job"), "{err}");
}

#[test]
fn a_job_that_fails_is_told_by_exit_code_and_reason() {
    let daemon = Daemon::start();
    let output = daemon.ctl(&[
        "submit",
        "examples/mnist.toml",
        "--watch",
        SHORT[0],
        SHORT[1],
        "--set",
        "optimizer.sgd.learning_rate=1e30",
    ]);
    let (code, out, _) = told(&output);
    assert_eq!(code, 1);
    assert!(out.contains("failed: ") && out.contains("a smaller learning rate may help"), "{out}");
    let (_, out, _) = told(&daemon.ctl(&["jobs", "--state", "failed"]));
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!(told(&daemon.ctl(&["jobs", "--state", "running"])).1.lines().count(), 1);
}

#[test]
fn mistakes_of_a_spec_file_are_told_before_and_by_the_daemon() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    let good = fs::read_to_string("examples/mnist.toml").unwrap();
    let two_optimizers = good.replace("[optimizer.sgd]", "[optimizer.adan]\n[optimizer.sgd]");
    fs::write(
        &file,
        two_optimizers.replace("batch_size = 64", "batchsize = 64").replace("[model.mnist_cnn]", "[model.wavelets]"),
    )
    .unwrap();
    let (code, _, err) = told(&daemon.ctl(&["submit", file.to_str().unwrap()]));
    assert_eq!(code, 64);
    for words in [
        "has 3 mistakes",
        "training.batchsize: no such field; did you mean batch_size?",
        "model.wavelets: no such field; there are mnist_cnn",
        "optimizer.adan: no such field",
    ] {
        assert!(err.contains(words), "{words}:\n{err}");
    }
    let (code, _, err) = told(&daemon.ctl(&[
        "validate",
        "examples/mnist.toml",
        "--set",
        "optimizer.sgd.learning_rate=nan",
        "--set",
        "seed=-1",
    ]));
    assert!(code == 64 && err.contains("seed: is -1, a whole number from 0"), "{err}");
    let (code, _, err) =
        told(&daemon.ctl(&["validate", "examples/mnist.toml", "--set", "optimizer.sgd.learning_rate=nan"]));
    assert!(code == 64 && err.contains("optimizer.sgd.learning_rate is NaN"), "{err}");
    let (code, out, _) = told(&daemon.ctl(&["validate", "examples/mnist.toml"]));
    assert!(code == 0 && out.contains("4000") && out.contains("630"), "{out}");
    let (code, _, err) = told(&daemon.ctl(&["submit", "no-such-file.toml"]));
    assert!(code == 64 && err.contains("no-such-file.toml cannot be read"), "{err}");
    fs::write(&file, "[model").unwrap();
    let (code, _, err) = told(&daemon.ctl(&["submit", file.to_str().unwrap()]));
    assert!(code == 64 && err.contains("is no TOML") && err.contains("line 1"), "{err}");
}

#[test]
fn two_members_of_a_choice_are_refused() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.json");
    fs::write(&file, r#"{"training": {"epochs": 1, "maxSteps": 2}}"#).unwrap();
    let (code, _, err) = told(&daemon.ctl(&["validate", file.to_str().unwrap()]));
    assert!(code == 64 && err.contains("training has epochs already, and only one of the two can be"), "{err}");
    fs::write(&file, r#"{"training": {"batch_size": 1, "batchSize": 2}}"#).unwrap();
    let (code, _, err) = told(&daemon.ctl(&["validate", file.to_str().unwrap()]));
    assert!(code == 64 && err.contains("is given a second time, as batchSize and as batch_size"), "{err}");
}

#[tokio::test]
async fn a_log_is_followed_until_the_job_has_ended() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let job = daemon.create(spec::endless()).await;
    let follower = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"))
        .env("TORCHD_SERVER", daemon.server())
        .args(["logs", "-f", &job.name])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 3)).await;
    assert_eq!(told(&daemon.ctl(&["cancel", &job.name])).0, 0);
    let output = follower.wait_with_output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && log.contains("training for") && log.contains("stopped after step"), "{log}");
}

/// torchctl, with what it writes in reach, while it runs.
pub(super) fn begin(daemon: &Daemon, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_torchctl"));
    command.env("TORCHD_SERVER", daemon.server()).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Reads up to a line that has these words.
pub(super) fn read_until(out: &mut impl BufRead, words: &str) -> String {
    let mut text = String::new();
    while !text.lines().last().is_some_and(|line| line.contains(words)) {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    text
}

#[tokio::test]
async fn who_watches_a_paused_job_hears_once_how_to_resume_it() {
    let daemon = Daemon::start();
    let name = daemon.create(spec::endless()).await.name;
    daemon.watch_until(&name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 3)).await;
    assert_eq!(told(&daemon.ctl(&["pause", &name])).0, 0);
    daemon.watch_until(&name, |job| job.state() == v1::JobState::Paused).await;
    let (mut watcher, _out) = begin(&daemon, &["watch", &name]);
    let mut err = BufReader::new(watcher.stderr.take().unwrap());
    let resume = format!("`torchctl resume {name}` puts it back into the queue");
    let mut said = read_until(&mut err, &resume);
    // A change that leaves it paused is told to the watcher too, and says nothing new.
    assert_eq!(told(&daemon.ctl(&["priority", &name, "3"])).0, 0);
    assert_eq!(told(&daemon.ctl(&["resume", &name])).0, 0);
    daemon.watch_until(&name, |job| job.state() == v1::JobState::Running).await;
    assert_eq!(told(&daemon.ctl(&["cancel", &name, "--now"])).0, 0);
    err.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches(&resume).count(), 1, "{said}");
    assert_eq!(watcher.wait().unwrap().code(), Some(1), "it was watched to its end: {said}");
}

#[tokio::test]
async fn who_follows_a_job_goes_on_when_the_daemon_comes_back() {
    let daemon = Setup::new().set("shutdown.runners", "leave").start();
    let threads = Some(spec::threads(1));
    let job = v1::JobSpec { resources: threads, ..spec::mnist(v1::training::Length::MaxSteps(2000)) };
    let name = daemon.create(job).await.name;
    let (watcher, mut records) = begin(&daemon, &["watch", &name, "-o", "json"]);
    let (reader, mut log) = begin(&daemon, &["logs", "-f", &name]);
    let mut told = read_until(&mut records, "\"scalars\":");
    let mut logged = read_until(&mut log, "training for");
    let grpc = daemon.grpc;
    // Once it dies, and once it is stopped in order.
    let (state, _guard) = daemon.crash();
    let daemon = Setup::at(grpc, &state).set("shutdown.runners", "leave").start();
    for method in ["WatchJob", "ReadJobLog"] {
        let is_there =
            |line: &str| line.starts_with("grpc_server_started_total") && line.contains(method) && line.ends_with(" 1");
        wait_for(method, || daemon.page("/metrics").1.lines().any(is_there).then_some(()));
    }
    let (status, ..) = daemon.stop();
    assert!(status.success());
    let daemon = Setup::at(grpc, &state).start();

    records.read_to_string(&mut told).unwrap();
    log.read_to_string(&mut logged).unwrap();
    for child in [watcher, reader] {
        let output = child.wait_with_output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words}");
        let losses = words.lines().filter(|line| line.contains("the connection to torchd is lost")).count();
        // The second daemon may have gone before its answer was there: then it was one loss.
        assert!((1..=2).contains(&losses) && words.lines().count() == losses, "{words}");
    }
    let messages = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events: Vec<_> = messages.flat_map(|message| message["events"].as_array().unwrap().clone()).collect();
    let numbers: Vec<u64> =
        events.iter().filter_map(|event| event["record"]["sequence"].as_str()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "every record once, in order");
    assert!(events.iter().any(|event| event["record"]["ended"].is_object()), "to the last");
    assert_eq!(events.last().unwrap()["snapshot"]["state"], "JOB_STATE_SUCCEEDED");
    let twice = events.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, 0);
    assert_eq!(logged, fs::read_to_string(daemon.job_folder(&name).join("runner.log")).unwrap());
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_the_remedy() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_torchctl"))
        .args(["--server", "127.0.0.1:1", "jobs"])
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert!(
        code == 69 && err.contains("cannot be reached at 127.0.0.1:1") && err.contains("systemctl status torchd"),
        "{err}"
    );
}

#[test]
fn versions_and_the_cluster_are_shown() {
    let daemon = Daemon::start();
    let (code, out, _) = told(&daemon.ctl(&["version"]));
    let starts = |name: &str, value: &str| out.lines().any(|line| line.starts_with(name) && line.contains(value));
    assert!(code == 0 && starts("libtorch  ", " 2.11.0, from ") && starts("torchd  ", " 0."), "{out}");
    assert!(starts("CUDA of the driver  ", " absent: ") && starts("Python  ", " "), "{out}");
    let (code, out, _) = told(&daemon.ctl(&["cluster"]));
    assert!(code == 0 && out.contains("driver-only") && out.contains("workers             0"), "{out}");
    let cluster = json(&daemon.ctl(&["cluster", "-o", "json"]));
    assert_eq!((cluster["mode"].as_str(), cluster["workers"].as_u64()), (Some("CLUSTER_MODE_DRIVER_ONLY"), Some(0)));
}

#[test]
fn python_and_its_pytorch_are_found_without_importing_it() {
    let packages = tempfile::tempdir().unwrap();
    let metadata = packages.path().join("torch-2.5.1+cu124.dist-info");
    std::fs::create_dir(&metadata).unwrap();
    std::fs::write(metadata.join("METADATA"), "Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1+cu124\n").unwrap();
    let daemon = Setup::new().env("PYTHONPATH", packages.path()).start();
    let version = json(&daemon.ctl(&["version", "-o", "json"]));
    assert!(version["python"]["version"].as_str().unwrap().starts_with("3."), "{version}");
    assert_eq!(version["python"]["found_by"], "PATH");
    assert_eq!(version["pytorch"]["version"], "2.5.1+cu124");
    assert_eq!(version["pytorch"]["path"], packages.path().join("torch").to_str().unwrap());

    let daemon = Setup::new().set("cluster.python", "/usr/bin/false").start();
    let version = json(&daemon.ctl(&["version", "-o", "json"]));
    let reason = version["python"]["absent_reason"].as_str().unwrap();
    assert!(reason.contains("/usr/bin/false (cluster.python) ended with exit status: 1"), "{reason}");
    assert!(version["pytorch"]["absent_reason"].as_str().unwrap().contains("no Python to ask"), "{version}");
}

#[test]
fn a_shell_is_told_what_there_is_to_complete() {
    let ctl = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_torchctl")).args(arguments).output().unwrap();
    let (_, help, _) = told(&ctl(&["--help"]));
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<_> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"submit") && commands.contains(&"completions"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, err) = told(&ctl(&["completions", shell]));
        assert!(code == 0, "{err}");
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    // The completions that bash itself offers.
    let (_, script, _) = told(&ctl(&["completions", "bash"]));
    let ask = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let place = words.len() - 1;
        let asked = format!(
            "{script}\nCOMP_WORDS=({line}); COMP_CWORD={place}; _torchctl torchctl '{0}' '{1}'; echo \"${{COMPREPLY[@]}}\"",
            words[place],
            words[place - 1]
        );
        told(&Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap())
    };
    assert_eq!(ask("torchctl sub").1, "submit\n");
    assert_eq!(ask("torchctl submit --wa").1, "--watch\n");
    assert_eq!(ask("torchctl resume --acc").1, "--accept-new-data\n");
    let (code, _, err) = told(&ctl(&["completions", "tcl"]));
    assert!(code == 64 && err.contains("bash"), "{err}");
}

#[test]
fn licences_are_told_without_a_daemon() {
    let ctl = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_torchctl")).args(arguments).output().unwrap();
    let (code, out, _) = told(&ctl(&["version", "--licenses"]));
    let line =
        |part: &str| out.lines().find(|line| line.starts_with(&format!("{part}  "))).unwrap_or_default().to_owned();
    assert!(code == 0 && line("tokio").contains("MIT") && line("torchd").contains("Apache-2.0"), "{out}");
    assert!(line("libtorch").contains("BSD-3-Clause") && line("libtorch").contains("licenses/torch-2.11.0"), "{out}");
    let (_, out, _) = told(&ctl(&["version", "--licenses", "-o", "json"]));
    assert!(out.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{out}");
}
