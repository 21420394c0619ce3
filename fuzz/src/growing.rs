//! A source that gives few bytes at a time and says now and then that it has ended, as a file does
//! that is still being written.

use std::io::{self, Read};

/// Hands out `bytes` in portions of at most `portion`, and an end after each `pause` bytes.
pub struct Growing<'a> {
    bytes: &'a [u8],
    portion: usize,
    pause: usize,
    until_pause: usize,
}

impl<'a> Growing<'a> {
    pub fn new(bytes: &'a [u8], portion: usize, pause: usize) -> Self {
        Self { bytes, portion: portion.max(1), pause: pause.max(1), until_pause: pause.max(1) }
    }

    /// Ends that are told before the last.
    pub fn pauses(&self) -> usize {
        self.bytes.len() / self.pause + 1
    }
}

impl Read for Growing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.until_pause == 0 {
            self.until_pause = self.pause;
            return Ok(0);
        }
        let count = buffer.len().min(self.portion).min(self.until_pause).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.bytes = later;
        self.until_pause -= count;
        Ok(count)
    }
}
