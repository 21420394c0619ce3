//! Files that may be gzip: told by their first two bytes (RFC 1952, section 2.3.1), not by their name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use flate2::bufread::MultiGzDecoder;

/// An opened file, unpacked as it is read.
pub enum Source {
    /// As it is on disk.
    Plain(BufReader<File>),
    /// Unpacked; its checksum is checked when its end is read.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Source {
    /// Unpacks a file that is open at its first byte.
    pub fn new(mut file: File) -> io::Result<Self> {
        let mut magic = [0; 2];
        let is_gzip = match file.read_exact(&mut magic) {
            Ok(()) => magic == [0x1f, 0x8b],
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        file.rewind()?;
        let file = BufReader::with_capacity(1 << 16, file);
        Ok(if is_gzip { Self::Gzip(Box::new(MultiGzDecoder::new(file))) } else { Self::Plain(file) })
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
        }
    }
}
