//! Kills and restarts of the daemon, the shim and the runner while a job runs: the user sees its
//! true end and nothing else.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1;
use torchd::proto::v1::watch_event::Event;

use super::crash::odd_runner;
use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::spec;

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// So many steps, with little work in each.
fn length(steps: u64) -> v1::JobSpec {
    let mut spec = spec::endless();
    let training = spec.training.as_mut().unwrap();
    training.length = Some(v1::training::Length::MaxSteps(steps));
    training.batch_size = Some(8);
    spec
}

fn at_once() -> v1::Retry {
    v1::Retry { max_restarts: 1, initial_backoff: Some(prost_types::Duration::default()), ..v1::Retry::default() }
}

/// The numbers of the records of a job behind `after`, as far as a watcher gets them before the
/// stream ends, or `most`.
async fn sequences(daemon: &Daemon, name: &str, after: u64, most: usize) -> Vec<u64> {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence: after, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let mut numbers = Vec::new();
    while let Ok(Some(message)) = stream.message().await {
        numbers.extend(message.events.into_iter().filter_map(|event| match event.event {
            Some(Event::Record(record)) => Some(record.sequence),
            _ => None,
        }));
        if numbers.len() >= most {
            break;
        }
    }
    numbers
}

#[tokio::test]
async fn a_runner_outlives_its_daemon_and_a_new_one_takes_it_over() {
    // The runner stands still from one daemon to the next: it does not end meanwhile, however long
    // that takes.
    let folder = tempfile::tempdir().unwrap();
    let stands = folder.path().join("stands");
    let halt = || fs::write(&stands, "").unwrap();
    let go = || fs::remove_file(&stands).unwrap();
    let fault = format!("step@{}", stands.display());
    let daemon = Setup::new().set("shutdown.runners", "leave").env("TORCHD_FAULT", fault).start();
    let job = daemon.create(length(1500)).await;
    let mut seen = sequences(&daemon, &job.name, 0, 30).await;
    halt();
    let (shim, runner) = (daemon.signed(&job.name, "shim"), daemon.signed(&job.name, "lock"));
    let (state, _guard) = daemon.crash();
    assert!(!is_gone(shim) && !is_gone(runner));

    // A second daemon dies too, and a third is stopped in order.
    let daemon = Setup::in_state(&state).set("shutdown.runners", "leave").start();
    go();
    seen.extend(sequences(&daemon, &job.name, *seen.last().unwrap(), 30).await);
    halt();
    assert_eq!(daemon.get(&job.name).await.attempt, 1);
    daemon.crash();
    let daemon = Setup::in_state(&state).set("shutdown.runners", "leave").start();
    go();
    seen.extend(sequences(&daemon, &job.name, *seen.last().unwrap(), 30).await);
    halt();
    let (status, ..) = daemon.stop();
    assert!(status.success() && !is_gone(runner), "an upgrade does not touch training");
    go();

    let daemon = Setup::in_state(&state).start();
    assert_eq!(daemon.signed(&job.name, "lock"), runner);
    seen.extend(sequences(&daemon, &job.name, *seen.last().unwrap(), usize::MAX).await);
    let expected: Vec<u64> = (1..=seen.len() as u64).collect();
    assert_eq!(seen, expected, "every record once, in order, across four daemons");
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), ended.attempt, end.exit_code), (v1::JobState::Succeeded, 1, Some(0)));
    assert_eq!(ended.progress.unwrap().step, 1500);
    wait_for("the end of the shim", || is_gone(shim).then_some(()));
}

