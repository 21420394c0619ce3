//! Archives of exported models, taken apart and written with changes.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use torchd::tensor_file::archive::Archive;

/// The content of an entry.
#[derive(Clone)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// So many zeros, which take no room on the disk.
    Hole(u64),
}

/// Entries by name, in the order of their names.
pub(crate) type Entries = Vec<(String, Content)>;

/// The file of a model below `tests/data/exported`.
pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/data/exported").join(name)).unwrap()
}

pub(crate) fn entries(archive: &[u8]) -> Entries {
    let read = Archive::read(&archive, archive.len() as u64).unwrap();
    let content = |name: &str| Content::Bytes(read.bytes(&archive, name, u64::MAX).unwrap());
    read.names().map(|name| (name.to_owned(), content(name))).collect()
}

/// Where the entries of an archive end.
pub(crate) fn ends(archive: &[u8]) -> Vec<(String, std::ops::Range<u64>)> {
    let read = Archive::read(&archive, archive.len() as u64).unwrap();
    read.names().map(|name| (name.to_owned(), read.place(name).unwrap())).collect()
}

/// Puts another text in the place of every one of its kind in the entries whose name ends so.
pub(crate) fn change(entries: &mut Entries, ending: &str, from: &str, to: &str) {
    let mut found = 0;
    for (_, content) in entries.iter_mut().filter(|(name, _)| name.ends_with(ending)) {
        let Content::Bytes(bytes) = content else { continue };
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        found += text.matches(from).count();
        *bytes = text.replace(from, to).into_bytes();
    }
    assert!(found > 0, "{ending} has no {from}");
}

/// Writes an archive: entries as they are, without checksums, by the 64-bit records of the format.
/// (PKWARE APPNOTE 6.3.10, 4.3 and 4.5.3)
pub(crate) fn write(path: &Path, entries: &Entries) {
    let mut out = File::create(path).unwrap();
    let mut directory = Vec::new();
    let numbers = |bytes: &mut Vec<u8>, numbers: &[(u64, usize)]| {
        numbers.iter().for_each(|(number, width)| bytes.extend(&number.to_le_bytes()[..*width]));
    };
    // Version 4.5, no flags, stored, no time, no date, no checksum, sizes that stand in the extra
    // field.
    let common = [(45, 2), (0, 2), (0, 2), (0, 2), (0, 2), (0, 4), (0xffff_ffff, 4), (0xffff_ffff, 4)];
    for (name, content) in entries {
        let at = out.stream_position().unwrap();
        let size = match content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Hole(size) => *size,
        };
        let mut header = b"PK\x03\x04".to_vec();
        numbers(&mut header, &common);
        numbers(&mut header, &[(name.len() as u64, 2), (20, 2)]);
        header.extend(name.as_bytes());
        numbers(&mut header, &[(1, 2), (16, 2), (size, 8), (size, 8)]);
        out.write_all(&header).unwrap();
        match content {
            Content::Bytes(bytes) => out.write_all(bytes).unwrap(),
            Content::Hole(size) => drop(out.seek(SeekFrom::Current(*size as i64)).unwrap()),
        }
        directory.extend(b"PK\x01\x02");
        numbers(&mut directory, &[(45, 2)]);
        numbers(&mut directory, &common);
        // No comment, disk 0, no attributes.
        numbers(&mut directory, &[(name.len() as u64, 2), (28, 2), (0, 2), (0, 2), (0, 2), (0, 4), (0xffff_ffff, 4)]);
        directory.extend(name.as_bytes());
        numbers(&mut directory, &[(1, 2), (24, 2), (size, 8), (size, 8), (at, 8)]);
    }
    let (at, count, size) = (out.stream_position().unwrap(), entries.len() as u64, directory.len() as u64);
    let end = at + size;
    directory.extend(b"PK\x06\x06");
    numbers(&mut directory, &[(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8), (size, 8), (at, 8)]);
    directory.extend(b"PK\x06\x07");
    numbers(&mut directory, &[(0, 4), (end, 8), (1, 4)]);
    directory.extend(b"PK\x05\x06");
    let unknown = (0xffff_ffff, 4);
    numbers(&mut directory, &[(0, 2), (0, 2), (0xffff, 2), (0xffff, 2), unknown, unknown, (0, 2)]);
    out.write_all(&directory).unwrap();
}
