//! Ranks that have no route to the daemon: their calls go through files in a folder that both
//! reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::launches::{attach, attach_again, scaled};
use super::ranks::{past, unbroken};
use super::resume::Outcome;
use super::tools;

/// A job of two ranks with mailboxes in a folder.
fn by_mailbox(storage: &Path) -> v1::JobSpec {
    let mut spec = scaled(2, 2);
    spec.scale.as_mut().unwrap().storage = storage.display().to_string();
    spec
}

fn setup(root: &Path) -> Setup {
    with_root(Setup::new(), root)
}

fn with_root(setup: Setup, root: &Path) -> Setup {
    setup.set("jobs.cpu_slots", "1").set("output.mirror_roots", root.to_str().unwrap())
}

fn mode_of(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|about| about.permissions().mode() & 0o7777)
}

/// The modes and the bytes of the letters that are in a mailbox now.
fn letters(mailbox: &Path) -> Vec<(u32, Vec<u8>)> {
    let entries = fs::read_dir(mailbox).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.path().extension().is_some());
    entries.filter_map(|entry| Some((mode_of(&entry.path())?, fs::read(entry.path()).ok()?))).collect()
}

#[tokio::test]
async fn ranks_without_a_route_to_the_daemon_give_the_same_numbers_also_by_two_daemons() {
    if !tools::has_ranks() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().canonicalize().unwrap().join("ranks");
    let mut daemon = setup(root.path()).start();
    let whole = unbroken(&daemon).await;
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(by_mailbox(&storage)).await;
    assert_eq!(job.spec.clone().unwrap().scale.unwrap().storage, storage.to_str().unwrap());
    let launch = launcher.launch().await;
    let mailbox = PathBuf::from(&launch.mailbox);
    let named = format!("torchd-{}-1-", job.name.trim_start_matches("jobs/"));
    let name = mailbox.file_name().unwrap().to_str().unwrap();
    assert!(mailbox.parent() == Some(&storage) && name.starts_with(&named) && name.len() == named.len() + 32, "{name}");
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 12).await;
    // Others find neither the token there nor a file that is theirs to read.
    let (mode, bytes) = wait_for("a letter", || letters(&mailbox).pop());
    assert!(!bytes.windows(launch.token.len()).any(|window| window == launch.token.as_bytes()));
    assert_eq!((mode, mode_of(&mailbox)), (0o600, Some(0o700)));
    let grpc = daemon.grpc;
    let (state_dir, _state) = daemon.crash();
    daemon = with_root(Setup::at(grpc, &state_dir), root.path()).start();
    let running = vec![v1::LaunchName { job: launch.job.clone(), attempt: launch.attempt }];
    let _launcher = attach_again(&daemon, 2, running).await;
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 1), "{}", end.message);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    launcher.assert_tidy();
    wait_for("the end of the mailbox", || (!mailbox.exists()).then_some(()));
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
}

#[tokio::test]
async fn letters_of_others_change_nothing_and_a_cancelled_job_leaves_no_mailbox() {
    if !tools::has_ranks() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let mut launcher = attach(&daemon, 2).await;
    let mut endless = by_mailbox(root.path());
    endless.training.as_mut().unwrap().length = Some(v1::training::Length::MaxSteps(10_000_000));
    let job = daemon.create(endless).await;
    let launch = launcher.launch().await;
    let mailbox = PathBuf::from(&launch.mailbox);
    let mut ranks = launcher.ranks(&daemon, &launch);
    past(&daemon, &job.name, 3).await;
    // A request that is copied to another number, as for a replay.
    wait_for("a letter that could be copied", || {
        fs::read_dir(&mailbox).unwrap().flatten().find_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name().into_string().ok()?);
            let (outpost, _) = name.strip_suffix(".request")?.rsplit_once('-')?;
            let bytes = fs::read(path).ok().filter(|bytes| bytes.ends_with(b"torchd 1"))?;
            fs::write(mailbox.join(format!("{outpost}-1000000.request")), bytes).ok()
        })
    });
    wait_for("a word about it", || {
        daemon.log().lines().any(|line| line.contains("-1000000.request") && line.contains("its seal")).then_some(())
    });
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.state(), v1::JobState::Cancelled, "{:?}", ended.end);
    assert!(ranks.iter_mut().all(|rank| rank.end() == Some(0)));
    launcher.assert_tidy();
    // A daemon that ends now removes it as well.
    daemon.stop();
    assert!(!mailbox.exists());
}

