//! The owner of uploads, and the name of the owner's folder.

use std::fmt;

/// The owner of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A user who is connected to the Unix socket. The kernel tells who that is.
    User(u32),
    /// Everybody who is connected over TCP: nobody tells one from the other there.
    Local,
}

impl Owner {
    /// The owner of a folder; None for a folder of none.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        let owner = match name {
            "local" => Self::Local,
            _ => Self::User(name.strip_prefix("uid-")?.parse().ok()?),
        };
        // "uid-+7" is no name that we give.
        (owner.to_string() == name).then_some(owner)
    }
}

/// The name of the folder.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid-{uid}"),
            Self::Local => f.write_str("local"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_owner_whose_name_it_has() {
        for owner in [Owner::Local, Owner::User(0), Owner::User(u32::MAX)] {
            assert_eq!(Owner::of_folder(&owner.to_string()), Some(owner));
        }
        for name in [".partial", "uid-", "uid-+7", "uid-07", "uid-4294967296", "Local"] {
            assert_eq!(Owner::of_folder(name), None, "{name}");
        }
    }
}
