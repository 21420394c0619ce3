//! Access: finds out in whose name a call is made, by the connection that it came over and
//! the credentials that it carries, and whether that caller has the role that the method needs.
//!
//! The words of a request about itself count nowhere: a user is told by the kernel, a certificate
//! by TLS, a token by its hash. Knows nothing of gRPC and HTTP but the text of a header.

mod audit;
mod authorization;
mod caller;
mod connection;
mod failures;
mod file_mark;
mod launch_tokens;
mod method;
mod origin;
mod passwords;
mod refusal;
mod seal;
mod secret;
mod strangers;
mod tokens;
mod users;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::config::Security;
use crate::metrics::Metrics;
use crate::role::Role;
use crate::store::{Store, StoreError};
pub use audit::{Audit, AuditSettings, Entry};
pub use authorization::Authorization;
use authorization::Credentials;
pub use caller::{Caller, KnownBy, NOBODY_ASKED, Until};
pub use connection::{Certificate, Connection, Peer};
use failures::{Failure, Failures, Noted};
pub use file_mark::FileMark;
pub use launch_tokens::{LaunchTokens, OfLaunch};
use method::{Methods, Needs};
use passwords::{Checked, Passwords};
pub use refusal::Refusal;
pub use seal::{SEAL_BYTES, SealKey};
pub use secret::Secret;
pub use strangers::{Guest, Strangers, Visit};
pub use tokens::{Token, TokenError, Tokens};
use users::Users;

/// The circumstances of a page.
#[derive(Clone, Copy)]
struct Page {
    is_behind_proxy: bool,
}

/// Decides about calls; cheap to clone.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    loopback_is_open: bool,
    remote_is_open: bool,
    client_names: BTreeMap<String, Role>,
    users: Users,
    tokens: Tokens,
    launch_tokens: LaunchTokens,
    passwords: Option<Passwords>,
    failures: Failures,
    methods: Methods,
    metrics: Metrics,
    audit: Audit,
}

/// Why access cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A mistake in the settings.
    #[error("{0}")]
    Settings(String),
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token's file cannot be used.
    #[error("{path}: {error}")]
    TokenFile {
        /// Its path.
        path: String,
        /// The reason.
        error: std::io::Error,
    },
}

impl Access {
    /// Reads the rules of the settings, the tokens of the database, and the one in `token_file`.
    pub async fn open(
        security: &Security,
        store: Store,
        token_file: &Path,
        metrics: Metrics,
        audit: Audit,
    ) -> Result<Self, AccessError> {
        let users = Users::new(security).map_err(AccessError::Settings)?;
        let passwords = security.http_web_config.as_deref().map(Passwords::open).transpose();
        let passwords = passwords.map_err(|why| AccessError::Settings(format!("http.web_config: {why}")))?;
        let tokens = Tokens::load(store).await?;
        let file = |error| AccessError::TokenFile { path: token_file.display().to_string(), error };
        let own = nix::unistd::Uid::effective().as_raw();
        let owner = users.name(own).map_err(|error| file(error.into()))?;
        tokens.take_file(token_file, &owner).map_err(file)?;
        for (door, reason) in Connection::DOORS.iter().flat_map(|door| Refusal::REASONS.map(|reason| (door, reason))) {
            metrics.auth_failures.with_label_values(&[*door, &reason.to_ascii_lowercase()]);
        }
        let client_names = security.tls.as_ref().map(|tls| tls.client_names.clone()).unwrap_or_default();
        Ok(Self {
            shared: Arc::new(Shared {
                loopback_is_open: security.loopback_is_open,
                remote_is_open: security.allow_unauthenticated_remote,
                client_names,
                users,
                tokens,
                launch_tokens: LaunchTokens::default(),
                passwords,
                failures: Failures::default(),
                methods: Methods::new(),
                metrics,
                audit,
            }),
        })
    }

    /// Access by the default settings, with a state of its own, for tests of the rooms below.
    #[cfg(test)]
    pub(crate) async fn alone(folder: &Path, metrics: Metrics) -> Self {
        let settings = AuditSettings { path: folder.join("audit.jsonl"), max_bytes: 1 << 20, files: 1, reads: false };
        let (store, audit) = (Store::open(&folder.join("torchd.db")).unwrap(), Audit::open(settings).unwrap());
        Self::open(&Security::default(), store, &folder.join("token"), metrics, audit).await.unwrap()
    }

    /// The tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// The tokens of launches.
    pub fn launch_tokens(&self) -> &LaunchTokens {
        &self.shared.launch_tokens
    }

    /// The audit.
    pub fn audit(&self) -> &Audit {
        &self.shared.audit
    }

    /// Whether a method changes something: reading needs the least role.
    pub fn changes(&self, path: &str) -> bool {
        matches!(self.shared.methods.needs(path), Needs::Role(role) if role > Role::Viewer)
    }

