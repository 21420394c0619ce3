//! Jobs of several ranks: their numbers are those of one rank with as many shards, whatever happens
//! to them.

use nix::sys::signal::Signal;
use torchd::dataset::draw::mix;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup, is_gone, wait_for};
use super::resume::{Outcome, retried};
use super::survival::signal;
use super::{memory, spec, tools};

fn start() -> Daemon {
    Setup::new().set("jobs.cpu_slots", "4").start()
}

/// A network with everything whose numbers depend on the slice that it sees, two epochs with an
/// uneven last batch, in four shards.
pub(crate) fn job(ranks: u32) -> v1::JobSpec {
    let mut spec = spec::mnist(v1::training::Length::Epochs(2));
    let data = spec.data.as_mut().unwrap();
    data.limit = Some(1005);
    data.augment = vec![torchd::proto::json::from_str(r#"{"noise": {"std": 0.1}}"#).unwrap()];
    let model = r#"{"sequential": {"layers": [
        {"conv2d": {"out_channels": 8, "kernel_size": 5, "stride": 2}}, {"batch_norm2d": {}}, {"relu": {}},
        {"dropout2d": {"p": 0.2}}, {"flatten": {}}, {"linear": {"out_features": 600}}, {"relu": {}}, {"linear": {}}
    ]}}"#;
    v1::JobSpec {
        model: Some(torchd::proto::json::from_str(model).unwrap()),
        resources: Some(v1::Resources { ranks: Some(ranks), ..spec::threads(1) }),
        training: Some(v1::Training { shards: Some(4), batch_size: Some(30), ..spec.training.unwrap() }),
        checkpoint: Some(v1::Checkpoint { every_steps: Some(7), ..v1::Checkpoint::default() }),
        logging: Some(v1::Logging { scalar_every_steps: Some(5) }),
        metrics: vec!["accuracy".into()],
        ..spec
    }
}

pub(crate) async fn past(daemon: &Daemon, name: &str, step: u64) {
    daemon.watch_until(name, |job| job.progress.as_ref().is_some_and(|progress| progress.step >= step)).await;
}

/// The end of a job, which nothing happened to, of one rank.
pub(crate) async fn unbroken(daemon: &Daemon) -> Outcome {
    let job = daemon.create(job(1)).await;
    Outcome::of(daemon, &daemon.watch_to_end(&job.name).await).await
}

/// The end of a paused job that goes on with so many ranks.
async fn resumed(daemon: &Daemon, name: &str, ranks: u32) -> v1::Job {
    let set = vec![v1::FieldEdit { path: "resources.ranks".into(), value: ranks.to_string() }];
    let edits = Some(v1::JobEdits { set, ..v1::JobEdits::default() });
    let request = v1::ResumeJobRequest { name: name.into(), edits, ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
    daemon.watch_to_end(name).await
}

/// The process of a rank.
pub(crate) fn process(daemon: &Daemon, name: &str, rank: u32) -> i32 {
    match rank {
        0 => daemon.signed(name, "lock"),
        _ => daemon.signed(name, &format!("ranks/{rank}/lock")),
    }
}

#[tokio::test]
async fn the_numbers_of_a_job_do_not_depend_on_how_many_ranks_train_it() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = start();
    let mut outcomes = Vec::new();
    for ranks in [1, 2, 4] {
        let job = daemon.create(job(ranks)).await;
        let ended = daemon.watch_to_end(&job.name).await;
        let end = ended.end.clone().unwrap();
        assert_eq!(end.reason(), v1::JobEndReason::Finished, "{ranks} ranks: {}", end.message);
        outcomes.push(Outcome::of(&daemon, &ended).await);
    }
    outcomes.windows(2).for_each(|two| two[0].assert_same(&two[1]));
}

#[tokio::test]
async fn a_job_goes_on_bit_for_bit_with_another_number_of_ranks() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = start();
    let whole = unbroken(&daemon).await;
    for others in [1, 4] {
        let job = daemon.create(job(2)).await;
        past(&daemon, &job.name, 12).await;
        let ranks = [0, 1].map(|rank| process(&daemon, &job.name, rank));
        daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
        let paused = daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
        assert_eq!(paused.last_attempt_end.unwrap().reason(), v1::JobEndReason::Paused);
        assert!(ranks.iter().all(|rank| is_gone(*rank)));
        let ended = resumed(&daemon, &job.name, others).await;
        let end = ended.end.clone().unwrap();
        assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 2), "{others}: {}", end.message);
        Outcome::of(&daemon, &ended).await.assert_same(&whole);
    }
}

