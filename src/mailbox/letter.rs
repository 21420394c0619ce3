//! Letters: files of a mailbox. A letter is frames, each with a seal: a head, data, and an end; and
//! behind them its length, by which it is known to be whole.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Opened;
use crate::access::{SEAL_BYTES, SealKey};
use crate::beneath::present;
use crate::umask::open_to_group;

/// Bytes of a frame's kind and length.
const HEADER: usize = 5;
/// Data are written in frames of so many bytes.
const FRAME: usize = 256 << 10;
/// A longer head or end is none of ours.
const MOST_HEAD: usize = 64 << 10;
/// The last bytes of a letter, behind its length.
const MARK: &[u8; 8] = b"torchd 1";
/// Bytes of a letter's length and mark.
const FOOTER: usize = 16;

const HEAD: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;

/// Headers, by their names.
pub(super) type Headers = Vec<(String, String)>;

/// Whether a letter asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Request,
    Answer,
}

/// The name of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) rank: u32,
    pub(super) outpost: u64,
    /// Counts the requests of the outpost, from 1.
    pub(super) number: u64,
}

impl Name {
    /// Reads the name of a file; None where it is that of something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (stem, kind) = text.rsplit_once('.')?;
        let kind = match kind {
            "request" => Kind::Request,
            "answer" => Kind::Answer,
            _ => return None,
        };
        let mut parts = stem.splitn(3, '-');
        let mut part = || parts.next();
        let (rank, outpost, number) = (part()?, part()?, part()?);
        let outpost = u64::from_str_radix(outpost, 16).ok()?;
        let name = Self { kind, rank: rank.parse().ok()?, outpost, number: number.parse().ok()? };
        // One name each.
        (name.to_string() == text).then_some(name)
    }

    /// The answer to a request.
    pub(super) fn answer(self) -> Self {
        Self { kind: Kind::Answer, ..self }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rank, outpost, number } = self;
        let kind = if *kind == Kind::Request { "request" } else { "answer" };
        write!(f, "{rank}-{outpost:016x}-{number}.{kind}")
    }
}

/// The beginning of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Of a request, its path; of an answer, its status.
    pub(super) line: String,
    pub(super) headers: Headers,
}

/// A part of a letter behind its head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data(Bytes),
    /// The end, with trailers.
    End(Headers),
}

/// Writes a letter. A file without the end is ignored.
pub(super) struct Writer {
    file: File,
    seals: Seals,
    written: u64,
    /// Data that are not written yet.
    waiting: Vec<u8>,
}

impl Writer {
    /// Begins a letter. One of that name is removed: it is that of a daemon that died over it, or
    /// another's. The group may read where the mailbox is for the group.
    pub(super) fn create(to: &Opened, name: Name, key: &SealKey, head: &Head) -> io::Result<Self> {
        let text = name.to_string();
        let file = match to.folder.write_new(&text, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                to.folder.remove_file(&text)?;
                to.folder.write_new(&text, 0o600)?
            }
            made => made?,
        };
        if to.is_for_group {
            open_to_group(&file);
        }
        let mut this = Self { file, seals: Seals::new(name, key), written: 0, waiting: Vec::new() };
        this.frame(HEAD, &serde_json::to_vec(head)?)?;
        Ok(this)
    }

    /// Adds data, in memory; whether [`Self::write`] is due.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        self.waiting.extend(data);
        self.waiting.len() >= FRAME
    }

    /// Writes the data that were added.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.chunks(FRAME).try_for_each(|chunk| self.frame(DATA, chunk))
    }

    /// Ends the letter, and tells its bytes. The disk has it then, where the file system can tell.
    pub(super) fn end(mut self, trailers: &Headers) -> io::Result<u64> {
        self.write()?;
        self.frame(END, &serde_json::to_vec(trailers)?)?;
        let length = self.written + FOOTER as u64;
        self.file.write_all(&[length.to_le_bytes(), *MARK].concat())?;
        match self.file.sync_all() {
            Err(error) if !matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                Err(error)
            }
            _ => Ok(length),
        }
    }

    fn frame(&mut self, kind: u8, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER + data.len() + SEAL_BYTES);
        bytes.push(kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend(data);
        bytes.extend(self.seals.next(kind, data));
        self.written += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

/// Reads a letter that is whole.
pub(super) struct Reader {
    file: File,
    at: u64,
    /// Where its frames end.
    end: u64,
    seals: Seals,
}

impl Reader {
    /// Opens a letter, and reads its head; None where there is none, or its end has not come yet.
    ///
    /// # Errors
    /// `InvalidData` where its seal is wrong, or the errors of the file system.
    pub(super) fn open(from: &Opened, name: Name, key: &SealKey) -> io::Result<Option<(Self, Head)>> {
        let Some(file) = present(from.folder.file(name.to_string()))? else { return Ok(None) };
        let Some(end) = end_of(&file)? else { return Ok(None) };
        let mut this = Self { file, at: 0, end, seals: Seals::new(name, key) };
        match this.frame()? {
            (HEAD, head) => Ok(Some((this, serde_json::from_slice(&head)?))),
            _ => Err(damaged("it has no head")),
        }
    }

    /// The next frame. There is none behind the end.
    pub(super) fn next(&mut self) -> io::Result<Frame> {
        match self.frame()? {
            (DATA, data) => Ok(Frame::Data(data.into())),
            (END, trailers) if self.at == self.end => Ok(Frame::End(serde_json::from_slice(&trailers)?)),
            _ => Err(damaged("its frames are not in order")),
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, self.at)?;
        let [kind, length @ ..] = header;
        let length = u32::from_le_bytes(length) as usize;
        let most = if kind == DATA { FRAME } else { MOST_HEAD };
        let after = self.at + (HEADER + length + SEAL_BYTES) as u64;
        if length > most || after > self.end {
            return Err(damaged("it has a frame that is too long"));
        }
        let mut data = vec![0; length + SEAL_BYTES];
        self.file.read_exact_at(&mut data, self.at + HEADER as u64)?;
        self.at = after;
        let seal = data.split_off(length);
        if !self.seals.is_next(kind, &data, &seal) {
            return Err(damaged("its seal is not that of this launch"));
        }
        Ok((kind, data))
    }
}

/// The seals of a letter, one frame after the other.
struct Seals {
    key: SealKey,
    name: String,
    index: u64,
}

impl Seals {
    fn new(name: Name, key: &SealKey) -> Self {
        Self { key: key.clone(), name: name.to_string(), index: 0 }
    }

    fn next(&mut self, kind: u8, data: &[u8]) -> [u8; SEAL_BYTES] {
        let seal = self.key.seal(&[self.name.as_bytes(), &self.index.to_le_bytes(), &[kind], data]);
        self.index += 1;
        seal
    }

    fn is_next(&mut self, kind: u8, data: &[u8], seal: &[u8]) -> bool {
        let is_right = self.key.is_right(&[self.name.as_bytes(), &self.index.to_le_bytes(), &[kind], data], seal);
        self.index += 1;
        is_right
    }
}

/// Where the frames of a file end, by its last bytes; None where these have not come.
fn end_of(file: &File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER];
    match file.read_exact_at(&mut footer, end) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok((footer == *[length.to_le_bytes(), *MARK].concat()).then_some(end))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
