//! Files that clients send: resumed, whole or absent, within their limits, and trained on.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use torchd::proto::v1::file_service_client::FileServiceClient;
use torchd::proto::v1::job_service_client::JobServiceClient;
use torchd::proto::v1::{self, upload_file_request::Part};

use super::credentials::{Headers, over_tcp};
use super::daemon::{Daemon, LIMIT, Setup};
use super::small_disk::SmallDisk;
use super::torchctl::told;
use super::{spec, tools};

/// Bytes that torchctl sends in a message.
pub(super) const PIECE: usize = 256 << 10;

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn begin(name: &str, whole: &[u8], offset: usize) -> v1::UploadBegin {
    v1::UploadBegin {
        name: name.into(),
        size_bytes: whole.len() as u64,
        sha256: sha256(whole),
        offset_bytes: offset as u64,
        overwrite: false,
    }
}

fn part(part: Part) -> v1::UploadFileRequest {
    v1::UploadFileRequest { part: Some(part) }
}

async fn client(daemon: &Daemon) -> FileServiceClient<Channel> {
    FileServiceClient::new(daemon.channel().await)
}

async fn send(daemon: &Daemon, begin: v1::UploadBegin, data: &[u8]) -> Result<v1::UploadedFile, Status> {
    Ok(client(daemon).await.upload_file(tokio_stream::iter(parts(begin, data))).await?.into_inner())
}

/// The messages of an upload.
fn parts(begin: v1::UploadBegin, data: &[u8]) -> Vec<v1::UploadFileRequest> {
    let pieces = data.chunks(1000).map(|piece| part(Part::Data(piece.to_vec())));
    std::iter::once(part(Part::Begin(begin))).chain(pieces).collect()
}

async fn stat(daemon: &Daemon, name: &str) -> Result<v1::UploadedFile, Status> {
    Ok(client(daemon).await.stat_file(v1::StatFileRequest { name: name.into() }).await?.into_inner())
}

async fn received(daemon: &Daemon, name: &str) -> Option<u64> {
    Some(stat(daemon, name).await.ok()?.partial?.received_bytes)
}

/// Asks until that many bytes of a file have come.
pub(super) async fn until_received(daemon: &Daemon, name: &str, bytes: u64) {
    let come = async {
        while received(daemon, name).await != Some(bytes) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, come).await.unwrap();
}

async fn list(daemon: &Daemon) -> v1::ListFilesResponse {
    client(daemon).await.list_files(v1::ListFilesRequest::default()).await.unwrap().into_inner()
}

/// The code and the reason of a refusal.
fn refusal(refused: Result<v1::UploadedFile, Status>) -> (Code, String) {
    let status = refused.unwrap_err();
    (status.code(), status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}")).reason)
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.into())
}

/// The folder of our files: the kernel tells torchd who we are.
fn owner() -> String {
    format!("uid-{}", nix::unistd::Uid::effective())
}

/// Where our files lie.
pub(super) fn own(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.state_dir.join("uploads").join(owner()).join(name)
}

/// The files that lie apart.
pub(super) fn apart(daemon: &Daemon) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(daemon.state_dir.join("uploads/.partial").join(owner())) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A file of four pieces that torchctl sends, and its bytes.
pub(super) fn large(folder: &Path) -> (PathBuf, Vec<u8>) {
    let (path, whole) = (folder.join("large.bin"), bytes(3 * PIECE + 5));
    fs::write(&path, &whole).unwrap();
    (path, whole)
}

