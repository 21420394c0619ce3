//! Errors of reading an archive, in a user's words.

use std::fmt;

use crate::{tensor_file, terminal};

/// Characters that are shown of a text of somebody else's file, at most.
const MOST_CHARACTERS: usize = 200;

/// The reason for which an archive cannot be read.
#[derive(Debug)]
pub enum Problem {
    /// The archive itself, or a tensor in it.
    File(tensor_file::Problem),
    /// Another kind of file, with its name if it is known.
    NotExported(Option<&'static str>),
    /// An entry of the archive breaks its format.
    Damaged {
        /// The entry, and the place in it.
        place: String,
        /// The finding, and the remedy.
        what: String,
    },
    /// It is whole and holds something that this version does not take.
    Unsupported {
        /// The entry, and the place in it.
        place: String,
        /// The finding, and the remedy.
        what: String,
    },
}

/// Reading an archive, or a part of it.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub(super) fn damaged(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged { place: place.into(), what: what.into() }
    }

    pub(super) fn unsupported(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unsupported { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problem) => problem.fmt(f),
            Self::NotExported(Some(looks)) => {
                write!(f, "looks like {looks}, and a .pt2 archive of torch.export.save is needed")
            }
            Self::NotExported(None) => f.write_str("is no .pt2 archive of torch.export.save: it is no zip archive"),
            Self::Damaged { place, what } => write!(f, "is damaged: {place}: {what}"),
            Self::Unsupported { place, what } => write!(f, "cannot be taken: {place}: {what}"),
        }
    }
}

impl std::error::Error for Problem {}

impl From<tensor_file::Problem> for Problem {
    fn from(problem: tensor_file::Problem) -> Self {
        Self::File(problem)
    }
}

/// Text of somebody else's file, fit for a line of a message: nothing hidden, and not long.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MOST_CHARACTERS).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    terminal::shown_in_line(&cut) + more
}