/// The same numbers whatever is drawn: shards, batch size and two numbers of ranks.
#[tokio::test]
async fn drawn_shards_batches_and_ranks_give_the_numbers_of_one_rank() {
    if !tools::has_ranks() {
        return;
    }
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    println!("drawn by {seed}");
    let draw = |from: u64, count: u64| mix(seed ^ from << 32) % count;
    let shards = [2, 3, 4, 6][draw(1, 4) as usize];
    let divisors: Vec<u32> = (1..=4).filter(|ranks| shards % ranks == 0).collect();
    let place = draw(2, divisors.len() as u64) as usize;
    let (one, other) = (divisors[place], divisors[(place + 1) % divisors.len()]);
    let batch_size = shards + draw(4, 60) as u32;
    // As many steps whatever the batch size is, and a last batch that is not whole.
    let examples = 20 * batch_size + 1 + draw(6, u64::from(batch_size) - 1) as u32;
    let with = |ranks| {
        let mut spec = job(ranks);
        spec.data.as_mut().unwrap().limit = Some(examples.into());
        let training = spec.training.as_mut().unwrap();
        // Long enough to be paused within.
        training.length = Some(v1::training::Length::Epochs(5));
        (training.shards, training.batch_size) = (Some(shards), Some(batch_size));
        spec
    };
    let daemon = start();
    let whole = daemon.create(with(1)).await;
    let whole = Outcome::of(&daemon, &daemon.watch_to_end(&whole.name).await).await;
    let job = daemon.create(with(one)).await;
    past(&daemon, &job.name, 2 + draw(5, 10)).await;
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Paused).await;
    let ended = resumed(&daemon, &job.name, other).await;
    println!("{shards} shards of {batch_size} of {examples} examples by {one} ranks, then by {other}: {:?}", ended.end);
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
}

#[tokio::test]
async fn a_rank_that_dies_ends_the_attempt_as_its_cause_and_the_next_one_gives_the_same_numbers() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = start();
    let whole = unbroken(&daemon).await;
    let job = daemon.create(retried(3, job(2))).await;
    for (attempt, rank) in [(1, 1), (2, 0)] {
        daemon.watch_until(&job.name, |job| job.attempt == attempt && job.state() == v1::JobState::Running).await;
        past(&daemon, &job.name, 10 * u64::from(attempt)).await;
        let ranks = [0, 1].map(|rank| process(&daemon, &job.name, rank));
        signal(ranks[rank], Signal::SIGKILL);
        let next = daemon.watch_until(&job.name, |job| job.attempt > attempt).await;
        let end = next.last_attempt_end.unwrap();
        assert_eq!(end.reason(), v1::JobEndReason::KilledBySignal, "{}", end.message);
        assert_eq!(end.message.starts_with("rank 1: "), rank == 1, "{}", end.message);
        assert!(ranks.iter().all(|rank| is_gone(*rank)));
    }
    let ended = daemon.watch_to_end(&job.name).await;
    assert_eq!(ended.end.clone().unwrap().reason(), v1::JobEndReason::Finished, "{:?}", ended.end);
    Outcome::of(&daemon, &ended).await.assert_same(&whole);
}

#[tokio::test]
async fn a_rank_that_runs_out_of_memory_is_the_cause() {
    if !tools::has_ranks() {
        return;
    }
    let Some(group) = tools::allowed("a control group", memory::Group::make("ranks")) else { return };
    let daemon = start();
    let mut spec = job(2);
    // Its first validation pass takes more than the group allows.
    let large = |training| v1::Training { validation_batch_size: Some(1000), shards: Some(2), ..training };
    (spec.model, spec.training) = (spec::short().model, spec.training.map(large));
    let job = daemon.create(spec).await;
    past(&daemon, &job.name, 5).await;
    group.take_in(process(&daemon, &job.name, 1));
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::OutOfMemory, "{}", end.message);
    assert!(end.message.starts_with("rank 1: the kernel killed the runner"), "{}", end.message);
}

#[tokio::test]
async fn a_rank_that_hangs_is_a_stall_of_the_job() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = Setup::new().set("jobs.cpu_slots", "4").set("runner.stop_grace", "1s").start();
    let mut spec = retried(1, job(2));
    let stall_timeout = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    spec.retry = spec.retry.map(|retry| v1::Retry { stall_timeout, ..retry });
    let job = daemon.create(spec).await;
    past(&daemon, &job.name, 10).await;
    let ranks = [0, 1].map(|rank| process(&daemon, &job.name, rank));
    signal(ranks[1], Signal::SIGSTOP);
    let next = daemon.watch_until(&job.name, |job| job.attempt > 1).await;
    let end = next.last_attempt_end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::Stalled, "{}", end.message);
    assert!(ranks.iter().all(|rank| is_gone(*rank)));
    assert_eq!(daemon.watch_to_end(&job.name).await.end.unwrap().reason(), v1::JobEndReason::Finished);
}

#[tokio::test]
async fn a_rank_that_hangs_after_the_last_step_keeps_no_job_from_its_end() {
    if !tools::has_ranks() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let setup = Setup::new().set("jobs.cpu_slots", "4").set("runner.stop_grace", "1s");
    let daemon = setup.env("TORCHD_FAULT", format!("trained@{}", hold.display())).start();
    let job = daemon.create(job(2)).await;
    // Ranks compare their states before it is written, and need each other for nothing after that.
    let last = daemon.job_folder(&job.name).join("checkpoints/step-68");
    wait_for("the last checkpoint", || last.exists().then_some(()));
    let ranks = [0, 1].map(|rank| process(&daemon, &job.name, rank));
    signal(ranks[1], Signal::SIGSTOP);
    std::fs::remove_file(&hold).unwrap();
    let ended = daemon.watch_to_end(&job.name).await;
    let end = ended.end.unwrap();
    assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 1), "{}", end.message);
    assert!(ranks.iter().all(|rank| is_gone(*rank)));
    let log = std::fs::read_to_string(daemon.job_folder(&job.name).join("ranks/1/runner.log")).unwrap();
    assert!(!log.contains("the runner has ended exit=Code(0)"), "it was stopped too late: {log}");
}

