//! Mistakes in requests, and their answers: code, reason, field, words.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use torchd::proto::v1::{self, training::Length};

use super::daemon::{Daemon, Setup};
use super::spec;

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "torchd");
    info.reason
}

fn fields(status: &Status) -> Vec<(String, String)> {
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

#[tokio::test]
async fn every_mistake_of_a_spec_is_told_by_its_field() {
    let daemon = Daemon::start();
    let batch = |batch_size, validation_batch_size| {
        let training = v1::Training {
            length: Some(Length::Epochs(1)),
            batch_size,
            validation_batch_size,
            ..v1::Training::default()
        };
        v1::JobSpec { training: Some(training), ..spec::short() }
    };
    let on = |device: v1::Device, gpu_count, cpu_threads| {
        let resources = v1::Resources {
            device: device.into(),
            gpu_count,
            cpu_threads,
            gpu_memory_bytes: None,
            memory_limit_bytes: None,
            ..Default::default()
        };
        v1::JobSpec { resources: Some(resources), ..spec::short() }
    };
    let limited = |limit| {
        let resources = v1::Resources { memory_limit_bytes: Some(limit), ..Default::default() };
        v1::JobSpec { resources: Some(resources), ..spec::short() }
    };
    let rate = |rate| v1::JobSpec { optimizer: Some(spec::sgd(rate, 0.5)), ..spec::short() };
    let dropout = v1::model::Family::MnistCnn(v1::MnistCnn { dropout: Some(1.0) });
    let cases = [
        (batch(Some(0), None), "training.batch_size", "is 0; at least 1 is needed"),
        (batch(Some(4001), None), "training.batch_size", "is 4001, and the training set has 4000 examples"),
        (batch(None, Some(0)), "training.validation_batch_size", "is 0; at least 1 is needed"),
        (spec::mnist(Length::Epochs(0)), "training.epochs", "is 0; at least 1 is needed"),
        (spec::mnist(Length::MaxSteps(0)), "training.max_steps", "is 0; at least 1 is needed"),
        (spec::mnist(Length::MaxSteps(u64::MAX)), "training", "makes more steps than can be counted"),
        (rate(-0.1), "optimizer.sgd.learning_rate", "is -0.1; a finite number above 0 is needed"),
        (rate(f64::NAN), "optimizer.sgd.learning_rate", "is NaN; a finite number above 0 is needed"),
        (
            v1::JobSpec { optimizer: Some(spec::sgd(0.1, 1.0)), ..spec::short() },
            "optimizer.sgd.momentum",
            "is 1; at least 0 and below 1",
        ),
        (v1::JobSpec { optimizer: None, ..spec::short() }, "optimizer", "is missing; choose one: sgd"),
        (v1::JobSpec { model: None, ..spec::short() }, "model", "is missing; choose a network: mnist_cnn"),
        (
            v1::JobSpec { model: Some(v1::Model { family: Some(dropout) }), ..spec::short() },
            "model.mnist_cnn.dropout",
            "is 1; a probability",
        ),
        (on(v1::Device::Cuda, None, None), "resources.device", "is cuda, and CUDA does not work on this machine: "),
        (on(v1::Device::Auto, Some(1), None), "resources.gpu_count", "is 1, and CUDA does not work on this machine: "),
        (on(v1::Device::Auto, Some(2), None), "resources.gpu_count", "is 2, and CUDA does not work on this machine: "),
        (on(v1::Device::Auto, Some(65), None), "resources.gpu_count", "is 65; at most 64 is right"),
        (limited(67 << 20), "resources.memory_limit_bytes", "is 70254592; a runner takes 70254592 before it has any"),
        (limited(1 << 60), "resources.memory_limit_bytes", "is 1152921504606846976; jobs can have "),
        (
            limited((67 << 20) + 2_000_000),
            "data.train.idx.images",
            "takes 3136000 bytes of memory, as it is read as a whole, and the job has 2000000; unpack it",
        ),
        (on(v1::Device::Cpu, None, Some(100_000)), "resources.cpu_threads", "is 100000; jobs may take"),
        (
            v1::JobSpec { resources: Some(v1::Resources { thread_wait: 9, ..Default::default() }), ..spec::short() },
            "resources.thread_wait",
            "is 9; adaptive, passive, active or openmp is needed",
        ),
        (
            v1::JobSpec { display_name: "x".repeat(129), ..spec::short() },
            "display_name",
            "has 129 characters; at most 128",
        ),
        (v1::JobSpec { display_name: "\u{1b}[2J".into(), ..spec::short() }, "display_name", "control character"),
    ];
    for (spec, field, words) in cases {
        let status = daemon
            .jobs()
            .await
            .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
            .await
            .unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{field}");
        let told = fields(&status);
        assert_eq!(told.len(), 1, "{field}: {told:?}");
        assert_eq!(told[0].0, format!("spec.{field}"));
        assert!(told[0].1.contains(words), "{words}: {}", told[0].1);
    }
}

#[tokio::test]
async fn all_mistakes_are_told_at_once() {
    let daemon = Daemon::start();
    let mut spec = spec::mnist(Length::Epochs(0));
    spec.optimizer = Some(spec::sgd(f64::INFINITY, -1.0));
    spec.data.as_mut().unwrap().validation = Some(spec::idx("nowhere", "mnist-5k/t10k-labels-idx1-ubyte.gz"));
    spec.checkpoint = Some(v1::Checkpoint { every_epochs: Some(0), ..v1::Checkpoint::default() });
    // The mistakes against the machine and against the data are told besides.
    spec.training.as_mut().unwrap().batch_size = Some(4001);
    spec.resources = Some(v1::Resources {
        device: v1::Device::Cuda.into(),
        gpu_count: None,
        cpu_threads: Some(99_999),
        gpu_memory_bytes: None,
        memory_limit_bytes: None,
        ..Default::default()
    });
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    let mut told: Vec<_> = fields(&status).into_iter().map(|(field, _)| field).collect();
    told.sort();
    let expected = [
        "spec.checkpoint.every_epochs",
        "spec.data.validation.idx.images",
        "spec.optimizer.sgd.learning_rate",
        "spec.optimizer.sgd.momentum",
        "spec.resources.cpu_threads",
        "spec.resources.device",
        "spec.training.batch_size",
        "spec.training.epochs",
    ];
    assert_eq!(told, expected);
    let status =
        daemon.jobs().await.create_job(v1::CreateJobRequest { spec: None, ..Default::default() }).await.unwrap_err();
    assert_eq!(fields(&status), [("spec".to_owned(), "is missing".to_owned())]);
}

#[tokio::test]
async fn a_full_queue_says_when_to_ask_again() {
    let daemon = Setup::new().set("jobs.cpu_slots", "1").set("jobs.max_queued", "1").start();
    let running = daemon.create(spec::endless()).await;
    daemon.watch_until(&running.name, |job| job.state() == v1::JobState::Running).await;
    let waiting = daemon.create(spec::endless()).await;
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec::endless()), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert!(status.message().contains("jobs.max_queued"), "{}", status.message());
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: waiting.name, now: false }).await.unwrap();
    daemon.create(spec::endless()).await;
}

