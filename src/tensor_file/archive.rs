//! Zip archives: where their entries lie in the file, and how they are packed. PyTorch stores those
//! with values as they are. (PKWARE APPNOTE 6.3.10; PyTorch `caffe2/serialize/inline_container.cc`)
//!
//! Checksums are not compared here: PyTorch can be told to leave them out, and does not compare
//! them either.

use std::collections::BTreeMap;
use std::ops::Range;

use rawzip::{CompressionMethod, ReaderAt, ZipLocator};

use super::Problem;
use super::source::read_at_most;

/// The first bytes of an archive.
pub const SIGNATURE: &[u8] = b"PK\x03\x04";

/// Archives with more entries are refused.
pub const MAX_ENTRIES: usize = 200_000;
/// Directories with more bytes are refused: they hold the names, which are kept.
pub const MAX_DIRECTORY_BYTES: u64 = 32 << 20;

/// The directory ends with the file, but for a comment, whose length has 16 bits.
const MAX_TAIL_BYTES: u64 = (1 << 16) + 128;

/// The entries of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where its bytes lie in the file.
    pub place: Range<u64>,
    /// How they are packed.
    pub packing: Packing,
    /// Its bytes when it is unpacked, as the directory says.
    pub size_bytes: u64,
    /// The checksum of those, as the directory says.
    pub crc32: u32,
}

impl Entry {
    /// Its bytes in the file.
    pub fn packed_bytes(&self) -> u64 {
        self.place.end - self.place.start
    }
}

/// How an entry is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Stored,
    /// By DEFLATE.
    Deflated,
    /// Otherwise, or encrypted.
    Other,
}

impl Archive {
    /// Reads the directory of an archive of `size_bytes` bytes. No two entries have the same name
    /// or share a byte.
    ///
    /// # Errors
    /// The mistake in the archive.
    pub fn read(source: &dyn ReaderAt, size_bytes: u64) -> Result<Self, Problem> {
        let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let locator = ZipLocator::new().max_search_space(MAX_TAIL_BYTES);
        let archive = locator.locate_in_reader(source, &mut buffer, size_bytes).map_err(|(_, error)| of_zip(error))?;
        if archive.end_offset() != size_bytes {
            return Err(damaged(format!("it ends at byte {}, and the file at {size_bytes}", archive.end_offset())));
        }
        let directory = archive.directory_offset();
        let directory_bytes = archive.eocd_offset().saturating_sub(directory);
        let told = archive.entries_hint();
        if directory_bytes > MAX_DIRECTORY_BYTES || told > MAX_ENTRIES as u64 {
            return Err(Problem::Refused(format!(
                "has a directory of {told} entries and {directory_bytes} bytes; {MAX_ENTRIES} and \
                 {MAX_DIRECTORY_BYTES} at most are read"
            )));
        }
        let mut entries = BTreeMap::new();
        let mut places = Vec::new();
        let mut records = archive.entries(&mut buffer);
        while let Some(record) = records.next_entry().map_err(of_zip)? {
            let name = record.file_path();
            let name = std::str::from_utf8(name.as_ref()).map_err(|_| damaged("the name of an entry is not UTF-8"))?;
            let name = name.to_owned();
            let packing = match record.compression_method() {
                _ if record.flags().is_encrypted() => Packing::Other,
                CompressionMethod::STORE => Packing::Stored,
                CompressionMethod::DEFLATE => Packing::Deflated,
                _ => Packing::Other,
            };
            let size_bytes = record.uncompressed_size_hint();
            let wanted = if packing == Packing::Stored { size_bytes } else { record.compressed_size_hint() };
            let header = record.local_header_offset();
            if header >= directory {
                return Err(damaged(format!("the entry {name:?} begins at {header}, behind the directory")));
            }
            let found = archive.get_entry(record.wayfinder()).map_err(of_zip)?;
            let (from, to) = found.compressed_data_range();
            if to > directory || wanted != to - from {
                return Err(damaged(format!(
                    "the entry {name:?} has {wanted} bytes, lies at {from} to {to}, and the directory begins at \
                     {directory}"
                )));
            }
            places.push((header, to));
            let entry = Entry { place: from..to, packing, size_bytes, crc32: record.crc32() };
            if entries.insert(name.clone(), entry).is_some() {
                return Err(damaged(format!("the entry {name:?} stands there twice")));
            }
            if entries.len() as u64 > told {
                break;
            }
        }
        if entries.len() as u64 != told {
            return Err(damaged(format!("its end tells of {told} entries, and its directory of others")));
        }
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(damaged("two entries share bytes"));
        }
        Ok(Self { entries })
    }

    /// The names of the entries, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is an entry of that name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Where the bytes of an entry lie in the file.
    ///
    /// # Errors
    /// Where it is absent, or compressed or encrypted.
    pub fn place(&self, name: &str) -> Result<Range<u64>, Problem> {
        match self.entries.get(name) {
            Some(Entry { place, packing: Packing::Stored, .. }) => Ok(place.clone()),
            Some(_) => Err(Problem::Refused(format!(
                "is a zip archive whose entry {name:?} is compressed or encrypted; PyTorch stores it as it is"
            ))),
            None => Err(damaged(format!("it has no entry {name:?}"))),
        }
    }

    /// The bytes of an entry.
    ///
    /// # Errors
    /// Those of [`Self::place`], and where it is larger than `most`.
    pub fn bytes(&self, source: &dyn ReaderAt, name: &str, most: u64) -> Result<Vec<u8>, Problem> {
        let Range { start, end } = self.place(name)?;
        if end - start > most {
            return Err(Problem::Refused(format!(
                "has an entry {name:?} of {} bytes; {most} at most are read",
                end - start
            )));
        }
        read_at_most(source, start, end - start, end)
    }
}

fn damaged(what: impl Into<String>) -> Problem {
    Problem::BadArchive(what.into())
}

fn of_zip(error: rawzip::Error) -> Problem {
    match error.into_kind() {
        rawzip::ErrorKind::IO(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Problem::Unreadable(error),
        rawzip::ErrorKind::MissingEndOfCentralDirectory => {
            damaged("the directory at its end is missing: the file is cut off")
        }
        rawzip::ErrorKind::IO(_) | rawzip::ErrorKind::Eof => damaged("it is cut off"),
        other => damaged(rawzip::Error::from(other).to_string()),
    }
}
