//! The courier: brings home what a rank writes. What the journal tells is at the daemon before the
//! journal tells it there: checkpoints and results go first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::stream;
use tonic::Status;

use super::folder::LocalFolder;
use super::told::before_news;
use super::{AGAIN, Client, is_final};
use crate::journal::{Checkpoint, JobFolder, JournalTail, Manifest, ProgressFold, checkpoints, entries};
use crate::proto::v1::{self, put_files_request::Part};
use crate::sha256::Sha256;

/// The rank's files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Bytes of a piece of a file that grows.
const PIECE_BYTES: u64 = 512 << 10;
/// Bytes of all pieces of a request.
const REQUEST_BYTES: u64 = 2 << 20;
/// Pieces of a request.
const MOST_PIECES: usize = 64;
/// The journal, as pieces name it.
const JOURNAL: &str = "journal";
/// Bytes of a file in a message.
const MESSAGE_BYTES: usize = 256 << 10;

/// Why a call failed.
pub(super) enum Lost {
    /// The daemon does not answer now.
    Daemon(String),
    /// The rank is not ours any more, or never was.
    Place(String),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        let words = status.message().to_owned();
        if is_final(status.code()) { Self::Place(words) } else { Self::Daemon(words) }
    }
}

/// Brings files home; cheap to clone.
#[derive(Clone)]
pub(super) struct Courier {
    client: Client,
    rank: u32,
    outpost: u64,
    /// A small call has an answer within this time, or none.
    answer: Duration,
    is_last: Arc<AtomicBool>,
    is_given_up: Arc<AtomicBool>,
    /// Files are on their way.
    carries: Arc<AtomicBool>,
    puts: Arc<AtomicU64>,
}

/// The files that are at home, as far as they are there.
#[derive(Default)]
struct Home {
    /// Bytes of the journal that tell of no checkpoint but those at home.
    told: u64,
    /// Bytes of files that grow.
    bytes: BTreeMap<String, u64>,
    /// The checksum of the manifest of each checkpoint, by step.
    checkpoints: BTreeMap<u64, String>,
    /// Results, by their sizes and times.
    results: BTreeMap<String, (u64, SystemTime)>,
}

impl Courier {
    pub(super) fn new(client: Client, rank: u32, outpost: u64, answer: Duration) -> Self {
        Self {
            client,
            rank,
            outpost,
            answer,
            is_last: Arc::default(),
            is_given_up: Arc::default(),
            carries: Arc::default(),
            puts: Arc::default(),
        }
    }

    /// The number of the outpost.
    pub(super) fn outpost(&self) -> u64 {
        self.outpost
    }

    /// Renews the lease, and hears what is wished.
    pub(super) async fn beat(&self) -> Result<v1::RankWish, Lost> {
        let answer = tokio::time::timeout(self.answer, self.push(Vec::new())).await;
        answer.unwrap_or_else(|_| Err(Lost::Daemon("no answer comes".into()))).map(|answer| answer.wish())
    }

    /// The runner has ended: what is there now is the last.
    pub(super) fn finish(&self) {
        self.is_last.store(true, Ordering::SeqCst);
    }

    /// Nobody wants what the rank has written.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
    }

    /// Brings everything home, until [`Courier::finish`] and all is there. An error where the rank
    /// is not ours any more.
    pub(super) async fn carry(self, local: LocalFolder) -> Result<(), ()> {
        let carrier = Carrier { courier: self, local };
        let mut home = carrier.at_the_start();
        loop {
            let is_last = carrier.courier.is_last.load(Ordering::SeqCst);
            match carrier.round(&mut home).await {
                Ok(()) if is_last => return Ok(()),
                // A disk that is full there keeps nobody from ending.
                _ if is_last && carrier.courier.is_given_up.load(Ordering::SeqCst) => return Ok(()),
                Ok(()) => tokio::time::sleep(LOOK_EVERY).await,
                Err(Lost::Daemon(words)) => {
                    tracing::debug!("the daemon did not take everything: {words}");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(Lost::Place(words)) => {
                    tracing::error!("the daemon takes nothing of this rank any more: {words}");
                    return Err(());
                }
            }
        }
    }

    /// Tells the end of the rank, and tries for as long as that.
    pub(super) async fn until_told(&self, exit: Vec<u8>, fault: String, limit: Duration) {
        let request = v1::EndRankRequest { rank: self.rank, outpost: self.outpost, exit, fault };
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let mut client = self.client.clone();
            match tokio::time::timeout(self.answer, client.end_rank(request.clone())).await {
                Ok(Err(status)) if !is_final(status.code()) => tokio::time::sleep(AGAIN).await,
                Err(_) => {}
                Ok(_) => return,
            }
        }
    }

    async fn push(&self, pieces: Vec<v1::Piece>) -> Result<v1::PushJournalResponse, Lost> {
        let carries = self.carries.load(Ordering::SeqCst);
        let request = v1::PushJournalRequest { rank: self.rank, outpost: self.outpost, pieces, carries };
        Ok(self.client.clone().push_journal(request).await?.into_inner())
    }
}

