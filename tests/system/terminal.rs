//! Escape sequences in file names, log lines and specs do not reach a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use torchd::proto::v1;

use super::crash::odd_runner;
use super::daemon::{Daemon, Setup};
use super::tools;
use super::{spec, torchctl};

/// Clears the screen, by ESC and by a C1 control, retitles the window, and reverses what follows.
const HOSTILE: &str = "a\u{1b}[2J\u{9b}2J\u{1b}]0;b\u{7}\u{202e}c";
/// The same as torchctl shows it.
const SHOWN: &str = r"a\u{1b}[2J\u{9b}2J\u{1b}]0;b\u{7}\u{202e}c";

fn both(output: &Output) -> String {
    let (_, out, err) = torchctl::told(output);
    out + &err
}

fn assert_harmless(words: &str) {
    let order = words.chars().find(|c| (c.is_control() && !"\n\t".contains(*c)) || *c == '\u{202e}');
    assert!(order.is_none(), "{order:?} in {words:?}");
    assert!(words.contains(SHOWN), "the fault was not provoked: {words}");
}

/// A daemon with a failed job that read a file of that name, wrote another, and printed that line.
async fn with_a_hostile_job(place: &Path) -> (Daemon, v1::Job) {
    fs::copy("examples/mnist-5k/train-images-idx3-ubyte.gz", place.join(format!("{HOSTILE}.gz"))).unwrap();
    fs::copy("examples/mnist-5k/train-labels-idx1-ubyte.gz", place.join("labels.gz")).unwrap();
    let lines = place.join("lines");
    fs::write(&lines, format!("{HOSTILE}\n{HOSTILE}\r\n")).unwrap();
    let script = format!("cat {0} >&2; echo > \"artifacts/$(head -n 1 {0})\"; exit 3", lines.display());
    let runner = odd_runner(place, &script);
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).data_root(place).start();
    let mut hostile = spec::short();
    let data = hostile.data.as_mut().unwrap();
    data.train = Some(spec::idx(&format!("{HOSTILE}.gz"), "labels.gz"));
    let job = daemon.create(hostile).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Failed);
    (daemon, ended)
}

#[tokio::test]
async fn escape_sequences_do_not_reach_a_terminal_and_json_is_exact() {
    let place = tempfile::tempdir().unwrap();
    let (daemon, job) = with_a_hostile_job(place.path()).await;
    for command in [&["show", &job.name][..], &["watch", &job.name], &["download", &job.name]] {
        assert_harmless(&both(&daemon.ctl(command)));
    }
    // A mistake that names a file.
    let file = place.path().join("spec.json");
    let mut message = job.spec.clone().unwrap();
    message.data.as_mut().unwrap().train = Some(spec::idx(&format!("absent-{HOSTILE}"), "labels.gz"));
    fs::write(&file, torchd::proto::json::to_string(&message, false).unwrap()).unwrap();
    assert_harmless(&both(&daemon.ctl(&["submit", file.to_str().unwrap()])));

    let json: serde_json::Value =
        serde_json::from_slice(&daemon.ctl(&["show", &job.name, "-o", "json"]).stdout).unwrap();
    assert_eq!(json["spec"]["data"]["train"]["idx"]["images"], format!("{HOSTILE}.gz"));
    let log = fs::read(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(log.windows(HOSTILE.len()).any(|bytes| bytes == HOSTILE.as_bytes()));
    assert_eq!(daemon.ctl(&["logs", &job.name]).stdout, log, "a file gets what the runner wrote");
}

#[tokio::test]
async fn a_log_on_a_terminal_is_escaped() {
    if !tools::is_there("script", "apt-get install bsdutils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (daemon, job) = with_a_hostile_job(place.path()).await;
    // `script` gives it a terminal for its standard output.
    let command = format!("{} logs {}", env!("CARGO_BIN_EXE_torchctl"), job.name);
    let mut script = Command::new("script");
    let output = script.args(["-qec", &command, "/dev/null"]).env("TORCHD_SERVER", daemon.server()).output();
    let (code, out, _) = torchctl::told(&output.unwrap());
    // A terminal ends lines with CR and LF.
    assert_eq!((code, out.as_str()), (0, format!("{SHOWN}\r\n{SHOWN}\\r\r\n").as_str()));
}
