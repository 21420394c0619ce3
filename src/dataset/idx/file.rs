//! IDX files, as the MNIST page describes them: two zero bytes, a type, the number of dimensions,
//! each dimension as a big-endian u32, then the values, the last dimension fastest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use super::super::compressed::Source;
use super::super::numbers::Kind;
use crate::looks::{self, looks_like};

/// The type byte of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;
/// The type bytes, and the values.
const TYPES: [(u8, Kind); 6] = [
    (UNSIGNED_BYTE, Kind::U8),
    (0x09, Kind::I8),
    (0x0b, Kind::I16),
    (0x0c, Kind::I32),
    (0x0d, Kind::F32),
    (0x0e, Kind::F64),
];

/// An opened IDX file, read up to its first value.
pub struct IdxFile {
    source: Source,
    /// The type of its values.
    pub kind: Kind,
    /// Its dimensions.
    pub dimensions: Vec<u32>,
    /// Bytes of the file as it lies on the disk, packed or not.
    pub on_disk: u64,
    /// Bytes of values that were read.
    found: u64,
}

/// The mistakes of an IDX file.
#[derive(Debug)]
pub enum IdxError {
    /// The system or the unpacking refuses.
    Unreadable(io::Error),
    /// Too short for a header.
    NoHeader,
    /// Another kind of file.
    WrongMagic {
        /// Its first bytes, at least four and at most [`looks::HEAD_BYTES`].
        head: Vec<u8>,
        /// Whether they were unpacked.
        is_unpacked: bool,
        /// Dimensions that it may have, the usual number first.
        wanted: &'static [u8],
    },
    /// A compressed file that ends too early.
    GzipCut {
        /// Values that could be unpacked.
        found: u64,
        /// Values that the header says.
        wanted: u64,
    },
    /// A header in little-endian order.
    SwappedSizes {
        /// The dimensions as they should be read.
        found: Vec<u32>,
        /// The same in the other order, which fits the values that are there.
        fitting: Vec<u32>,
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
    /// Takes a file that has one of these numbers of dimensions, the usual one first, and is open
    /// at its first byte.
    pub fn open(file: File, wanted: &'static [u8]) -> Result<Self, IdxError> {
        let on_disk = file.metadata().map_err(IdxError::Unreadable)?.len();
        let mut source = Source::new(file).map_err(IdxError::Unreadable)?;
        let found = header::<4>(&mut source)?;
        let known = match found {
            [0, 0, kind, count] if wanted.contains(&count) => kind_of(kind).map(|kind| (kind, count)),
            _ => None,
        };
        let Some((kind, count)) = known else {
            let mut head = found.to_vec();
            let is_unpacked = source.is_gzip();
            // A read error is ignored: the bytes before it show the kind of file.
            let _ = source.take((looks::HEAD_BYTES - head.len()) as u64).read_to_end(&mut head);
            return Err(IdxError::WrongMagic { head, is_unpacked, wanted });
        };
        let dimensions: Vec<u32> =
            (0..count).map(|_| header::<4>(&mut source).map(u32::from_be_bytes)).collect::<Result<_, _>>()?;
        let file = Self { source, kind, dimensions, on_disk, found: 0 };
        if !file.source.is_plain() {
            file.byte_count().ok_or(IdxError::TooLarge)?;
        } else {
            file.hold_against(on_disk.saturating_sub(4 + 4 * file.dimensions.len() as u64))?;
        }
        Ok(file)
    }

    /// Values that the header promises; None where that does not fit 63 bits.
    pub fn value_count(&self) -> Option<u64> {
        product(&self.dimensions)
    }

    /// The same in bytes.
    fn byte_count(&self) -> Option<u64> {
        self.value_count()?.checked_mul(self.kind.width() as u64)
    }

    /// Compares the bytes of values that are there with the header's.
    fn hold_against(&self, bytes: u64) -> Result<(), IdxError> {
        if self.byte_count() == Some(bytes) {
            return Ok(());
        }
        let swapped: Vec<_> = self.dimensions.iter().map(|size| size.swap_bytes()).collect();
        let width = self.kind.width() as u64;
        let (found, wanted) = (bytes / width, self.byte_count().map(|bytes| bytes / width));
        Err(match wanted {
            _ if product(&swapped) == Some(found) && bytes.is_multiple_of(width) => {
                IdxError::SwappedSizes { found: self.dimensions.clone(), fitting: swapped }
            }
            None => IdxError::TooLarge,
            Some(wanted) if found < wanted => IdxError::Truncated { found, wanted },
            Some(wanted) => IdxError::Trailing { wanted },
        })
    }

    /// Whether it is packed.
    pub fn is_gzip(&self) -> bool {
        self.source.is_gzip()
    }

    /// The place of the first value in the file; None where it is packed.
    pub fn first_value(&self) -> Option<u64> {
        self.source.is_plain().then_some(4 + 4 * self.dimensions.len() as u64)
    }

    /// The bytes of all values. The memory grows as they arrive: a header that lies costs nothing.
    pub fn read(mut self) -> Result<Vec<u8>, IdxError> {
        let (mut values, mut block) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            match self.next(&mut block)? {
                0 => return Ok(values),
                count => values.extend_from_slice(&block[..count]),
            }
        }
    }

