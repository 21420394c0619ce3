//! Why a job waits, in a form that thousands of jobs may have.

use std::fmt;
use std::sync::Arc;

use crate::job::JobId;

/// Why a job waits. Cheap to clone and to compare: thousands may wait for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// For something, in words.
    For(Arc<str>),
    /// For the jobs ahead of it.
    Behind {
        /// The first of them.
        first: JobId,
        /// How many they are.
        jobs: usize,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(words) => f.write_str(words),
            Self::Behind { first, jobs: 1 } => {
                write!(f, "1 job is ahead of it in the queue; the first is {}", first.name())
            }
            Self::Behind { first, jobs } => {
                write!(f, "{jobs} jobs are ahead of it in the queue; the first is {}", first.name())
            }
        }
    }
}
