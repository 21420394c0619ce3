//! Callers: in whose name calls are made, with which rights, and how that is known.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::launch_tokens::OfLaunch;
use crate::role::Role;

/// The owner of jobs and uploads of callers without credentials, where the settings let them in.
pub const NOBODY_ASKED: &str = "local";

/// The caller of a method.
#[derive(Debug, Clone)]
pub struct Caller {
    /// In whose name the call is made: jobs and uploads are this owner's.
    pub owner: Arc<str>,
    /// The rights.
    pub role: Role,
    /// How that is known.
    pub by: KnownBy,
    /// The user of this machine whom `owner` names; None where it names none. An error where the
    /// machine could not look that up: uploads of a user and of a mere name are not the same.
    pub uid: Result<Option<u32>, nix::Error>,
    /// Until when.
    pub until: Until,
}

/// How a caller is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownBy {
    /// By the kernel.
    Socket,
    /// By a token of that name.
    Token(Arc<str>),
    /// By the token of a launch.
    Launch(OfLaunch),
    /// By a name in a certificate.
    Certificate,
    /// By a password.
    Password,
    /// The settings let everybody in there.
    NobodyAsked,
}

/// The end of a caller's rights.
#[derive(Debug, Clone, Default)]
pub struct Until {
    /// They are over when this is cancelled.
    pub revoked: Option<CancellationToken>,
    /// They are over after this time.
    pub left: Option<Duration>,
}

impl Caller {
    /// Whether it may change what belongs to this owner.
    pub fn may_change(&self, owner: &str) -> bool {
        self.role == Role::Admin || (self.role == Role::Submitter && *self.owner == *owner)
    }

    /// How it is known, in words.
    pub fn known_by(&self) -> String {
        match &self.by {
            KnownBy::Socket => "socket".to_owned(),
            KnownBy::Token(name) => format!("token {name}"),
            KnownBy::Launch(OfLaunch { job, attempt }) => format!("token of attempt {attempt} of jobs/{job}"),
            KnownBy::Certificate => "certificate".to_owned(),
            KnownBy::Password => "password".to_owned(),
            KnownBy::NobodyAsked => "nobody asked".to_owned(),
        }
    }
}
