//! Seals: the holder of a launch's token makes and checks them. Messages in a folder with other
//! writers bear them.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::secret::{Hash, Secret};

/// Tells this use of a token's hash from any other.
const USE: &[u8] = b"torchd mailbox 1";

/// Makes and checks seals, by HMAC-SHA-256; cheap to clone, and it has no form for logs.
#[derive(Clone)]
pub struct SealKey(Hmac<Sha256>);

/// Bytes of a seal.
pub const SEAL_BYTES: usize = 32;

impl SealKey {
    /// That of the holder of a token; None for a text that can be none.
    pub fn of_token(text: &str) -> Option<Self> {
        Self::of_hash(&Secret::read(text)?.hash())
    }

    /// That of the daemon, which knows the hash alone.
    pub(super) fn of_hash(hash: &Hash) -> Option<Self> {
        let mut derived = Hmac::<Sha256>::new_from_slice(hash.bytes()).ok()?;
        derived.update(USE);
        Hmac::new_from_slice(&derived.finalize().into_bytes()).ok().map(Self)
    }

    /// The seal of these parts: of each of them, and of their order.
    pub fn seal(&self, parts: &[&[u8]]) -> [u8; SEAL_BYTES] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether that is their seal, in a time that does not depend on where it differs.
    pub fn is_right(&self, parts: &[&[u8]], seal: &[u8]) -> bool {
        self.over(parts).verify_slice(seal).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hash = self.0.clone();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_right_for_its_parts_and_its_token_alone() {
        let (secret, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        let key = SealKey::of_token(secret.reveal()).unwrap();
        let seal = key.seal(&[b"one", b"two"]);
        let daemons = SealKey::of_hash(&secret.hash()).unwrap();
        assert!(daemons.is_right(&[b"one", b"two"], &seal));
        for parts in [[b"onet".as_slice(), b"wo"], [b"two", b"one"], [b"one", b"tw0"]] {
            assert!(!daemons.is_right(&parts, &seal));
        }
        assert!(!daemons.is_right(&[b"one", b"two"], &seal[1..]));
        assert!(!SealKey::of_token(other.reveal()).unwrap().is_right(&[b"one", b"two"], &seal));
        assert!(SealKey::of_token("torchd_").is_none());
    }
}