/// A courier that carries the files of a folder.
struct Carrier {
    courier: Courier,
    local: LocalFolder,
}

impl Carrier {
    /// The files that came from there.
    fn at_the_start(&self) -> Home {
        let mut home = Home::default();
        let found = checkpoints(self.local.job()).into_iter().flatten();
        home.checkpoints.extend(found.filter_map(|found| Some((found.step(), manifest_sum(&found).ok()?))));
        home.results.extend(results(&self.local.job().artifacts()).unwrap_or_default());
        home
    }

    /// Brings home what is there now.
    async fn round(&self, home: &mut Home) -> Result<(), Lost> {
        // Before the checkpoints are looked for.
        let lengths = self.lengths().map_err(local)?;
        if self.courier.rank == 0 {
            self.bring_checkpoints(home).await?;
            self.bring_results(home).await?;
        }
        self.bring_bytes(home, &lengths).await
    }

    /// The files that grow, with their paths and bytes.
    fn lengths(&self) -> io::Result<Vec<(String, PathBuf, u64)>> {
        let mut growing =
            vec![(JOURNAL.to_owned(), self.local.rank().journal()), ("runner.log".to_owned(), self.local.rank().log())];
        if self.courier.rank == 0 {
            for entry in entries(&self.local.job().tensorboard())? {
                let entry = entry?;
                growing.push((format!("tensorboard/{}", entry.file_name().to_string_lossy()), entry.path()));
            }
        }
        let lengths = growing.into_iter().map(|(name, path)| {
            let length = fs::metadata(&path).map_or(0, |about| about.len());
            (name, path, length)
        });
        Ok(lengths.collect())
    }

    /// Brings what was told before the next checkpoint, which is on the disk.
    async fn bring_told(&self, home: &mut Home) -> Result<(), Lost> {
        let mut lengths = self.lengths().map_err(local)?;
        for (_, journal, length) in lengths.iter_mut().filter(|(name, ..)| name == JOURNAL) {
            let at_home = home.bytes.get(JOURNAL).copied().unwrap_or_default();
            let is_home = |step| home.checkpoints.contains_key(&step);
            home.told = before_news(journal, home.told, at_home, is_home).map_err(local)?;
            *length = home.told;
        }
        self.bring_bytes(home, &lengths).await
    }

    async fn bring_checkpoints(&self, home: &mut Home) -> Result<(), Lost> {
        let found = checkpoints(self.local.job()).map_err(local)?;
        let place = self.local.job().path().to_owned();
        let is_removed = |step: &u64| !place.join(JobFolder::checkpoint_name(*step)).exists();
        for checkpoint in found.iter().rev() {
            let step = checkpoint.step();
            let Ok(sum) = manifest_sum(checkpoint) else { continue };
            if home.checkpoints.get(&step) == Some(&sum) {
                continue;
            }
            self.bring_told(home).await?;
            let manifest = Manifest::path(&checkpoint.path);
            let files = checkpoint.manifest.files.iter().map(|file| checkpoint.path.join(&file.name));
            // The manifest last, as it was written.
            let files: Vec<PathBuf> = files.chain([manifest]).collect();
            let removed: Vec<u64> = home.checkpoints.keys().copied().filter(is_removed).collect();
            match self.put(files, Some(step), &removed).await {
                Ok(()) => removed.iter().for_each(|step| drop(home.checkpoints.remove(step))),
                // It was removed meanwhile, and another one takes its place.
                Err(Lost::Daemon(words)) if !checkpoint.path.exists() => {
                    tracing::debug!(step, "a checkpoint was not brought home: {words}");
                }
                Err(lost) => return Err(lost),
            }
            home.checkpoints.insert(step, sum);
        }
        Ok(())
    }

    async fn bring_results(&self, home: &mut Home) -> Result<(), Lost> {
        let folder = self.local.job().artifacts();
        let found = results(&folder).map_err(local)?;
        let news: Vec<_> = found.iter().filter(|(name, state)| home.results.get(*name) != Some(*state)).collect();
        if news.is_empty() {
            return Ok(());
        }
        self.put(news.iter().map(|(name, _)| folder.join(name)).collect(), None, &[]).await?;
        home.results.extend(news.into_iter().map(|(name, state)| (name.clone(), *state)));
        Ok(())
    }

