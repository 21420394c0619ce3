//! Roles: what a caller may do. Each role may do what the one before it may.

use std::fmt;

use crate::proto::v1;

/// The rights of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs a rank of a launch, and does nothing else. No token but that of a launch has it.
    Rank,
    /// Reads everything that torchd tells.
    Viewer,
    /// Creates jobs and sends files; changes and deletes its own.
    Submitter,
    /// Does everything.
    Admin,
}

impl Role {
    /// Those that people and programs can have, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Submitter, Self::Admin];

    /// Its name in settings, tables and messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.label() == label)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Rank => Self::Rank,
            Role::Viewer => Self::Viewer,
            Role::Submitter => Self::Submitter,
            Role::Admin => Self::Admin,
        }
    }
}

impl TryFrom<v1::Role> for Role {
    type Error = ();

    fn try_from(role: v1::Role) -> Result<Self, ()> {
        match role {
            v1::Role::Unspecified => Err(()),
            v1::Role::Rank => Ok(Self::Rank),
            v1::Role::Viewer => Ok(Self::Viewer),
            v1::Role::Submitter => Ok(Self::Submitter),
            v1::Role::Admin => Ok(Self::Admin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_an_order_and_come_back_from_their_names_and_messages() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(Role::from_label(role.label()), Some(role));
            assert_eq!(Role::try_from(v1::Role::from(role)), Ok(role));
        }
        assert!(Role::Rank < Role::Viewer);
        assert_eq!(Role::try_from(v1::Role::Rank), Ok(Role::Rank));
        assert_eq!((Role::from_label("Admin"), Role::from_label("rank")), (None, None));
    }
}