    /// The next bytes of the values, which may cut one, and how many they are: none at the end,
    /// where exactly as many have been there as the header says.
    fn next(&mut self, block: &mut [u8]) -> Result<usize, IdxError> {
        let wanted = self.byte_count().ok_or(IdxError::TooLarge)?;
        let width = self.kind.width() as u64;
        let count = loop {
            match self.source.read(block) {
                Ok(count) => break count,
                // The error of flate2 and zstd for data that end too early.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(IdxError::GzipCut { found: self.found / width, wanted: wanted / width });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(IdxError::Unreadable(error)),
            }
        };
        if count == 0 {
            self.hold_against(self.found)?;
        }
        self.found += count as u64;
        if self.found > wanted {
            return Err(IdxError::Trailing { wanted: wanted / width });
        }
        Ok(count)
    }
}

/// Reads the values. Other errors than those of the system are each a `Mistake`.
impl Read for IdxFile {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        self.next(block).map_err(io::Error::from)
    }
}

fn kind_of(byte: u8) -> Option<Kind> {
    TYPES.iter().find(|(known, _)| *known == byte).map(|(_, kind)| *kind)
}

fn product(dimensions: &[u32]) -> Option<u64> {
    let product = dimensions.iter().try_fold(1u64, |count, &size| count.checked_mul(u64::from(size)))?;
    i64::try_from(product).is_ok().then_some(product)
}

