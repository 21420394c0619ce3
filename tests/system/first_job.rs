//! A job from the request to the result.

use std::collections::BTreeMap;
use std::fs::{self, File};

use torchd::proto::v1::{self, job_record::What, training::Length, watch_event::Event};
use torchd::tensorboard::{self, EventReader, event, summary};

use super::daemon::Daemon;
use super::spec;

const TAGS: [&str; 9] = [
    "accuracy/train",
    "accuracy/validation",
    "data/wait_ratio",
    "gradient_norm",
    "learning_rate",
    "loss/train",
    "loss/validation",
    "process/rss_bytes",
    "throughput/examples_per_second",
];

async fn watch(daemon: &Daemon, name: &str, after_sequence: u64) -> Vec<Event> {
    let request = v1::WatchJobRequest { name: name.into(), after_sequence, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.events.into_iter().map(|event| event.event.unwrap()));
    }
    events
}

fn records(events: &[Event]) -> Vec<&v1::JobRecord> {
    events.iter().filter_map(|event| if let Event::Record(record) = event { Some(record) } else { None }).collect()
}

async fn scalars(daemon: &Daemon, name: &str, tag: &str) -> Vec<(u64, f64)> {
    let request = v1::ReadScalarsRequest { name: name.into(), tag: tag.into(), ..Default::default() };
    let answer = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner();
    answer.points.iter().map(|point| (point.step, point.value)).collect()
}

#[tokio::test]
async fn a_job_goes_from_request_to_result() {
    let daemon = Daemon::start();
    let created = daemon.create(spec::mnist(Length::Epochs(2))).await;
    assert!(created.name.starts_with("jobs/") && created.generation >= 1, "{created:?}");

    let events = watch(&daemon, &created.name, 0).await;
    let Some(Event::Snapshot(first)) = events.first() else { panic!("no snapshot first") };
    assert_eq!(first.name, created.name);
    let Some(Event::Snapshot(job)) = events.last() else { panic!("no snapshot last") };
    assert_eq!(
        (job.state(), job.end.as_ref().unwrap().reason()),
        (v1::JobState::Succeeded, v1::JobEndReason::Finished)
    );
    assert_eq!(job.end.as_ref().unwrap().exit_code, Some(0));
    let generations: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Snapshot(job) = event { Some(job.generation) } else { None })
        .collect();
    assert!(generations.is_sorted(), "{generations:?}");

    let all = records(&events);
    assert!(all.iter().map(|record| record.sequence).eq(1..=all.len() as u64));
    let Some(What::Started(started)) = &all[0].what else { panic!("{:?}", all[0]) };
    assert_eq!((started.total_steps, started.steps_per_epoch, started.parameter_count), (126, 63, 21_840));
    assert_eq!((started.libtorch_version.as_str(), started.device.as_str()), ("2.11.0", "cpu"));
    assert!(matches!(&all.last().unwrap().what, Some(What::Ended(ended)) if ended.step == 126));
    let progress = job.progress.as_ref().unwrap();
    assert_eq!((progress.step, progress.epoch, progress.total_epochs, progress.progress_ratio), (126, 2, 2, 1.0));

    let request = v1::ListScalarTagsRequest { name: job.name.clone(), ..Default::default() };
    let tags = daemon.jobs().await.list_scalar_tags(request).await.unwrap().into_inner().tags;
    assert_eq!(tags.iter().map(|tag| tag.tag.as_str()).collect::<Vec<_>>(), TAGS);
    let steps: Vec<_> = scalars(&daemon, &job.name, "loss/validation").await.iter().map(|point| point.0).collect();
    assert_eq!(steps, [63, 126]);
    let steps: Vec<_> = scalars(&daemon, &job.name, "loss/train").await.iter().map(|point| point.0).collect();
    assert!(steps.iter().copied().eq((10..=120).step_by(10)));

    let folder = daemon.job_folder(&job.name);
    assert_eq!(folder.display().to_string(), job.directory);
    for path in ["spec.json", "job.json", "attempts/1.json", "journal", "exit.json", "runner.log", "tensorboard"] {
        assert!(folder.join(path).exists(), "{path}");
    }
    let weights = ["checkpoints/step-63", "checkpoints/step-126", "artifacts"].map(|place| {
        let bytes = fs::read(folder.join(place).join("model.safetensors")).unwrap();
        let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        assert_eq!(header["conv1.weight"]["shape"], serde_json::json!([10, 1, 5, 5]));
        assert_eq!(header.len(), 8 + 1, "eight tensors and the metadata");
        bytes
    });
    assert!(weights[0] != weights[1], "weights change from checkpoint to checkpoint");
    assert!(weights[1] == weights[2], "the last checkpoint holds the final weights");
    let mirrored: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("job.json")).unwrap()).unwrap();
    assert_eq!(mirrored["job"]["state"], "JOB_STATE_SUCCEEDED");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_numbers() {
    let daemon = Daemon::start();
    let mut curves = Vec::new();
    for seed in [5, 5, 6] {
        let spec = v1::JobSpec { seed, ..spec::mnist(Length::MaxSteps(70)) };
        let job = daemon.create(spec).await;
        assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
        let mut curve = Vec::new();
        for tag in ["loss/train", "accuracy/train", "gradient_norm", "loss/validation", "accuracy/validation"] {
            curve.push(scalars(&daemon, &job.name, tag).await);
        }
        let weights = fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap();
        curves.push((curve, weights));
    }
    assert_eq!(curves[0].0, curves[1].0);
    assert!(curves[0].1 == curves[1].1, "the same weights, bit for bit");
    assert_ne!(curves[0].0, curves[2].0);
}

