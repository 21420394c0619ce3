//! Data that cannot be trained on is told at the request, with the field and the file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1;

use super::daemon::{Daemon, Setup, wait_for};
use super::spec;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    [count, height, width].iter().for_each(|size| bytes.extend_from_slice(&size.to_be_bytes()));
    bytes.resize(bytes.len() + (count * height * width) as usize, 7);
    bytes
}

fn labels(values: &[u8]) -> Vec<u8> {
    [&[0, 0, 8, 1][..], &(values.len() as u32).to_be_bytes(), values].concat()
}

/// A folder of good and bad files, and one outside of it.
fn files(root: &Path, outside: &Path) {
    let put = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    put("images", &images(80, 28, 28));
    put("labels", &labels(&[3; 80]));
    put("images.gz", &gzip(&images(80, 28, 28)));
    put("cut.gz", &gzip(&images(80, 28, 28))[..60]);
    put("cut", &images(80, 28, 28)[..1000]);
    put("text", b"this is no IDX file");
    put("page.gz", b"<!DOCTYPE html><html><title>403 Forbidden</title></html>");
    put("floats", &[&[0, 0, 13, 3][..], &images(80, 28, 28)[4..]].concat());
    let deep = images(80, 28, 28);
    put("deep", &[&[0, 0, 8, 5][..], &deep[4..16], &[0, 0, 0, 1].repeat(2), &deep[16..]].concat());
    put("padded.gz", &[&gzip(&images(80, 28, 28))[..], &[0; 512]].concat());
    put("letters", &labels(&[[1; 40], [26; 40]].concat()));
    put("nothing", b"");
    put("labels-79", &labels(&[3; 79]));
    put("labels-10", &labels(&[&[3; 40][..], &[10], &[3; 39]].concat()));
    put("no-images", &images(0, 28, 28));
    put("no-labels", &labels(&[]));
    put("large", &images(80, 32, 32));
    fs::create_dir(root.join("folder")).unwrap();
    fs::write(outside.join("secret"), images(80, 28, 28)).unwrap();
    symlink(outside.join("secret"), root.join("link")).unwrap();
    symlink(outside.join("absent"), root.join("link-to-nothing")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", root.join("device")).unwrap();
    // A daemon without privileges finds no device there.
    let _ = nix::sys::stat::mknod(
        &root.join("zeros"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRWXU,
        nix::sys::stat::makedev(1, 5),
    );
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    // Cannot be read by anybody, root included.
    symlink(root.join("loop"), root.join("loop")).unwrap();
}

async fn refusal(daemon: &Daemon, train: v1::Dataset) -> tonic::Status {
    let mut spec = spec::short();
    spec.data = Some(v1::Data { train: Some(train), ..v1::Data::default() });
    spec.training.as_mut().unwrap().validation_batch_size = None;
    let request = v1::ValidateJobRequest { spec: Some(spec.clone()), dry_run: false };
    let validated = daemon.jobs().await.validate_job(request).await.unwrap_err();
    let created = daemon
        .jobs()
        .await
        .create_job(v1::CreateJobRequest { spec: Some(spec), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!((created.code(), created.message()), (validated.code(), validated.message()), "both judge alike");
    created
}

#[tokio::test]
async fn every_fault_of_a_data_file_is_told_at_the_request() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    files(root.path(), outside.path());
    let daemon = Setup::new().data_root(root.path()).start();
    let dots = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    let (secret, absent) = (outside.path().join("secret"), outside.path().join("absent"));
    let cases = [
        ("missing", "labels", "images", "is not there; looked in"),
        ("folder", "labels", "images", "is a folder, and a file is needed"),
        ("pipe", "labels", "images", "is a pipe, socket or device, and a file is needed"),
        ("socket", "labels", "images", "is a pipe, socket or device, and a file is needed"),
        ("device", "labels", "images", "leads out of the data roots"),
        ("loop", "labels", "images", "cannot be read: Too many levels of symbolic links"),
        ("cut.gz", "labels", "images", "is cut off: its header says 62720 values"),
        ("cut", "labels", "images", "is cut off: its header says 62720 values, 984 are there"),
        (
            "text",
            "labels",
            "images",
            "begins with 0x74686973, where an IDX file of 3-dimensional unsigned bytes begins with 0x00000803",
        ),
        ("labels", "labels", "images", "begins with 0x00000801, where"),
        (
            "images",
            "images",
            "labels",
            "begins with 0x00000803, where an IDX file of 1-dimensional unsigned bytes begins with 0x00000801",
        ),
        ("page.gz", "labels", "images", "it looks like an HTML page"),
        ("floats", "labels", "images", "is cut off: its header says 62720 values, 15680 are there"),
        ("deep", "labels", "images", "it is an IDX file of unsigned bytes in 5 dimensions [80, 28, 28, 1, 1]"),
        // Null bytes behind a gzip file are no fault, as gzip and Python have it.
        ("padded.gz", "labels-79", "labels", "has 79 labels for the 80 images of"),
        ("images", "letters", "labels", "subtract 1 where yours count from 1"),
        ("nothing", "labels", "images", "not even its header is complete"),
        ("images", "labels-79", "labels", "has 79 labels for the 80 images of"),
        ("images.gz", "labels-79", "labels", "has 79 labels for the 80 images of"),
        (
            "images",
            "labels-10",
            "labels",
            "holds the label 10 at place 40, counted from 0; mnist_cnn has scores for 0 to 9",
        ),
        ("large", "labels", "images", "holds images of 32x32; mnist_cnn takes 28x28"),
        ("link", "labels", "images", "leads out of the data roots"),
        (&dots, "labels", "images", "leads out of the data roots"),
        (secret.to_str().unwrap(), "labels", "images", "leads out of the data roots"),
        // Whether it is there is nobody's business.
        (absent.to_str().unwrap(), "labels", "images", "leads out of the data roots"),
        ("link-to-nothing", "labels", "images", "leads out of the data roots"),
        ("", "labels", "images", "is missing; name a file"),
    ];
    for (images, labels, part, words) in cases {
        let status = refusal(&daemon, spec::idx(images, labels)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{images} {labels}: {status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_REQUEST");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        let [field] = fields.as_slice() else { panic!("{images} {labels}: {fields:?}") };
        assert_eq!(field.field, format!("spec.data.train.idx.{part}"), "{images} {labels}");
        assert!(field.description.contains(words), "{words}: {}", field.description);
    }
    let empty = refusal(&daemon, spec::idx("no-images", "no-labels")).await;
    let wrong = empty.get_details_bad_request().unwrap().field_violations;
    assert!(wrong.len() == 2 && wrong.iter().all(|wrong| wrong.description.ends_with("which is empty")), "{wrong:?}");
    let zeros = refusal(&daemon, spec::idx("zeros", "labels")).await;
    let words = ["is a pipe, socket or device, and a file is needed", "is not there"];
    assert!(words.iter().any(|words| zeros.message().contains(words)), "{zeros:?}");
    let listed = daemon.jobs().await.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert!(listed.jobs.is_empty(), "what was refused is no job");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_answer_hold_up_their_own_clients_alone() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), tempfile::tempdir().unwrap().path());
    let hangs = root.path().join("hangs");
    fs::File::create(&hangs).unwrap();
    let fault = format!("judging:2@{}", hangs.display());
    let daemon = Setup::new().data_root(root.path()).env("TORCHD_FAULT", fault).start();
    let request = || {
        let train = Some(spec::idx("images", "labels"));
        let data = Some(v1::Data { train, ..v1::Data::default() });
        let mut spec = v1::JobSpec { data, ..spec::short() };
        spec.training.as_mut().unwrap().validation_batch_size = None;
        v1::ValidateJobRequest { spec: Some(spec), dry_run: false }
    };
    let mut hung: Vec<_> = Vec::new();
    for _ in 0..2 {
        let mut jobs = daemon.jobs().await;
        hung.push(tokio::spawn(async move { jobs.validate_job(request()).await }));
    }
    // As many as are judged at once hang, and are seen to: each has a thread for files.
    let tasks = format!("/proc/{}/task", daemon.pid());
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let threads = || fs::read_dir(&tasks).unwrap().flatten().filter(|task| name(task) == "files\n").count();
    wait_for("two judgements that hang", || (threads() == 2).then_some(()));
    let job = daemon.create(spec::short()).await;
    assert_eq!(daemon.jobs().await.validate_job(request()).await.unwrap().into_inner().train_examples, 80);
    assert!(hung.iter().all(|client| !client.is_finished()));
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    fs::remove_file(hangs).unwrap();
    for client in hung {
        assert_eq!(client.await.unwrap().unwrap().into_inner().train_examples, 80, "it is answered when they answer");
    }
}

#[tokio::test]
async fn data_that_went_bad_after_the_request_ends_the_job_as_bad_data() {
    let root = tempfile::tempdir().unwrap();
    files(root.path(), tempfile::tempdir().unwrap().path());
    let daemon = Setup::new().data_root(root.path()).set("jobs.cpu_slots", "1").start();
    let first = daemon.create(spec::endless()).await;
    let mut spec = spec::short();
    spec.resources = Some(spec::threads(1));
    spec.data = Some(v1::Data { train: Some(spec::idx("images", "labels")), ..v1::Data::default() });
    spec.training.as_mut().unwrap().validation_batch_size = None;
    let second = daemon.create(spec).await;
    fs::write(root.path().join("labels"), labels(&[3; 5])).unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name, now: false }).await.unwrap();
    let ended = daemon.watch_to_end(&second.name).await;
    let end = ended.end.clone().unwrap();
    assert_eq!(
        (ended.state(), end.reason(), end.exit_code),
        (v1::JobState::Failed, v1::JobEndReason::BadData, Some(1))
    );
    assert!(end.message.contains("5 labels for the 80 images"), "{}", end.message);
}

#[tokio::test]
async fn a_file_that_became_a_link_or_a_pipe_after_the_request_is_neither_followed_nor_waited_for() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    files(root.path(), outside.path());
    let daemon = Setup::new().data_root(root.path()).set("jobs.cpu_slots", "1").start();
    let first = daemon.create(spec::endless()).await;
    let mut spec = spec::short();
    spec.resources = Some(spec::threads(1));
    spec.data = Some(v1::Data { train: Some(spec::idx("images", "labels")), ..v1::Data::default() });
    spec.training.as_mut().unwrap().validation_batch_size = None;
    let second = daemon.create(spec.clone()).await;
    let data = spec.data.as_mut().unwrap();
    data.train = Some(spec::idx("images.gz", "labels"));
    let third = daemon.create(spec).await;
    let (labels, elsewhere) = (root.path().join("labels"), outside.path().join("elsewhere"));
    fs::rename(&labels, &elsewhere).unwrap();
    symlink(&elsewhere, &labels).unwrap();
    let images = root.path().join("images.gz");
    fs::remove_file(&images).unwrap();
    nix::unistd::mkfifo(&images, nix::sys::stat::Mode::S_IRWXU).unwrap();
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name, now: false }).await.unwrap();
    let end = daemon.watch_to_end(&second.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData);
    assert!(end.message.contains("leads to") && end.message.contains("elsewhere"), "{}", end.message);
    let end = daemon.watch_to_end(&third.name).await.end.unwrap();
    assert_eq!(end.reason(), v1::JobEndReason::BadData);
    assert!(end.message.contains("images.gz is a pipe, socket or device now"), "{}", end.message);
}

