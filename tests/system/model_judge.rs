//! The process that reads a model for the daemon: confined, killed without harm, and ended with its
//! client.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::proto::v1;

use super::archives::{self, Content};
use super::crash::odd_runner;
use super::daemon::{Daemon, Setup, wait_for};
use super::exported::{job, start};
use super::weights::mistakes;

/// Writes an archive that takes seconds to read.
fn write_slow(path: &Path) {
    let mut entries = archives::entries(&archives::file("mlp/net.pt2"));
    for (_, content) in entries.iter_mut().filter(|(name, _)| name.ends_with("models/train.json")) {
        let mut text = br#"{"schema_version": {"major": 8, "minor": 17}, "guards_code": [""#.to_vec();
        text.extend(b"\",\"".repeat(20_000_000));
        *content = Content::Bytes([text, b"\"]}".to_vec()].concat());
    }
    archives::write(path, &entries);
}

/// The children of a daemon without jobs that judge models, zombies included.
fn judges(daemon: u32) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse().ok());
        parent == Some(daemon) && !name.ends_with("(torchd-runner")
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}

/// The process that judges a slow archive, once it has given up what it does not need.
async fn confined(daemon: &Daemon) -> i32 {
    let daemon = daemon.pid();
    let find = move || {
        let pid = *judges(daemon).first()?;
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let limit = |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        (limit("Max open files")?.starts_with("0 ") && limit("Max processes")?.starts_with("0 ")).then_some(pid)
    };
    tokio::task::spawn_blocking(move || wait_for("a process that judges", find)).await.unwrap()
}

#[tokio::test]
async fn a_process_that_dies_of_a_model_refuses_it_and_harms_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    write_slow(&root.path().join("slow.pt2"));
    let daemon = start(root.path());
    let killed = async |signal| {
        let pid = confined(&daemon).await;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        kill(Pid::from_raw(pid), signal).unwrap();
    };
    // A process whose limit of memory is reached aborts.
    let judged = mistakes(&daemon, job("slow.pt2", "mlp"));
    let (wrong, ()) = tokio::join!(judged, killed(Signal::SIGABRT));
    assert_eq!((wrong.len(), wrong[0].0.as_str()), (1, "spec.model.exported.path"));
    let words = "slow.pt2 cannot be judged: the process that read it was killed by signal 6; it has 2048 MiB of memory";
    assert!(wrong[0].1.contains(words), "{wrong:?}");
    // One that the system kills for want of memory says nothing of the model.
    let mut client = daemon.jobs().await;
    let judged = client.validate_job(v1::ValidateJobRequest { spec: Some(job("slow.pt2", "mlp")), dry_run: false });
    let (refused, ()) = tokio::join!(judged, killed(Signal::SIGKILL));
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("was killed, as the system does when memory runs out"), "{refused:?}");
    assert!(judges(daemon.pid()).is_empty());
    let good = v1::ValidateJobRequest { spec: Some(job("mlp/net.pt2", "mlp")), dry_run: false };
    daemon.jobs().await.validate_job(good).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_process_that_reads_its_model_along() {
    let root = tempfile::tempdir().unwrap();
    write_slow(&root.path().join("slow.pt2"));
    let daemon = start(root.path());
    let mut client = daemon.jobs().await;
    let request = v1::ValidateJobRequest { spec: Some(job("slow.pt2", "mlp")), dry_run: false };
    let asks = tokio::spawn(async move { client.validate_job(request).await });
    let pid = confined(&daemon).await;
    assert_eq!(judges(daemon.pid()), [pid]);
    asks.abort();
    assert!(asks.await.unwrap_err().is_cancelled(), "the model was judged meanwhile");
    wait_for("its end", || judges(daemon.pid()).is_empty().then_some(()));
}

#[tokio::test]
async fn operators_are_listed_once_and_a_list_that_is_none_is_no_verdict_on_a_model() {
    let root = tempfile::tempdir().unwrap();
    let (asked, good) = (root.path().join("asked"), root.path().join("good"));
    let runner = env!("CARGO_BIN_EXE_torchd-runner");
    let answer = format!("echo $1 >> {}; [ ! -e {} ] || exec {runner} \"$@\"", asked.display(), good.display());
    let runner = odd_runner(root.path(), &answer);
    let setup = Setup::new().data_root(Path::new("tests/data/exported"));
    let daemon = setup.set("runner.path", runner.to_str().unwrap()).start();
    let judge = async || {
        let request = v1::ValidateJobRequest { spec: Some(job("mlp/net.pt2", "mlp")), dry_run: false };
        daemon.jobs().await.validate_job(request).await
    };
    let status = judge().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("its answer is no list of operators"), "{status:?}");
    fs::write(&good, "").unwrap();
    for _ in 0..2 {
        judge().await.unwrap();
    }
    assert_eq!(fs::read_to_string(&asked).unwrap(), "operators\noperators\n");
}
