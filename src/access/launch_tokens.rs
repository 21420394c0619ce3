//! Tokens of launches: each is good for the ranks of one attempt, and for nothing else. They are in
//! memory, and their hashes in the folders of their jobs, from which the next daemon takes them.
//! The holder of a hash can make seals for a mailbox: `launch.json` is as private as the token.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use super::seal::SealKey;
use super::secret::{Hash, Secret};

/// The tokens of all launches; cheap to clone.
#[derive(Clone, Default)]
pub struct LaunchTokens(Arc<RwLock<HashMap<Arc<str>, Known>>>);

struct Known {
    attempt: u32,
    hash: Hash,
    /// Cancelled when the launch is over.
    end: CancellationToken,
}

/// The launch that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfLaunch {
    /// The id of the job.
    pub job: Arc<str>,
    /// The attempt.
    pub attempt: u32,
}

impl LaunchTokens {
    /// Makes the token of a launch, and its hash in hexadecimal. One of an earlier attempt ends.
    pub fn make(&self, job: &str, attempt: u32) -> io::Result<(Secret, String)> {
        let secret = Secret::new()?;
        let hash = secret.hash();
        let hex = hash.to_hex();
        self.insert(job, attempt, hash);
        Ok((secret, hex))
    }

    /// Takes a token that an earlier daemon has made, by its hash in hexadecimal; whether it is
    /// one.
    pub fn take(&self, job: &str, attempt: u32, hash: &str) -> bool {
        let hash = Hash::from_hex(hash);
        hash.map(|hash| self.insert(job, attempt, hash)).is_some()
    }

    /// Ends the token of a job's launch.
    pub fn end(&self, job: &str) {
        let ended = self.0.write().unwrap_or_else(PoisonError::into_inner).remove(job);
        ended.iter().for_each(|known| known.end.cancel());
    }

    /// The key of the seals of a launch; None where its token is over.
    pub fn seal_key(&self, launch: &OfLaunch) -> Option<SealKey> {
        self.known(launch, |known| SealKey::of_hash(&known.hash)).flatten()
    }

    /// Cancelled when the launch is over; None where it is.
    pub(super) fn end_of(&self, launch: &OfLaunch) -> Option<CancellationToken> {
        self.known(launch, |known| known.end.clone())
    }

    fn known<T>(&self, launch: &OfLaunch, tell: impl FnOnce(&Known) -> T) -> Option<T> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&launch.job).filter(|known| known.attempt == launch.attempt).map(tell)
    }

    fn insert(&self, job: &str, attempt: u32, hash: Hash) {
        let known = Known { attempt, hash, end: CancellationToken::new() };
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).insert(job.into(), known);
        before.iter().for_each(|known| known.end.cancel());
    }

    /// The launch of a secret. Each one is looked at, so that the time tells nothing.
    pub(super) fn find(&self, text: &str) -> Option<(OfLaunch, CancellationToken)> {
        let hash = Secret::read(text)?.hash();
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for (job, known) in all.iter() {
            if known.hash.is(&hash) {
                found = Some((OfLaunch { job: job.clone(), attempt: known.attempt }, known.end.clone()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_one_attempt_until_the_next_or_the_end() {
        let tokens = LaunchTokens::default();
        let (first, hash) = tokens.make("a", 1).unwrap();
        let found = |secret: &Secret| tokens.find(secret.reveal()).map(|(launch, _)| launch.attempt);
        assert_eq!(found(&first), Some(1));
        let end = tokens.find(first.reveal()).unwrap().1;
        let (second, _) = tokens.make("a", 2).unwrap();
        assert!(end.is_cancelled() && found(&first).is_none() && found(&second) == Some(2));
        assert!(tokens.take("a", 1, &hash) && found(&first) == Some(1) && found(&second).is_none());
        tokens.end("a");
        assert_eq!((found(&first), tokens.take("a", 1, "no hash")), (None, false));
    }
}
