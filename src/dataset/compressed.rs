//! Files that may be gzip or Zstandard: told by their first bytes (RFC 1952, section 2.3.1; RFC
//! 8878, sections 3.1.1 and 3.1.2), not by their name. Zstandard may begin with a skippable frame,
//! as pzstd(1) writes it.
//!
//! A gzip file is one member or several, and null bytes may follow the last one, as tapes and block
//! devices leave them. That is what gzip(1) and Python's gzip both take; what else follows a member
//! is refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use flate2::bufread::GzDecoder;

use crate::looks::{self, looks_like};

/// The first byte of a member.
const MEMBER: u8 = 0x1f;
/// Bytes that one byte of a gzip file unpacks to, at most: two bits stand for 258 bytes. (RFC 1951,
/// section 3.2.5)
pub const MOST_UNPACKED: u64 = 1032;

/// An opened file, unpacked as it is read.
pub enum Source {
    /// As it is on disk.
    Plain(BufReader<File>),
    /// Unpacked; the checksum of each member is checked when its end is read.
    Gzip(Members<BufReader<File>>),
    /// Unpacked, all frames of the file. A frame that needs a window above 128 MB is refused.
    Zstandard(zstd::Decoder<'static, BufReader<File>>),
}

/// The content of all members of a gzip file.
pub struct Members<R> {
    /// The member in hand; None behind the last one.
    member: Option<Box<GzDecoder<R>>>,
}

impl Source {
    /// Unpacks a file that is open at its first byte.
    pub fn new(mut file: File) -> io::Result<Self> {
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        let file = BufReader::with_capacity(1 << 16, file);
        Ok(match magic[..] {
            [MEMBER, 0x8b, ..] => Self::Gzip(Members::new(file)),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                Self::Zstandard(zstd::Decoder::with_buffer(file)?)
            }
            _ => Self::Plain(file),
        })
    }

    /// Whether the file is as it is on disk.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether the file is gzip.
    pub fn is_gzip(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(source) => source.read(buffer),
            Self::Zstandard(source) => source.read(buffer),
        }
    }
}

impl<R: BufRead> Members<R> {
    /// The members that a reader has.
    pub fn new(source: R) -> Self {
        Self { member: Some(Box::new(GzDecoder::new(source))) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.member = match self.member.take().map(|member| member.into_inner()) {
                Some(source) => next(source)?.map(|source| Box::new(GzDecoder::new(source))),
                None => None,
            };
        }
        Ok(0)
    }
}

/// The reader again where another member follows; None where nothing does, or null bytes alone.
fn next<R: BufRead>(mut source: R) -> io::Result<Option<R>> {
    if source.fill_buf()?.first() == Some(&MEMBER) {
        return Ok(Some(source));
    }
    loop {
        let block = source.fill_buf()?;
        if block.is_empty() {
            return Ok(None);
        }
        if let Some(place) = block.iter().position(|&byte| byte != 0) {
            source.consume(place);
            let mut head = Vec::new();
            source.take(looks::HEAD_BYTES as u64).read_to_end(&mut head)?;
            let looks = looks_like(&head).unwrap_or("other bytes");
            let what = format!("behind its gzip data stands {looks}; null bytes alone may");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let count = block.len();
        source.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn unpack(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // A small buffer: whatever is looked at may lie on its edge.
        Members::new(BufReader::with_capacity(3, file)).read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn members_and_null_bytes_behind_them_are_taken_as_gzip_takes_them() {
        let two = [gzip(b"ab"), gzip(b"c")].concat();
        for padding in [0, 1, 2, 9, 512, 10_240] {
            let padded = [&two[..], &vec![0; padding]].concat();
            assert_eq!(unpack(&padded).unwrap(), b"abc", "{padding} null bytes");
        }
    }

    #[test]
    fn what_else_follows_is_refused_by_name() {
        let whole = gzip(b"abc");
        for (behind, words) in [
            (&b"garbage"[..], "stands text"),
            (b"\0\0\0\xff", "stands other bytes"),
            // gzip(1) would drop this member.
            (&[&[0; 5][..], &whole].concat(), "stands a gzip file"),
        ] {
            let error = unpack(&[&whole[..], behind].concat()).unwrap_err();
            assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(words), "{error}");
        }
        assert!(unpack(&[&whole[..], &[MEMBER]].concat()).is_err());
        for cut in 0..whole.len() {
            assert_eq!(unpack(&whole[..cut]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut} bytes");
        }
    }

    /// The content of a file with these bytes.
    fn unpack_file(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let mut content = Vec::new();
        Source::new(file)?.read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn frames_of_zstandard_are_unpacked_and_faults_in_them_are_told() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(b"abcabcabcabc").unwrap();
        let frame = encoder.finish().unwrap();
        // A skippable frame: its magic number, four bytes of length, and as many bytes.
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"..", &frame].concat();
        for whole in [frame.clone(), [&frame[..], &frame].concat(), skippable] {
            let content = unpack_file(&whole).unwrap();
            assert!(content.starts_with(b"abcabcabcabc") && content.len().is_multiple_of(12), "{content:?}");
        }
        for cut in 4..frame.len() {
            assert_eq!(unpack_file(&frame[..cut]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut} bytes");
        }
        let mut wrong = frame.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(unpack_file(&wrong).is_err(), "the checksum");
        assert!(unpack_file(&[&frame[..], b"garbage"].concat()).is_err());
    }
}
