//! Reads records one after the other, also from a file that is still being written.

use std::io::{self, Read};

use super::{FOOTER_BYTES, HEADER_BYTES, masked_crc};

/// Limit of a record's data in bytes; a length beyond it is damage. A client takes messages of 4
/// MiB, and records of ours have some kilobytes.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// Bytes asked from the source at a time.
const CHUNK: usize = 1 << 16;

/// Reads records. `Torn` and `End` are not for ever: when the source has grown, the next call goes
/// on.
#[derive(Debug)]
pub struct RecordReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the next record begins in `buffer`.
    start: usize,
    /// Where the next record begins in the source.
    offset: u64,
}

/// The next thing in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The data of a record.
    Record(&'a [u8]),
    /// The source ends behind a whole record.
    End,
    /// The source ends within a record.
    Torn,
}

/// Why no further record can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A checksum is wrong, or a length is absurd.
    #[error("the record at byte {offset} is damaged: its {part} does not match its checksum")]
    Damaged {
        /// Where the record begins.
        offset: u64,
        /// `length` or `data`.
        part: &'static str,
    },
}

impl<R: Read> RecordReader<R> {
    /// Reads from the start of a source.
    pub fn new(source: R) -> Self {
        Self::at(source, 0)
    }

    /// Reads from a source that stands at byte `offset`, where a record begins.
    pub fn at(source: R, offset: u64) -> Self {
        Self { source, buffer: Vec::new(), start: 0, offset }
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Next<'_>, FrameError> {
        if !self.fill(HEADER_BYTES)? {
            return Ok(if self.buffer.len() == self.start { Next::End } else { Next::Torn });
        }
        let header = &self.buffer[self.start..self.start + HEADER_BYTES];
        let damaged = |part| FrameError::Damaged { offset: self.offset, part };
        let length = number::<8>(header);
        if number::<4>(&header[8..]) != u64::from(masked_crc(&header[..8])) || length > MAX_DATA_BYTES as u64 {
            return Err(damaged("length"));
        }
        let length = length as usize;
        let whole = HEADER_BYTES + length + FOOTER_BYTES;
        if !self.fill(whole)? {
            return Ok(Next::Torn);
        }
        let data = self.start + HEADER_BYTES;
        let footer = number::<4>(&self.buffer[data + length..]);
        if footer != u64::from(masked_crc(&self.buffer[data..data + length])) {
            return Err(FrameError::Damaged { offset: self.offset, part: "data" });
        }
        self.start += whole;
        self.offset += whole as u64;
        Ok(Next::Record(&self.buffer[data..data + length]))
    }

    /// Reads until `wanted` bytes of the next record are there; false where the source ends before.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.buffer.len() - self.start < wanted {
            if self.start > 0 {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + CHUNK, 0);
            let read = loop {
                match self.source.read(&mut self.buffer[filled..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn number<const N: usize>(bytes: &[u8]) -> u64 {
    bytes[..N].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::record::append;

    #[test]
    fn a_torn_record_is_read_once_the_rest_has_arrived() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = Vec::new();
        append(&mut bytes, |buffer| buffer.extend_from_slice(b"hello"));
        let mut file = OpenOptions::new().append(true).open(path.path()).unwrap();
        let mut reader = RecordReader::new(File::open(path.path()).unwrap());
        assert_eq!(reader.next().unwrap(), Next::End);
        file.write_all(&bytes[..9]).unwrap();
        assert_eq!(reader.next().unwrap(), Next::Torn);
        file.write_all(&bytes[9..]).unwrap();
        assert_eq!(reader.next().unwrap(), Next::Record(b"hello"));
        assert_eq!(reader.next().unwrap(), Next::End);
    }

    #[test]
    fn a_length_that_no_record_has_is_damage_before_anything_is_read_for_it() {
        for (length, is_taken) in [(MAX_DATA_BYTES, true), (MAX_DATA_BYTES + 1, false), (1 << 30, false)] {
            let length = (length as u64).to_le_bytes();
            let header = [&length[..], &masked_crc(&length).to_le_bytes()].concat();
            // As much as is asked for.
            let mut reader = RecordReader::new(header.chain(io::repeat(0)));
            let part = if is_taken { "data" } else { "length" };
            assert!(matches!(reader.next(), Err(FrameError::Damaged { offset: 0, part: found }) if found == part));
            assert!(reader.buffer.len() <= MAX_DATA_BYTES + 2 * CHUNK);
        }
    }

    #[test]
    fn a_record_longer_than_a_chunk_is_whole() {
        let data = vec![7; 3 * CHUNK];
        let mut bytes = Vec::new();
        append(&mut bytes, |buffer| buffer.extend_from_slice(&data));
        assert_eq!(RecordReader::new(bytes.as_slice()).next().unwrap(), Next::Record(&data));
    }
}
