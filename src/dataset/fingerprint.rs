//! The fingerprint of the bytes of a file, or of a folder of images, as they lie on the disk: it
//! tells that data have changed.
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
//!
//! - `images-1`, for a folder: the SHA-256 of a list of its images, followed by bytes of them. The
//!   images are the regular files whose names end in .jpg, .jpeg or .png, in letters of either
//!   case. Names that begin with a dot do not count, nor do links and folders more than 16 deep.
//!   They come in the order of a walk that takes the entries of a folder by the bytes of their
//!   names, and a folder at its place. The list has for each its path below the folder, a null
//!   byte, and its size, 8 bytes in little-endian order. Of images of fewer than 64,000,000 bytes
//!   together all bytes follow; of others the first 65,536 bytes of 64 images: image `i * count /
//!   64` for `i` of 0 to 63, rounded down. So that of a large set each name and each size is seen,
//!   and a change of bytes that keeps the size of an image seldom is.

use std::fs::File;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::{DataFile, image_folder};
use crate::beneath::Folder;
use crate::sha256::Sha256;

/// The names of the rules.
const WHOLE: &str = "whole-1";
const SAMPLE: &str = "sample-1";
const IMAGES: &str = "images-1";
/// Below this size the whole file counts.
const WHOLE_BELOW: u64 = 64_000_000;
/// Bytes of a block of a sample.
const BLOCK: usize = 1 << 16;
/// Blocks of a sample.
const BLOCKS: u64 = 64;
/// Bytes of a whole file that are read at a time.
const PART: usize = 1 << 20;
/// Images of which a block counts, in a large folder.
const IMAGES_READ: u64 = 64;
/// Folders that lie deeper in each other do not count.
const MAX_DEPTH: usize = 16;

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

    /// The bytes of all images in a folder, and their fingerprint. Ends where `go_on` fails, with
    /// its error; it is asked once for each folder and each part that is read.
    ///
    /// # Errors
    /// Those of reading; also where an image goes while they are read.
    pub fn of_images(folder: &Folder, go_on: &dyn Fn() -> io::Result<()>) -> io::Result<(u64, Self)> {
        let (mut digest, mut count, mut size_bytes) = (Sha256::default(), 0u64, 0u64);
        each_image(folder, "", 0, go_on, &mut |path, of, name| {
            let size = of.size(name)?;
            digest.update(path.as_bytes());
            digest.update(&[0]);
            digest.update(&size.to_le_bytes());
            (count, size_bytes) = (count + 1, size_bytes.saturating_add(size));
            Ok(())
        })?;
        let is_small = size_bytes < WHOLE_BELOW;
        let (mut place, mut part) = (0, vec![0; BLOCK]);
        each_image(folder, "", 0, go_on, &mut |_, of, name| {
            // The images `i * count / 64`: between two places in 64 parts of all lies a border.
            let part_of = |place: u64| (u128::from(place) * u128::from(IMAGES_READ)).div_ceil(u128::from(count.max(1)));
            if is_small || part_of(place) != part_of(place + 1) {
                add_file(&mut digest, of.file(name)?, is_small, &mut part, go_on)?;
            }
            place += 1;
            Ok(())
        })?;
        Ok((size_bytes, Self(format!("{IMAGES}:{}", digest.finish()))))
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

/// Adds all bytes of an image, or its first block.
fn add_file(
    digest: &mut Sha256,
    mut file: File,
    is_whole: bool,
    part: &mut [u8],
    go_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    loop {
        go_on()?;
        let mut length = 0;
        while length < part.len() {
            match file.read(&mut part[length..])? {
                0 => break,
                count => length += count,
            }
        }
        digest.update(&part[..length]);
        if !is_whole || length < part.len() {
            return Ok(());
        }
    }
}

/// Hands out each image below a folder: its path from there on, and its folder with its name in it.
fn each_image(
    folder: &Folder,
    before: &str,
    depth: usize,
    go_on: &dyn Fn() -> io::Result<()>,
    take: &mut dyn FnMut(&str, &Folder, &str) -> io::Result<()>,
) -> io::Result<()> {
    go_on()?;
    for entry in folder.entries()?.into_iter().filter(|entry| !entry.name.starts_with('.')) {
        let path = format!("{before}{}", entry.name);
        if entry.is_folder && depth < MAX_DEPTH {
            each_image(&folder.folder(&entry.name)?, &format!("{path}/"), depth + 1, go_on, take)?;
        } else if entry.is_file && image_folder::is_image(&entry.name) {
            take(&path, folder, &entry.name)?;
        }
    }
    Ok(())
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

    fn of_images(path: &Path) -> (u64, String) {
        let (size_bytes, found) = Fingerprint::of_images(&Folder::open(path).unwrap(), &|| Ok(())).unwrap();
        (size_bytes, found.0)
    }

    /// The same: the checksum is that of the bytes that the rule tells.
    #[test]
    fn a_folder_has_the_names_sizes_and_bytes_of_its_images() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &str| {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        put("b/2.PNG", "second");
        put("b/in/1.jpeg", "third");
        put("a.jpg", "first");
        let mut digest = Sha256::default();
        for (path, size) in [("a.jpg", 5u64), ("b/2.PNG", 6), ("b/in/1.jpeg", 5)] {
            digest.update(&[path.as_bytes(), &[0], &size.to_le_bytes()].concat());
        }
        digest.update(b"firstsecondthird");
        let then = (16, format!("images-1:{}", digest.finish()));
        assert_eq!(of_images(folder.path()), then);
        put("notes.txt", "of no image");
        put("b/.hidden.png", "hidden");
        std::os::unix::fs::symlink("a.jpg", folder.path().join("c.jpg")).unwrap();
        assert_eq!(of_images(folder.path()), then);
        put("b/2.PNG", "Second");
        assert_ne!(of_images(folder.path()), then, "bytes");
        put("b/2.PNG", "second");
        assert_eq!(of_images(folder.path()), then);
        fs::rename(folder.path().join("b/2.PNG"), folder.path().join("b/3.PNG")).unwrap();
        assert_ne!(of_images(folder.path()).1, then.1, "names");
        let ends = || Err(io::Error::other("nobody waits"));
        let error = Fingerprint::of_images(&Folder::open(folder.path()).unwrap(), &ends).unwrap_err();
        assert_eq!(error.to_string(), "nobody waits");
    }

    #[test]
    fn of_a_large_folder_the_beginnings_of_images_spread_over_all_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u64| folder.path().join(format!("{number:03}.png"));
        for number in 0..200 {
            File::create(path(number)).unwrap().set_len(400_000).unwrap();
        }
        let then = of_images(folder.path());
        assert_eq!(then.0, 80_000_000);
        // Of 200 images those count whose number is one of i * 200 / 64.
        for (number, counts) in [(0, true), (1, false), (3, true), (24, false), (25, true), (196, true), (199, false)] {
            let file = File::options().write(true).open(path(number)).unwrap();
            file.write_all_at(&[1], 65_536).unwrap();
            assert_eq!(of_images(folder.path()), then, "{number}: behind its beginning");
            file.write_all_at(&[1], 65_535).unwrap();
            assert_eq!(of_images(folder.path()) != then, counts, "{number}");
            file.write_all_at(&[0], 65_535).unwrap();
        }
    }

    #[test]
    fn fingerprints_of_two_rules_tell_nothing() {
        let one = |text: &str| Fingerprint(text.into());
        assert!(one("whole-1:ab").differs(&one("whole-1:cd")));
        assert!(!one("whole-1:ab").differs(&one("whole-1:ab")));
        assert!(!one("whole-1:ab").differs(&one("later-2:cd")));
    }
}
