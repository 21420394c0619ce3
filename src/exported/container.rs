//! The zip archive around an exported program: its entries by name, each with the place of its
//! bytes. PyTorch stores entries as they are, so that an entry is a range of the file.
//! (<https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>)
//!
//! Takes memory for the names of the entries, which are bounded, and for what somebody asks to
//! read. Must not know what is in an entry.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;

use rawzip::{CompressionMethod, ErrorKind, RECOMMENDED_BUFFER_SIZE, RangeReader, ReaderAt, ZipArchive, ZipLocator};

use super::problem::{Problem, Result, shown};
use crate::dataset::looks::{HEAD_BYTES, looks_like};

/// An archive of a model with 10,000 tensors has some 10,000 entries.
const MOST_ENTRIES: usize = 1 << 17;
/// A longer name is refused. PyTorch's own have some 60 bytes behind the archive's name.
const MOST_NAME_BYTES: usize = 1024;

/// An archive that is open.
#[derive(Debug)]
pub struct Container<R> {
    archive: ZipArchive<R>,
    /// Without the folder that PyTorch puts around all of them, which is the archive's own name.
    entries: BTreeMap<String, Entry>,
}

/// Where an entry lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes in the file.
    pub place: Range<u64>,
    crc: u32,
}

impl Entry {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }
}

impl<R: ReaderAt> Container<R> {
    /// Opens an archive of so many bytes, and judges where its entries lie: within the file, and
    /// none upon another.
    ///
    /// # Errors
    /// If it is no zip archive, or one that PyTorch does not write.
    pub fn open(source: R, file_bytes: u64) -> Result<Self> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        RangeReader::new(&source, 0..file_bytes.min(HEAD_BYTES as u64))
            .read_to_end(&mut head)
            .map_err(Problem::Unreadable)?;
        if !head.starts_with(b"PK") {
            return Err(Problem::NotExported(looks_like(&head)));
        }
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipLocator::new()
            .locate_in_reader(source, &mut buffer, file_bytes)
            .map_err(|(_, error)| problem("the directory at its end", error))?;
        let mut found = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(|error| problem("its directory", error))? {
            let path = entry.file_path();
            let name = std::str::from_utf8(path.as_bytes())
                .map_err(|error| Problem::damaged("its directory", format!("the name of an entry: {error}")))?;
            if name.len() > MOST_NAME_BYTES || found.len() == MOST_ENTRIES {
                let what = format!(
                    "it has more than {MOST_ENTRIES} entries, or one with a name of more than {MOST_NAME_BYTES} bytes"
                );
                return Err(Problem::unsupported("its directory", what));
            }
            if entry.compression_method() != CompressionMethod::STORE || entry.flags().is_encrypted() {
                let what = "it is compressed or encrypted; PyTorch stores entries as they are";
                return Err(Problem::unsupported(shown(name), what));
            }
            found.push((name.to_owned(), entry.wayfinder(), entry.crc32()));
        }
        if found.len() as u64 != archive.entries_hint() {
            let what = format!("it says {} entries, {} are there", archive.entries_hint(), found.len());
            return Err(Problem::damaged("its directory", what));
        }
        let folder = found.first().and_then(|(name, ..)| Some(name.split_once('/')?.0.to_owned()));
        let mut entries = BTreeMap::new();
        for (name, wayfinder, crc) in &found {
            let (start, end) =
                archive.get_entry(*wayfinder).map_err(|error| problem(&shown(name), error))?.compressed_data_range();
            if end > file_bytes || wayfinder.compressed_size_hint() != wayfinder.uncompressed_size_hint() {
                return Err(Problem::damaged(shown(name), "it reaches beyond the end of the file"));
            }
            let inner = folder.as_deref().and_then(|folder| name.strip_prefix(folder)?.strip_prefix('/'));
            let inner = inner.unwrap_or(name);
            if entries.insert(inner.to_owned(), Entry { place: start..end, crc: *crc }).is_some() {
                return Err(Problem::damaged(shown(name), "two entries have this name"));
            }
        }
        let mut places: Vec<_> = entries.values().map(|entry| (entry.place.start, entry.place.end)).collect();
        places.sort_unstable();
        if let Some(pair) = places.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            let what = format!("two entries share the byte {} of the file", pair[1].0);
            return Err(Problem::damaged("its directory", what));
        }
        Ok(Self { archive, entries })
    }

    /// The names of its entries, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where an entry lies; None where there is none of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All bytes of an entry, which has `most` at most.
    ///
    /// # Errors
    /// If there is no such entry, if it is longer, or if its bytes have another checksum.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let entry = self.find(name).ok_or_else(|| Problem::damaged(shown(name), "there is no such entry"))?;
        if entry.bytes() > most {
            let what = format!("it has {} bytes; {most} at most are read", entry.bytes());
            return Err(Problem::unsupported(shown(name), what));
        }
        let mut bytes = Vec::new();
        let length = self.reader(entry).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
        if length as u64 != entry.bytes() {
            return Err(Problem::damaged(shown(name), "the file has become shorter"));
        }
        if rawzip::crc32(&bytes) != entry.crc {
            return Err(Problem::damaged(shown(name), "its bytes do not match their checksum"));
        }
        Ok(bytes)
    }

    /// Reads an entry from its first byte to its last, and does not judge its checksum.
    pub fn reader(&self, entry: &Entry) -> RangeReader<&R> {
        RangeReader::new(self.archive.get_ref(), entry.place.clone())
    }

    /// The checksum that the directory has of an entry: CRC-32, as gzip has it.
    pub fn crc(&self, entry: &Entry) -> u32 {
        entry.crc
    }
}

