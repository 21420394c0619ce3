//! The fingerprint of a file's bytes as they lie on the disk: it tells that data have changed.
//!
//! Fingerprints are kept in checkpoints and compared years later. A rule below therefore never
//! changes: another way to make one is another rule with another name.
//!
//! - `whole-1`, for a file below 64,000,000 bytes: the SHA-256 of all of its bytes.
//! - `sample-1`, for any other: the SHA-256 of 64 blocks of 65,536 bytes in the order of the file,
//!   followed by its size, 8 bytes in little-endian order. Block `i` of 0 to 63 begins at
//!   `i * (size - 65536) / 63`, rounded down: the first and the last bytes are in it. A change
//!   between two blocks that keeps the size is not seen.
//!
//! A file that is packed counts as it is packed.

use std::io;

use serde::{Deserialize, Serialize};

use super::DataFile;
use crate::sha256::Sha256;

/// The names of the rules.
const WHOLE: &str = "whole-1";
const SAMPLE: &str = "sample-1";
/// Below this size the whole file counts.
const WHOLE_BELOW: u64 = 64_000_000;
/// Bytes of a block of a sample.
const BLOCK: usize = 1 << 16;
/// Blocks of a sample.
const BLOCKS: u64 = 64;
/// Bytes of a whole file that are read at a time.
const PART: usize = 1 << 20;

/// A fingerprint: the name of its rule, a colon, and a checksum in hexadecimal. Those of rules that
/// this version does not know are kept and compared with nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of an open file of that size. Its other readers keep their place. Ends where
    /// `go_on` fails, with its error; it is asked once for each part that is read.
    ///
    /// # Errors
    /// Those of reading; also where the file has become shorter.
    pub fn of(file: &DataFile, size: u64, go_on: impl Fn() -> io::Result<()>) -> io::Result<Self> {
        let mut digest = Sha256::default();
        let mut take = |begin: u64, part: &mut [u8]| {
            go_on()?;
            file.read_exact_at(part, begin)?;
            digest.update(part);
            io::Result::Ok(())
        };
        let rule = if size < WHOLE_BELOW {
            let mut part = vec![0; PART.min(size as usize)];
            for begin in (0..size).step_by(PART) {
                let length = PART.min((size - begin) as usize);
                take(begin, &mut part[..length])?;
            }
            WHOLE
        } else {
            let mut block = vec![0; BLOCK];
            blocks(size).try_for_each(|begin| take(begin, &mut block))?;
            digest.update(&size.to_le_bytes());
            SAMPLE
        };
        Ok(Self(format!("{rule}:{}", digest.finish())))
    }

    /// Whether the bytes of two files differ, as far as two fingerprints tell: those of two rules
    /// tell nothing.
    pub fn differs(&self, other: &Self) -> bool {
        self.rule() == other.rule() && self != other
    }

    /// Bytes of its text.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    fn rule(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

/// Where the blocks of a sample begin.
fn blocks(size: u64) -> impl Iterator<Item = u64> {
    let (last, span) = (u128::from(BLOCKS - 1), u128::from(size - BLOCK as u64));
    // At most the span, so that it fits.
    (0..BLOCKS).map(move |block| (u128::from(block) * span / last) as u64)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;

    fn of(path: &Path) -> Fingerprint {
        let file = DataFile::open(&path.canonicalize().unwrap()).unwrap();
        let size = file.metadata().unwrap().len();
        Fingerprint::of(&file, size, || Ok(())).unwrap()
    }

    #[test]
    fn a_small_file_has_the_checksum_that_sha256sum_prints_and_its_readers_keep_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("data");
        fs::write(&path, "abc").unwrap();
        let text = "whole-1:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&path).0, text);
        assert_eq!(serde_json::to_string(&of(&path)).unwrap(), format!("{text:?}"));
        let file = DataFile::open(&path).unwrap();
        let mut reader = file.reader().unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        Fingerprint::of(&file, 3, || Ok(())).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "c");
        assert_eq!(Fingerprint::of(&file, 4, || Ok(())).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let ends = || Err(io::Error::other("nobody waits"));
        assert_eq!(Fingerprint::of(&file, 3, ends).unwrap_err().to_string(), "nobody waits");
    }

    /// The values stand here so that no change of the rule goes unseen.
    #[test]
    fn a_large_file_is_sampled_by_a_rule_that_never_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let file = File::create(&path).unwrap();
        let size = 64_000_000 + 12_345;
        file.set_len(size).unwrap();
        for (value, begin) in (1..=64).zip(blocks(size)) {
            file.write_all_at(&[value], begin).unwrap();
        }
        let begin: Vec<_> = blocks(size).collect();
        assert_eq!((begin.len(), begin[0], begin[1], begin[63]), (64, 0, 1_015_028, size - 65_536));
        let first = of(&path);
        assert_eq!(first.0, "sample-1:b299a334c00f98567bb2c4f8371e2cde8ee32a388519e74d1f94c9b370aa6b2c");
        // Its last byte is seen, one between two blocks is not, and another size is.
        file.write_all_at(&[9], 65_536).unwrap();
        assert_eq!(of(&path), first);
        file.write_all_at(&[9], size - 1).unwrap();
        assert!(of(&path).differs(&first));
        file.write_all_at(&[0], size - 1).unwrap();
        assert_eq!(of(&path), first);
        file.set_len(size + 1).unwrap();
        assert!(of(&path).differs(&first));
        assert_eq!(blocks(u64::MAX).last(), Some(u64::MAX - 65_536));
    }

    #[test]
    fn fingerprints_of_two_rules_tell_nothing() {
        let one = |text: &str| Fingerprint(text.into());
        assert!(one("whole-1:ab").differs(&one("whole-1:cd")));
        assert!(!one("whole-1:ab").differs(&one("whole-1:ab")));
        assert!(!one("whole-1:ab").differs(&one("later-2:cd")));
    }
}
