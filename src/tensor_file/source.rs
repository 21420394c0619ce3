//! Bytes that are read by their place: of a file that is open, or of a part of one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rawzip::ReaderAt;

use super::Problem;

/// A file that is open. Its position is neither used nor changed.
#[derive(Debug, Clone, Copy)]
pub struct Positioned<'a>(pub &'a File);

impl ReaderAt for Positioned<'_> {
    fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(into, place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// A part of something, whose first byte has the place 0.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The source that holds the part.
    pub whole: &'a dyn ReaderAt,
    /// The place of its first byte.
    pub offset: u64,
    /// Its bytes.
    pub size_bytes: u64,
}

impl ReaderAt for Part<'_> {
    fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<usize> {
        let left = self.size_bytes.saturating_sub(place);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        match self.offset.checked_add(place) {
            Some(place) if count > 0 => self.whole.read_at(&mut into[..count], place),
            _ => Ok(0),
        }
    }
}

impl<'a> Part<'a> {
    /// The part from its first byte on.
    pub fn reader(self) -> PartReader<'a> {
        PartReader { part: self, place: 0 }
    }
}

/// A part that is read from its first byte to its last.
pub struct PartReader<'a> {
    part: Part<'a>,
    place: u64,
}

impl Read for PartReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(into, self.place)?;
        self.place += count as u64;
        Ok(count)
    }
}

/// Reads at most `most` bytes from a place on, of a source with `size_bytes` bytes.
pub(super) fn read_at_most(source: &dyn ReaderAt, place: u64, most: u64, size_bytes: u64) -> Result<Vec<u8>, Problem> {
    let count = most.min(size_bytes.saturating_sub(place));
    let mut bytes = vec![0; usize::try_from(count).map_err(|error| Problem::Unreadable(io::Error::other(error)))?];
    source.read_exact_at(&mut bytes, place).map_err(Problem::Unreadable)?;
    Ok(bytes)
}