#[tokio::test]
async fn a_runner_that_ends_while_there_is_no_daemon_gets_its_true_end() {
    let daemon = Setup::new().set("jobs.cpu_slots", "3").start();
    let finishes = daemon.create(length(3000)).await;
    let (cancelled, killed) = (daemon.create(spec::endless()).await, daemon.create(spec::endless()).await);
    for job in [&finishes, &cancelled, &killed] {
        daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 0)).await;
    }
    let folders = [&finishes, &cancelled, &killed].map(|job| daemon.job_folder(&job.name));
    let dead = daemon.signed(&killed.name, "lock");
    let request = v1::CancelJobRequest { name: cancelled.name.clone(), now: false };
    daemon.jobs().await.cancel_job(request).await.unwrap();
    let (state, _guard) = daemon.crash();
    signal(dead, Signal::SIGABRT);
    for folder in [&folders[0], &folders[2]] {
        wait_for("the end of the runner", || folder.join("exit.json").exists().then_some(()));
    }

    let daemon = Setup::in_state(&state).start();
    let ended = daemon.watch_to_end(&finishes.name).await;
    assert_eq!((ended.state(), ended.progress.unwrap().step), (v1::JobState::Succeeded, 3000));
    let end = daemon.watch_to_end(&killed.name).await.end.unwrap();
    assert_eq!((end.reason(), end.signal), (v1::JobEndReason::KilledBySignal, Some(6)), "{end:?}");
    assert!(end.log_tail.iter().any(|line| line.contains("training for")), "{:?}", end.log_tail);
    assert_eq!(daemon.watch_to_end(&cancelled.name).await.state(), v1::JobState::Cancelled);
}

#[tokio::test]
async fn a_runner_whose_daemon_does_not_come_back_saves_and_leaves_and_its_job_goes_on_later() {
    let daemon = Setup::new().set("jobs.orphan_timeout", "1s").start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.progress.is_some()).await;
    let (folder, runner) = (daemon.job_folder(&job.name), daemon.signed(&job.name, "lock"));
    let (state, _guard) = daemon.crash();
    wait_for("the end of the runner", || folder.join("exit.json").exists().then_some(()));
    assert!(is_gone(runner), "no orphan holds a GPU for ever");
    let log = fs::read_to_string(folder.join("runner.log")).unwrap();
    assert!(log.contains("there has been no daemon for 1 s"), "{log}");
    let daemon = Setup::in_state(&state).start();
    let again = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running && job.attempt == 2).await;
    assert_eq!((again.restarts, again.last_attempt_end.unwrap().reason()), (0, v1::JobEndReason::Interrupted));
    assert!(again.resume_from.unwrap().step > 0);
}

#[tokio::test]
async fn a_runner_without_a_daemon_that_is_still_heard_gets_more_than_its_grace_time() {
    let folder = tempfile::tempdir().unwrap();
    // It works in its job's folder. Its save takes far longer than the grace time.
    let saves = "i=0; while [ $i -lt 25 ]; do echo x >> journal; sleep 0.1; i=$((i+1)); done; exit 7";
    let runner = odd_runner(folder.path(), &format!("trap '{saves}' TERM\nwhile :; do sleep 0.05; done"));
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).set("runner.stop_grace", "200ms");
    let daemon = daemon.set("jobs.orphan_timeout", "1s").set("shutdown.runners", "leave").start();
    let job = daemon.create(spec::short()).await;
    daemon.signed(&job.name, "shim");
    let folder = daemon.job_folder(&job.name);
    let (_state, _guard) = daemon.crash();
    let note = wait_for("the end of the runner", || fs::read(folder.join("exit.json")).ok());
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    assert_eq!(note, serde_json::json!({"attempt": 1, "code": 7}), "it was killed");
    let log = fs::read_to_string(folder.join("runner.log")).unwrap();
    assert!(log.contains("there has been no daemon for 1 s"), "{log}");
}

#[tokio::test]
async fn an_adopted_runner_is_told_to_stop_whatever_somebody_has_written_into_its_locks() {
    let daemon = Setup::new().set("shutdown.runners", "leave").start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 5)).await;
    let (shim, runner) = (daemon.signed(&job.name, "shim"), daemon.signed(&job.name, "lock"));
    let folder = daemon.job_folder(&job.name);
    let (state, _guard) = daemon.crash();
    for lock in ["shim", "lock"] {
        fs::write(folder.join(lock), "no signature").unwrap();
    }
    let daemon = Setup::in_state(&state).set("runner.stop_grace", "1h").set("shutdown.timeout", "2h").start();
    let adopted = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    assert!(adopted.attempt == 1 && !is_gone(shim) && !is_gone(runner));
    let cancel = v1::CancelJobRequest { name: job.name.clone(), now: false };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert!(ended.end.as_ref().unwrap().message.contains("after the step in hand"), "{:?}", ended.end);
    assert!(ended.state() == v1::JobState::Cancelled && is_gone(runner));
}