#[tokio::test]
async fn a_file_comes_in_several_calls_and_has_its_name_once_it_is_whole() {
    let daemon = Daemon::start();
    let whole = bytes(10_000);
    let name = "train/images.idx";
    let half = send(&daemon, begin(name, &whole, 0), &whole[..4000]).await.unwrap();
    assert!(half.size_bytes.is_none() && half.update_time.is_none() && half.sha256.is_empty(), "{half:?}");
    let partial = half.partial.clone().unwrap();
    let (told, sum) = ((partial.received_bytes, partial.size_bytes), partial.sha256);
    assert_eq!((told, sum), ((4000, 10_000), sha256(&whole)));
    let expires = SystemTime::try_from(partial.expire_time.unwrap()).unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(23 * 3600) && left <= Duration::from_secs(24 * 3600), "{left:?}");
    assert!(!own(&daemon, name).exists() && !own(&daemon, "train").exists(), "it is no data file");
    assert_eq!(stat(&daemon, name).await.unwrap(), half);
    let all = list(&daemon).await;
    assert_eq!((all.files, all.used_bytes, all.quota_bytes), (vec![half], 10_000, 50 << 30));

    // From another byte than the next one: a gap is refused, and what is sent again replaces.
    let gap = send(&daemon, begin(name, &whole, 4001), &whole[4001..]).await;
    assert!(gap.as_ref().unwrap_err().message().contains("offset_bytes is 4001, and 4000 bytes"), "{gap:?}");
    assert_eq!(refusal(gap), is(Code::OutOfRange, "BEYOND_THE_END"));
    let file = send(&daemon, begin(name, &whole, 3000), &whole[3000..]).await.unwrap();
    assert_eq!((file.size_bytes, file.sha256.as_str(), &file.partial), (Some(10_000), &*sha256(&whole), &None));
    assert_eq!(fs::read(own(&daemon, name)).unwrap(), whole);
    assert_eq!(fs::metadata(own(&daemon, name)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(daemon.state_dir.join("uploads")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(stat(&daemon, name).await.unwrap(), file);
    assert!(apart(&daemon).is_empty());
    let empty = send(&daemon, begin("empty", &[], 0), &[]).await.unwrap();
    assert_eq!((empty.size_bytes, empty.sha256), (Some(0), sha256(&[])));

    // Pages.
    let mut files = client(&daemon).await;
    let page = |page_token: &str| v1::ListFilesRequest { page_size: 1, page_token: page_token.into() };
    let first = files.list_files(page("")).await.unwrap().into_inner();
    let second = files.list_files(page(&first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((first.files[0].name.as_str(), second.files[0].name.as_str()), ("empty", name));
    assert!(second.next_page_token.is_empty() && second.used_bytes == 10_000);
    let status = files.list_files(page("../x")).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("page_token"), "{status:?}");

    files.delete_file(v1::DeleteFileRequest { name: name.into() }).await.unwrap();
    assert!(!own(&daemon, "train").exists(), "its folder is empty");
    assert_eq!(refusal(stat(&daemon, name).await), is(Code::NotFound, "NOT_FOUND"));
    let status = files.delete_file(v1::DeleteFileRequest { name: name.into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn nothing_but_a_whole_and_right_file_replaces_another_and_only_where_that_is_asked_for() {
    let daemon = Daemon::start();
    let (old, new) = (bytes(5000), bytes(7000));
    send(&daemon, begin("a", &old, 0), &old).await.unwrap();
    assert_eq!(refusal(send(&daemon, begin("a", &new, 0), &new).await), is(Code::AlreadyExists, "FILE_EXISTS"));
    let over = |offset| v1::UploadBegin { overwrite: true, ..begin("a", &new, offset) };
    let half = send(&daemon, over(0), &new[..3000]).await.unwrap();
    assert_eq!((half.size_bytes, half.partial.unwrap().received_bytes), (None, 3000));
    let both = stat(&daemon, "a").await.unwrap();
    assert_eq!((both.sha256, both.partial.unwrap().received_bytes), (sha256(&old), 3000));

    // The other file has the offset, and this upload has not.
    let other = v1::UploadBegin { overwrite: true, ..begin("a", &bytes(7001), 3000) };
    let refused = send(&daemon, other, &[1]).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "UPLOAD_OF_ANOTHER_FILE"));
    let more = [&new[3000..], &[1]].concat();
    assert_eq!(refusal(send(&daemon, over(3000), &more).await), is(Code::OutOfRange, "BEYOND_THE_END"));
    let mut wrong = new.clone();
    wrong[6999] ^= 1;
    let refused = send(&daemon, over(0), &wrong).await;
    let words = refused.as_ref().unwrap_err().message().to_owned();
    assert!(words.contains(&sha256(&new)) && words.contains(&sha256(&wrong)), "{words}");
    assert_eq!(refusal(refused), is(Code::DataLoss, "WRONG_CHECKSUM"));
    assert!(apart(&daemon).is_empty(), "wrong bytes are removed");
    assert_eq!(fs::read(own(&daemon, "a")).unwrap(), old);
    send(&daemon, over(0), &new).await.unwrap();
    assert_eq!(fs::read(own(&daemon, "a")).unwrap(), new);
}

#[tokio::test]
async fn messages_that_are_out_of_order_and_names_that_lead_elsewhere_are_refused_without_a_trace() {
    let daemon = Daemon::start();
    let whole = bytes(10);
    let long = "x".repeat(256);
    let deep = vec!["d"; 17].join("/");
    let names = ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a\0b", "a\nb", &*long, &*deep];
    for name in names {
        let status = send(&daemon, begin(name, &whole, 0), &whole).await.unwrap_err();
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((status.code(), fields[0].field.as_str()), (Code::InvalidArgument, "begin.name"), "{name:?}");
        let status = stat(&daemon, name).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}");
        let mut files = client(&daemon).await;
        let status = files.delete_file(v1::DeleteFileRequest { name: name.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}");
    }
    // All mistakes at once.
    let wrong = v1::UploadBegin { offset_bytes: 11, sha256: "ABC".into(), ..begin("/", &whole, 0) };
    let fields = send(&daemon, wrong, &whole).await.unwrap_err().get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields.into_iter().map(|violation| violation.field).collect();
    assert_eq!(fields, ["begin.name", "begin.sha256", "begin.offset_bytes"]);
    let first = || part(Part::Begin(begin("a", &whole, 0)));
    let data = |data: &[u8]| part(Part::Data(data.to_vec()));
    for parts in [
        vec![],
        vec![v1::UploadFileRequest { part: None }],
        vec![data(&whole), first()],
        vec![first(), first()],
        vec![first(), data(&[])],
        vec![first(), v1::UploadFileRequest { part: None }],
        vec![first(), data(&vec![0; (512 << 10) + 1])],
    ] {
        let status = client(&daemon).await.upload_file(tokio_stream::iter(parts.clone())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{parts:?}: {status:?}");
        assert!(status.get_details_bad_request().is_some(), "{status:?}");
    }

    // Links that somebody else has put there, and names that are taken by the other kind.
    let outside = daemon.state_dir.join("outside");
    fs::create_dir(&outside).unwrap();
    send(&daemon, begin("folder/file", &whole, 0), &whole).await.unwrap();
    symlink(&outside, own(&daemon, "link")).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(outside.join("secret"), own(&daemon, "file-link")).unwrap();
    for name in ["link/x", "link", "file-link", "folder", "folder/file/x"] {
        let over = v1::UploadBegin { overwrite: true, ..begin(name, &whole, 0) };
        assert_eq!(refusal(send(&daemon, over, &whole).await), is(Code::FailedPrecondition, "NOT_A_FILE"), "{name}");
        assert_eq!(refusal(stat(&daemon, name).await), is(Code::FailedPrecondition, "NOT_A_FILE"), "{name}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    let files: Vec<_> = list(&daemon).await.files.into_iter().map(|file| file.name).collect();
    // The upload that was broken off by a wrong message may be there.
    assert!(files.iter().all(|name| ["a", "folder/file"].contains(&name.as_str())), "{files:?}");
}

#[tokio::test]
async fn an_owner_has_no_more_than_the_settings_allow_and_the_disk_holds() {
    let setup = Setup::new().set("uploads.quota_bytes", "1000").set("uploads.max_files", "2");
    let daemon = setup.start();
    let whole = bytes(600);
    // Counts as whole from its beginning.
    send(&daemon, begin("a", &whole, 0), &whole[..10]).await.unwrap();
    let refused = send(&daemon, begin("b", &bytes(401), 0), &[]).await;
    let words = refused.as_ref().unwrap_err().message().to_owned();
    assert!(words.contains("401 bytes do not fit beside 600") && words.contains("at most 1000"), "{words}");
    assert!(refused.as_ref().unwrap_err().get_details_quota_failure().is_some());
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "UPLOAD_QUOTA"));
    send(&daemon, begin("a", &whole, 10), &whole[10..]).await.unwrap();
    send(&daemon, begin("b", &bytes(100), 0), &bytes(100)).await.unwrap();
    let third = send(&daemon, begin("c", &bytes(1), 0), &[]).await;
    assert_eq!(refusal(third), is(Code::ResourceExhausted, "UPLOAD_QUOTA"));
    // One that is replaced counts until then, and is no further file.
    let over = |count| v1::UploadBegin { overwrite: true, ..begin("b", &bytes(count), 0) };
    assert_eq!(refusal(send(&daemon, over(301), &[]).await), is(Code::ResourceExhausted, "UPLOAD_QUOTA"));
    send(&daemon, over(300), &bytes(300)).await.unwrap();
    assert_eq!(list(&daemon).await.used_bytes, 900);
    let (_, state_dir, _guard) = daemon.stop();

    let daemon = Setup::in_state(&state_dir).set("uploads.quota_bytes", &(1_u64 << 50).to_string()).start();
    let huge = v1::UploadBegin { size_bytes: 1 << 49, ..begin("huge", &[], 0) };
    let refused = send(&daemon, huge, &[]).await;
    assert!(refused.as_ref().unwrap_err().message().contains("do not fit on the disk"), "{refused:?}");
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "DISK_FULL"));
    assert_eq!(list(&daemon).await.used_bytes, 900, "nothing is left of what was refused");
}

#[tokio::test]
async fn of_two_uploads_of_one_name_the_second_is_refused_and_a_stream_that_breaks_is_gone_on_with() {
    let daemon = Daemon::start();
    let whole = bytes(3000);
    let (parts, stream) = mpsc::channel(8);
    let mut files = client(&daemon).await;
    let first = tokio::spawn(async move { files.upload_file(ReceiverStream::new(stream)).await });
    parts.send(part(Part::Begin(begin("a", &whole, 0)))).await.unwrap();
    parts.send(part(Part::Data(whole[..1000].to_vec()))).await.unwrap();
    until_received(&daemon, "a", 1000).await;
    assert_eq!(refusal(send(&daemon, begin("a", &whole, 0), &whole).await), is(Code::Aborted, "UPLOAD_ACTIVE"));
    let delete = client(&daemon).await.delete_file(v1::DeleteFileRequest { name: "a".into() }).await;
    assert_eq!(delete.unwrap_err().code(), Code::Aborted);
    send(&daemon, begin("b", &whole, 0), &whole).await.unwrap();

    first.abort();
    let _ = first.await;
    let file = loop {
        match send(&daemon, begin("a", &whole, 1000), &whole[1000..]).await {
            Err(status) if status.code() == Code::Aborted => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!((file.size_bytes, file.sha256), (Some(3000), sha256(&whole)));
}

#[tokio::test]
async fn a_daemon_that_dies_at_any_point_of_an_upload_leaves_it_to_be_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let (path, whole) = large(home.path());
    for (point, left) in
        [("upload-piece:3", Some(3 * PIECE)), ("upload-checked", Some(whole.len())), ("upload-renamed", None)]
    {
        let daemon = Setup::new().env("TORCHD_FAULT", point).start();
        let (code, _, err) = told(&daemon.ctl(&["upload", path.to_str().unwrap(), "--as", "a/b"]));
        assert!(code == 1 && err.contains("the connection broke") && err.contains("the same command goes on"), "{err}");
        let (state_dir, _guard) = daemon.crash();
        let log = fs::read_to_string(state_dir.join("daemon.log")).unwrap();
        assert!(log.contains("[fault: dies at upload-"), "the fault was not provoked: {log}");
        let daemon = Setup::in_state(&state_dir).start();
        assert_eq!(received(&daemon, "a/b").await, left.map(|bytes| bytes as u64), "{point}");
        assert_eq!(own(&daemon, "a/b").exists(), left.is_none(), "{point}");
        let (code, out, err) = told(&daemon.ctl(&["upload", path.to_str().unwrap(), "--as", "a/b"]));
        assert!(code == 0 && out.contains("already") == left.is_none(), "{point}: {out}{err}");
        assert!(fs::read(own(&daemon, "a/b")).unwrap() == whole && apart(&daemon).is_empty(), "{point}");
    }
}

#[tokio::test]
async fn a_disk_that_becomes_full_stops_an_upload_and_harms_nothing() {
    let Some(disk) = tools::allowed("a small disk", SmallDisk::mount()) else { return };
    let daemon = Setup::in_state(&disk.path().join("state")).start();
    let (old, new) = (bytes(3000), bytes(8 << 20));
    send(&daemon, begin("a", &old, 0), &old).await.unwrap();
    let over = |offset| v1::UploadBegin { overwrite: true, ..begin("a", &new, offset) };
    let (parts, stream) = mpsc::channel(8);
    let mut files = client(&daemon).await;
    let first = tokio::spawn(async move { files.upload_file(ReceiverStream::new(stream)).await });
    parts.send(part(Part::Begin(over(0)))).await.unwrap();
    parts.send(part(Part::Data(new[..4096].to_vec()))).await.unwrap();
    until_received(&daemon, "a", 4096).await;
    disk.fill();
    for piece in new[4096..].chunks(100_000) {
        if parts.send(part(Part::Data(piece.to_vec()))).await.is_err() {
            break;
        }
    }
    let refused = first.await.unwrap().map(tonic::Response::into_inner);
    assert!(refused.as_ref().unwrap_err().message().contains("is full"), "{refused:?}");
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "DISK_FULL"));
    assert_eq!(refusal(send(&daemon, over(4096), &[]).await), is(Code::ResourceExhausted, "DISK_FULL"));
    assert_eq!(fs::read(own(&daemon, "a")).unwrap(), old);

    disk.free();
    let there = received(&daemon, "a").await.unwrap() as usize;
    assert!(there >= 4096, "{there}");
    send(&daemon, over(there), &new[there..]).await.unwrap();
    assert!(fs::read(own(&daemon, "a")).unwrap() == new);
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_expires_after_a_day() {
    let daemon = Daemon::start();
    for name in ["old", "new"] {
        send(&daemon, begin(name, &bytes(100), 0), &bytes(50)).await.unwrap();
    }
    let day = Duration::from_secs(24 * 3600);
    let old = daemon.state_dir.join("uploads/.partial").join(owner()).join(sha256(b"old") + ".part");
    File::options().write(true).open(&old).unwrap().set_modified(SystemTime::now() - day).unwrap();
    let (_, state_dir, _guard) = daemon.stop();
    let daemon = Setup::in_state(&state_dir).start();
    let files: Vec<_> = list(&daemon).await.files.into_iter().map(|file| file.name).collect();
    assert_eq!(files, ["new"]);
    assert_eq!(apart(&daemon).len(), 2);
}

#[tokio::test]
async fn a_job_trains_on_the_uploads_of_its_owner_and_on_those_of_nobody_else() {
    let daemon = Setup::new().data_root("tests/data/exported".as_ref()).open().start();
    let ctl = |arguments: &[&str]| daemon.ctl(arguments);
    let names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"];
    for name in names {
        let (code, out, err) =
            told(&ctl(&["upload", &format!("examples/mnist-5k/{name}"), "--as", &format!("own/{name}")]));
        assert!(code == 0 && out.starts_with(&format!("own/{name}: ")), "{code} {out}{err}");
    }
    assert!(own(&daemon, "own").join(names[0]).is_file());

    let [images, labels] = names.map(|name| format!("own/{name}"));
    let mut asked = spec::short();
    asked.data = Some(v1::Data { train: Some(spec::idx(&images, &labels)), ..v1::Data::default() });
    asked.training.as_mut().unwrap().validation_batch_size = None;
    let file = daemon.state_dir.join("own.json");
    fs::write(&file, torchd::proto::json::to_string(&asked, false).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = told(&ctl(&["submit", file, "--watch"]));
    assert!(code == 0 && out.contains("succeeded"), "{code} {out}{err}");
    // Over TCP, where nobody is asked, they are somebody else's: neither trained on nor seen, by any
    // name.
    let other = over_tcp(&daemon, Headers::default()).await;
    let mut other_files = FileServiceClient::new(other.clone());
    let whole = daemon.state_dir.join("uploads").canonicalize().unwrap();
    let uid = nix::unistd::Uid::current();
    other_files.upload_file(tokio_stream::iter(parts(begin("mine", b"1", 0), b"1"))).await.unwrap();
    for path in [images.clone(), format!("../uid-{uid}/{images}"), format!("{}/uid-{uid}/{images}", whole.display())] {
        asked.data = Some(v1::Data { train: Some(spec::idx(&path, &path)), ..v1::Data::default() });
        let request = v1::ValidateJobRequest { spec: Some(asked.clone()), dry_run: false };
        let status = JobServiceClient::new(other.clone()).validate_job(request).await.unwrap_err();
        let words = status.message();
        assert!(words.contains("is not there") || words.contains("leads out of the data roots"), "{path}: {status:?}");
    }
    let listed = other_files.list_files(v1::ListFilesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.files.len(), 1);
    let (code, _, err) = told(&ctl(&["files", "stat", "mine"]));
    assert!(code == 1 && err.contains("there is no uploaded file \"mine\""), "{code} {err}");
    // An edit by another caller keeps the data that the job was made with.
    let (_, out, err) = told(&ctl(&["submit", file, "--set", "training.max_steps=10000000"]));
    let job = out.split_whitespace().next().unwrap_or_else(|| panic!("{err}"));
    assert_eq!(told(&ctl(&["pause", job])).0, 0);
    daemon.watch_until(job, |job| job.state() == v1::JobState::Paused).await;
    let edits = v1::JobEdits {
        set: vec![v1::FieldEdit { path: "logging.scalar_every_steps".into(), value: "5".into() }],
        ..Default::default()
    };
    let request = v1::ResumeJobRequest { name: job.into(), edits: Some(edits), ..Default::default() };
    JobServiceClient::new(other.clone()).resume_job(request).await.unwrap();
    assert_eq!(told(&ctl(&["cancel", job])).0, 0);

    // A model may be an upload too, beside data that are none.
    let (code, _, err) = told(&ctl(&["upload", "tests/data/exported/gpt/net.pt2", "--as", "own.pt2"]));
    assert_eq!(code, 0, "{err}");
    let sets = ["--set", "model.exported.path=own.pt2", "--set", "training.max_steps=10000000"];
    let (_, out, err) = told(&ctl(&[&["submit", "examples/gpt.toml"][..], &sets].concat()));
    let job = out.split_whitespace().next().unwrap_or_else(|| panic!("{err}"));
    assert_eq!(told(&ctl(&["pause", job])).0, 0);
    daemon.watch_until(job, |job| job.state() == v1::JobState::Paused).await;
    let (code, _, err) = told(&ctl(&["resume", job, "--set", "logging.scalar_every_steps=5"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(told(&ctl(&["cancel", job])).0, 0);
    assert_eq!(told(&ctl(&["files", "rm", "own.pt2"])).0, 0);

    let (code, out, _) = told(&ctl(&["files", "ls", "-o", "json"]));
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told_names: Vec<_> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!((code, told_names), (0, vec![images.as_str(), labels.as_str()]));
    let (_, out, _) = told(&ctl(&["files", "stat", &labels, "-o", "json"]));
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sum = sha256(&fs::read(format!("examples/mnist-5k/{}", names[1])).unwrap());
    assert_eq!(shown["sha256"].as_str(), Some(sum.as_str()));
    let (code, out, err) = told(&ctl(&["files", "rm", &images, &labels]));
    assert!(code == 0 && out == format!("{images}: removed\n{labels}: removed\n"), "{code} {out}{err}");
    let (_, out, _) = told(&ctl(&["files"]));
    assert!(out.ends_with("0 B of 50.00 GiB used\n"), "{out}");
}
