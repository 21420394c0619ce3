//! The identity of a job: when it was taken and four random characters, such as
//! `20261123-171455-k7qm`. It sorts by time in `ls`, is a valid DNS label, and a person can say it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Crockford's base 32 in lower case: no i, l, o or u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Identity of a job; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Arc<str>);

/// Why a text names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no job name; a job is named like jobs/20261123-171455-k7qm")]
pub struct InvalidJobId {
    /// The text.
    pub found: String,
}

impl JobId {
    /// The identity of a job taken at `now`, told apart from others of that second by 20 bits of
    /// `random`.
    pub fn new(now: SystemTime, random: u32) -> Self {
        let stamp = humantime::format_rfc3339_seconds(now).to_string();
        let digits: String = stamp.chars().filter(char::is_ascii_digit).collect();
        let tail: String = (0..4).map(|place| char::from(ALPHABET[(random >> (5 * place)) as usize & 31])).collect();
        Self(format!("{}-{}-{tail}", &digits[..8], &digits[8..14]).into())
    }

    /// When the job was taken, to the second; None where the digits are no time.
    pub fn taken(&self) -> Option<SystemTime> {
        let part = |from: usize, to: usize| self.0.get(from..to).unwrap_or_default();
        let (day, time) = ([part(0, 4), part(4, 6), part(6, 8)], [part(9, 11), part(11, 13), part(13, 15)]);
        humantime::parse_rfc3339(&format!("{}T{}Z", day.join("-"), time.join(":"))).ok()
    }

    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource name, `jobs/{id}`.
    pub fn name(&self) -> String {
        format!("jobs/{}", self.0)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    /// Takes `jobs/{id}` or the bare id. Nothing that could leave the folder of jobs passes.
    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let id = text.strip_prefix("jobs/").unwrap_or(text);
        let shape = |(place, byte): (usize, u8)| match place {
            8 | 15 => byte == b'-',
            0..15 => byte.is_ascii_digit(),
            _ => ALPHABET.contains(&byte),
        };
        if id.len() == 20 && id.bytes().enumerate().all(shape) {
            Ok(Self(id.into()))
        } else {
            Err(InvalidJobId { found: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0.as_ref().into()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_id_tells_its_time_and_reads_back() {
        let id = JobId::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095), 0xffff_ffff);
        assert_eq!(id.as_str(), "20261123-171455-zzzz");
        assert_eq!(id.taken(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095)));
        assert_eq!("20261399-171455-k7qm".parse::<JobId>().unwrap().taken(), None);
        assert_eq!(id.name().parse::<JobId>().unwrap(), id);
        assert_eq!(id.as_str().parse::<JobId>().unwrap(), id);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "jobs/", "jobs/../../etc", "20261123-171455-k7q", "20261123-171455-k7qu", "jobs/jobs/x", "２"]
        {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
