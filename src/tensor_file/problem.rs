//! The mistakes of a file of tensors, in words that follow the file's path.

use std::{fmt, io};

use super::{Format, Values};

/// A mistake of a file.
#[derive(Debug)]
pub enum Problem {
    /// The system refuses to read it.
    Unreadable(io::Error),
    /// Another kind of file.
    Other {
        /// Its name, if it is known.
        looks: Option<&'static str>,
        /// The kind that is needed, in words.
        needed: &'static str,
    },
    /// The file breaks its format.
    Damaged {
        /// The format that it has by its first bytes.
        format: Format,
        /// Where, and what was found there.
        what: String,
    },
    /// The zip archive around the entries of a `.pt` file is broken.
    BadArchive(String),
    /// The file may be sound, and holds what is not read.
    Refused(String),
    /// Fewer bytes than the header says.
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header says, itself included.
        wanted: u64,
    },
    /// More bytes than the header says.
    Trailing {
        /// Bytes that are there.
        found: u64,
        /// Bytes that the header says, itself included.
        wanted: u64,
    },
    /// A value that the tensor may not hold.
    Value {
        /// The tensor.
        name: String,
        /// The place of the first such value, row by row.
        place: u64,
        /// NaN or an infinity.
        value: f64,
        /// The values that it may hold.
        allowed: Values,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Self::Other { looks: Some(looks), needed } => write!(f, "looks like {looks}, and {needed} is needed"),
            Self::Other { looks: None, needed } => write!(
                f,
                "is no safetensors file: it does not begin with the length of a header and the header; {needed} is \
                 needed"
            ),
            Self::Damaged { format: Format::Safetensors, what } => {
                write!(f, "has a damaged safetensors header: {what}")
            }
            Self::Damaged { format: Format::Pt, what } => write!(f, "is a damaged .pt file: {what}"),
            Self::BadArchive(what) => write!(f, "is a damaged zip archive: {what}"),
            Self::Refused(what) => f.write_str(what),
            Self::Truncated { found, wanted } => {
                write!(f, "is cut off: its header says {wanted} bytes, {found} are there")
            }
            Self::Trailing { found, wanted } => {
                write!(f, "goes on after its end: its header says {wanted} bytes, {found} are there")
            }
            Self::Value { name, place, value, allowed } => {
                let right = match allowed {
                    Values::Finite => "finite",
                    Values::Infinite => "a number",
                };
                write!(f, "holds {value} in {name:?} at place {place}, counted from 0; every value must be {right}")
            }
        }
    }
}

impl std::error::Error for Problem {}
