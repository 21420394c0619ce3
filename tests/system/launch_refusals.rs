//! Launchers, outposts and specs that are refused.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use tonic::{Code, Request};
use torchd::proto::v1;
use torchd::proto::v1::launch_service_client::LaunchServiceClient;

use super::credentials::{Files, Headers, over_tcp, refusal, token};
use super::launches::{attach, free_port, scaled, setup};
use super::pages::page;
use super::{spec, tools};

#[tokio::test]
async fn nobody_takes_the_place_of_a_rank_but_the_first_outpost_with_the_token() {
    let daemon = setup().open().start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    let join = |rank, outpost| v1::JoinLaunchRequest {
        rank,
        outpost,
        world_size: 2,
        version: env!("CARGO_PKG_VERSION").into(),
        host: "here".into(),
    };
    let mut client = LaunchServiceClient::new(daemon.channel().await);
    let with = |token: &str, request: v1::JoinLaunchRequest| {
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    // Those who may do everything else are no ranks.
    let told = client.join_launch(join(0, 1)).await.unwrap_err();
    assert_eq!(refusal(&told), (Code::PermissionDenied, "NOT_A_RANK".into()));
    let other = format!("torchd_{}", "0".repeat(64));
    let told = client.join_launch(with(&other, join(0, 1))).await.unwrap_err();
    assert_eq!(told.code(), Code::Unauthenticated);
    let refused = client.clone();
    let wrong = |change: &dyn Fn(&mut v1::JoinLaunchRequest)| {
        let (mut client, mut request) = (refused.clone(), join(0, 1));
        change(&mut request);
        let request = with(&launch.token, request);
        async move { refusal(&client.join_launch(request).await.unwrap_err()) }
    };
    assert_eq!(wrong(&|join| join.rank = 2).await, (Code::OutOfRange, "NO_SUCH_RANK".into()));
    assert_eq!(wrong(&|join| join.world_size = 3).await, (Code::FailedPrecondition, "OTHER_WORLD_SIZE".into()));
    assert_eq!(wrong(&|join| join.version = "0".into()).await, (Code::FailedPrecondition, "OTHER_VERSION".into()));
    let joined = client.join_launch(with(&launch.token, join(0, 1))).await.unwrap().into_inner();
    assert_eq!((joined.job.as_str(), joined.attempt), (job.name.as_str(), 1));
    assert!(joined.files.iter().any(|file| file.path == "spec.json"));
    assert_eq!(client.join_launch(with(&launch.token, join(0, 1))).await.unwrap().into_inner(), joined, "once more");
    assert_eq!(wrong(&|join| join.outpost = 2).await, (Code::AlreadyExists, "RANK_TAKEN".into()));

    let mut request = Request::new(v1::GetJobRequest { name: job.name.clone() });
    request.metadata_mut().insert("authorization", format!("Bearer {}", launch.token).parse().unwrap());
    let told = daemon.jobs().await.get_job(request).await.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied, "a rank reads no jobs");

    // A launcher of the same name takes the place of this one.
    let _other = attach(&daemon, 2).await;
    let told = launcher.orders.message().await.unwrap_err();
    assert_eq!(refusal(&told), (Code::Aborted, "LAUNCHER_REPLACED".into()));
    let cancel = v1::CancelJobRequest { name: job.name.clone(), ..Default::default() };
    daemon.jobs().await.cancel_job(cancel).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let told = client.join_launch(with(&launch.token, join(1, 3))).await.unwrap_err();
    assert_eq!(told.code(), Code::Unauthenticated, "the token ends with the launch");
}

