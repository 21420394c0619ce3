//! The name of an uploaded file: a relative path that can be judged without a file system.

use std::fmt;
use std::path::Path;

/// The longest name in bytes. (the comment of `UploadBegin.name`)
const MOST_BYTES: usize = 1024;
/// The longest part of a name in bytes. (NAME_MAX)
const MOST_PART_BYTES: usize = 255;
/// The most parts of a name.
pub(super) const MOST_PARTS: usize = 16;

/// A name that leads downwards alone: parts with single slashes between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The text, as a spec names the file.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below the owner's folder.
    pub(super) fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    /// The error says what was found and what would be right.
    fn try_from(text: String) -> Result<Self, String> {
        let right = "a relative path is needed, such as train/images.gz";
        if text.is_empty() {
            return Err(format!("is missing; {right}"));
        }
        if text.len() > MOST_BYTES {
            return Err(format!("has {} bytes; at most {MOST_BYTES} are right", text.len()));
        }
        if text.contains(char::is_control) {
            return Err(format!("is {text:?}, which holds a control character; {right}"));
        }
        let mut count = 0;
        for part in text.split('/') {
            count += 1;
            if let "" | "." | ".." = part {
                return Err(format!("is {text:?}, in which a part is {part:?}; {right}"));
            }
            if part.len() > MOST_PART_BYTES {
                let length = part.len();
                return Err(format!(
                    "has a part of {length} bytes; at most {MOST_PART_BYTES} between slashes are right"
                ));
            }
        }
        if count > MOST_PARTS {
            return Err(format!("has {count} parts; at most {MOST_PARTS} are right"));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_downwards_alone_and_is_bounded() {
        let deep = |parts: usize| vec!["d"; parts].join("/");
        for right in ["a", "a/b.gz", "..a/b..", ".hidden", "ä/ö", "a b", "-rf", &"x".repeat(255), &deep(16)] {
            assert_eq!(Name::try_from(right.to_owned()).unwrap().as_str(), right);
        }
        for (wrong, words) in [
            ("", "is missing"),
            ("/etc/passwd", "a part is \"\""),
            ("a//b", "a part is \"\""),
            ("a/", "a part is \"\""),
            (".", "a part is \".\""),
            ("a/./b", "a part is \".\""),
            ("..", "a part is \"..\""),
            ("a/../../b", "a part is \"..\""),
            ("a\0b", "control character"),
            ("a\nb", "control character"),
            (&"x".repeat(256), "has a part of 256 bytes"),
            (&deep(17), "has 17 parts"),
            (&"x/".repeat(513), "has 1026 bytes"),
        ] {
            let told = Name::try_from(wrong.to_owned()).unwrap_err();
            assert!(told.contains(words), "{wrong:?}: {told}");
        }
    }
}