#[tokio::test]
async fn a_job_that_is_not_there_or_not_in_the_right_state_is_told() {
    let daemon = Daemon::start();
    let mut client = daemon.jobs().await;
    let unknown = "jobs/20200101-000000-0000";
    let mut refusals = vec![
        client.get_job(v1::GetJobRequest { name: unknown.into() }).await.unwrap_err(),
        client.cancel_job(v1::CancelJobRequest { name: unknown.into(), now: false }).await.unwrap_err(),
        client.delete_job(v1::DeleteJobRequest { name: unknown.into() }).await.unwrap_err(),
        client
            .watch_job(v1::WatchJobRequest { name: unknown.into(), after_sequence: 0, ..Default::default() })
            .await
            .unwrap_err(),
        client.read_job_log(v1::ReadJobLogRequest { name: unknown.into(), ..Default::default() }).await.unwrap_err(),
        client
            .list_scalar_tags(v1::ListScalarTagsRequest { name: unknown.into(), ..Default::default() })
            .await
            .unwrap_err(),
    ];
    refusals.push(
        client
            .read_scalars(v1::ReadScalarsRequest { name: unknown.into(), tag: "a".into(), ..Default::default() })
            .await
            .unwrap_err(),
    );
    for status in refusals {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("torchd.v1.Job", unknown));
        assert_eq!(status.message(), format!("there is no job {unknown}"));
    }
    for (name, words) in [
        ("", "is missing"),
        ("jobs/../x", "is no job name"),
        ("20200101-000000-0000", "jobs/20200101-000000-0000 is right"),
    ] {
        let status = client.get_job(v1::GetJobRequest { name: name.into() }).await.unwrap_err();
        let told = fields(&status);
        assert!(told[0].0 == "name" && told[0].1.contains(words), "{name}: {told:?}");
    }

    let job = daemon.create(spec::endless()).await;
    daemon.watch_until(&job.name, |job| job.state() == v1::JobState::Running).await;
    let status = client.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "JOB_NOT_ENDED"));
    let violation = &status.get_details_precondition_failure().unwrap().violations[0];
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("JOB_NOT_ENDED", job.name.as_str()));
    assert!(
        violation.description.contains("running; only a job that has ended can be deleted"),
        "{}",
        violation.description
    );

    client.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap();
    daemon.watch_to_end(&job.name).await;
    let again =
        client.cancel_job(v1::CancelJobRequest { name: job.name.clone(), now: false }).await.unwrap().into_inner();
    assert_eq!(again.state(), v1::JobState::Cancelled);
    client.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap();
    assert!(!daemon.job_folder(&job.name).exists());
    let status = client.get_job(v1::GetJobRequest { name: job.name }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    let done = daemon.create(spec::short()).await;
    daemon.watch_to_end(&done.name).await;
    let status = client.cancel_job(v1::CancelJobRequest { name: done.name.clone(), now: false }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "JOB_ENDED"));
    assert!(status.message().contains("the job has succeeded"), "{}", status.message());
    let request = v1::ReadScalarsRequest { name: done.name, tag: "loss/trian".into(), ..Default::default() };
    let status = client.read_scalars(request).await.unwrap_err();
    assert!(status.code() == Code::NotFound && status.message().contains("loss/train"), "{}", status.message());
}

