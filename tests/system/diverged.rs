//! Training that diverges: nothing of it is saved, on any request for a checkpoint, and the last
//! good one stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torchd::journal::{JobFolder, JournalTail};
use torchd::proto::v1;
use torchd::proto::v1::job_record::What;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

/// The step of the last good checkpoint.
const GOOD: u64 = 5;

async fn checkpoints(daemon: &Daemon, name: &str) -> Vec<u64> {
    let list = v1::ListCheckpointsRequest { name: name.into(), ..Default::default() };
    let saved = daemon.jobs().await.list_checkpoints(list).await.unwrap().into_inner().checkpoints;
    saved.iter().map(|saved| saved.step).collect()
}

/// A job that began with the checkpoint of another one. Its runner has done one more step, which
/// made its weights infinite, and stands still after it.
async fn diverged_unnoticed(daemon: &Daemon, hold: &Path, from: &v1::Job) -> String {
    File::create(hold).unwrap();
    let source = Some(v1::warm_start::Source::Checkpoint(format!("{}/checkpoints/step-{GOOD}", from.name)));
    let spec = v1::JobSpec {
        warm_start: Some(v1::WarmStart { source, resume: true, ..Default::default() }),
        // Larger than a weight can hold: the loss of the next step is finite, and what it makes of
        // the weights is not.
        optimizer: Some(spec::sgd(1e300, 0.5)),
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..spec::endless()
    };
    let job = daemon.create(spec).await;
    let told = |job: &v1::Job| job.progress.as_ref().is_some_and(|told| told.step > GOOD);
    let loss = daemon.watch_until(&job.name, told).await.progress.unwrap().latest_scalars["loss/train"];
    assert!(loss.is_finite(), "{loss}");
    job.name
}

async fn assert_diverged(daemon: &Daemon, name: &str) {
    let ended = daemon.watch_to_end(name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((ended.state(), end.reason()), (v1::JobState::Failed, v1::JobEndReason::Diverged), "{end:?}");
    // It was that step which the runner stood at when it was asked to stop.
    assert!(end.message.contains(&format!("at step {} ", GOOD + 1)), "{}", end.message);
    assert_eq!(checkpoints(daemon, name).await, [GOOD], "the last good one, and no other");
}

#[tokio::test]
async fn what_has_diverged_is_not_saved_whoever_stops_the_runner() {
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    let mut daemon = Setup::new().env("TORCHD_FAULT", format!("step@{}", hold.display())).start();
    let good = daemon.create(spec::mnist(v1::training::Length::MaxSteps(GOOD))).await;
    assert_eq!(daemon.watch_to_end(&good.name).await.state(), v1::JobState::Succeeded);
    // Only once the runner has heard of it: one that is held and is to stop tells that it lives,
    // and told no progress before.
    let release = |folder: PathBuf| {
        let folder = JobFolder::new(folder);
        let has_heard = |record: &v1::JobRecord| matches!(record.what, Some(What::Progress(_)));
        let records = || JournalTail::new(folder.clone()).read(1000).unwrap();
        wait_for("a word of the runner", || records().iter().any(has_heard).then_some(()));
        fs::remove_file(&hold).unwrap();
    };

    let name = diverged_unnoticed(&daemon, &hold, &good).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: name.clone() }).await.unwrap();
    release(daemon.job_folder(&name));
    assert_diverged(&daemon, &name).await;

    let name = diverged_unnoticed(&daemon, &hold, &good).await;
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: name.clone(), now: false }).await.unwrap();
    release(daemon.job_folder(&name));
    assert_diverged(&daemon, &name).await;

    // As the shim of an orphan does, and systemd at a shutdown of the machine.
    let name = diverged_unnoticed(&daemon, &hold, &good).await;
    kill(Pid::from_raw(daemon.signed(&name, "lock")), Signal::SIGTERM).unwrap();
    release(daemon.job_folder(&name));
    assert_diverged(&daemon, &name).await;

    let name = diverged_unnoticed(&daemon, &hold, &good).await;
    daemon.signal(Signal::SIGTERM);
    release(daemon.job_folder(&name));
    // A second signal would end it at once, before its runner has ended.
    assert!(daemon.wait().success());
    let (_, state, _guard) = daemon.stop();
    assert_diverged(&Setup::in_state(&state).start(), &name).await;
}