#[tokio::test]
async fn a_runner_finds_its_daemon_after_the_link_is_gone_by_which_the_state_folder_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let daemon = Setup::in_state(&link).set("jobs.orphan_timeout", "1s").start();
    let job = daemon.create(spec::endless()).await;
    let before = daemon.watch_until(&job.name, |job| job.progress.is_some()).await.progress.unwrap().step;
    let shim = fs::read(format!("/proc/{}/cmdline", daemon.signed(&job.name, "shim"))).unwrap();
    let shim = String::from_utf8(shim).unwrap();
    let lock = shim.split('\0').skip_while(|argument| *argument != "--daemon-lock").nth(1).unwrap();
    assert_eq!(std::path::Path::new(lock), real.canonicalize().unwrap().join("torchd.lock"));
    fs::remove_file(&link).unwrap();
    let after = daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|p| p.step > before + 20)).await;
    assert_eq!((after.attempt, after.state()), (1, v1::JobState::Running));
    std::os::unix::fs::symlink(&real, &link).unwrap();
}

#[tokio::test]
async fn the_daemon_takes_all_descriptors_that_it_may_and_a_runner_gets_the_usual_number() {
    let limits = |pid: i32| -> [String; 2] {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().unwrap(), words.next().unwrap()]
    };
    let daemon = Setup::new().open_files(300).start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    let [usual, most] = limits(daemon.pid() as i32);
    assert!(usual == most && most != "300", "{usual} {most}");
    for who in ["shim", "lock"] {
        assert_eq!(limits(daemon.signed(&job.name, who)), ["300", &most], "{who}");
    }
}

#[tokio::test]
async fn a_runner_that_somebody_stops_is_interrupted_and_costs_no_restart() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    for attempt in 1..=2 {
        let running = |job: &v1::Job| {
            job.attempt == attempt
                && job.state() == v1::JobState::Running
                && job.progress.as_ref().is_some_and(|p| p.step > 5)
        };
        let before = daemon.watch_until(&job.name, running).await;
        // The runner itself, and its shim, as a shutdown of the machine does.
        let who = if attempt == 1 { "lock" } else { "shim" };
        signal(daemon.signed(&job.name, who), Signal::SIGTERM);
        let again = daemon.watch_until(&job.name, |job| job.attempt == attempt + 1).await;
        assert_eq!((again.restarts, again.last_attempt_end.unwrap().reason()), (0, v1::JobEndReason::Interrupted));
        assert!(again.resume_from.unwrap().step >= before.progress.unwrap().step, "nothing is lost");
    }
}

#[tokio::test]
async fn a_runner_whose_shim_is_killed_stops_in_order_and_goes_on_in_another_attempt() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    let before = daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 5)).await;
    let runner = daemon.signed(&job.name, "lock");
    signal(daemon.signed(&job.name, "shim"), Signal::SIGKILL);
    let again = daemon.watch_until(&job.name, |job| job.attempt == 2).await;
    assert!(is_gone(runner), "two never train at once");
    assert!(again.resume_from.unwrap().step >= before.progress.unwrap().step);
    assert_eq!(again.last_attempt_end.unwrap().reason(), v1::JobEndReason::Interrupted);
}

