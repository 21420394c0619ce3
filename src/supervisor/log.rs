//! The runner's output: read to the end, so that it never blocks, and kept up to a limit, so that
//! it never fills a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::journal::JobFolder;

/// A tail looks at no more than this.
const TAIL_BYTES: u64 = 64 << 10;
/// Bytes at the end of the output that a full log keeps: the last words tell most.
const LAST_BYTES: usize = 4 << 10;

/// The log of a job, written to by the shim. Output that cannot be kept is counted, and a line says
/// so where it is missing.
pub(super) struct Log {
    path: PathBuf,
    /// None while it cannot be opened.
    file: Option<File>,
    /// Bytes in it.
    length: u64,
    limit: u64,
    /// Bytes since the last one that was kept.
    dropped: u64,
    /// The last of these.
    last: Vec<u8>,
}

impl Log {
    /// Opens a log behind what it holds.
    pub(super) fn open(path: &Path, limit: u64) -> Self {
        let mut log = Self { path: path.to_owned(), file: None, length: 0, limit, dropped: 0, last: Vec::new() };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().append(true).create(true).open(&self.path).ok();
        self.length = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
    }

    /// Adds some output, as far as there is room.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.file.is_none() {
            self.reopen();
        }
        let room = self.limit.saturating_sub(self.length).min(bytes.len() as u64) as usize;
        if room == 0 || !self.mark() {
            return self.drop(bytes);
        }
        let kept = self.append(&bytes[..room]);
        self.drop(&bytes[kept..]);
    }

    fn drop(&mut self, bytes: &[u8]) {
        self.dropped += bytes.len() as u64;
        self.last.extend_from_slice(bytes);
        let old = self.last.len().saturating_sub(LAST_BYTES);
        self.last.drain(..old);
    }

    /// Ends the log. One that was full gets the last words all the same, behind a line about what
    /// is missing before them.
    pub(super) fn close(mut self) {
        let mut last = std::mem::take(&mut self.last);
        if (last.len() as u64) < self.dropped {
            // Whole lines.
            let start = last.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            last.drain(..start);
        }
        self.dropped -= last.len() as u64;
        if self.mark() {
            self.append(&last);
        }
    }

    /// Says how much is missing here; false where that cannot be written.
    fn mark(&mut self) -> bool {
        if self.dropped == 0 {
            return true;
        }
        let why = if self.length >= self.limit { "the log is full" } else { "the log could not be written" };
        let line = format!("\n[torchd: {why}, {} bytes are missing here]\n", self.dropped);
        if self.append(line.as_bytes()) < line.len() {
            return false;
        }
        self.dropped = 0;
        self.last.clear();
        true
    }

    /// How much of that the log has taken.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(file) = &mut self.file else { return 0 };
        let mut written = 0;
        while written < bytes.len() {
            match file.write(&bytes[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.length += written as u64;
        written
    }
}

/// The last lines that an attempt has left in the log of its job, at most `count`; none where there
/// is no log. Its order tells where they begin; without that they may be of an earlier attempt.
pub fn last_lines(folder: &JobFolder, attempt: u32, count: usize) -> Vec<String> {
    let begins = folder.read_order(attempt).map_or(0, |order| order.log_begins);
    let read = || -> io::Result<Vec<u8>> {
        let Some(mut file) = folder.open_log()? else { return Ok(Vec::new()) };
        let length = file.metadata()?.len();
        // Somebody may have emptied it.
        let begins = if begins <= length { begins } else { 0 };
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES).max(begins)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|&line| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_says_how_much_is_missing_and_has_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.log");
        let mut log = Log::open(&path, 10);
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| log.write(line.as_bytes()));
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, tail) = text.split_once("\n[torchd: the log is full, ").unwrap();
        let (missing, tail) = tail.split_once(" bytes are missing here]\n").unwrap();
        let all = lines.concat();
        assert!(head == &all[..10] && all.ends_with(tail) && tail.starts_with("line "), "{head:?} {tail:?}");
        assert_eq!(missing.parse::<usize>().unwrap(), all.len() - head.len() - tail.len());
        assert!((LAST_BYTES - 20..=LAST_BYTES).contains(&tail.len()));
        let job = JobFolder::new(folder.path().into());
        assert_eq!(last_lines(&job, 1, 1), ["line 999"]);
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(last_lines(&job, 1, 1).is_empty(), "a link is not followed");
    }

    #[test]
    fn a_log_that_is_full_by_little_misses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.log");
        let mut log = Log::open(&path, 10);
        log.write(b"first words\nlast words\n");
        log.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first words\nlast words\n");
    }

    #[test]
    fn a_log_that_can_be_written_again_says_what_is_missing_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/runner.log");
        let mut log = Log::open(&path, 1000);
        log.write(b"lost");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        log.write(b"kept");
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "\n[torchd: the log could not be written, 4 bytes are missing here]\nkept");
    }
}