#[tokio::test]
async fn bytes_of_a_rank_may_come_twice_or_too_early_and_files_come_whole_or_not_at_all() {
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 1).await;
    let job = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let mut client = LaunchServiceClient::new(over_tcp(&daemon, Headers::token(&launch.token)).await);
    let version = env!("CARGO_PKG_VERSION").into();
    let join = v1::JoinLaunchRequest { rank: 0, outpost: 1, world_size: 1, version, host: "here".into() };
    client.join_launch(join).await.unwrap();
    let piece =
        |file: &str, offset, data: &str| v1::Piece { file: file.into(), offset, data: data.into(), after_step: 0 };
    let pushing = client.clone();
    let push = |outpost, pieces: Vec<v1::Piece>| {
        let mut client = pushing.clone();
        async move { client.push_journal(v1::PushJournalRequest { rank: 0, outpost, pieces, carries: false }).await }
    };
    for (offset, data, received) in [(0, "abc", 3), (0, "abc", 3), (9, "xyz", 3), (2, "cd", 4), (4, "", 4)] {
        let answer = push(1, vec![piece("runner.log", offset, data)]).await.unwrap().into_inner();
        assert_eq!(answer.received, [received], "{offset} {data}");
    }
    assert_eq!(std::fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap(), "abcd");
    for file in ["job.json", "../journal", "tensorboard/../job.json", "tensorboard/other"] {
        let told = push(1, vec![piece(file, 0, "x")]).await.unwrap_err();
        assert_eq!(told.code(), Code::InvalidArgument, "{file}");
    }
    assert_eq!(push(2, Vec::new()).await.unwrap_err().code(), Code::AlreadyExists, "of another outpost");
    let path = v1::GetLaunchFileRequest { path: "job.json".into(), ..Default::default() };
    assert_eq!(client.get_launch_file(path).await.unwrap_err().code(), Code::InvalidArgument);
    let spec = std::fs::read(daemon.job_folder(&job.name).join("spec.json")).unwrap();
    for (offset, length, right) in [(0, 0, &spec[..]), (3, 5, &spec[3..8]), (7, 0, &spec[7..]), (1 << 40, 9, &[])] {
        let part = v1::GetLaunchFileRequest { path: "spec.json".into(), offset, length };
        let mut pieces = client.get_launch_file(part).await.unwrap().into_inner();
        let mut read = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            read.extend(piece.data);
        }
        assert!(read == right, "{offset} {length}");
    }

    let put = |name: &str, size_bytes, sha256: &str, data: &[&str]| {
        let files = vec![v1::PutFile { name: name.into(), size_bytes, sha256: sha256.into() }];
        let begin = v1::PutFilesBegin { rank: 0, outpost: 1, step: 0, files, removed_steps: Vec::new(), sequence: 0 };
        let first = v1::PutFilesRequest { part: Some(v1::put_files_request::Part::Begin(begin)) };
        let data = data.iter().map(|data| v1::PutFilesRequest {
            part: Some(v1::put_files_request::Part::Data(data.as_bytes().to_vec())),
        });
        let (mut client, messages) = (client.clone(), std::iter::once(first).chain(data).collect::<Vec<_>>());
        async move { client.put_artifacts(futures_util::stream::iter(messages)).await.map_err(|status| status.code()) }
    };
    let sum = torchd::sha256::Sha256::of(b"whole");
    let results = daemon.job_folder(&job.name).join("artifacts");
    for (name, size, sum, data, code) in [
        ("model", 5, "0", &["whole"][..], Code::DataLoss),
        ("model", 6, sum.as_str(), &["whole"], Code::DataLoss),
        ("model", 4, &sum, &["whole"], Code::DataLoss),
        ("../model", 5, &sum, &["whole"], Code::InvalidArgument),
        (".model", 5, &sum, &["whole"], Code::InvalidArgument),
    ] {
        assert_eq!(put(name, size, sum, data).await.unwrap_err(), code, "{name} {size}");
        assert_eq!(std::fs::read_dir(&results).unwrap().count(), 0, "{name} {size}");
    }
    put("model", 5, &sum, &["who", "le"]).await.unwrap();
    assert_eq!(std::fs::read(results.join("model")).unwrap(), b"whole");
}