/// The kind of a file with these first bytes; None where they tell nothing.
fn instead(head: &[u8], is_unpacked: bool) -> Option<String> {
    match *head {
        [0, 0, kind, count, ref rest @ ..] if kind_of(kind).is_some() => {
            let sizes: Vec<_> = rest.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size)).collect();
            let sizes = sizes.get(..usize::from(count)).map_or_else(String::new, |sizes| format!(" {sizes:?}"));
            let values = kind_of(kind)?.name();
            let dimensions = if count == 1 { "dimension" } else { "dimensions" };
            Some(format!("it is an IDX file of {values} in {count} {dimensions}{sizes}"))
        }
        [1..=15, kind, 0, 0, ..] if kind_of(kind).is_some() => {
            Some("its header is in little-endian byte order, and IDX files are big-endian".into())
        }
        [0x1f, 0x8b, ..] if is_unpacked => Some("it was packed with gzip twice; unpack it once".into()),
        _ => looks_like(head).map(|looks| format!("it looks like {looks}")),
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
            Self::WrongMagic { head, is_unpacked, wanted } => {
                let found = u32::from_be_bytes(head.first_chunk().copied().unwrap_or_default());
                let usual = wanted.first().copied().unwrap_or_default();
                let right = u32::from_be_bytes([0, 0, UNSIGNED_BYTE, usual]);
                write!(
                    f,
                    "begins with {found:#010x}, where an IDX file of {usual}-dimensional unsigned bytes begins with {right:#010x}"
                )?;
                instead(head, *is_unpacked).map_or(Ok(()), |words| write!(f, ": {words}"))
            }
            Self::GzipCut { found, wanted } => write!(
                f,
                "is cut off: its header says {wanted} values, {found} could be unpacked, and the compressed data break off"
            ),
            Self::SwappedSizes { found, fitting } => write!(
                f,
                "has its sizes in little-endian byte order: they read {found:?}, and {fitting:?} fits the values that are there"
            ),
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

    const LABELS: &[u8] = &[1];
    const IMAGES: &[u8] = &[3, 2, 4];
    const THREE: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

    #[test]
    fn plain_and_gzip_give_the_same_values() {
        for bytes in [THREE.to_vec(), gzip(THREE)] {
            let idx = IdxFile::open(file(&bytes), LABELS).unwrap();
            assert_eq!(idx.dimensions, [3]);
            assert_eq!(idx.read().unwrap(), [7, 8, 9]);
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let packed = gzip(THREE);
        for cut in 0..THREE.len() {
            let file = file(&THREE[..cut]);
            assert!(IdxFile::open(file, LABELS).and_then(IdxFile::read).is_err(), "plain, {cut} bytes");
        }
        for cut in 0..packed.len() {
            let file = file(&packed[..cut]);
            assert!(IdxFile::open(file, LABELS).and_then(IdxFile::read).is_err(), "gzip, {cut} bytes");
        }
    }

    #[test]
    fn a_wrong_magic_number_is_told_with_the_right_one() {
        let error = IdxFile::open(file(THREE), IMAGES).err().unwrap().to_string();
        assert!(error.contains("0x00000801") && error.contains("0x00000803"), "{error}");
    }

    #[test]
    fn what_people_have_in_place_of_an_idx_file_is_named() {
        let refusal = |bytes: &[u8], dimensions: &'static [u8]| {
            let read = IdxFile::open(file(bytes), dimensions).and_then(IdxFile::read);
            read.err().unwrap().to_string()
        };
        let sizes = |kind, sizes: &[u32]| {
            let values = sizes.iter().flat_map(|size| size.to_be_bytes());
            [0, 0, kind, sizes.len() as u8].into_iter().chain(values).collect::<Vec<u8>>()
        };
        for (bytes, dimensions, words) in [
            (b"<!DOCTYPE html><html>".to_vec(), IMAGES, "it looks like an HTML page"),
            (b"version https://git-lfs.github.com/spec/v1\n".into(), IMAGES, "it looks like a Git LFS pointer"),
            (b"PK\x03\x04....".into(), IMAGES, "it looks like a zip archive"),
            (gzip(&gzip(THREE)), LABELS, "packed with gzip twice"),
            (gzip(b"<html></html>"), LABELS, "it looks like an HTML page"),
            (sizes(0x0c, &[2, 8]), LABELS, "an IDX file of 32-bit integers in 2 dimensions [2, 8]"),
            (sizes(0x0d, &[2, 1, 28, 28, 3]), IMAGES, "an IDX file of 32-bit floats in 5 dimensions [2, 1, 28, 28, 3]"),
            (sizes(0x08, &[2, 28, 28, 3]), LABELS, "of unsigned bytes in 4 dimensions [2, 28, 28, 3]"),
            (sizes(0x08, &[784]), IMAGES, "in 1 dimension [784]"),
            (sizes(0x0d, &[2, 2]), IMAGES, "says 4 values, 0 are there"),
            ([sizes(0x0c, &[2]), vec![0; 7]].concat(), LABELS, "says 2 values, 1 are there"),
            ([sizes(0x0c, &[2]), vec![0; 9]].concat(), LABELS, "goes on after the 2 values"),
            ([&[0, 0, 0x0b, 1, 3, 0, 0, 0][..], &[0; 6]].concat(), LABELS, "they read [50331648], and [3] fits"),
            (gzip(&[sizes(0x0c, &[2]), vec![0; 7]].concat()), LABELS, "says 2 values, 1 are there"),
            (vec![3, 8, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 7], IMAGES, "in little-endian byte order"),
            (vec![0, 0, 8, 1, 3, 0, 0, 0, 7, 8, 9], LABELS, "they read [50331648], and [3] fits"),
            (gzip(&[0, 0, 8, 1, 3, 0, 0, 0, 7, 8, 9]), LABELS, "they read [50331648], and [3] fits"),
            ([&[0, 0, 8, 3][..], &[1, 0, 0, 0].repeat(3), &[7]].concat(), IMAGES, "and [1, 1, 1] fits"),
            ([THREE, b"\n"].concat(), LABELS, "goes on after the 3 values"),
            ([&gzip(THREE)[..], b"behind"].concat(), LABELS, "behind its gzip data stands text"),
        ] {
            let found = refusal(&bytes, dimensions);
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn gzip_is_taken_as_gzip_takes_it_and_a_cut_says_what_is_missing() {
        let (one, two) = THREE.split_at(6);
        let padded = [&gzip(THREE)[..], &[0; 9]].concat();
        for bytes in [padded, [gzip(one), gzip(two)].concat()] {
            assert_eq!(IdxFile::open(file(&bytes), LABELS).and_then(IdxFile::read).unwrap(), [7, 8, 9]);
        }
        let packed = gzip(THREE);
        let cut = IdxFile::open(file(&packed[..packed.len() - 1]), LABELS).and_then(IdxFile::read);
        let words = "says 3 values, 3 could be unpacked, and the compressed data break off";
        assert!(cut.err().unwrap().to_string().contains(words));
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let longer = [THREE, &[1]].concat();
        assert!(matches!(IdxFile::open(file(&longer), LABELS), Err(IdxError::Trailing { wanted: 3 })));
        let packed = IdxFile::open(file(&gzip(&longer)), LABELS).unwrap();
        assert!(matches!(packed.read(), Err(IdxError::Trailing { wanted: 3 })));
    }

    #[test]
    fn a_header_that_lies_costs_no_memory() {
        let huge = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
        assert!(matches!(IdxFile::open(file(&gzip(&huge)), IMAGES), Err(IdxError::TooLarge)));
        let large = [&[0, 0, 8, 3][..], &[0x0f; 4], &[0, 0, 0x0f, 0xff], &[0, 0, 0x0f, 0xff], &[1, 2]].concat();
        let idx = IdxFile::open(file(&gzip(&large)), IMAGES).unwrap();
        assert!(matches!(idx.read(), Err(IdxError::Truncated { found: 2, .. })));
    }
}