    /// The caller of a method, if it may call that; None where nobody is asked. Refusals are
    /// counted and told.
    pub async fn admit(
        &self,
        path: &str,
        connection: &Connection,
        authorization: Authorization<'_>,
    ) -> Result<Option<Caller>, Refusal> {
        let needs = match self.shared.methods.needs(path) {
            Needs::Nothing => return Ok(None),
            Needs::Role(role) => role,
        };
        let found = self.identify(connection, authorization, None).await;
        let admitted = found.and_then(|caller| match caller.role >= needs {
            true => Ok(caller),
            false => Err(Refusal::RoleTooLow { owner: caller.owner, has: caller.role, needs }),
        });
        admitted.map(Some).inspect_err(|refusal| self.refused(path, connection, refusal))
    }

    /// The caller of a page, by token or password. Behind a proxy that encrypts these may come in
    /// clear.
    pub async fn admit_to_page(
        &self,
        path: &str,
        connection: &Connection,
        authorization: Authorization<'_>,
        is_behind_proxy: bool,
    ) -> Result<Caller, Refusal> {
        let found = self.identify(connection, authorization, Some(Page { is_behind_proxy })).await;
        let needs = Role::Viewer;
        let admitted = found.and_then(|caller| match caller.role >= needs {
            true => Ok(caller),
            false => Err(Refusal::RoleTooLow { owner: caller.owner, has: caller.role, needs }),
        });
        admitted.inspect_err(|refusal| self.refused(path, connection, refusal))
    }

    /// Refuses a call because of its headers.
    pub fn refuse(&self, path: &str, connection: &Connection, refusal: Refusal) -> Refusal {
        self.refused(path, connection, &refusal);
        refusal
    }

    /// The caller of a call. Credentials decide before the connection does: a client that
    /// shows some wants to be known by them.
    async fn identify(
        &self,
        connection: &Connection,
        authorization: Authorization<'_>,
        page: Option<Page>,
    ) -> Result<Caller, Refusal> {
        let is_encrypted = !connection.is_in_clear() || page.is_some_and(|page| page.is_behind_proxy);
        let shown = match authorization.credentials()? {
            Some(Credentials::Token(text)) => Some(self.by_token(text).await?),
            Some(Credentials::Password(pair)) if page.is_some() => Some(self.by_password(pair, connection).await?),
            Some(Credentials::Password(_)) => return Err(Refusal::Malformed("has another scheme")),
            None => None,
        };
        match shown {
            Some(caller) if is_encrypted => return Ok(caller),
            Some(caller) => return Err(Refusal::InClear(caller.owner)),
            None => {}
        }
        let shared = &self.shared;
        let nobody_asked = || Caller {
            owner: NOBODY_ASKED.into(),
            role: Role::Admin,
            by: KnownBy::NobodyAsked,
            uid: Ok(None),
            until: Until::default(),
        };
        match connection {
            Connection::Unix(peer) => self.by_user(peer).await,
            Connection::Tls { certificate: Some(certificate), .. } => self.by_certificate(certificate).await,
            // Behind a proxy they come from anywhere.
            Connection::Plain { is_loopback: true, .. }
                if shared.loopback_is_open && !page.is_some_and(|page| page.is_behind_proxy) =>
            {
                Ok(nobody_asked())
            }
            Connection::Plain { is_loopback: true, .. } => Err(Refusal::NoCredentials(
                "; on this machine the Unix socket needs none, and the file `token` of the state folder holds one",
            )),
            Connection::Mailbox(launch) => self.by_mailbox(launch),
            Connection::Plain { .. } | Connection::Tls { .. } if shared.remote_is_open => Ok(nobody_asked()),
            Connection::Plain { .. } => Err(Refusal::NoCredentials("")),
            Connection::Tls { .. } if shared.client_names.is_empty() => Err(Refusal::NoCredentials("")),
            Connection::Tls { .. } => Err(Refusal::NoCredentials(", or a client certificate")),
        }
    }

    async fn by_user(&self, peer: &Peer) -> Result<Caller, Refusal> {
        if peer.is_of_job {
            return Err(Refusal::OfJob);
        }
        let owner = self.name_of(peer.uid).await?;
        match self.shared.users.role(peer) {
            Some(role) => {
                Ok(Caller { owner, role, by: KnownBy::Socket, uid: Ok(Some(peer.uid)), until: Until::default() })
            }
            None => Err(Refusal::NoRole(owner)),
        }
    }

    async fn name_of(&self, uid: u32) -> Result<Arc<str>, Refusal> {
        if let Some(name) = self.shared.users.known_name(uid) {
            return Ok(name);
        }
        // A directory server may be asked, which may take long.
        let shared = self.shared.clone();
        let asked = tokio::task::spawn_blocking(move || shared.users.name(uid)).await;
        let why = |why| Refusal::NoName { uid, why };
        asked.map_err(|_| why(nix::Error::ECANCELED))?.map_err(why)
    }

