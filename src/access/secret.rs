//! Secrets of tokens: 256 random bits, of which torchd keeps a hash.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::sha256::hex;

/// Every secret begins so: programs that look for leaked secrets can know it.
const PREFIX: &str = "torchd_";
/// Random bytes of a secret.
const BYTES: usize = 32;

/// A secret. It is shown once, and has no form for logs.
pub struct Secret(String);

impl Secret {
    /// A new one.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(format!("{PREFIX}{}", hex(&bytes))))
    }

    /// One that was made before; None for a text that can be none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && digits.len() == 2 * BYTES).then(|| Self(text.to_owned()))
    }

    /// As its holder writes it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub(super) fn hash(&self) -> Hash {
        Hash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The hash of a secret. A fast one is enough: nobody guesses 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    /// Whether they are the same, in a time that does not depend on where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// In hexadecimal, as the database has it.
    pub(super) fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// From the database; None where it is no hash.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_shows_itself_in_no_log() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_eq!(one.reveal().len(), PREFIX.len() + 64);
        assert!(!one.hash().is(&other.hash()));
        let kept = Hash::from_hex(&one.hash().to_hex()).unwrap();
        assert!(kept.is(&Secret::read(one.reveal()).unwrap().hash()));
        assert_eq!(format!("{one:?}"), "Secret");
    }

    #[test]
    fn a_text_that_can_be_no_secret_is_none() {
        let whole = Secret::new().unwrap();
        let cut = &whole.reveal()[..whole.reveal().len() - 1];
        let padded = format!("{} ", whole.reveal());
        for text in ["", "torchd_", cut, &padded, &whole.reveal().to_uppercase(), &whole.reveal()[7..]] {
            assert!(Secret::read(text).is_none(), "{text}");
        }
        for text in ["", "zz", &"é".repeat(32), &"g".repeat(64)] {
            assert!(Hash::from_hex(text).is_none(), "{text}");
        }
    }
}