#[tokio::test]
async fn a_runner_that_hangs_is_noticed_and_started_again() {
    let daemon = Setup::new().set("runner.stop_grace", "200ms").start();
    let stall_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let job = v1::JobSpec { retry: Some(v1::Retry { stall_timeout, ..at_once() }), ..spec::endless() };
    let job = daemon.create(job).await;
    daemon.watch_until(&job.name, |job| job.progress.as_ref().is_some_and(|p| p.step > 5)).await;
    let runner = daemon.signed(&job.name, "lock");
    signal(runner, Signal::SIGSTOP);
    let again = daemon.watch_until(&job.name, |job| job.attempt == 2).await;
    let end = again.last_attempt_end.clone().unwrap();
    assert_eq!((again.restarts, end.reason()), (1, v1::JobEndReason::Stalled), "{end:?}");
    assert!(is_gone(runner));
    // And once more: no restart is left.
    daemon.watch_until(&job.name, |job| job.attempt == 2 && job.state() == v1::JobState::Running).await;
    let second = wait_for("the second runner", || Some(daemon.signed(&job.name, "lock")).filter(|pid| *pid != runner));
    signal(second, Signal::SIGSTOP);
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), end.reason()), (v1::JobState::Failed, v1::JobEndReason::Stalled));
    assert!(end.message.contains("retry.stall_timeout"), "{}", end.message);
}

#[tokio::test]
async fn a_runner_that_never_begins_and_one_that_never_leaves_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let stall_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let job = v1::JobSpec { retry: Some(v1::Retry { stall_timeout, ..v1::Retry::default() }), ..spec::short() };
    let never_begins = odd_runner(folder.path(), "sleep 1000");
    let daemon = Setup::new().set("runner.path", never_begins.to_str().unwrap()).set("runner.stop_grace", "200ms");
    let daemon = daemon.start();
    let ended = daemon.watch_to_end(&daemon.create(job.clone()).await.name).await;
    assert_eq!((ended.state(), ended.end.unwrap().reason()), (v1::JobState::Failed, v1::JobEndReason::Stalled));

    let folder = tempfile::tempdir().unwrap();
    let script = format!("{} \"$@\"\nsleep 1000", env!("CARGO_BIN_EXE_torchd-runner"));
    let never_leaves = odd_runner(folder.path(), &script);
    let daemon = Setup::new().set("runner.path", never_leaves.to_str().unwrap()).start();
    let ended = daemon.watch_to_end(&daemon.create(job).await.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(
        (ended.state(), end.reason(), end.signal),
        (v1::JobState::Succeeded, v1::JobEndReason::Finished, Some(9))
    );
}

#[tokio::test]
async fn a_failed_attempt_waits_before_the_next_and_says_so_and_what_cannot_succeed_has_none() {
    let daemon = Daemon::start();
    let minutes = Some(prost_types::Duration { seconds: 120, nanos: 0 });
    let retry = Some(v1::Retry { initial_backoff: minutes, ..at_once() });
    let job = daemon.create(v1::JobSpec { retry: retry.clone(), ..spec::endless() }).await;
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    daemon.kill_runner(&job.name);
    let waits = daemon.watch_until(&job.name, |job| job.waiting_reason.contains("restart 1 of 1 follows in")).await;
    assert!(waits.waiting_reason.contains("SIGKILL"), "{}", waits.waiting_reason);
    assert_eq!(waits.state(), v1::JobState::Queued);
    // It holds back nobody, and survives a restart of the daemon.
    assert_eq!(daemon.watch_to_end(&daemon.create(spec::short()).await.name).await.state(), v1::JobState::Succeeded);
    let (_, state, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state).start();
    let still = daemon.watch_until(&job.name, |job| job.waiting_reason.contains("restart 1 of 1")).await;
    assert_eq!((still.attempt, still.restarts), (1, 1));
    let cancel = v1::CancelJobRequest { name: job.name.clone(), now: false };
    assert_eq!(daemon.jobs().await.cancel_job(cancel).await.unwrap().into_inner().state(), v1::JobState::Cancelled);

    let diverges = v1::JobSpec { optimizer: Some(spec::sgd(1e30, 0.0)), retry, ..spec::short() };
    let ended = daemon.watch_to_end(&daemon.create(diverges).await.name).await;
    assert_eq!((ended.end.unwrap().reason(), ended.attempt), (v1::JobEndReason::Diverged, 1));
}