#[tokio::test]
async fn a_mailbox_that_cannot_be_made_is_told_as_long_as_it_is_so() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    let mut launcher = attach(&daemon, 2).await;
    // Its folder is judged as one that may come.
    let job = daemon.create(by_mailbox(&root.path().join("there"))).await;
    let launch = launcher.launch().await;
    wait_for("the mailbox", || Path::new(&launch.mailbox).exists().then_some(()));
    fs::rename(root.path().join(".torchd-mirror"), root.path().join("aside")).unwrap();
    let told = |job: &v1::Job| job.waiting_reason.contains("the mailbox of its ranks cannot be looked at");
    let doubtful = daemon.watch_until(&job.name, told).await;
    assert!(doubtful.waiting_reason.contains("a volume may not be mounted there"), "{}", doubtful.waiting_reason);
    fs::rename(root.path().join("aside"), root.path().join(".torchd-mirror")).unwrap();
    daemon.watch_until(&job.name, |job| !told(job)).await;
    // The next daemon removes a mailbox that one has left.
    let mailbox = PathBuf::from(&launch.mailbox);
    let (state_dir, _state) = daemon.crash();
    let left = root.path().join("torchd-left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("0-0000000000000007-1.request"), "half").unwrap();
    let listed = fs::read_to_string(state_dir.join("mailboxes.json")).unwrap();
    let name = mailbox.file_name().unwrap().to_str().unwrap();
    assert!(listed.contains(name), "{listed}");
    let storage = root.path().join("there").display().to_string();
    let more = listed.replace(name, "torchd-left").replace(&storage, root.path().to_str().unwrap());
    fs::write(state_dir.join("mailboxes.json"), listed.replace(']', ",") + more.trim_start_matches('[')).unwrap();
    let daemon = with_root(Setup::in_state(&state_dir), root.path()).start();
    wait_for("the end of what was left", || (!left.exists()).then_some(()));
    assert!(mailbox.exists());
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    wait_for("the end of the mailbox", || (!mailbox.exists()).then_some(()));
    wait_for("the end of the list", || (fs::read(state_dir.join("mailboxes.json")).unwrap() == b"[]").then_some(()));
}

#[tokio::test]
async fn a_storage_that_hands_its_group_on_has_mailboxes_for_the_group() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o2770)).unwrap();
    // As a unit starts it.
    let daemon = setup(root.path()).shell("umask 077").start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(by_mailbox(&root.path().join("ranks"))).await;
    let launch = launcher.launch().await;
    let mailbox = PathBuf::from(&launch.mailbox);
    wait_for("the mailbox", || (mode_of(&mailbox) == Some(0o2770)).then_some(()));
    assert_eq!(mode_of(&root.path().join("ranks")), Some(0o2770));
    let _rank = launcher.rank(&daemon, &launch, 0, super::launches::free_port());
    let (mode, _) = wait_for("a letter", || letters(&mailbox).into_iter().find(|(mode, _)| *mode != 0o600));
    assert_eq!(mode, 0o660);
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&job.name).await;
}

/// The fields that a request is refused for, with the words.
async fn refused(daemon: &Daemon, spec: v1::JobSpec) -> Vec<(String, String)> {
    let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
    let status = daemon.jobs().await.create_job(request).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|found| (found.field, found.description)).collect()
}

#[tokio::test]
async fn a_folder_of_mailboxes_lies_below_the_roots_of_the_settings() {
    let root = tempfile::tempdir().unwrap();
    let daemon = setup(root.path()).start();
    for wrong in ["ranks", "/etc", "/tmp/../etc"] {
        let told = refused(&daemon, by_mailbox(Path::new(wrong))).await;
        assert!(
            matches!(&told[..], [(field, words)] if field == "spec.scale.storage" && words.contains(wrong)),
            "{told:?}"
        );
    }
    let daemon = Setup::new().start();
    let told = refused(&daemon, by_mailbox(root.path())).await;
    assert!(matches!(&told[..], [(_, words)] if words.contains("output.mirror_roots")), "{told:?}");
}
