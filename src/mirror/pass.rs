//! The folders of one pass over a copy, and how a file of the copy is written.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::{Copied, LIST, Pulse};
use crate::beneath::Folder;
use crate::sha256::Sha256;
use crate::umask::open_to_others;

/// A list of more bytes is none of ours.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// The folders of one pass, open.
pub(super) struct Pass<'a> {
    /// The job's.
    pub(super) from: Folder,
    /// The copy's.
    pub(super) to: Folder,
    pub(super) pulse: &'a Pulse,
}

impl Pass<'_> {
    /// The list that is there.
    pub(super) fn list(&self) -> io::Result<BTreeMap<String, Copied>> {
        let mut text = Vec::new();
        self.to.file(LIST)?.take(MAX_LIST_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Writes a file of the copy whole, reads back what has its name then, and tells its checksum.
    pub(super) fn write_and_compare(&self, path: &str, from: &mut impl Read) -> io::Result<Copied> {
        let mut file = self.to.overwrite(path, 0o666)?;
        open_to_others(&file);
        let (mut digest, mut size) = (Sha256::default(), 0u64);
        let mut block = vec![0; 1 << 20];
        loop {
            self.pulse.beat(path);
            let count = from.read(&mut block)?;
            if count == 0 {
                break;
            }
            file.write_all(&block[..count])?;
            digest.update(&block[..count]);
            size += count as u64;
        }
        match file.sync_all() {
            // Some of these file systems have no such thing.
            Err(error) if !matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                return Err(error);
            }
            _ => {}
        }
        // Some have it whole once it is closed.
        drop(file);
        let sha256 = digest.finish();
        // One byte more than was written tells a file that somebody makes longer meanwhile.
        let mut again = self.pulse.reader(self.to.file(path)?.take(size + 1));
        if Sha256::of_reader(&mut again)? != sha256 {
            return Err(io::Error::other("does not read back as it was written"));
        }
        Ok(Copied { size_bytes: size, sha256 })
    }
}
