//! Clients that ask for too much at once: what is refused before it costs anything, and that others
//! are served meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use h2::client::{Builder, SendRequest};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use torchd::journal::{JobFolder, JobLock, JournalWriter};
use torchd::proto::journal::record::What;
use torchd::proto::v1;
use torchd::proto::v1::compatibility_service_client::CompatibilityServiceClient;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::system_service_client::SystemServiceClient;

use super::daemon::{Daemon, LIMIT, Setup, wait_for};
use super::spec;

/// Memory of the daemon in bytes, by the name that the kernel gives it.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let told = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    told.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The most memory that the daemon has ever had.
fn peak(daemon: &Daemon) -> u64 {
    memory(daemon, "VmHWM")
}

fn fields(status: &tonic::Status) -> Vec<String> {
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_request_with_millions_of_entries_is_refused_before_anything_is_made_of_it() {
    let daemon = Daemon::start();
    let before = peak(&daemon);
    let mut huge = spec::short();
    // Compared pair by pair these would take hours.
    let (also_on, never_on) = (v1::JobEndReason::OutOfMemory, v1::JobEndReason::KilledBySignal);
    huge.retry = Some(v1::Retry {
        also_on: vec![also_on.into(); 1_950_000],
        never_on: vec![never_on.into(); 1_950_000],
        ..v1::Retry::default()
    });
    let mut jobs = daemon.jobs().await;
    let ask = jobs.validate_job(v1::ValidateJobRequest { spec: Some(huge.clone()), dry_run: false });
    let status = tokio::time::timeout(LIMIT, ask).await.expect("an answer").unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["spec.retry.also_on", "spec.retry.never_on"]);
    assert!(status.message().contains("has 1950000 entries; at most 64 are right"), "{}", status.message());
    let create = v1::CreateJobRequest { spec: Some(huge), ..Default::default() };
    assert_eq!(jobs.create_job(create).await.unwrap_err().code(), Code::InvalidArgument);

    // Empty messages, two bytes each, would be a hundred megabytes; and every one of them would be
    // judged.
    let gpus = Some(v1::GpuList { gpus: vec![v1::GpuDescription::default(); 2_000_000] });
    let facts = Some(v1::MachineFacts { gpus, ..v1::MachineFacts::default() });
    let mut compatibility = CompatibilityServiceClient::new(daemon.channel().await);
    let request = v1::CheckCompatibilityRequest { facts, as_of: String::new() };
    let status = compatibility.check_compatibility(request).await.unwrap_err();
    assert_eq!(fields(&status), ["facts.gpus.gpus"]);
    let grown = peak(&daemon) - before;
    assert!(grown < 32 << 20, "it grew by {grown} bytes");

    let request = v1::ListRuntimesRequest { pytorch_version: "2.".repeat(200_000), ..Default::default() };
    assert_eq!(fields(&compatibility.list_runtimes(request).await.unwrap_err()), ["pytorch_version"]);
    let mut long = spec::short();
    long.output = Some(v1::Output { mirror: "/a".repeat(200_000), ..v1::Output::default() });
    let source = v1::warm_start::Source::Checkpoint("jobs/".repeat(600_000));
    long.warm_start = Some(v1::WarmStart { source: Some(source), resume: false, ..Default::default() });
    let status = jobs.validate_job(v1::ValidateJobRequest { spec: Some(long), dry_run: false }).await.unwrap_err();
    assert_eq!(fields(&status), ["spec.warm_start.checkpoint", "spec.output.mirror"]);
    // Other mistakes are told with them.
    let mut wrong = spec::short();
    wrong.priority = 1001;
    wrong.output = Some(v1::Output { mirror: "/a".repeat(200_000), ..v1::Output::default() });
    let status = jobs.validate_job(v1::ValidateJobRequest { spec: Some(wrong), dry_run: false }).await.unwrap_err();
    assert_eq!(fields(&status), ["spec.output.mirror", "spec.priority"]);
    jobs.validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false }).await.unwrap();
}