#[tokio::test]
async fn a_launcher_is_given_the_jobs_of_its_owner_alone() {
    let daemon = setup().start();
    let alice = token(&daemon, "alice", v1::Role::Submitter, "").await;
    let mut client = LaunchServiceClient::new(over_tcp(&daemon, Headers::token(&alice)).await);
    let engine = v1::Engine::Torchrun.into();
    let request = v1::AttachLauncherRequest { launcher: "hers".into(), engine, slots: 2, ..Default::default() };
    let _orders = client.attach_launcher(request).await.unwrap().into_inner();
    let job = daemon.create(scaled(2, 2)).await;
    let waits = |job: &v1::Job| job.waiting_reason.contains("no launcher of torchrun is attached for");
    daemon.watch_until(&job.name, waits).await;
    let mut wrong = v1::AttachLauncherRequest { launcher: "a b".into(), engine, slots: 1, ..Default::default() };
    assert_eq!(client.attach_launcher(wrong.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    wrong = v1::AttachLauncherRequest { launcher: "hers".into(), slots: 0, ..wrong };
    assert_eq!(client.attach_launcher(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_scale_that_cannot_be_is_refused_by_its_field() {
    let daemon = setup().start();
    let with = |change: &dyn Fn(&mut v1::JobSpec)| {
        let mut spec = scaled(2, 2);
        change(&mut spec);
        spec
    };
    let scale = |change: fn(&mut v1::Scale)| with(&|spec| change(spec.scale.as_mut().unwrap()));
    for (spec, field, words) in [
        (scale(|scale| scale.engine = 0), "spec.scale.engine", "torchrun or spark"),
        (scale(|scale| scale.world_size = 0), "spec.scale.world_size", "1 to 64"),
        (scale(|scale| scale.world_size = 3), "spec.scale.world_size", "does not divide training.shards, 4"),
        (scale(|scale| scale.min_world_size = Some(3)), "spec.scale.min_world_size", "1 to the world_size of 2"),
        (
            scale(|scale| scale.join_timeout = Some(prost_types::Duration::default())),
            "spec.scale.join_timeout",
            "1 s to one day",
        ),
        (with(&|spec| spec.resources.as_mut().unwrap().ranks = Some(2)), "spec.resources.ranks", "beside scale"),
    ] {
        let request = v1::CreateJobRequest { spec: Some(spec), ..Default::default() };
        let told = daemon.jobs().await.create_job(request).await.unwrap_err();
        assert!(told.message().contains(field) && told.message().contains(words), "{field}: {}", told.message());
    }
}

#[tokio::test]
async fn a_rank_opens_no_page() {
    let files = Files::new();
    let daemon = files.setup().set("jobs.cpu_slots", "1").start();
    let mut launcher = attach(&daemon, 1).await;
    let job = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let viewer = token(&daemon, "viewer", v1::Role::Viewer, "").await;
    let ask =
        |path: &str, token: &str| page(&files.server, &daemon, &[("authorization", &format!("Bearer {token}"))], path);
    for path in ["/metrics", "/", &format!("/{}", job.name)] {
        let (code, told) = ask(path, &launch.token);
        assert_eq!(code, 403, "{path}: {told}");
    }
    assert_eq!(ask("/metrics", &viewer).0, 200, "a viewer opens it");
}

#[tokio::test]
async fn a_rank_brings_no_more_than_the_settings_allow() {
    let daemon = setup().set("jobs.log_max_bytes", "4096").set("jobs.max_event_bytes", "4096").start();
    let mut launcher = attach(&daemon, 1).await;
    let job = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let mut client = LaunchServiceClient::new(over_tcp(&daemon, Headers::token(&launch.token)).await);
    let version = env!("CARGO_PKG_VERSION").into();
    let join = v1::JoinLaunchRequest { rank: 0, outpost: 1, world_size: 1, version, host: "here".into() };
    assert_eq!(client.join_launch(join).await.unwrap().into_inner().log_max_bytes, 4096);
    // A piece that does not fit is dropped, as a runner of this machine drops it, and does not
    // come again.
    let events = "tensorboard/events.out.tfevents.1";
    for (file, most) in [("runner.log", 4096 + (8 << 10)), (events, 4096 + (1 << 20))] {
        for offset in (0..4).map(|number| number * 500_000) {
            let piece = v1::Piece { file: file.into(), offset, data: vec![b'x'; 500_000], after_step: 0 };
            let push = v1::PushJournalRequest { rank: 0, outpost: 1, pieces: vec![piece], carries: false };
            let answer = client.push_journal(push).await.unwrap().into_inner();
            assert_eq!(answer.received, [offset + 500_000], "{file}");
        }
        assert_eq!(std::fs::metadata(daemon.job_folder(&job.name).join(file)).unwrap().len(), most, "{file}");
    }
    // Nobody has so much room; the job tells it, and the files may come again.
    let files = vec![v1::PutFile { name: "model".into(), size_bytes: 1 << 60, sha256: "0".repeat(64) }];
    let begin = v1::PutFilesBegin { rank: 0, outpost: 1, step: 0, files, removed_steps: Vec::new(), sequence: 0 };
    let first = v1::PutFilesRequest { part: Some(v1::put_files_request::Part::Begin(begin)) };
    let told = client.put_artifacts(futures_util::stream::iter([first])).await.unwrap_err();
    assert_eq!(refusal(&told), (Code::ResourceExhausted, "STATE_FULL".into()));
    let waits =
        |job: &v1::Job| job.waiting_reason.contains("the files that a rank brings have 1152921504606846976 bytes");
    daemon.watch_until(&job.name, waits).await;
    assert_eq!(std::fs::read_dir(daemon.job_folder(&job.name).join("artifacts")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_owner_whose_jobs_hold_what_they_may_brings_no_more_files() {
    let daemon = setup().set("jobs.max_state_bytes_per_owner", "1000000").start();
    let mut launcher = attach(&daemon, 1).await;
    daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let mut client = LaunchServiceClient::new(over_tcp(&daemon, Headers::token(&launch.token)).await);
    let put = |size: usize| {
        let data = vec![b'x'; size];
        let sha256 = torchd::sha256::Sha256::of(&data);
        let files = vec![v1::PutFile { name: "model".into(), size_bytes: size as u64, sha256 }];
        let begin = v1::PutFilesBegin { rank: 0, outpost: 1, step: 0, files, removed_steps: Vec::new(), sequence: 0 };
        let part = v1::put_files_request::Part::Begin(begin);
        let data = data.chunks(500_000).map(|data| v1::put_files_request::Part::Data(data.to_vec()));
        let parts: Vec<_> = std::iter::once(part).chain(data).collect();
        futures_util::stream::iter(parts.into_iter().map(|part| v1::PutFilesRequest { part: Some(part) }))
    };
    let told = client.put_artifacts(put(1_000_001)).await.unwrap_err();
    assert_eq!(refusal(&told), (Code::ResourceExhausted, "OWNER_QUOTA".into()));
    assert!(told.message().contains("jobs.max_state_bytes_per_owner in the settings is 1000000"), "{told}");
    client.put_artifacts(put(600_000)).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_that_is_at_home_or_takes_the_place_of_others_needs_no_further_room() {
    let daemon = setup().set("jobs.max_state_bytes_per_owner", "1000000").start();
    let mut launcher = attach(&daemon, 1).await;
    let job = daemon.create(scaled(1, 1)).await;
    let launch = launcher.launch().await;
    let mut client = LaunchServiceClient::new(over_tcp(&daemon, Headers::token(&launch.token)).await);
    let model = vec![b'x'; 1_200_000];
    let put = |step: u64, removed_steps: Vec<u64>| {
        let told = |name: &str, data: &[u8]| {
            let (size_bytes, sha256) = (data.len() as u64, torchd::sha256::Sha256::of(data));
            v1::PutFile { name: name.into(), size_bytes, sha256 }
        };
        let about = told("model", &model);
        let manifest = serde_json::json!({
            "place": {"step": step, "epoch": 1, "examples": 0},
            "attempt": 1,
            "time": {"secs_since_epoch": 0, "nanos_since_epoch": 0},
            "summed_examples": 0,
            "metrics": {},
            "context": {"libtorch": "", "device": "cpu", "cpu_threads": 1, "processor": ""},
            "files": [{"name": about.name, "size_bytes": about.size_bytes, "sha256": about.sha256}],
        });
        let manifest = manifest.to_string().into_bytes();
        let files = vec![about, told("checkpoint.json", &manifest)];
        let begin = v1::PutFilesBegin { rank: 0, outpost: 1, step, files, removed_steps, sequence: 0 };
        let data = model.chunks(500_000).chain([manifest.as_slice()]);
        let data = data.map(|data| v1::put_files_request::Part::Data(data.to_vec()));
        let parts: Vec<_> = std::iter::once(v1::put_files_request::Part::Begin(begin)).chain(data).collect();
        futures_util::stream::iter(parts.into_iter().map(|part| v1::PutFilesRequest { part: Some(part) }))
    };
    let checkpoints = daemon.job_folder(&job.name).join("checkpoints");
    let told = client.put_checkpoint(put(2, vec![1])).await.unwrap_err();
    assert_eq!(refusal(&told), (Code::ResourceExhausted, "OWNER_QUOTA".into()), "the first one is not there");
    std::fs::create_dir(checkpoints.join("step-1")).unwrap();
    std::fs::write(checkpoints.join("step-1/model"), vec![b'x'; 1_300_000]).unwrap();
    client.put_checkpoint(put(2, vec![1, 1, 2])).await.unwrap();
    assert!(!checkpoints.join("step-1").exists() && checkpoints.join("step-2").exists());
    client.put_checkpoint(put(2, Vec::new())).await.unwrap();
    let told = client.put_checkpoint(put(3, Vec::new())).await.unwrap_err();
    assert_eq!(refusal(&told), (Code::ResourceExhausted, "OWNER_QUOTA".into()));
    // A piece of a journal finds its place, and the checkpoint still waits.
    let piece = v1::Piece { file: "runner.log".into(), offset: 0, data: b"x".to_vec(), after_step: 0 };
    client
        .push_journal(v1::PushJournalRequest { rank: 0, outpost: 1, pieces: vec![piece], carries: false })
        .await
        .unwrap();
    let waits = |job: &v1::Job| job.waiting_reason.contains("the files that a rank brings have");
    daemon.watch_until(&job.name, waits).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_the_reason_of_the_end() {
    if !tools::has_ranks() {
        return;
    }
    let daemon = setup().start();
    let mut launcher = attach(&daemon, 2).await;
    let job = daemon.create(scaled(2, 2)).await;
    let launch = launcher.launch().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ranks: Vec<_> = (0..2).map(|rank| launcher.rank(&daemon, &launch, rank, port)).collect();
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    let words = format!("nobody can listen at 127.0.0.1 port {port}: Address already in use");
    assert_eq!(end.reason(), v1::JobEndReason::StartFailed, "{}", end.message);
    assert!(end.message.contains(&words), "{}", end.message);
    drop(ranks);
    launcher.ended(&launch, "").await;
}

#[tokio::test]
async fn a_machine_with_other_data_is_told_by_its_rank() {
    let mounts = Command::new("unshare").args(["-m", "mount", "--bind", "/tmp", "/mnt"]).output().unwrap();
    let made = mounts.status.success().then_some(()).ok_or(String::from_utf8_lossy(&mounts.stderr).into_owned());
    if !tools::has_ranks() || tools::allowed("a folder mounted elsewhere", made).is_none() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let count = 1005u32.to_be_bytes();
    let labels = |first: u32| {
        let labels: Vec<u8> = (first..first + 1005).map(|label| (label % 10) as u8).collect();
        [&[0, 0, 8, 1][..], &count, &labels].concat()
    };
    let images = [&[0, 0, 8, 3][..], &count, &[0, 0, 0, 28, 0, 0, 0, 28], &vec![7; 1005 * 784]].concat();
    for (name, bytes) in [("images", images), ("labels", labels(0)), ("others", labels(1))] {
        std::fs::write(root.path().join(name), bytes).unwrap();
    }
    let daemon = setup().data_root(root.path()).start();
    let mut launcher = attach(&daemon, 2).await;
    let set = || Some(spec::idx("images", "labels"));
    let mut spec = scaled(2, 2);
    spec.data = spec.data.map(|data| v1::Data { train: set(), validation: set(), ..data });
    let job = daemon.create(spec).await;
    let launch = launcher.launch().await;
    // The second rank has other labels at the same place.
    let mut elsewhere = Command::new("unshare");
    let mount = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
    elsewhere.args(["-m", "sh", "-c", mount]).args(["others", "labels"].map(|name| root.path().join(name)));
    elsewhere.arg(env!("CARGO_BIN_EXE_torchd"));
    let port = free_port();
    let _first = launcher.rank(&daemon, &launch, 0, port);
    let _second = launcher.rank_by(elsewhere, &daemon, &launch, (1, port), Stdio::inherit());
    let end = daemon.watch_to_end(&job.name).await.end.unwrap();
    assert!(end.message.contains("the data of rank 1 "), "{:?} {}", end.reason(), end.message);
}
