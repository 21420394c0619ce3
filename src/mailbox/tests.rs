//! Both sides of a mailbox, with a service that sends everything back.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http::{Extensions, Request, Response};
use tokio::task::JoinHandle;
use tonic::Code;
use tower::{Service, ServiceExt};

use super::letter::{Head, Kind, Name, Reader, Writer};
use super::*;
use crate::access::SealKey;
use crate::beneath::Folder;

fn key(number: u8) -> SealKey {
    SealKey::of_token(&format!("torchd_{}", format!("{number:02x}").repeat(32))).unwrap()
}

/// A mailbox in a folder of its own.
struct Here {
    storage: tempfile::TempDir,
    is_over: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// Requests that the service has seen.
    seen: AtomicU32,
}

impl Here {
    fn new() -> Arc<Self> {
        let (storage, seen) = (tempfile::tempdir().unwrap(), AtomicU32::new(0));
        Arc::new(Self { storage, is_over: AtomicBool::new(false), trouble: Mutex::default(), seen })
    }

    fn path(&self) -> PathBuf {
        self.storage.path().join("mailbox")
    }

    /// Answers with the body of the request, and its path as a trailer.
    fn serve(self: &Arc<Self>) -> JoinHandle<()> {
        let here = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            here.seen.fetch_add(1, Ordering::SeqCst);
            async move {
                let path = request.uri().path().to_owned();
                let mut body = request.into_body();
                let (sender, frames) = mpsc::channel(8);
                tokio::spawn(async move {
                    while let Some(frame) = next_frame(&mut body).await {
                        sender.send(frame).await.unwrap();
                    }
                    let trailers = [("path".parse().unwrap(), path.parse().unwrap())];
                    sender.send(Ok(Frame::trailers(trailers.into_iter().collect()))).await.unwrap();
                });
                Ok::<_, Infallible>(Response::new(Body::new(Received(frames))))
            }
        });
        let receiver = Receiver { service, key: key(1), place: self.clone(), extensions: Extensions::new() };
        tokio::spawn(receiver.serve())
    }
}

impl Place for Here {
    fn open(&self) -> io::Result<Folder> {
        Folder::open(self.storage.path())?.make_folder("mailbox")
    }

    fn remove(&self) -> io::Result<()> {
        Folder::open(self.storage.path())?.remove_empty_folder("mailbox")
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap() = trouble;
    }
}