/// A job that has ended, whose journal tells that many points of a tag more.
async fn job_with_points(daemon: &Daemon, tag: &str, count: u64) -> v1::Job {
    let job = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    let folder = JobFolder::new(daemon.job_folder(&job.name));
    let lock = JobLock::take(&folder).unwrap().unwrap();
    let mut writer = JournalWriter::open(&folder, &lock, 1).unwrap();
    for step in 1..=count {
        let values = vec![v1::ScalarValue { tag: tag.into(), value: 0.5 }];
        writer.append(SystemTime::now(), What::Scalars(v1::ScalarValues { step, values })).unwrap();
    }
    job
}

/// Bytes that the daemon has read so far.
fn bytes_read(daemon: &Daemon) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_journal_is_read_once_however_many_ask_what_is_in_it() {
    let daemon = Daemon::start();
    let count = 20_000;
    let job = job_with_points(&daemon, "many", count).await;
    let size = std::fs::metadata(daemon.job_folder(&job.name).join("journal")).unwrap().len();
    let (before, jobs) = (bytes_read(&daemon), daemon.jobs().await);
    let ask = |mut jobs: JobServiceClient<Channel>| {
        let request = v1::ListScalarTagsRequest { name: job.name.clone(), ..Default::default() };
        tokio::spawn(async move { jobs.list_scalar_tags(request).await.unwrap().into_inner() })
    };
    let asked: Vec<_> = (0..100).map(|_| ask(jobs.clone())).collect();
    for answer in asked {
        let tags = answer.await.unwrap().tags;
        assert_eq!(tags.iter().find(|tag| tag.tag == "many").unwrap().point_count, count);
    }
    let (mut jobs, mut page_token, mut points) = (jobs, String::new(), 0);
    loop {
        let request = v1::ReadScalarsRequest {
            name: job.name.clone(),
            tag: "many".into(),
            page_size: 500,
            page_token: page_token.clone(),
        };
        let page = jobs.read_scalars(request).await.unwrap().into_inner();
        points += page.points.len() as u64;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let read = bytes_read(&daemon) - before;
    assert_eq!(points, count);
    // Once for the tags, and for each page what it holds and some more. A hundred and forty times
    // is what it would be.
    assert!(read < 10 * size, "{read} bytes were read of a journal of {size}");
}

#[tokio::test]
async fn hundreds_who_ask_for_versions_at_once_cost_one_python() {
    let folder = tempfile::tempdir().unwrap();
    let (python, told) = (folder.path().join("python"), folder.path().join("told"));
    let script =
        format!("#!/bin/sh\necho started >> {}\nsleep 0.2\necho 3.12.1\necho /usr/bin/python3\n", told.display());
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Setup::new().set("cluster.python", python.to_str().unwrap()).start();
    let system = daemon.system().await;
    let ask = |mut system: SystemServiceClient<Channel>| {
        tokio::spawn(async move { system.get_version(v1::GetVersionRequest {}).await.unwrap().into_inner() })
    };
    let asked: Vec<_> = (0..200).map(|_| ask(system.clone())).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().python.unwrap().version, "3.12.1");
    }
    let count = std::fs::read_to_string(&told).unwrap().lines().count();
    assert!(count < 5, "it was started {count} times");
}

