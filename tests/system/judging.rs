//! The process that reads models and data for the daemon: confined, killed without harm, and ended
//! with its client.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic_types::StatusExt;
use torchd::proto::v1;

use super::archives::{self, Content};
use super::crash::odd_runner;
use super::daemon::{Daemon, Setup, wait_for};
use super::exported::{job, start};
use super::mounts::HangingFile;
use super::weights::mistakes;
use super::{spec, tools};

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

/// The children of a daemon without jobs that judge files, zombies included.
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

/// A daemon with these data, whose processes stay at that point.
fn data(root: &Path, fault: String) -> Daemon {
    for (name, bytes) in [("images", images(80)), ("labels", labels(80))] {
        fs::write(root.join(name), bytes).unwrap();
    }
    Setup::new().data_root(root).env("TORCHD_FAULT", fault).start()
}

fn images(count: u32) -> Vec<u8> {
    let size = [count, 28, 28].map(u32::to_be_bytes).concat();
    [&[0, 0, 8, 3][..], &size, &vec![7; count as usize * 784]].concat()
}

fn labels(count: u32) -> Vec<u8> {
    [&[0, 0, 8, 1][..], &count.to_be_bytes(), &vec![3; count as usize]].concat()
}

fn request(images: &str, labels: &str) -> v1::ValidateJobRequest {
    let train = Some(spec::idx(images, labels));
    let mut spec = spec::short();
    spec.data = Some(v1::Data { train, ..v1::Data::default() });
    spec.training.as_mut().unwrap().validation_batch_size = None;
    v1::ValidateJobRequest { spec: Some(spec), dry_run: false }
}

/// The process that judges data, once it stays at its first file.
async fn reading(daemon: &Daemon) -> i32 {
    let daemon = daemon.pid();
    let find = move || {
        let pid = *judges(daemon).first()?;
        let told = fs::read_to_string(format!("/proc/{pid}/fd/1")).ok()?;
        told.contains("reads").then_some(pid)
    };
    tokio::task::spawn_blocking(move || wait_for("a process that reads data", find)).await.unwrap()
}

#[tokio::test]
async fn a_process_that_dies_of_data_costs_its_request_alone_and_is_told_with_field_and_file() {
    let root = tempfile::tempdir().unwrap();
    let hangs = root.path().join("hangs");
    fs::write(&hangs, "").unwrap();
    let daemon = data(root.path(), format!("file-judged@{}", hangs.display()));
    let refused = async |signal| {
        let mut client = daemon.jobs().await;
        let killed = async {
            let pid = reading(&daemon).await;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let limit = |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
            let memory = (1u64 << 30).to_string();
            assert!(limit("Max address space").starts_with(&memory), "{limits}");
            assert!(limit("Max cpu time").starts_with("30 "), "{limits}");
            kill(Pid::from_raw(pid), signal).unwrap();
        };
        tokio::join!(client.validate_job(request("images", "labels")), killed).0.unwrap_err()
    };
    let path = root.path().canonicalize().unwrap().join("images");
    let path = path.display();
    for (signal, words) in [
        // A process whose limit of memory is reached aborts.
        (Signal::SIGABRT, "the process that read it was killed by signal 6; it has 1024 MiB of memory and 30 s"),
        (Signal::SIGXCPU, "the process that read it computed for too long; it has 1024 MiB of memory and 30 s"),
    ] {
        let status = refused(signal).await;
        let wrong = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((wrong.len(), wrong[0].field.as_str()), (1, "spec.data.train.idx.images"), "{wrong:?}");
        assert_eq!(wrong[0].description, format!("{path} cannot be judged: {words}"));
    }
    // One that the system kills for want of memory says nothing of the data.
    let status = refused(Signal::SIGKILL).await;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    let words = format!("data.train.idx.images: {path} cannot be judged: the process that reads it was killed");
    assert!(status.message().contains(&words), "{status:?}");
    assert!(judges(daemon.pid()).is_empty());
    fs::remove_file(hangs).unwrap();
    daemon.jobs().await.validate_job(request("images", "labels")).await.unwrap();
}

#[tokio::test]
async fn the_file_that_a_process_dies_of_is_the_one_that_is_told() {
    let root = tempfile::tempdir().unwrap();
    let daemon = data(root.path(), "file-judged:2".into());
    let status = daemon.jobs().await.validate_job(request("images", "labels")).await.unwrap_err();
    let words = format!("data.train.idx.labels: {}", root.path().canonicalize().unwrap().join("labels").display());
    assert!(status.message().contains(&words), "{status:?}");
}

#[tokio::test]
async fn files_that_do_not_change_are_judged_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    // The files of the example were not changed just now, which would let them be judged each time.
    let daemon = Setup::new().env("TORCHD_FAULT", format!("file-judged@{}", hangs.display())).start();
    let request = || v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false };
    daemon.jobs().await.validate_job(request()).await.unwrap();
    // The next process would stay.
    fs::write(&hangs, "").unwrap();
    for _ in 0..100 {
        daemon.jobs().await.validate_job(request()).await.unwrap();
    }
    assert!(judges(daemon.pid()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_costs_its_own_request_alone_although_its_process_cannot_be_killed() {
    let root = tempfile::tempdir().unwrap();
    let mount = root.path().join("disk");
    fs::create_dir(&mount).unwrap();
    let disk = HangingFile::mount(&mount, images(80).len() as u64);
    let Some(disk) = tools::allowed("a disk that hangs", disk) else { return };
    let daemon = data(root.path(), String::new());
    let mut client = daemon.jobs().await;
    let asks = tokio::spawn(async move { client.validate_job(request("disk/file", "labels")).await });
    let pid = reading(&daemon).await;
    tokio::task::block_in_place(|| wait_for("a read", || disk.is_read().then_some(())));
    asks.abort();
    assert!(asks.await.unwrap_err().is_cancelled());
    let state = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    // SIGKILL has come, and the read goes on.
    let is_stuck = || (state(pid) == Some('D')).then_some(());
    tokio::task::block_in_place(|| wait_for("a process that cannot be killed", is_stuck));
    for _ in 0..3 {
        daemon.jobs().await.validate_job(request("images", "labels")).await.unwrap();
    }
    assert_eq!((judges(daemon.pid()), state(pid)), (vec![pid], Some('D')), "it hangs meanwhile");
    drop(disk);
    wait_for("its end", || judges(daemon.pid()).is_empty().then_some(()));
}