#[tokio::test]
async fn a_job_is_killed_at_once_where_that_is_asked_for_with_everything_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let children = folder.path().join("children");
    // One child in its group, and one that has left it.
    let script = format!(
        "trap '' TERM\nsleep 1000 &\na=$!\nsetsid sleep 1000 &\necho $a $! > {0}.new; mv {0}.new {0}\nwhile :; do sleep 1000; done",
        children.display()
    );
    let runner = odd_runner(folder.path(), &script);
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).set("runner.stop_grace", "1min");
    let daemon = daemon.set("shutdown.timeout", "2min").start();
    let job = daemon.create(spec::short()).await;
    let left: String = wait_for("the runner's children", || fs::read_to_string(&children).ok());
    let request = v1::CancelJobRequest { name: job.name.clone(), now: true };
    daemon.jobs().await.cancel_job(request).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!((ended.state(), ended.end.unwrap().signal), (v1::JobState::Cancelled, Some(9)));
    let pids: Vec<i32> = left.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_gone(*pid)), "before the job is told to be over");
}

#[tokio::test]
async fn the_log_is_kept_up_to_its_limit_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let runner = odd_runner(folder.path(), "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 3");
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).set("jobs.log_max_bytes", "4096").start();
    let job = daemon.create(spec::short()).await;
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.end.unwrap().log_tail.pop().unwrap(), "line 2999", "the last words are there");
    let kept = fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    assert!(kept.contains("[torchd: the log is full, ") && kept.contains("bytes are missing here]"), "{kept}");
    assert!((4096..2 * 4096 + 200).contains(&kept.len()), "{}", kept.len());
}

#[tokio::test]
async fn a_job_that_is_interrupted_again_and_again_without_saving_anything_ends() {
    let folder = tempfile::tempdir().unwrap();
    let runner = odd_runner(folder.path(), "kill -KILL $PPID; sleep 1000");
    let daemon = Setup::new().set("runner.path", runner.to_str().unwrap()).start();
    let job = daemon.create(spec::short()).await;
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), end.reason()), (v1::JobState::Failed, v1::JobEndReason::Interrupted));
    assert!(end.message.contains("5 times in a row") && ended.attempt == 5, "{} {}", end.message, ended.attempt);
}

#[tokio::test]
async fn a_person_who_starts_a_runner_by_hand_is_told_who_does_that() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.progress.is_some()).await;
    let folder = daemon.job_folder(&job.name);
    let by_hand = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_torchd-runner"));
        command.arg("run").arg("--job").arg(&folder).args(["--attempt", "1"]).output().unwrap()
    };
    let output = by_hand();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(75) && words.contains("another runner holds the lock"), "{words}");
    let cancel = v1::CancelJobRequest { name: job.name.clone(), now: false };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let words = String::from_utf8(by_hand().stderr).unwrap();
    assert!(words.contains("nobody looks after this runner"), "{words}");
}

#[tokio::test]
async fn event_files_and_the_state_folder_grow_no_further_than_they_may_and_say_so() {
    let daemon = Setup::new().set("jobs.max_event_bytes", "4096").start();
    let logging = Some(v1::Logging { scalar_every_steps: Some(1) });
    let job = daemon.create(v1::JobSpec { logging, ..spec::short() }).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let folder = daemon.job_folder(&job.name);
    let written = super::resume::event_steps(&folder)["loss/train"].len();
    assert!((1..20).contains(&written), "{written}");
    let log = fs::read_to_string(folder.join("runner.log")).unwrap();
    assert!(log.contains("jobs.max_event_bytes"), "{log}");
    let request = v1::ReadScalarsRequest { name: job.name.clone(), tag: "loss/train".into(), ..Default::default() };
    assert_eq!(daemon.jobs().await.read_scalars(request).await.unwrap().into_inner().points.len(), 20);

    let (_, state, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state).set("jobs.max_state_bytes", "1000").start();
    let refused = async {
        loop {
            // The folders are measured a moment after the start.
            let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
            if let Err(status) = daemon.jobs().await.create_job(request).await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(super::daemon::LIMIT, refused).await.unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(status.message().contains("jobs.max_state_bytes in the settings is 1000"), "{}", status.message());
}