    /// Sends whole files; those of a checkpoint where a step is given. The runner has removed those
    /// of the steps in `removed`.
    async fn put(&self, files: Vec<PathBuf>, step: Option<u64>, removed: &[u64]) -> Result<(), Lost> {
        let sums = tokio::task::spawn_blocking(move || files.into_iter().map(summed).collect::<io::Result<Vec<_>>>());
        let sums = sums.await.map_err(|error| Lost::Daemon(error.to_string()))?.map_err(local)?;
        let begin = v1::PutFilesBegin {
            rank: self.courier.rank,
            outpost: self.courier.outpost,
            step: step.unwrap_or_default(),
            files: sums.iter().map(|(_, told)| told.clone()).collect(),
            removed_steps: removed.to_vec(),
            sequence: self.courier.puts.fetch_add(1, Ordering::SeqCst) + 1,
        };
        let first = v1::PutFilesRequest { part: Some(Part::Begin(begin)) };
        let files: Vec<_> = sums.into_iter().map(|(path, told)| (path, told.size_bytes)).collect();
        let data = stream::unfold((files.into_iter(), None), |(files, open)| async move {
            let read = tokio::task::spawn_blocking(move || next_piece(files, open)).await.ok()?;
            let (data, files, open) = read?;
            Some((v1::PutFilesRequest { part: Some(Part::Data(data)) }, (files, open)))
        });
        let messages = futures_util::StreamExt::chain(stream::iter([first]), data);
        let mut client = self.courier.client.clone();
        self.courier.carries.store(true, Ordering::SeqCst);
        let put = match step {
            Some(_) => client.put_checkpoint(messages).await,
            None => client.put_artifacts(messages).await,
        };
        self.courier.carries.store(false, Ordering::SeqCst);
        Ok(put.map(drop)?)
    }

    async fn bring_bytes(&self, home: &mut Home, lengths: &[(String, PathBuf, u64)]) -> Result<(), Lost> {
        let mut after_step = None;
        loop {
            let (mut pieces, mut room) = (Vec::new(), REQUEST_BYTES);
            for (name, path, length) in lengths {
                let offset = home.bytes.get(name).copied().unwrap_or_default();
                let count = length.saturating_sub(offset).min(PIECE_BYTES).min(room);
                if count == 0 || pieces.len() == MOST_PIECES {
                    continue;
                }
                room -= count;
                if name.starts_with("tensorboard/") {
                    after_step = after_step.or_else(|| self.began_after());
                    // Events of earlier attempts would be cut at the wrong place.
                    if after_step.is_none() {
                        continue;
                    }
                }
                let data = read_at(path, offset, count).map_err(local)?;
                let after_step = after_step.unwrap_or_default();
                pieces.push(v1::Piece { file: name.clone(), offset, data, after_step });
            }
            if pieces.is_empty() {
                return Ok(());
            }
            let names: Vec<_> = pieces.iter().map(|piece| piece.file.clone()).collect();
            let received = self.courier.push(pieces).await?.received;
            home.bytes.extend(names.into_iter().zip(received));
        }
    }

    /// The step that this attempt goes on from; None before the runner has told it.
    fn began_after(&self) -> Option<i64> {
        let mut tail = JournalTail::new(self.local.job().clone());
        let mut fold = ProgressFold::default();
        while let Ok(records) = tail.read(1000)
            && !records.is_empty()
        {
            records.iter().for_each(|record| fold.add(record));
        }
        fold.started(self.local.attempt()).map(|started| started.first_step as i64)
    }
}

/// The checksum that tells a checkpoint from another one of the same step.
fn manifest_sum(checkpoint: &Checkpoint) -> io::Result<String> {
    Sha256::of_reader(&mut File::open(Manifest::path(&checkpoint.path))?)
}

/// A fault of this machine's disk: it is tried again, as one of the daemon is.
fn local(error: io::Error) -> Lost {
    Lost::Daemon(format!("the folder of the rank: {error}"))
}

/// The results that are whole, by their sizes and times.
fn results(folder: &Path) -> io::Result<BTreeMap<String, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in entries(folder)? {
        let entry = entry?;
        let (name, about) = (entry.file_name().to_string_lossy().into_owned(), entry.metadata()?);
        if about.is_file() && !name.starts_with('.') {
            found.insert(name, (about.len(), about.modified()?));
        }
    }
    Ok(found)
}

fn summed(path: PathBuf) -> io::Result<(PathBuf, v1::PutFile)> {
    let mut file = File::open(&path)?;
    let size_bytes = file.metadata()?.len();
    let sha256 = Sha256::of_reader(&mut file)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((path, v1::PutFile { name, size_bytes, sha256 }))
}

type Files = std::vec::IntoIter<(PathBuf, u64)>;
/// A file, and the bytes of it that are left.
type Open = Option<(File, u64)>;

/// The next bytes of files, one behind the other; None at their end. A file that has become shorter
/// ends them, and the other side misses the rest.
fn next_piece(mut files: Files, mut open: Open) -> Option<(Vec<u8>, Files, Open)> {
    loop {
        if let Some((file, left)) = &mut open
            && *left > 0
        {
            let mut data = Vec::new();
            let most = (*left).min(MESSAGE_BYTES as u64);
            file.by_ref().take(most).read_to_end(&mut data).ok()?;
            *left -= data.len() as u64;
            return if data.is_empty() { None } else { Some((data, files, open)) };
        }
        let (path, size) = files.next()?;
        open = Some((File::open(path).ok()?, size));
    }
}

fn read_at(path: &Path, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(count).read_to_end(&mut data)?;
    Ok(data)
}
