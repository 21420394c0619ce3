//! The order in which jobs run.

use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup};
use super::spec;

async fn get(daemon: &Daemon, name: &str) -> v1::Job {
    daemon.jobs().await.get_job(v1::GetJobRequest { name: name.into() }).await.unwrap().into_inner()
}

async fn cancel(daemon: &Daemon, name: &str) -> v1::Job {
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: name.into(), now: false }).await.unwrap().into_inner()
}

#[tokio::test]
async fn jobs_beyond_the_slots_wait_in_order_and_say_why() {
    let daemon = Setup::new().set("jobs.cpu_slots", "2").start();
    let running = [daemon.create(spec::endless()).await, daemon.create(spec::endless()).await];
    for job in &running {
        daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    }
    let third = daemon.create(v1::JobSpec { resources: Some(spec::threads(2)), ..spec::endless() }).await;
    let fourth = daemon.create(v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }).await;
    assert_eq!(get(&daemon, &third.name).await.waiting_reason, "needs 2 of the machine's 2 CPU slots, 0 are free");
    let reason = get(&daemon, &fourth.name).await.waiting_reason;
    assert!(reason.contains("1 job is ahead") && reason.contains(&third.name), "{reason}");

    cancel(&daemon, &running[0].name).await;
    daemon.watch_to_end(&running[0].name).await;
    assert_eq!(get(&daemon, &fourth.name).await.state(), v1::JobState::Queued, "nobody is overtaken");
    cancel(&daemon, &running[1].name).await;
    daemon.watch_until(&third.name, |job| job.state() == v1::JobState::Running).await;
    cancel(&daemon, &third.name).await;
    assert_eq!(daemon.watch_to_end(&fourth.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_a_running_one_after_its_step() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let running = daemon.create(spec::endless()).await;
    let waiting = daemon.create(spec::endless()).await;
    let cancelled = cancel(&daemon, &waiting.name).await;
    assert_eq!(cancelled.state(), v1::JobState::Cancelled);
    daemon.watch_until(&running.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 5)).await;
    cancel(&daemon, &running.name).await;
    let ended = daemon.watch_to_end(&running.name).await;
    assert_eq!(
        (ended.state(), ended.end.as_ref().unwrap().reason()),
        (v1::JobState::Cancelled, v1::JobEndReason::Cancelled)
    );
    let step = ended.progress.unwrap().step;
    let saved = daemon.job_folder(&running.name).join(format!("checkpoints/step-{step}/model.safetensors"));
    assert!(saved.exists(), "what was trained is kept: {}", saved.display());
    let again = cancel(&daemon, &running.name).await;
    assert_eq!((again.state(), again.generation), (v1::JobState::Cancelled, ended.generation));
}

#[tokio::test]
async fn a_queue_survives_a_restart() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").start();
    let running = daemon.create(spec::endless()).await;
    let waiting = daemon.create(v1::JobSpec { resources: Some(spec::threads(1)), ..spec::short() }).await;
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    let (status, state_dir, _guard) = daemon.stop();
    assert_eq!(status.code(), Some(0));

    let daemon = Setup::in_state(&state_dir).set("jobs.cpu_slots", "1").start();
    // The job that ran goes first, and from where it was; no other job overtakes it.
    let again = daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    assert_eq!((again.attempt, again.restarts), (2, 0));
    assert_eq!(again.last_attempt_end.unwrap().reason(), v1::JobEndReason::Interrupted);
    assert_eq!(get(&daemon, &waiting.name).await.state(), v1::JobState::Queued);
    cancel(&daemon, &running.name).await;
    assert_eq!(daemon.watch_to_end(&waiting.name).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn a_request_with_an_id_makes_one_job_however_often_it_is_asked() {
    let daemon = Daemon::start();
    let ask = async |daemon: &Daemon, spec: v1::JobSpec, id: &str| {
        let request = v1::CreateJobRequest { spec: Some(spec), request_id: id.into() };
        daemon.jobs().await.create_job(request).await.map(tonic::Response::into_inner)
    };
    // All at once, as clients do that lose patience.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = daemon.jobs().await;
        let request = v1::CreateJobRequest { spec: Some(spec::short()), request_id: "5f0c62d5-one".into() };
        asked.spawn(async move { client.create_job(request).await.unwrap().into_inner().name });
    }
    let mut names = asked.join_all().await;
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    let labels = ["team", "kind", "owner", "place", "year"].map(|name| (name.to_owned(), "x".to_owned()));
    let labelled = v1::JobSpec { labels: labels.into(), ..spec::short() };
    let first = ask(&daemon, labelled.clone(), "labelled").await.unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&daemon, labelled.clone(), "labelled").await.unwrap().name, first.name);
    }
    let other = ask(&daemon, spec::short(), "another").await.unwrap();
    assert_ne!(other.name, names[0]);
    let mut changed = spec::short();
    changed.seed = 99;
    let status = ask(&daemon, changed, "5f0c62d5-one").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::AlreadyExists, "{status:?}");
    assert!(status.message().contains(&names[0]) && status.message().contains("5f0c62d5-one"), "{}", status.message());
    for wrong in ["with space", "ü", &"x".repeat(129)] {
        let status = ask(&daemon, spec::short(), wrong).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "request_id");
    }
    // It holds for an ended job, in a daemon that comes later, and until the job is deleted.
    daemon.watch_to_end(&names[0]).await;
    daemon.watch_to_end(&other.name).await;
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    assert_eq!(ask(&daemon, spec::short(), "5f0c62d5-one").await.unwrap().name, names[0]);
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: names[0].clone() }).await.unwrap();
    assert_ne!(ask(&daemon, spec::short(), "5f0c62d5-one").await.unwrap().name, names[0]);
}