fn problem(place: &str, error: rawzip::Error) -> Problem {
    match error.into_kind() {
        ErrorKind::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => Problem::Unreadable(error),
        ErrorKind::MissingEndOfCentralDirectory => {
            Problem::damaged(place, "it is not there: the file is cut off, or a download is not complete")
        }
        kind => Problem::damaged(place, kind.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exported::tests::archive;

    fn open(bytes: &[u8]) -> Result<Container<&[u8]>> {
        Container::open(bytes, bytes.len() as u64)
    }

    fn refusal(bytes: &[u8]) -> String {
        open(bytes).unwrap_err().to_string()
    }

    #[test]
    fn entries_are_found_without_the_archives_own_folder_and_read_against_their_checksum() {
        let whole = archive("net", &[("archive_format", b"pt2"), ("data/weights/weight_0", &[1, 2, 3, 4])]);
        let container = open(&whole).unwrap();
        assert_eq!(container.names().collect::<Vec<_>>(), ["archive_format", "data/weights/weight_0"]);
        assert_eq!(container.read("archive_format", 3).unwrap(), b"pt2");
        let weights = container.find("data/weights/weight_0").unwrap().place.clone();
        assert_eq!(whole[weights.start as usize..weights.end as usize], [1, 2, 3, 4]);
        assert!(container.read("archive_format", 2).unwrap_err().to_string().contains("2 at most are read"));
        assert!(container.read("other", 2).unwrap_err().to_string().contains("no such entry"));
        let mut wrong = whole.clone();
        wrong[weights.start as usize] ^= 1;
        let told = open(&wrong).unwrap().read("data/weights/weight_0", 4).unwrap_err().to_string();
        assert!(told.contains("do not match their checksum"), "{told}");
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = archive("net", &[("archive_format", b"pt2"), ("version", b"0")]);
        for cut in 0..whole.len() {
            assert!(open(&whole[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn archives_that_pytorch_does_not_write_are_refused() {
        assert!(refusal(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
        assert!(refusal(b"abc").contains("text"));
        assert!(refusal(b"").contains("an empty file"));
        assert!(
            refusal(b"PK\x03\x04 and no more").contains("it is cut off")
                || refusal(b"PK\x03\x04 and").contains("cut off")
        );
        let twice = archive("net", &[("a", b"1"), ("a", b"2")]);
        assert!(refusal(&twice).contains("two entries have this name"));
        // The second entry's place becomes that of the first.
        let mut upon = archive("net", &[("a", b"1"), ("b", b"2")]);
        let record = upon.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        upon[record + 42..record + 46].copy_from_slice(&[0; 4]);
        assert!(refusal(&upon).contains("share the byte"));
        let mut packed = archive("net", &[("a", b"1")]);
        let record = packed.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        packed[record + 10] = 8;
        assert!(refusal(&packed).contains("compressed"));
    }
}
