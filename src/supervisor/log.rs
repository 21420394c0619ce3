//! The runner's output: drained to the end, so that it never blocks, and kept up to a limit, so that it never fills a disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A log keeps so much; what comes later is read, counted and dropped.
const MAX_BYTES: u64 = 64 << 20;
/// A tail looks at no more than this.
const TAIL_BYTES: u64 = 64 << 10;

/// Bytes that a log holds, counted for all that write to it.
pub(super) struct Kept(AtomicU64);

impl Kept {
    /// What a log holds now.
    pub(super) fn of(log: &Path) -> Self {
        Self(AtomicU64::new(std::fs::metadata(log).map_or(0, |metadata| metadata.len())))
    }

    /// How many of so many bytes still have room, which is taken.
    fn take(&self, wanted: u64) -> u64 {
        MAX_BYTES.saturating_sub(self.0.fetch_add(wanted, Ordering::Relaxed)).min(wanted)
    }
}

/// Copies output to the end into a log that is there already, in the order it arrives. Output that cannot be written is read
/// on all the same, so that the runner never blocks and never finds its pipe closed; the first error is returned at the end.
pub(super) async fn drain(mut output: impl AsyncRead + Unpin, log: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new().append(true).create(true).open(log).await;
    let mut dropped = 0u64;
    let mut block = vec![0; 16 << 10];
    loop {
        let count = output.read(&mut block).await?;
        if count == 0 {
            break;
        }
        let room = kept.take(count as u64) as usize;
        dropped += (count - room) as u64;
        if let Ok(open) = &mut file
            && let Err(error) = write(open, &block[..room]).await
        {
            file = Err(error);
        }
    }
    let mut file = file?;
    if dropped > 0 {
        let words = format!("\n[torchd: the log is full, {dropped} bytes after this point were dropped]\n");
        write(&mut file, words.as_bytes()).await?;
    }
    Ok(())
}

async fn write(file: &mut tokio::fs::File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).await?;
    file.flush().await
}

/// The last lines of a log, at most `count`; none where there is no log.
pub fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|&line| line.to_owned()).collect()
}