/// A set whose headers say so many images and labels.
fn headers(count: u32) -> [(&'static str, Vec<u8>, u64); 2] {
    let with_count = |mut header: Vec<u8>| {
        header[4..8].copy_from_slice(&count.to_be_bytes());
        header
    };
    let (images, labels) = (with_count(images(0, 28, 28)), with_count(labels(&[])));
    [("images", images, u64::from(count) * 784), ("labels", labels, count.into())]
}

/// 3.2 TB of images.
const GIANT: u32 = 127_551_020 * 32;

#[tokio::test]
async fn data_that_no_memory_of_this_machine_can_hold_is_told_at_the_request() {
    let root = tempfile::tempdir().unwrap();
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let total = memory.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10;
    let count = u32::try_from(2 * total / 784).unwrap();
    let [(_, header, pixels), (_, label_header, labels)] = headers(count);
    // As long as a gzip file of so many values may be; only its first bytes are read.
    let mut packed = gzip(&header);
    packed.resize(usize::try_from(pixels / 1032).unwrap() + 1024, 0);
    fs::write(root.path().join("images"), packed).unwrap();
    // A part of it is stored, so that it is not taken for a failed download.
    let file = fs::File::create(root.path().join("labels")).unwrap();
    (&file).write_all(&[&label_header[..], &vec![0; usize::try_from(labels / 50).unwrap()]].concat()).unwrap();
    file.set_len(label_header.len() as u64 + labels).unwrap();
    let daemon = Setup::new().data_root(root.path()).start();
    let status = refusal(&daemon, spec::idx("images", "labels")).await;
    let fields = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!((fields.len(), fields[0].field.as_str()), (1, "spec.data.train.idx.images"), "{fields:?}");
    let words = format!("takes {pixels} bytes of memory, as it is read as a whole, and the job has ");
    assert!(fields[0].description.contains(&words), "{fields:?}");
}

#[tokio::test]
async fn sparse_giants_and_gzip_that_promises_more_than_it_can_hold_are_refused_unread() {
    let root = tempfile::tempdir().unwrap();
    // They would fit into memory; so many labels are unpacked.
    for (name, header, _) in headers(2_000_000) {
        fs::write(root.path().join(format!("{name}.gz")), gzip(&header)).unwrap();
    }
    for (name, header, values) in headers(GIANT) {
        let file = fs::File::create(root.path().join(name)).unwrap();
        (&file).write_all(&header).unwrap();
        file.set_len(header.len() as u64 + values).unwrap();
    }
    let daemon = Setup::new().data_root(root.path()).start();
    let sparse = "is a sparse file: of its ";
    let packed = ["bytes of gzip unpack to ", "is cut off: its header says 2000000 values, 0 are there"];
    for (ending, words) in [("", [sparse; 2]), (".gz", packed)] {
        let status = refusal(&daemon, spec::idx(&format!("images{ending}"), &format!("labels{ending}"))).await;
        let wrong = status.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<_> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
        assert_eq!(fields, ["spec.data.train.idx.images", "spec.data.train.idx.labels"], "{wrong:?}");
        assert!(wrong.iter().zip(words).all(|(wrong, words)| wrong.description.contains(words)), "{wrong:?}");
    }
}
