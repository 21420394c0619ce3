//! SHA-256 (FIPS 180-4), and bytes in lower-case hexadecimal: the form of all checksums in
//! manifests, mirrors and messages.

use std::io::{self, Read, Write};

use sha2::Digest;

/// A checksum in the making: bytes are written to it.
#[derive(Debug, Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// The checksum of all bytes that were written.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }

    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> String {
        let mut digest = Self::default();
        digest.update(bytes);
        digest.finish()
    }

    /// The checksum of everything that a reader has.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<String> {
        let mut digest = Self::default();
        let mut block = vec![0; 1 << 20];
        loop {
            match reader.read(&mut block)? {
                0 => return Ok(digest.finish()),
                count => digest.update(&block[..count]),
            }
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Write for Sha256 {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_that_sha256sum_prints() {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc"), sum);
        assert_eq!(Sha256::of_reader(&mut &b"abc"[..]).unwrap(), sum);
    }
}