/// A client of HTTP/2 that lets answers send that many bytes each.
async fn connect(daemon: &Daemon, window: u32) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(daemon.grpc).await.unwrap();
    let (client, connection) = Builder::new().initial_window_size(window).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn head(daemon: &Daemon, method: &str) -> http::Request<()> {
    http::Request::post(format!("http://{}/torchd.v1.JobService/{method}", daemon.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    [vec![0], (message.len() as u32).to_be_bytes().to_vec(), message].concat().into()
}

/// Waits until the daemon does nothing any more.
fn wait_until_idle(daemon: &Daemon) {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split(' ').map(str::to_owned).collect();
        (fields[12].clone(), fields[13].clone())
    };
    wait_for("rest", || {
        let before = used();
        std::thread::sleep(std::time::Duration::from_millis(400));
        (used() == before).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_share_what_memory_there_is_for_them() {
    let daemon = Setup::new().open().start();
    let before = peak(&daemon);
    let mut client = connect(&daemon, 1 << 16).await;
    let whole: Bytes = [vec![0], (4_000_000u32).to_be_bytes().to_vec(), vec![0; 3_999_000]].concat().into();
    let mut streams = Vec::new();
    for _ in 0..60 {
        client = client.ready().await.unwrap();
        let (answer, mut body) = client.send_request(head(&daemon, "CreateJob"), false).unwrap();
        body.send_data(whole.clone(), false).unwrap();
        streams.push((answer, body));
    }
    tokio::task::block_in_place(|| {
        wait_for("as many as there may be", || (peak(&daemon) > before + (24 << 20)).then_some(()))
    });
    tokio::task::block_in_place(|| wait_until_idle(&daemon));
    let grown = peak(&daemon) - before;
    assert!(grown < 96 << 20, "60 of them, 240 MB, take {grown} bytes");
    // Ordinary requests need not wait for them.
    let mut jobs = daemon.jobs().await;
    jobs.validate_job(v1::ValidateJobRequest { spec: Some(spec::short()), dry_run: false }).await.unwrap();
    jobs.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_nobody_reads_share_what_memory_there_is_for_them() {
    let daemon = Setup::new().open().start();
    let job = job_with_points(&daemon, "many", 20_000).await;
    let before = peak(&daemon);
    let mut client = connect(&daemon, 0).await;
    let request = v1::ReadScalarsRequest {
        name: job.name.clone(),
        tag: "many".into(),
        page_size: 50_000,
        page_token: String::new(),
    };
    let (mut answers, bytes) = (tokio::task::JoinSet::new(), framed(&request));
    for _ in 0..300 {
        client = client.ready().await.unwrap();
        let (answer, mut body) = client.send_request(head(&daemon, "ReadScalars"), false).unwrap();
        body.send_data(bytes.clone(), true).unwrap();
        answers.spawn(answer);
    }
    let mut unread = Vec::new();
    while unread.len() < 10 {
        unread.push(answers.join_next().await.unwrap().unwrap().unwrap());
    }
    tokio::task::block_in_place(|| wait_until_idle(&daemon));
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 96 << 20, "300 of them, more than 400 MB, take {grown} bytes");
    // Nobody waits for what the others do not read once they are gone.
    drop((client, answers, unread));
    let page = daemon.jobs().await.read_scalars(request).await.unwrap().into_inner();
    assert_eq!(page.points.len(), 20_000);
}

/// The bytes that the HTTP server answers to these, until it closes the connection.
fn asked_raw(daemon: &Daemon, words: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(daemon.http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(words).unwrap();
    let mut answer = Vec::new();
    // One that is cut off may be reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn the_http_port_answers_to_its_own_names_and_speaks_no_http_2() {
    let daemon = Setup::new().set("http.allowed_hosts", "metrics.example.org,other").start();
    let code = |host: &str| {
        let answer = asked_raw(&daemon, format!("GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n").as_bytes());
        answer.split(' ').nth(1).map(str::to_owned).unwrap_or(answer)
    };
    for ours in ["localhost", "127.0.0.1:1", "[::1]:7081", "Metrics.example.org", "other:80"] {
        assert_eq!(code(&format!("Host: {ours}\r\n")), "200", "{ours}");
    }
    // A page in a browser that has its own name lead here.
    assert_eq!(code("Host: rebound.example:7081\r\n"), "403");
    let refused = asked_raw(&daemon, b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n");
    assert!(refused.contains("http.allowed_hosts") && !refused.contains("torchd_"), "{refused}");
    // The server would wait for the rest of it.
    assert_eq!(asked_raw(&daemon, b"PRI * HTTP/2.0\r\n\r\n"), "");
    assert_eq!(daemon.page("/healthz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_tells_when_nobody_looks_after_the_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let stands = folder.path().join("stands");
    std::fs::write(&stands, "").unwrap();
    let daemon = Setup::new().env("TORCHD_FAULT", format!("job-assigned@{}", stands.display())).start();
    let mut jobs = daemon.jobs().await;
    let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let created = tokio::spawn(async move { jobs.create_job(request).await });
    let words = tokio::task::block_in_place(|| {
        wait_for("a word about it", || {
            let (code, words) = daemon.page("/readyz");
            (code == 503 && words.contains("has made no progress")).then_some(words)
        })
    });
    assert!(words.contains("managing jobs has made no progress for"), "{words}");
    assert_eq!(daemon.page("/healthz").0, 200);
    std::fs::remove_file(&stands).unwrap();
    let job = created.await.unwrap().unwrap().into_inner();
    daemon.watch_to_end(&job.name).await;
    tokio::task::block_in_place(|| wait_for("ready", || (daemon.page("/readyz").0 == 200).then_some(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_for_clients_that_hang_keep_nobody_else_from_working() {
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    let daemon = Setup::new().env("TORCHD_FAULT", format!("client-read@{}", hangs.display())).start();
    let job = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    std::fs::write(&hangs, "").unwrap();
    // More than the runtime has threads for work that blocks.
    let (connections, calls) = (6, 100);
    let count = connections * calls;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..connections {
        // The client sends no more calls on a connection until one of them is answered.
        let jobs = daemon.jobs().await;
        for _ in 0..calls {
            let (mut jobs, request) =
                (jobs.clone(), v1::ListArtifactsRequest { name: job.name.clone(), ..Default::default() });
            asked.spawn(async move { jobs.list_artifacts(request).await.unwrap().into_inner().artifacts.len() });
        }
    }
    let started = || -> Option<u32> {
        let of = "grpc_server_started_total{grpc_method=\"ListArtifacts\"";
        daemon.page("/metrics").1.lines().find(|line| line.starts_with(of))?.rsplit(' ').next()?.parse().ok()
    };
    tokio::task::block_in_place(|| wait_for("all of them", || started().filter(|started| *started >= count)));
    let other = daemon.create(spec::short()).await;
    let begun = std::time::Instant::now();
    while daemon.get(&other.name).await.state() != v1::JobState::Succeeded {
        assert!(begun.elapsed() < LIMIT, "{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let words = tokio::task::block_in_place(|| {
        wait_for("a word about it", || Some(daemon.page("/readyz")).filter(|(code, _)| *code == 503))
    });
    assert!(words.1.contains("reading files for clients has made no progress for"), "{words:?}");
    assert!(asked.try_join_next().is_none(), "they hang");
    std::fs::remove_file(&hangs).unwrap();
    while let Some(files) = asked.join_next().await {
        assert!(files.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_to_the_database_keep_no_job_from_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    let daemon = Setup::new().env("TORCHD_FAULT", format!("store-question@{}", hangs.display())).start();
    std::fs::write(&hangs, "").unwrap();
    // More than the queue of the database holds.
    let (count, jobs) = (200, daemon.jobs().await);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut jobs = jobs.clone();
        asked.spawn(async move {
            loop {
                match jobs.list_jobs(v1::ListJobsRequest::default()).await {
                    Ok(page) => return page.into_inner(),
                    // On a machine that is busy with other things.
                    Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
                }
            }
        });
    }
    let job = daemon.watch_to_end(&daemon.create(spec::short()).await.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded);
    assert!(asked.try_join_next().is_none(), "they hang");
    std::fs::remove_file(&hangs).unwrap();
    while let Some(page) = asked.join_next().await {
        assert!(page.unwrap().jobs.len() <= 1);
    }
}

#[test]
fn a_daemon_that_has_nothing_to_do_holds_little() {
    let daemon = Daemon::start();
    wait_for("ready", || (daemon.page("/readyz").0 == 200).then_some(()));
    // Memory that the daemon has allocated; the memory of its code depends on the build. The
    // promise is 24 MB for both.
    let held = memory(&daemon, "RssAnon");
    assert!(held < 16 << 20, "{held}");
}

#[test]
fn neither_the_daemon_nor_the_client_loads_libtorch() {
    let loads = |program: &str| {
        // The loader tells what it would load.
        let output = std::process::Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("libc.so"), "{program}: {told}");
        told.contains("libtorch") || told.contains("libc10")
    };
    assert!(!loads(env!("CARGO_BIN_EXE_torchd")) && !loads(env!("CARGO_BIN_EXE_torchctl")));
    #[cfg(feature = "runner")]
    assert!(loads(env!("CARGO_BIN_EXE_torchd-runner")), "the runner does");
}