    async fn by_token(&self, text: &str) -> Result<Caller, Refusal> {
        let now = SystemTime::now();
        let (token, end) = match self.shared.tokens.find(text, now) {
            tokens::Found::Good(token, end) => (token, end),
            tokens::Found::Unknown => return self.by_launch_token(text),
            tokens::Found::Expired(token) => return Err(Refusal::Expired(token.name)),
            tokens::Found::Revoked(token) => return Err(Refusal::Revoked(token.name)),
        };
        let uid = self.uid_of(&token.owner).await;
        let until = Until { revoked: Some(end), left: token.left(now) };
        Ok(Caller { owner: token.owner, role: token.role, by: KnownBy::Token(token.name), uid, until })
    }

    fn by_launch_token(&self, text: &str) -> Result<Caller, Refusal> {
        let (launch, end) = self.shared.launch_tokens.find(text).ok_or(Refusal::UnknownToken)?;
        Ok(of_launch(launch, end))
    }

    /// The seal of the message has told that its sender has the token.
    fn by_mailbox(&self, launch: &OfLaunch) -> Result<Caller, Refusal> {
        let end = self.shared.launch_tokens.end_of(launch).ok_or(Refusal::UnknownToken)?;
        Ok(of_launch(launch.clone(), end))
    }

    async fn by_password(&self, pair: &str, connection: &Connection) -> Result<Caller, Refusal> {
        let Some(passwords) = &self.shared.passwords else {
            return Err(Refusal::Malformed("holds a password, and http.web_config in the settings names no users"));
        };
        let user = match passwords.remembered(pair) {
            Some(user) => user,
            None => match passwords.check(pair, || self.shared.failures.are_many(connection)).await {
                Checked::Right(user) => user,
                Checked::Wrong => return Err(Refusal::WrongPassword),
                Checked::Unchecked => return Err(Refusal::TooMany),
            },
        };
        Ok(Caller { owner: user, role: Role::Viewer, by: KnownBy::Password, uid: Ok(None), until: Until::default() })
    }

    async fn by_certificate(&self, certificate: &Certificate) -> Result<Caller, Refusal> {
        let Certificate { names, expires } = certificate;
        // It was good when the connection was made, which may be long ago.
        let Ok(left) = expires.duration_since(SystemTime::now()) else {
            return Err(Refusal::ExpiredCertificate(names.join(", ")));
        };
        let allowed = &self.shared.client_names;
        let named = names.iter().find_map(|name| Some((name.as_str(), *allowed.get(name)?)));
        let any = || Some((names.first()?.as_str(), *allowed.get("*")?));
        let Some((name, role)) = named.or_else(any) else {
            return Err(Refusal::UnknownCertificate(names.join(", ")));
        };
        let owner: Arc<str> = name.into();
        let uid = self.uid_of(&owner).await;
        let until = Until { revoked: None, left: Some(left) };
        Ok(Caller { owner, role, by: KnownBy::Certificate, uid, until })
    }

    /// The user of this machine with that name; None where there is none.
    async fn uid_of(&self, name: &Arc<str>) -> Result<Option<u32>, nix::Error> {
        if let Some(uid) = self.shared.users.known_uid(name) {
            return Ok(uid);
        }
        let (shared, name) = (self.shared.clone(), name.clone());
        let asked = tokio::task::spawn_blocking(move || shared.users.uid(&name)).await;
        asked.unwrap_or(Err(nix::Error::ECANCELED))
    }

    /// Counts a refusal, and tells it unless there were too many from there.
    fn refused(&self, path: &str, connection: &Connection, refusal: &Refusal) {
        let shared = &self.shared;
        shared
            .metrics
            .auth_failures
            .with_label_values(&[connection.door(), &refusal.reason().to_ascii_lowercase()])
            .inc();
        let failure = match refusal {
            Refusal::WrongPassword => Failure::WrongPassword,
            refusal if refusal.is_of_known() => Failure::OfKnown,
            _ => Failure::OfStranger,
        };
        let more = match shared.failures.note(connection, failure) {
            Noted::Told => "",
            Noted::LastFromThere => "; further ones from there are only counted for a minute",
            Noted::LastOfStrangers => "; further ones of strangers are only counted for a minute",
            Noted::Counted => return,
        };
        shared.audit.refused(path, connection, refusal, more);
    }
}

/// A rank of a launch, whose token ends with `end`.
fn of_launch(launch: OfLaunch, end: CancellationToken) -> Caller {
    let owner = format!("jobs/{}", launch.job).into();
    let until = Until { revoked: Some(end), left: None };
    Caller { owner, role: Role::Rank, by: KnownBy::Launch(launch), uid: Ok(None), until }
}
