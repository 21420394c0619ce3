//! The owner of uploads, and the name of the owner's folder.

use std::fmt;
use std::sync::Arc;

/// The owner of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A user of this machine.
    User(u32),
    /// Everybody whom nobody asks for credentials.
    Local,
    /// The holder of a token or certificate whose name is that of no user.
    Named(Arc<str>),
}

/// The name of those whom nobody asks.
const LOCAL: &str = "local";
/// The beginning of the folder names of users.
const USER: &str = "uid-";
/// The beginning of the folder names of others.
const NAMED: &str = "name-";

impl Owner {
    /// The owner of a name that is no user's.
    pub fn named(name: &str) -> Self {
        if name == LOCAL { Self::Local } else { Self::Named(name.into()) }
    }

    /// The owner of a folder; None for a folder of none.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        let owner = if name == LOCAL {
            Self::Local
        } else if let Some(uid) = name.strip_prefix(USER) {
            Self::User(uid.parse().ok()?)
        } else {
            Self::Named(decoded(name.strip_prefix(NAMED)?)?.into())
        };
        // "uid-+7" is no name that we give.
        (owner.to_string() == name).then_some(owner)
    }
}

/// The name of the folder.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "{USER}{uid}"),
            Self::Local => f.write_str(LOCAL),
            Self::Named(name) => {
                f.write_str(NAMED)?;
                // Names in certificates may hold anything.
                name.bytes().try_for_each(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'@' | b'+' => {
                        write!(f, "{}", char::from(byte))
                    }
                    _ => write!(f, "%{byte:02x}"),
                })
            }
        }
    }
}

fn decoded(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = others;
            continue;
        }
        let digits = std::str::from_utf8(others.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &others[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_owner_whose_name_it_has() {
        let named = ["ci", "a/b", "../x", "spiffe://example.org/é", "100%", "."].map(Owner::named);
        for owner in [Owner::Local, Owner::User(0), Owner::User(u32::MAX)].into_iter().chain(named) {
            let folder = owner.to_string();
            assert_eq!(Owner::of_folder(&folder), Some(owner), "{folder}");
            assert!(!folder.contains('/') && !folder.starts_with('.'), "{folder}");
        }
        assert_eq!(Owner::named("local"), Owner::Local);
        for name in
            [".partial", "uid-", "uid-+7", "uid-07", "uid-4294967296", "Local", "name-%2", "name-%61", "name-%2F"]
        {
            assert_eq!(Owner::of_folder(name), None, "{name}");
        }
    }
}