#[tokio::test]
async fn a_job_runs_no_longer_than_it_may_and_keeps_what_it_has() {
    let daemon = Daemon::start();
    let limit = |seconds, nanos| v1::JobSpec {
        max_duration: Some(prost_types::Duration { seconds, nanos }),
        ..spec::endless()
    };
    for (seconds, nanos) in [(0, 500_000_000), (-3, 0)] {
        let request = v1::CreateJobRequest { spec: Some(limit(seconds, nanos)), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.max_duration");
    }
    // A busy machine takes seconds to load libtorch, and has nothing to save before that.
    let mut seconds = 2;
    let job = loop {
        let job = daemon.create(limit(seconds, 0)).await;
        let ended = daemon.watch_to_end(&job.name).await;
        let end = ended.end.clone().unwrap();
        assert_eq!((ended.state(), end.reason()), (v1::JobState::Failed, v1::JobEndReason::MaxDuration), "{end:?}");
        assert!(end.message.contains("max_duration"), "{}", end.message);
        if ended.progress.is_some_and(|progress| progress.step > 0) {
            assert!(end.message.contains("after the step in hand"), "{}", end.message);
            break job;
        }
        seconds *= 4;
        assert!(seconds < 200, "no step in any of the attempts");
    };
    let checkpoints = std::fs::read_dir(daemon.job_folder(&job.name).join("checkpoints")).unwrap().count();
    assert!(checkpoints >= 1, "what it had is saved");
}

#[tokio::test]
async fn jobs_are_found_by_their_labels() {
    let daemon = Daemon::start();
    let labelled = |labels: &[(&str, &str)]| v1::JobSpec {
        labels: labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..spec::short()
    };
    let one = daemon.create(labelled(&[("team", "vision"), ("example.org/run", "a\"b ü")])).await;
    let other = daemon.create(labelled(&[("team", "speech")])).await;
    daemon.create(spec::short()).await;
    assert_eq!(one.spec.as_ref().unwrap().labels["team"], "vision", "they are part of what comes back");
    let find = async |labels: &[(&str, &str)]| {
        let request = v1::ListJobsRequest { labels: labelled(labels).labels, ..Default::default() };
        let answer = daemon.jobs().await.list_jobs(request).await.map(tonic::Response::into_inner);
        answer.map(|answer| answer.jobs.into_iter().map(|job| job.name).collect::<Vec<_>>())
    };
    let only = std::slice::from_ref(&one.name);
    assert_eq!(find(&[("team", "vision")]).await.unwrap(), only);
    assert_eq!(find(&[("example.org/run", "a\"b ü"), ("team", "vision")]).await.unwrap(), only);
    assert_eq!(find(&[("team", "speech")]).await.unwrap(), [other.name]);
    assert_eq!(find(&[("team", "speech"), ("example.org/run", "a")]).await.unwrap(), Vec::<String>::new());
    assert_eq!(find(&[]).await.unwrap().len(), 3);
    for name in ["", "with space", "quote\"", &"x".repeat(64)] {
        let status = find(&[(name, "v")]).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "labels", "{name}");
        let request = v1::CreateJobRequest { spec: Some(labelled(&[(name, "v")])), ..Default::default() };
        let status = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.labels", "{name}");
    }
    let submit = ["submit", "examples/mnist.toml", "--set", "labels.team=shell", "--set", "labels.n=\"1\""];
    let (code, _, err) = super::torchctl::told(&daemon.ctl(&submit));
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = super::torchctl::told(&daemon.ctl(&["jobs", "--label", "team=shell", "--label", "n=1"]));
    assert_eq!(out.lines().count(), 2, "{out}");
    let (code, _, err) = super::torchctl::told(&daemon.ctl(&["jobs", "--label", "team"]));
    assert!(code == 64 && err.contains("NAME=VALUE"), "{err}");
}