#[tokio::test]
async fn a_watch_goes_on_after_the_record_that_a_client_has() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::short()).await;
    let all = watch(&daemon, &job.name, 0).await;
    let all = records(&all);
    let later = watch(&daemon, &job.name, 3).await;
    assert_eq!(records(&later), all[3..]);
    let last = all.len() as u64;
    let none = watch(&daemon, &job.name, last).await;
    assert!(records(&none).is_empty() && matches!(none.last(), Some(Event::Snapshot(job)) if job.end.is_some()));
    let request = v1::WatchJobRequest { name: job.name.clone(), after_sequence: last + 1, ..Default::default() };
    let status = daemon.jobs().await.watch_job(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(status.message().contains(&format!("ends with record {last}")), "{}", status.message());
}

#[tokio::test]
async fn a_watch_without_records_tells_the_states_up_to_the_end() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::short()).await;
    let ask = |after_sequence| v1::WatchJobRequest { name: job.name.clone(), after_sequence, without_records: true };
    let mut stream = daemon.jobs().await.watch_job(ask(0)).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.events.into_iter().map(|event| event.event.unwrap()));
    }
    assert!(records(&events).is_empty());
    assert!(
        matches!(events.last(), Some(Event::Snapshot(job)) if job.state() == v1::JobState::Succeeded && job.end.is_some()),
        "{:?}",
        events.last()
    );
    let status = daemon.jobs().await.watch_job(ask(1)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("after_sequence is 1, and without_records is set"), "{}", status.message());
}

