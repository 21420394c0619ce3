//! Both sides of a mailbox, with a service that sends everything back.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
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
        let (place, extensions) = (self.clone(), Extensions::new());
        let receiver = Receiver { service, paths: "/service/", key: key(1), place, extensions, most_in_hand: 8 };
        tokio::spawn(receiver.serve())
    }
}

impl Here {
    /// Never answers, and says when a call is given up.
    fn serve_slowly(self: &Arc<Self>) -> JoinHandle<()> {
        struct GivenUp(Arc<Here>);
        impl Drop for GivenUp {
            fn drop(&mut self) {
                self.0.is_over.store(true, Ordering::SeqCst);
            }
        }
        let here = self.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let call = GivenUp(here.clone());
            here.seen.fetch_add(1, Ordering::SeqCst);
            async move {
                let _call = call;
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        let (place, extensions) = (self.clone(), Extensions::new());
        let receiver = Receiver { service, paths: "/service/", key: key(1), place, extensions, most_in_hand: 8 };
        tokio::spawn(receiver.serve())
    }
}

impl Place for Here {
    fn open(&self) -> io::Result<Opened> {
        let storage = Folder::open(self.storage.path())?;
        storage.make_folder("mailbox")?;
        Opened::beneath(&storage, "mailbox")
    }

    fn storage(&self) -> &Path {
        self.storage.path()
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
    assert!(early.message().contains("is not at the same path here"), "{}", early.message());
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
    std::fs::write(here.path().join("other"), "").unwrap();
    std::fs::write(here.path().join(HERE), "").unwrap();
    let storage = Folder::open(here.storage.path()).unwrap();
    clear(&storage, "mailbox").unwrap_err();
    std::fs::remove_file(here.path().join("other")).unwrap();
    clear(&storage, "mailbox").unwrap();
    clear(&storage, "mailbox").unwrap();
    assert!(!here.path().exists());
    // Later calls are refused for good, once the mailbox has been missing for a while.
    let over = loop {
        let status = send(&mut first, Vec::new()).await.unwrap_err();
        if status.code() != Code::Unavailable {
            break status;
        }
    };
    assert_eq!(over.code(), Code::FailedPrecondition, "{}", over.message());
}

/// A request of outpost 7.
fn request(number: u64) -> Name {
    Name { kind: Kind::Request, rank: 0, outpost: 7, number }
}

impl Here {
    /// Writes a request, and tells its bytes.
    fn write(&self, number: u64, key: &SealKey, path: &str) -> Vec<u8> {
        let head = Head { line: path.into(), headers: Vec::new() };
        let letter = Writer::create(&self.open().unwrap(), request(number), key, &head).unwrap();
        letter.end(&Vec::new()).unwrap();
        std::fs::read(self.path().join(request(number).to_string())).unwrap_or_default()
    }

    fn is_answered(&self, number: u64) -> bool {
        self.path().join(request(number).answer().to_string()).exists()
    }

    fn put(&self, number: u64, letter: &[u8]) {
        std::fs::write(self.path().join(request(number).to_string()), letter).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_others_and_letters_that_come_once_more_are_not_taken() {
    let here = Here::new();
    // Before anybody looks.
    here.open().unwrap();
    // One sealed by another token, and one for a method that is not for ranks.
    here.write(1, &key(2), "/service/method");
    here.write(2, &key(1), "/other/method");
    let good = here.write(3, &key(1), "/service/method");
    let mut changed = good.clone();
    changed[8] ^= 1;
    // A good one under another number, and with a byte changed.
    here.put(4, &good);
    here.put(5, &changed);
    std::fs::write(here.path().join("6.request"), &good).unwrap();
    let served = here.serve();
    until(|| here.is_answered(3)).await;
    until(|| !here.path().join(request(3).to_string()).exists()).await;
    // Once more under its own number, which is known: it is removed.
    here.put(3, &good);
    until(|| !here.path().join(request(3).to_string()).exists()).await;
    // All that were there before this one have been looked at by now.
    here.write(7, &key(1), "/service/method");
    until(|| here.is_answered(7)).await;
    assert_eq!(here.seen.load(Ordering::SeqCst), 2);
    assert_eq!([1, 2, 4, 5].map(|number| here.is_answered(number)), [false; 4]);
    assert_eq!(*here.trouble.lock().unwrap(), None);
    served.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_is_ended() {
    let here = Here::new();
    let served = here.serve_slowly();
    until(|| here.path().exists()).await;
    here.write(1, &key(1), "/service/method");
    until(|| here.seen.load(Ordering::SeqCst) == 1).await;
    assert!(!here.is_over.load(Ordering::SeqCst));
    std::fs::remove_file(here.path().join(request(1).to_string())).unwrap();
    // The service notes that its call was dropped.
    until(|| here.is_over.load(Ordering::SeqCst)).await;
    assert!(!here.is_answered(1));
    served.abort();
}

#[test]
fn a_letter_is_read_when_its_end_has_come_and_not_before() {
    let place = tempfile::tempdir().unwrap();
    let folder = Opened { folder: Folder::open(place.path()).unwrap(), is_for_group: false };
    let name = Name { kind: Kind::Answer, rank: 3, outpost: u64::MAX, number: 1 };
    assert_eq!(Name::read(&name.to_string()), Some(name));
    for other in ["3-ff-1.answer", "03-ffffffffffffffff-1.answer", "3-ffffffffffffffff-1.txt", "x"] {
        assert_eq!(Name::read(other), None, "{other}");
    }
    let head = Head { line: "200".into(), headers: vec![("a".into(), "b".into())] };
    assert!(Reader::open(&folder, name, &key(1)).unwrap().is_none());
    let mut letter = Writer::create(&folder, name, &key(1), &head).unwrap();
    assert!(!letter.add(b"da") && !letter.add(b"ta"));
    letter.write().unwrap();
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
    // As another program makes it.
    let seed = include_bytes!("../../fuzz/seeds/letter/push");
    let told = "0-0000000000000007-1.request";
    std::fs::write(place.path().join(told), seed).unwrap();
    assert_eq!(read_letter(folder.folder, told, &key(1)).unwrap().unwrap(), [0; 5]);
    let folder = Opened { folder: Folder::open(place.path()).unwrap(), is_for_group: false };
    // A frame that was cut out, and a letter of another place.
    let data = 5 + b"data".len() + 32;
    let at = bytes.windows(4).position(|window| window == b"data").unwrap() - 5;
    let cut = [&bytes[..at], &bytes[at + data..bytes.len() - 16]].concat();
    std::fs::write(&path, [&cut[..], &(cut.len() as u64 + 16).to_le_bytes(), b"torchd 1"].concat()).unwrap();
    Reader::open(&folder, name, &key(1)).unwrap().unwrap().0.next().unwrap_err();
    std::fs::write(place.path().join(Name { rank: 2, ..name }.to_string()), &bytes).unwrap();
    assert!(Reader::open(&folder, Name { rank: 2, ..name }, &key(1)).is_err());
    assert!(Reader::open(&folder, Name { rank: 2, ..name }, &key(2)).is_err());
}
