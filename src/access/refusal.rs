//! Why calls are refused, in words, and as labels for programs.

use std::sync::Arc;

use crate::role::Role;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It carries no credentials, and has to.
    #[error(
        "who calls is not known: a token is needed, in TORCHD_TOKEN or TORCHD_TOKEN_FILE, or `authorization: Bearer TOKEN`{0}"
    )]
    NoCredentials(&'static str),
    /// The header is there twice, or in no known form.
    #[error("the authorization header {0}; one `authorization: Bearer TOKEN` is right")]
    Malformed(&'static str),
    /// No token is like this.
    #[error("the token is unknown: it may be cut off, of another daemon, or of an earlier state folder")]
    UnknownToken,
    /// It was good once.
    #[error("the token {0} has expired; an admin makes another with `torchctl token create`")]
    Expired(Arc<str>),
    /// It was good once.
    #[error("the token {0} was revoked")]
    Revoked(Arc<str>),
    /// They came over a network that others can read.
    #[error(
        "the credentials of {0} came over a connection that nobody encrypts, where others can read them: make new ones, and use https://"
    )]
    InClear(Arc<str>),
    /// The user or password is wrong.
    #[error("the user or the password is wrong")]
    WrongPassword,
    /// Too many failures came from there; the password was not checked.
    #[error("too many wrong credentials came from there within a minute; wait, and try again")]
    TooMany,
    /// The certificate is good, and none of its names is in the settings.
    #[error("the certificate is for {0}; tls.client_names in the settings gives none of these a role")]
    UnknownCertificate(String),
    /// The certificate was good when the connection was made.
    #[error("the certificate for {0} has expired since the connection was made")]
    ExpiredCertificate(String),
    /// A user of the machine without a role.
    #[error(
        "{0} has no role here: security.users or security.groups in the settings gives one, and members of the socket's group may submit"
    )]
    NoRole(Arc<str>),
    /// A program that a job runs, with the user of torchd.
    #[error("this comes from a program of a job, which has no role here; a token in TORCHD_TOKEN gives it one")]
    OfJob,
    /// The user cannot be looked up.
    #[error("the name of uid {uid} cannot be looked up: {why}")]
    NoName {
        /// The user.
        uid: u32,
        /// The error.
        why: nix::Error,
    },
    /// The caller is known, and its role does not suffice.
    #[error("{owner} is {} {has} here, and this needs {} {needs}", article(*has), article(*needs))]
    RoleTooLow {
        /// The caller.
        owner: Arc<str>,
        /// Its role.
        has: Role,
        /// The role that is needed.
        needs: Role,
    },
    /// It comes from a page in a browser.
    #[error("requests from pages in browsers are refused here: {0}")]
    FromBrowser(&'static str),
}

fn article(role: Role) -> &'static str {
    if role == Role::Admin { "an" } else { "a" }
}

impl Refusal {
    /// A label for metrics and details.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentials(_) => "NO_CREDENTIALS",
            Self::Malformed(_) => "MALFORMED_CREDENTIALS",
            Self::UnknownToken => "UNKNOWN_TOKEN",
            Self::Expired(_) => "EXPIRED_TOKEN",
            Self::Revoked(_) => "REVOKED_TOKEN",
            Self::InClear(_) => "TOKEN_IN_CLEAR",
            Self::WrongPassword => "WRONG_PASSWORD",
            Self::TooMany => "TOO_MANY_FAILURES",
            Self::UnknownCertificate(_) => "UNKNOWN_CERTIFICATE",
            Self::ExpiredCertificate(_) => "EXPIRED_CERTIFICATE",
            Self::NoRole(_) => "NO_ROLE",
            Self::OfJob => "PROGRAM_OF_A_JOB",
            Self::NoName { .. } => "UNKNOWN_USER",
            Self::RoleTooLow { .. } => "ROLE_TOO_LOW",
            Self::FromBrowser(_) => "FROM_BROWSER",
        }
    }

    /// All labels.
    pub const REASONS: [&'static str; 15] = [
        "NO_CREDENTIALS",
        "MALFORMED_CREDENTIALS",
        "UNKNOWN_TOKEN",
        "EXPIRED_TOKEN",
        "REVOKED_TOKEN",
        "TOKEN_IN_CLEAR",
        "WRONG_PASSWORD",
        "TOO_MANY_FAILURES",
        "UNKNOWN_CERTIFICATE",
        "EXPIRED_CERTIFICATE",
        "NO_ROLE",
        "PROGRAM_OF_A_JOB",
        "UNKNOWN_USER",
        "ROLE_TOO_LOW",
        "FROM_BROWSER",
    ];

    /// Whether the caller is known, and may not do this.
    pub fn is_of_known(&self) -> bool {
        matches!(
            self,
            Self::NoRole(_) | Self::OfJob | Self::RoleTooLow { .. } | Self::FromBrowser(_) | Self::InClear(_)
        )
    }
}