#[tokio::test]
async fn a_daemon_that_was_killed_takes_all_ranks_up_again() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = start();
    let name = daemon.create(job(2)).await.name;
    past(&daemon, &name, 10).await;
    let ranks = [0, 1].map(|rank| process(&daemon, &name, rank));
    let (state_dir, _state) = daemon.crash();
    let daemon = Setup::in_state(&state_dir).set("jobs.cpu_slots", "4").start();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: name.clone(), ..Default::default() }).await.unwrap();
    let ended = daemon.watch_to_end(&name).await;
    assert_eq!((ended.state(), ended.attempt), (v1::JobState::Cancelled, 1), "{:?}", ended.end);
    assert!(ranks.iter().all(|rank| is_gone(*rank)));
}

#[tokio::test]
async fn an_attempt_whose_daemon_died_before_its_ranks_had_folders_is_made_again() {
    if !tools::has_ranks() {
        return;
    }
    let setup = Setup::new().set("jobs.cpu_slots", "4").env("TORCHD_FAULT", "job-assigned:1");
    let mut daemon = setup.start();
    let request = v1::CreateJobRequest { spec: Some(job(2)), ..Default::default() };
    // The answer may be lost with the daemon.
    let _ = daemon.jobs().await.create_job(request).await;
    daemon.wait();
    let (state_dir, _state) = daemon.crash();
    let daemon = Setup::in_state(&state_dir).set("jobs.cpu_slots", "4").start();
    let listed = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    let ended = daemon.watch_to_end(&listed[0].name).await;
    let end = ended.end.unwrap();
    assert_eq!((end.reason(), ended.attempt), (v1::JobEndReason::Finished, 2), "{}", end.message);
}

#[tokio::test]
async fn a_machine_has_to_have_room_for_all_ranks() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = start();
    let machine = daemon.system().await.get_cluster(v1::GetClusterRequest::default()).await.unwrap().into_inner();
    // Parameters, gradients and momentum take 12 bytes each; together two thirds of the memory.
    let hidden = machine.driver.unwrap().memory_bytes / 18 / (784 + 10);
    let large = |ranks| {
        let model = format!(r#"{{"mlp": {{"hidden": [{hidden}]}}}}"#);
        v1::JobSpec { model: Some(torchd::proto::json::from_str(&model).unwrap()), ..job(ranks) }
    };
    let validate = async |spec| {
        let request = v1::ValidateJobRequest { spec: Some(spec), ..Default::default() };
        daemon.jobs().await.validate_job(request).await
    };
    validate(large(1)).await.unwrap();
    let refused = validate(large(2)).await.unwrap_err();
    assert!(refused.message().contains("each of 2 ranks on "), "{}", refused.message());
}

#[tokio::test]
async fn ranks_that_cannot_be_are_refused_by_their_field() {
    let daemon = start();
    let with = |change: &dyn Fn(&mut v1::JobSpec)| {
        let mut spec = job(2);
        change(&mut spec);
        spec
    };
    let ranks = |spec: &mut v1::JobSpec, ranks| spec.resources.as_mut().unwrap().ranks = Some(ranks);
    let on = |device: v1::Device, gpu_count| v1::Resources {
        device: device.into(),
        gpu_count,
        ranks: Some(2),
        ..v1::Resources::default()
    };
    let cases = [
        (with(&|spec| ranks(spec, 0)), "spec.resources.ranks: is 0; 1 to 64 is right"),
        (with(&|spec| ranks(spec, 3)), "spec.resources.ranks: is 3, which does not divide training.shards, 4"),
        (
            with(&|spec| spec.resources.as_mut().unwrap().cpu_threads = Some(3)),
            "spec.resources.cpu_threads: is 3 for each of 2 ranks; jobs may take 4 cores on this machine",
        ),
        (
            with(&|spec| *spec.resources.as_mut().unwrap() = on(v1::Device::Cuda, Some(1))),
            "spec.resources.ranks: is 2, and the job has 1 of resources.gpu_count, on each of which a rank computes; \
             leave it out, or make both the same",
        ),
        (
            with(&|spec| *spec.resources.as_mut().unwrap() = on(v1::Device::Auto, Some(2))),
            "spec.resources.gpu_count: is 2, and CUDA does not work on this machine",
        ),
    ];
    for (spec, right) in cases {
        let told = super::predict::refused(&daemon, spec).await;
        assert!(told.iter().any(|told| told.starts_with(right)), "{told:?}");
    }
}
