//! Letters: files of a mailbox. A letter is a head, data, and an end, each a frame with a seal.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::access::{SEAL_BYTES, SealKey};
use crate::beneath::{Folder, present};
use crate::umask::open_to_group;

/// Bytes of a frame's kind and length.
const HEADER: usize = 5;
/// Longer frames are none of ours.
const MOST_BYTES: usize = 8 << 20;
/// A longer head is none of ours.
const MOST_HEAD: usize = 64 << 10;

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
        let mut number = || parts.next();
        let (rank, outpost, number) = (number()?, number()?, number()?);
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

/// Writes a letter. Without its end it is none, and nobody reads it.
pub(super) struct Writer {
    file: File,
    seals: Seals,
}

impl Writer {
    /// Begins a letter. The group may read and write in a folder that hands its group on.
    pub(super) fn create(folder: &Folder, name: Name, key: &SealKey, head: &Head) -> io::Result<Self> {
        let file = folder.overwrite(name.to_string(), 0o600)?;
        if folder.hands_group_on()? {
            open_to_group(&file);
        }
        let mut this = Self { file, seals: Seals::new(name, key) };
        this.frame(HEAD, &serde_json::to_vec(head)?)?;
        Ok(this)
    }

    /// Adds data.
    pub(super) fn data(&mut self, data: &[u8]) -> io::Result<()> {
        data.chunks(MOST_BYTES).try_for_each(|chunk| self.frame(DATA, chunk))
    }

    /// Ends the letter. The disk has it then, where the file system can tell.
    pub(super) fn end(mut self, trailers: &Headers) -> io::Result<u64> {
        self.frame(END, &serde_json::to_vec(trailers)?)?;
        match self.file.sync_all() {
            Err(error) if !matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                Err(error)
            }
            _ => Ok(self.file.metadata()?.len()),
        }
    }

    fn frame(&mut self, kind: u8, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER + data.len() + SEAL_BYTES);
        bytes.push(kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend(data);
        bytes.extend(self.seals.next(kind, data));
        self.file.write_all(&bytes)
    }
}

/// Reads a letter that is whole.
pub(super) struct Reader {
    file: File,
    at: u64,
    seals: Seals,
}

impl Reader {
    /// Opens a letter, and reads its head; None where there is none, or its end has not come yet.
    ///
    /// # Errors
    /// `InvalidData` where its seal is wrong, or the errors of the file system.
    pub(super) fn open(folder: &Folder, name: Name, key: &SealKey) -> io::Result<Option<(Self, Head)>> {
        let Some(file) = present(folder.file(name.to_string()))? else { return Ok(None) };
        if !is_whole(&file)? {
            return Ok(None);
        }
        let mut this = Self { file, at: 0, seals: Seals::new(name, key) };
        match this.frame()? {
            (HEAD, head) if head.len() <= MOST_HEAD => Ok(Some((this, serde_json::from_slice(&head)?))),
            _ => Err(damaged("it has no head")),
        }
    }

    /// The next frame. There is none behind the end.
    pub(super) fn next(&mut self) -> io::Result<Frame> {
        match self.frame()? {
            (DATA, data) => Ok(Frame::Data(data.into())),
            (END, trailers) => Ok(Frame::End(serde_json::from_slice(&trailers)?)),
            _ => Err(damaged("it has two heads")),
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let (kind, length) = header(&self.file, self.at)?.ok_or_else(|| damaged("it ends amid a frame"))?;
        let mut data = vec![0; length + SEAL_BYTES];
        self.file.read_exact_at(&mut data, self.at + HEADER as u64)?;
        self.at += (HEADER + data.len()) as u64;
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

/// Whether a file is frames up to an end. Their seals are not asked.
fn is_whole(file: &File) -> io::Result<bool> {
    let (length, mut at) = (file.metadata()?.len(), 0);
    while let Some((kind, data)) = header(file, at)? {
        at += (HEADER + data + SEAL_BYTES) as u64;
        if kind == END {
            return Ok(at == length);
        }
    }
    Ok(false)
}

/// The kind and the bytes of the frame that begins there; None where there is none.
fn header(file: &File, at: u64) -> io::Result<Option<(u8, usize)>> {
    let mut bytes = [0; HEADER];
    match file.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [kind, length @ ..] = bytes;
    let length = u32::from_le_bytes(length) as usize;
    Ok((matches!(kind, HEAD | DATA | END) && length <= MOST_BYTES).then_some((kind, length)))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