#[tokio::test]
async fn pages_that_make_no_sense_are_refused() {
    let daemon = Daemon::start();
    let request = v1::ListJobsRequest { page_size: -1, ..Default::default() };
    let status = daemon.jobs().await.list_jobs(request).await.unwrap_err();
    assert_eq!(fields(&status)[0].0, "page_size");
    let request = v1::ListJobsRequest { page_token: "nonsense".into(), ..Default::default() };
    let status = daemon.jobs().await.list_jobs(request).await.unwrap_err();
    assert_eq!(fields(&status)[0].0, "page_token");
    let request = v1::ListJobsRequest { states: vec![1, 99], ..Default::default() };
    let status = daemon.jobs().await.list_jobs(request).await.unwrap_err();
    assert_eq!(fields(&status)[0].0, "states[1]");
}

#[tokio::test]
async fn a_request_of_20_megabytes_is_refused_and_the_daemon_goes_on() {
    let daemon = Daemon::start();
    let spec = v1::JobSpec { display_name: "x".repeat(20_000_000), ..spec::short() };
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    assert!(status.message().contains("the limit is: 4194304 bytes"), "{}", status.message());
    daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn what_the_library_answers_by_itself_has_details_too() {
    let daemon = Daemon::start();
    let mut client = tonic::client::Grpc::new(daemon.channel().await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/torchd.v1.JobService/TrainFaster");
    let codec = tonic_prost::ProstCodec::<v1::GetJobRequest, v1::Job>::default();
    let request = tonic::Request::new(v1::GetJobRequest::default());
    let status = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
}

/// The clients of tonic and grpcio give up by themselves, so this one speaks HTTP/2.
#[tokio::test]
async fn a_deadline_that_has_passed_is_told() {
    let daemon = Setup::new().open().start();
    let stream = tokio::net::TcpStream::connect(daemon.grpc).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/torchd.v1.JobService/GetJob", daemon.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10m")
        .body(())
        .unwrap();
    // The message never comes.
    let (answer, _body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn a_stream_goes_on_no_longer_than_its_client_wants_to_wait() {
    let daemon = Setup::new().open().start();
    let job = daemon.create(spec::endless()).await;
    let stream = tokio::net::TcpStream::connect(daemon.grpc).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/torchd.v1.JobService/WatchJob", daemon.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "500m")
        .body(())
        .unwrap();
    let (answer, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let message =
        prost::Message::encode_to_vec(&v1::WatchJobRequest { name: job.name, after_sequence: 0, ..Default::default() });
    let framed = [vec![0], (message.len() as u32).to_be_bytes().to_vec(), message].concat();
    body.send_data(framed.into(), true).unwrap();
    let mut events = answer.await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(data) = events.data().await {
        let data = data.unwrap();
        bytes += data.len();
        events.flow_control().release_capacity(data.len()).unwrap();
    }
    let status = Status::from_header_map(&events.trailers().await.unwrap().unwrap()).unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(bytes > 0, "it watched until then");
}

#[tokio::test]
async fn an_error_about_something_long_is_short() {
    let daemon = Daemon::start();
    let mut spec = spec::short();
    spec.data.as_mut().unwrap().train = Some(spec::idx(&"a/".repeat(2000), "ä".repeat(2000).as_str()));
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert!(status.message().len() < 800 && status.message().contains("bytes left out"), "{}", status.message());
    assert_eq!(fields(&status).len(), 2);
    let states = vec![v1::JobState::Queued.into(); 64];
    daemon.jobs().await.list_jobs(v1::ListJobsRequest { states, ..Default::default() }).await.unwrap();
}

#[tokio::test]
async fn a_validation_batch_without_a_validation_set_is_refused() {
    let daemon = Daemon::start();
    let mut spec = spec::short();
    spec.data.as_mut().unwrap().validation = None;
    spec.training.as_mut().unwrap().validation_batch_size = Some(10);
    let status = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    let (field, words) = fields(&status).remove(0);
    assert!(field == "spec.training.validation_batch_size" && words.contains("no data.validation"), "{field} {words}");
}