#[tokio::test]
async fn a_watch_tells_every_record_before_a_damage_and_then_the_damage() {
    let daemon = Daemon::start();
    let job = daemon.create(spec::short()).await;
    daemon.watch_to_end(&job.name).await;
    let whole = watch(&daemon, &job.name, 0).await;
    let whole = records(&whole);
    let path = daemon.job_folder(&job.name).join("journal");
    let mut bytes = fs::read(&path).unwrap();
    let in_the_last_record = bytes.len() - 6;
    bytes[in_the_last_record] ^= 1;
    fs::write(&path, bytes).unwrap();
    let request = v1::WatchJobRequest { name: job.name.clone(), after_sequence: 0, ..Default::default() };
    let mut stream = daemon.jobs().await.watch_job(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    let status = loop {
        match stream.message().await {
            Ok(message) => found.extend(message.expect("the damage is told before the end").events),
            Err(status) => break status,
        }
    };
    let found: Vec<_> = found.into_iter().filter_map(|event| event.event).collect();
    assert_eq!(records(&found), whole[..whole.len() - 1]);
    assert_eq!(status.code(), tonic::Code::DataLoss, "{status:?}");
}

#[tokio::test]
async fn the_event_file_holds_what_the_journal_holds() {
    let daemon = Daemon::start();
    let job = daemon.create(v1::JobSpec {
        logging: Some(v1::Logging { scalar_every_steps: Some(1) }),
        ..spec::mnist(Length::MaxSteps(70))
    });
    let job = daemon.watch_to_end(&job.await.name).await;
    let files: Vec<_> = fs::read_dir(daemon.job_folder(&job.name).join("tensorboard"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let events = EventReader::new(File::open(file).unwrap()).read_all().unwrap();
    assert!(matches!(&events[0].what, Some(event::What::FileVersion(version)) if version == tensorboard::FILE_VERSION));
    assert!(matches!(&events[1].what, Some(event::What::SessionLog(log)) if log.status == 1 && events[1].step == 1));
    let mut written: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for event in &events[2..] {
        let Some(event::What::Summary(summary)) = &event.what else { panic!("{event:?}") };
        for value in &summary.value {
            let Some(summary::value::Value::SimpleValue(number)) = value.value else { panic!("{value:?}") };
            written.entry(value.tag.clone()).or_default().push((event.step as u64, number));
        }
    }
    assert_eq!(written.keys().map(String::as_str).collect::<Vec<_>>(), TAGS);
    assert_eq!(written["loss/train"].len(), 70);
    for (tag, points) in written {
        let told = scalars(&daemon, &job.name, &tag).await;
        let told: Vec<_> = told.into_iter().map(|(step, value)| (step, value as f32)).collect();
        assert_eq!(points, told, "{tag}");
    }
}

#[tokio::test]
async fn scalars_and_jobs_come_in_pages() {
    let daemon = Daemon::start();
    let spec = v1::JobSpec { logging: Some(v1::Logging { scalar_every_steps: Some(1) }), ..spec::short() };
    let job = daemon.create(spec.clone()).await;
    daemon.watch_to_end(&job.name).await;
    let mut client = daemon.jobs().await;
    let (mut steps, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request =
            v1::ReadScalarsRequest { name: job.name.clone(), tag: "loss/train".into(), page_size: 8, page_token };
        let answer = client.read_scalars(request).await.unwrap().into_inner();
        steps.extend(answer.points.iter().map(|point| point.step));
        pages += 1;
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(steps.into_iter().eq(1..=20));
    assert_eq!(pages, 3);
    let second = daemon.create(spec).await;
    let request = v1::ListJobsRequest { page_size: 1, ..Default::default() };
    let first_page = client.list_jobs(request).await.unwrap().into_inner();
    assert_eq!(first_page.jobs[0].name, second.name);
    let request = v1::ListJobsRequest { page_size: 1, page_token: first_page.next_page_token, ..Default::default() };
    let second_page = client.list_jobs(request).await.unwrap().into_inner();
    assert_eq!((second_page.jobs[0].name.as_str(), second_page.next_page_token.as_str()), (job.name.as_str(), ""));
    daemon.watch_to_end(&second.name).await;
}

#[tokio::test]
async fn the_cluster_is_a_driver_without_workers() {
    let daemon = super::daemon::Setup::new().env("DATABRICKS_RUNTIME_VERSION", "15.4").start();
    let cluster = daemon.system().await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((cluster.mode(), cluster.workers), (v1::ClusterMode::DriverOnly, 0));
    let node = cluster.driver.unwrap();
    assert!(
        node.cpu_count > 0 && node.memory_bytes > 0 && !node.hostname.is_empty() && !node.os.is_empty(),
        "{node:?}"
    );
    let runtime = cluster.databricks_runtime.unwrap();
    assert_eq!((runtime.present, runtime.version.as_str()), (true, "15.4"));
    let version = daemon.system().await.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!(version.torchd_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(version.libtorch.unwrap().version, "2.11.0");
}
