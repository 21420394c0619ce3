//! IDX files, as the MNIST page describes them: two zero bytes, a type, the number of dimensions, each dimension as a
//! big-endian u32, then the values, the last dimension fastest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use super::compressed::Source;

/// The type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// An opened IDX file of unsigned bytes, read up to its first value.
pub struct IdxFile {
    source: Source,
    /// Its dimensions.
    pub dimensions: Vec<u32>,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum IdxError {
    /// The system or the unpacking refuses.
    Unreadable(io::Error),
    /// Too short for a header.
    NoHeader,
    /// Another kind of file.
    WrongMagic {
        /// The first four bytes.
        found: [u8; 4],
        /// Dimensions that it should have.
        wanted: u8,
    },
    /// Fewer values than its header says.
    Truncated {
        /// Values that are there.
        found: u64,
        /// Values that the header says.
        wanted: u64,
    },
    /// More bytes than its header says.
    Trailing {
        /// Values that the header says.
        wanted: u64,
    },
    /// The header says more than any file could hold.
    TooLarge,
}

impl IdxFile {
    /// Takes a file that should have that many dimensions, and is open at its first byte.
    pub fn open(file: File, dimensions: u8) -> Result<Self, IdxError> {
        let on_disk = file.metadata().map_err(IdxError::Unreadable)?.len();
        let mut source = Source::new(file).map_err(IdxError::Unreadable)?;
        let found = header::<4>(&mut source)?;
        if found != [0, 0, UNSIGNED_BYTE, dimensions] {
            return Err(IdxError::WrongMagic { found, wanted: dimensions });
        }
        let dimensions: Vec<u32> =
            (0..dimensions).map(|_| header::<4>(&mut source).map(u32::from_be_bytes)).collect::<Result<_, _>>()?;
        let file = Self { source, dimensions };
        let wanted = file.value_count().ok_or(IdxError::TooLarge)?;
        if !file.source.is_gzip() {
            let found = on_disk.saturating_sub(4 + 4 * file.dimensions.len() as u64);
            if found < wanted {
                return Err(IdxError::Truncated { found, wanted });
            }
            if found > wanted {
                return Err(IdxError::Trailing { wanted });
            }
        }
        Ok(file)
    }

    /// Values that the header promises; None where that does not fit 63 bits.
    pub fn value_count(&self) -> Option<u64> {
        let product = self.dimensions.iter().try_fold(1u64, |count, &size| count.checked_mul(u64::from(size)))?;
        i64::try_from(product).is_ok().then_some(product)
    }

    /// All values. The memory grows as they arrive: a header that lies costs nothing.
    pub fn read(mut self) -> Result<Vec<u8>, IdxError> {
        let mut values = Vec::new();
        self.each_block(|block| values.extend_from_slice(block))?;
        Ok(values)
    }

    /// Hands out all values in blocks, and checks that there are exactly as many as the header says.
    pub fn each_block(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), IdxError> {
        let wanted = self.value_count().ok_or(IdxError::TooLarge)?;
        let mut found = 0;
        let mut block = vec![0; 1 << 16];
        loop {
            let count = match self.source.read(&mut block) {
                Ok(0) if found < wanted => return Err(IdxError::Truncated { found, wanted }),
                Ok(0) => return Ok(()),
                Ok(count) => count,
                // What flate2 says of a gzip that ends too early.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(IdxError::Truncated { found, wanted });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(IdxError::Unreadable(error)),
            };
            found += count as u64;
            if found > wanted {
                return Err(IdxError::Trailing { wanted });
            }
            take(&block[..count]);
        }
    }
}

fn header<const N: usize>(source: &mut Source) -> Result<[u8; N], IdxError> {
    let mut bytes = [0; N];
    match source.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(IdxError::NoHeader),
        Err(error) => Err(IdxError::Unreadable(error)),
    }
}

impl fmt::Display for IdxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Self::NoHeader => f.write_str("is too short to be an IDX file: not even its header is complete"),
            Self::WrongMagic { found, wanted } => {
                let found = u32::from_be_bytes(*found);
                let right = u32::from_be_bytes([0, 0, UNSIGNED_BYTE, *wanted]);
                write!(
                    f,
                    "begins with {found:#010x}, where an IDX file of {wanted}-dimensional unsigned bytes begins with {right:#010x}"
                )
            }
            Self::Truncated { found, wanted } => {
                write!(f, "is cut off: its header says {wanted} values, {found} are there")
            }
            Self::Trailing { wanted } => write!(f, "goes on after the {wanted} values that its header says"),
            Self::TooLarge => f.write_str("has a header that says more values than a file can hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    const THREE: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

    #[test]
    fn plain_and_gzip_give_the_same_values() {
        for bytes in [THREE.to_vec(), gzip(THREE)] {
            let idx = IdxFile::open(file(&bytes), 1).unwrap();
            assert_eq!(idx.dimensions, [3]);
            assert_eq!(idx.read().unwrap(), [7, 8, 9]);
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let packed = gzip(THREE);
        for cut in 0..THREE.len() {
            let file = file(&THREE[..cut]);
            assert!(IdxFile::open(file, 1).and_then(IdxFile::read).is_err(), "plain, {cut} bytes");
        }
        for cut in 0..packed.len() {
            let file = file(&packed[..cut]);
            assert!(IdxFile::open(file, 1).and_then(IdxFile::read).is_err(), "gzip, {cut} bytes");
        }
    }

    #[test]
    fn a_wrong_magic_number_is_told_with_the_right_one() {
        let error = IdxFile::open(file(THREE), 3).err().unwrap().to_string();
        assert!(error.contains("0x00000801") && error.contains("0x00000803"), "{error}");
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let longer = [THREE, &[1]].concat();
        assert!(matches!(IdxFile::open(file(&longer), 1), Err(IdxError::Trailing { wanted: 3 })));
        let packed = IdxFile::open(file(&gzip(&longer)), 1).unwrap();
        assert!(matches!(packed.read(), Err(IdxError::Trailing { wanted: 3 })));
    }

    #[test]
    fn a_header_that_lies_costs_no_memory() {
        let huge = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
        assert!(matches!(IdxFile::open(file(&gzip(&huge)), 3), Err(IdxError::TooLarge)));
        let large = [&[0, 0, 8, 3][..], &[0x0f; 4], &[0, 0, 0x0f, 0xff], &[0, 0, 0x0f, 0xff], &[1, 2]].concat();
        let idx = IdxFile::open(file(&gzip(&large)), 3).unwrap();
        assert!(matches!(idx.read(), Err(IdxError::Truncated { found: 2, .. })));
    }
}