/// The body and the trailer that come back.
async fn send(mailbox: &mut Mailbox, data: Vec<Vec<u8>>) -> Result<(Vec<u8>, String), Status> {
    let (sender, frames) = mpsc::channel(data.len().max(1));
    data.into_iter().for_each(|data| sender.try_send(Ok(Frame::data(data.into()))).unwrap());
    drop(sender);
    let request = Request::builder().uri("http://anywhere/service/method").body(Body::new(Received(frames))).unwrap();
    let mut body = mailbox.ready().await?.call(request).await?.into_body();
    let (mut all, mut path) = (Vec::new(), String::new());
    while let Some(frame) = next_frame(&mut body).await {
        match frame?.into_data() {
            Ok(data) => all.extend(data),
            Err(frame) => path = frame.into_trailers().unwrap()["path"].to_str().unwrap().to_owned(),
        }
    }
    Ok((all, path))
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_answers_of_any_length_pass_and_nothing_is_left() {
    let here = Here::new();
    let mut first = Mailbox::new(here.path(), key(1), 0, 7);
    let early = send(&mut first, vec![b"early".to_vec()]).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "it may come");
    assert!(early.message().contains("at the same path on all machines"), "{}", early.message());
    let served = here.serve();
    until(|| here.path().exists()).await;
    let large: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 300_000]).collect();
    let mut other = Mailbox::new(here.path(), key(1), 1, 8);
    let mut again = first.clone();
    let (one, two, three) = tokio::join!(
        send(&mut first, large.clone()),
        send(&mut other, vec![b"a".to_vec(), Vec::new(), b"b".to_vec()]),
        send(&mut again, Vec::new()),
    );
    assert!(one.unwrap() == (large.concat(), "/service/method".to_owned()));
    assert_eq!(two.unwrap(), (b"ab".to_vec(), "/service/method".to_owned()));
    assert_eq!(three.unwrap(), (Vec::new(), "/service/method".to_owned()));
    until(|| std::fs::read_dir(here.path()).unwrap().next().is_none()).await;
    here.is_over.store(true, Ordering::SeqCst);
    served.await.unwrap();
    assert!(!here.path().exists());
    // Whoever comes now learns it, after a while in which a volume might come back.
    let over = loop {
        let status = send(&mut first, Vec::new()).await.unwrap_err();
        if status.code() != Code::Unavailable {
            break status;
        }
    };
    assert_eq!(over.code(), Code::FailedPrecondition, "{}", over.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_others_and_letters_that_come_once_more_are_not_taken() {
    let here = Here::new();
    let served = here.serve();
    until(|| here.path().exists()).await;
    let folder = Folder::open(&here.path()).unwrap();
    let head = Head { line: "/service/method".into(), headers: Vec::new() };
    let name = |number| Name { kind: Kind::Request, rank: 0, outpost: 7, number };
    let write = |number, key: &SealKey| {
        Writer::create(&folder, name(number), key, &head).unwrap().end(&Vec::new()).unwrap();
        std::fs::read(here.path().join(name(number).to_string())).unwrap()
    };
    let answered = |number: u64| here.path().join(name(number).answer().to_string()).exists();
    // Nobody without the token makes one.
    write(1, &key(2));
    let good = write(2, &key(1));
    until(|| answered(2)).await;
    let taken = here.seen.load(Ordering::SeqCst);
    // A good one under another number, once more under its own, and with a frame cut out or changed.
    std::fs::write(here.path().join(name(3).to_string()), &good).unwrap();
    std::fs::remove_file(here.path().join(name(2).answer().to_string())).unwrap();
    std::fs::write(here.path().join(name(2).to_string()), &good).unwrap();
    let mut changed = good.clone();
    changed[8] ^= 1;
    std::fs::write(here.path().join(name(2).to_string()), &changed).unwrap();
    std::fs::write(here.path().join(name(4).to_string()), &changed).unwrap();
    std::fs::write(here.path().join("5.request"), &good).unwrap();
    write(6, &key(1));
    until(|| answered(6)).await;
    until(|| !here.path().join(name(2).to_string()).exists()).await;
    assert_eq!(here.seen.load(Ordering::SeqCst), taken + 1);
    assert_eq!([1, 2, 3, 4].map(answered), [false; 4]);
    assert_eq!(*here.trouble.lock().unwrap(), None);
    here.is_over.store(true, Ordering::SeqCst);
    served.abort();
}

#[test]
fn a_letter_is_read_when_its_end_has_come_and_not_before() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let name = Name { kind: Kind::Answer, rank: 3, outpost: u64::MAX, number: 1 };
    assert_eq!(Name::read(&name.to_string()), Some(name));
    for other in ["3-ff-1.answer", "03-ffffffffffffffff-1.answer", "3-ffffffffffffffff-1.txt", "x"] {
        assert_eq!(Name::read(other), None, "{other}");
    }
    let head = Head { line: "200".into(), headers: vec![("a".into(), "b".into())] };
    assert!(Reader::open(&folder, name, &key(1)).unwrap().is_none());
    let mut letter = Writer::create(&folder, name, &key(1), &head).unwrap();
    letter.data(b"data").unwrap();
    letter.end(&vec![("c".into(), "d".into())]).unwrap();
    let (mut whole, told) = Reader::open(&folder, name, &key(1)).unwrap().unwrap();
    assert_eq!(told, head);
    assert_eq!(whole.next().unwrap(), letter::Frame::Data(Bytes::from_static(b"data")));
    assert_eq!(whole.next().unwrap(), letter::Frame::End(vec![("c".into(), "d".into())]));
    whole.next().unwrap_err();
    let path = place.path().join(name.to_string());
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(Reader::open(&folder, name, &key(1)).unwrap().is_none(), "{length}");
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(Reader::open(&folder, name, &key(1)).unwrap().is_none());
    // A frame that was cut out, and a letter of another place.
    let data = 5 + b"data".len() + 32;
    let at = bytes.windows(4).position(|window| window == b"data").unwrap() - 5;
    std::fs::write(&path, [&bytes[..at], &bytes[at + data..]].concat()).unwrap();
    Reader::open(&folder, name, &key(1)).unwrap().unwrap().0.next().unwrap_err();
    std::fs::write(place.path().join(Name { rank: 2, ..name }.to_string()), &bytes).unwrap();
    assert!(Reader::open(&folder, Name { rank: 2, ..name }, &key(1)).is_err());
    assert!(Reader::open(&folder, Name { rank: 2, ..name }, &key(2)).is_err());
}
