//! The runner's output: drained to the end, so that it never blocks, and kept up to a limit, so that it never fills a disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A log keeps so much; what comes later is read, counted and dropped.
const MAX_BYTES: u64 = 64 << 20;
/// A tail looks at no more than this.
const TAIL_BYTES: u64 = 64 << 10;

/// Copies output to the end into a log that is there already, in the order it arrives.
pub(super) async fn drain(mut output: impl AsyncRead + Unpin, log: &Path) -> io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new().append(true).create(true).open(log).await?;
    let mut kept = file.metadata().await?.len();
    let mut dropped = 0u64;
    let mut block = vec![0; 16 << 10];
    loop {
        let count = output.read(&mut block).await?;
        if count == 0 {
            break;
        }
        let room = usize::try_from(MAX_BYTES.saturating_sub(kept)).unwrap_or(usize::MAX).min(count);
        if room > 0 {
            file.write_all(&block[..room]).await?;
            file.flush().await?;
        }
        kept += room as u64;
        dropped += (count - room) as u64;
    }
    if dropped > 0 {
        file.write_all(
            format!("\n[torchd: the log is full, {dropped} bytes after this point were dropped]\n").as_bytes(),
        )
        .await?;
        file.flush().await?;
    }
    Ok(())
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
