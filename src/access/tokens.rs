//! Tokens: made, found by their secrets, revoked. The database has them; all are in memory too.
//!
//! One more lies in a file of the state folder, for the user of the daemon. Only that user and root
//! can read the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::secret::{Hash, Secret};
use crate::role::Role;
use crate::store::{Store, StoreError, StoredToken};

/// The name of the token in the file; no other has it.
pub(super) const OF_FILE: &str = "file";
/// Tokens that there may be: each call with a token is held against all of them.
const MOST: usize = 1000;
/// A token that has ended stays in the list for this time, if there is room.
const SHOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: Arc<str>,
    /// The role of its holder.
    pub role: Role,
    /// In whose name its holder acts.
    pub owner: Arc<str>,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends; None for never.
    pub expires: Option<SystemTime>,
    /// When it was revoked; None where it was not.
    pub revoked: Option<SystemTime>,
}

impl Token {
    /// How long it is good from then on; None for ever.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        self.expires.map(|end| end.duration_since(now).unwrap_or_default())
    }

    /// When it ended; None where it is good.
    fn ended(&self, now: SystemTime) -> Option<SystemTime> {
        [self.revoked, self.expires.filter(|end| *end <= now)].into_iter().flatten().min()
    }
}

/// Why there is no such token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is taken.
    #[error("there is a token {0} already, which may be revoked or expired; another name is needed")]
    Taken(String),
    /// The name is that of none.
    #[error("there is no token {0}; `torchctl token list` shows those that there are")]
    Unknown(String),
    /// The one in the file ends with the file.
    #[error(
        "the token of the state folder is no entry of the list: remove its file, and torchd makes another at its next start"
    )]
    OfFile,
    /// There are too many.
    #[error("there are {MOST} tokens that are good, the most that there may be; `torchctl token revoke` ends one")]
    TooMany,
    /// torchd stops.
    #[error("torchd is stopping; after its next start `torchctl token list` shows whether the token was changed")]
    Stopping,
    /// The system has no random numbers.
    #[error("no secret can be made: {0}")]
    NoRandom(io::Error),
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The finding about a secret.
#[derive(Debug)]
pub(super) enum Found {
    /// It is good, until this is cancelled.
    Good(Token, CancellationToken),
    /// No token has it.
    Unknown,
    /// It has expired.
    Expired(Token),
    /// It was revoked.
    Revoked(Token),
}

struct Known {
    token: Token,
    hash: Hash,
    /// Cancelled when it is revoked.
    end: CancellationToken,
}

/// All tokens; cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    known: Arc<RwLock<Vec<Known>>>,
    most: usize,
    /// Held from before the database is changed until memory is.
    turn: Arc<Mutex<()>>,
}

impl Tokens {
    /// Those of the database.
    pub(super) async fn load(store: Store) -> Result<Self, StoreError> {
        let known = store.tokens().await?.into_iter().filter_map(known).collect();
        let this = Self { store, known: Arc::new(RwLock::new(known)), most: MOST, turn: Arc::default() };
        this.forget_ended(SystemTime::now()).await?;
        Ok(this)
    }

    /// Takes the token of the file, which is made where it is missing.
    pub(super) fn take_file(&self, path: &Path, owner: &str) -> io::Result<()> {
        let secret = read_or_make(path)?;
        let token = Token {
            name: OF_FILE.into(),
            role: Role::Admin,
            owner: owner.into(),
            created: SystemTime::now(),
            expires: None,
            revoked: None,
        };
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Known { token, hash: secret.hash(), end: CancellationToken::new() });
        Ok(())
    }

    /// The token of a secret. Each one is looked at, so that the time tells nothing.
    pub(super) fn find(&self, text: &str, now: SystemTime) -> Found {
        let Some(hash) = Secret::read(text).map(|secret| secret.hash()) else { return Found::Unknown };
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for known in all.iter() {
            if known.hash.is(&hash) {
                found = Some(known);
            }
        }
        match found {
            None => Found::Unknown,
            Some(Known { token, .. }) if token.revoked.is_some() => Found::Revoked(token.clone()),
            Some(Known { token, .. }) if token.left(now).is_some_and(|left| left.is_zero()) => {
                Found::Expired(token.clone())
            }
            Some(Known { token, end, .. }) => Found::Good(token.clone(), end.clone()),
        }
    }

    /// Those of the database, in the order of their names.
    pub fn list(&self) -> Vec<Token> {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut listed: Vec<_> =
            all.iter().map(|known| known.token.clone()).filter(|token| &*token.name != OF_FILE).collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        listed
    }

    /// Makes a token, and returns it with its secret, which nobody can ask for again.
    pub async fn create(
        &self,
        name: &str,
        role: Role,
        owner: &str,
        expires: Option<SystemTime>,
    ) -> Result<(Token, Secret), TokenError> {
        if name == OF_FILE {
            return Err(TokenError::Taken(name.into()));
        }
        let secret = Secret::new().map_err(TokenError::NoRandom)?;
        // Times of the database have microseconds: the token is the same after a restart.
        let now = whole_micros(SystemTime::now());
        let expires = expires.map(whole_micros);
        let token = Token { name: name.into(), role, owner: owner.into(), created: now, expires, revoked: None };
        let row = StoredToken {
            name: name.into(),
            hash: secret.hash().to_hex(),
            role: role.label().into(),
            owner: owner.into(),
            created: now,
            expires,
            revoked: None,
        };
        let known = Known { token: token.clone(), hash: secret.hash(), end: CancellationToken::new() };
        let (this, name) = (self.clone(), name.to_owned());
        to_its_end(async move {
            let _turn = this.turn.lock().await;
            this.forget_ended(now).await?;
            if this.list().len() >= this.most {
                return Err(TokenError::TooMany);
            }
            if !this.store.insert_token(row).await? {
                return Err(TokenError::Taken(name));
            }
            this.known.write().unwrap_or_else(PoisonError::into_inner).push(known);
            Ok(())
        })
        .await?;
        Ok((token, secret))
    }

    /// Forgets tokens that ended long ago, and to make room for another those that ended first.
    async fn forget_ended(&self, now: SystemTime) -> Result<(), StoreError> {
        let mut ended: Vec<_> =
            self.list().into_iter().filter_map(|token| Some((token.ended(now)?, token.name))).collect();
        ended.sort();
        let too_many = (self.list().len() + 1).saturating_sub(self.most);
        let is_long_ago = |end: &SystemTime| now.duration_since(*end).is_ok_and(|since| since > SHOWN_FOR);
        let gone = ended.into_iter().enumerate().filter(|(place, (end, _))| *place < too_many || is_long_ago(end));
        let gone: Vec<_> = gone.map(|(_, (_, name))| name.to_string()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.store.delete_tokens(gone.clone()).await?;
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| !gone.iter().any(|name| **name == *known.token.name));
        Ok(())
    }

    /// Ends a token, and all streams that were begun with it.
    pub async fn revoke(&self, name: &str) -> Result<Token, TokenError> {
        if name == OF_FILE {
            return Err(TokenError::OfFile);
        }
        let (this, name) = (self.clone(), name.to_owned());
        to_its_end(async move {
            let _turn = this.turn.lock().await;
            let unknown = || TokenError::Unknown(name.clone());
            let revoked = this.store.revoke_token(name.clone(), SystemTime::now()).await?.ok_or_else(unknown)?;
            let mut all = this.known.write().unwrap_or_else(PoisonError::into_inner);
            let known = all.iter_mut().find(|known| *known.token.name == *name).ok_or_else(unknown)?;
            known.token.revoked = Some(revoked);
            known.end.cancel();
            Ok(known.token.clone())
        })
        .await
    }
}

/// Does this also where the client goes away meanwhile: else a token could be in the database
/// alone, and one that is revoked there be good until the next start.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, TokenError>> + Send + 'static,
) -> Result<T, TokenError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(TokenError::Stopping),
    }
}

/// A row of the database; None for one of a later version, which grants no role here.
fn known(row: StoredToken) -> Option<Known> {
    let StoredToken { name, hash, role, owner, created, expires, revoked } = row;
    let read = Role::from_label(&role).zip(Hash::from_hex(&hash));
    let Some((role, hash)) = read else {
        tracing::error!(token = name, role, "a token cannot be read; it opens nothing");
        return None;
    };
    let token = Token { name: name.into(), role, owner: owner.into(), created, expires, revoked };
    Some(Known { token, hash, end: CancellationToken::new() })
}

fn whole_micros(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// The secret in a file that nobody else can read or write; a new one where there is no file.
fn read_or_make(path: &Path) -> io::Result<Secret> {
    let odd = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    match fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => Err(odd("it is no regular file; remove it, and torchd makes one".into())),
        Ok(about) if about.uid() != nix::unistd::Uid::effective().as_raw() => {
            Err(odd(format!("it belongs to uid {}; remove it, and torchd makes another", about.uid())))
        }
        Ok(about) if about.mode() & 0o077 != 0 => Err(odd(format!(
            "its mode is {:04o}, so that others can read or write it: remove it, and torchd makes another, whose mode is 0600",
            about.mode() & 0o7777
        ))),
        Ok(_) => {
            let text = fs::read_to_string(path)?;
            Secret::read(text.trim_end_matches('\n'))
                .ok_or_else(|| odd("it holds no token; remove it, and torchd makes another".into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = Secret::new()?;
            // Whole or absent: a cut one would be refused at every start.
            let aside = path.with_extension("new");
            let _ = fs::remove_file(&aside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(format!("{}\n", secret.reveal()).as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, path)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    async fn tokens(folder: &Path) -> Tokens {
        Tokens::load(Store::open(&folder.join("torchd.db")).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_token_is_good_until_it_expires_or_is_revoked_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let all = tokens(folder.path()).await;
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let (ci, secret) = all.create("ci", Role::Submitter, "alice", None).await.unwrap();
        let (_, brief) = all.create("brief", Role::Viewer, "brief", Some(now + hour)).await.unwrap();
        assert!(matches!(all.create("ci", Role::Admin, "eve", None).await, Err(TokenError::Taken(_))));
        assert!(matches!(all.create(OF_FILE, Role::Admin, "eve", None).await, Err(TokenError::Taken(_))));
        let is_good = |all: &Tokens, secret: &Secret, now| matches!(all.find(secret.reveal(), now), Found::Good(..));
        assert!(is_good(&all, &brief, now) && !is_good(&all, &brief, now + hour));
        assert!(matches!(all.find(brief.reveal(), now + hour), Found::Expired(token) if &*token.name == "brief"));
        let Found::Good(found, end) = all.find(secret.reveal(), now) else { panic!() };
        assert_eq!(found, ci);
        assert!(matches!(all.find(&secret.reveal()[..40], now), Found::Unknown));
        drop(all);
        let all = tokens(folder.path()).await;
        let Found::Good(found, end_after) = all.find(secret.reveal(), now) else { panic!() };
        assert_eq!(found, ci);
        assert!(!end.is_cancelled());
        let revoked = all.revoke("ci").await.unwrap();
        assert!(revoked.revoked.is_some() && end_after.is_cancelled());
        assert_eq!(all.revoke("ci").await.unwrap(), revoked);
        assert!(matches!(all.find(secret.reveal(), now), Found::Revoked(_)));
        assert!(matches!(all.revoke("other").await, Err(TokenError::Unknown(_))));
        let names: Vec<_> = all.list().iter().map(|token| token.name.to_string()).collect();
        assert_eq!(names, ["brief", "ci"]);
        let bytes = fs::read(folder.path().join("torchd.db")).unwrap();
        assert!(!bytes.windows(64).any(|part| part == &secret.reveal().as_bytes()[7..71]), "the secret is on the disk");
    }

    #[tokio::test]
    async fn ended_tokens_make_room_and_good_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let all = tokens(folder.path()).await;
        let names = |all: &Tokens| all.list().iter().map(|token| token.name.to_string()).collect::<Vec<_>>();
        let soon = whole_micros(SystemTime::now()) + Duration::from_secs(1);
        for (name, expires) in [("good", None), ("revoked", None), ("brief", Some(soon))] {
            all.create(name, Role::Viewer, "alice", expires).await.unwrap();
        }
        all.revoke("revoked").await.unwrap();
        all.forget_ended(soon + SHOWN_FOR).await.unwrap();
        assert_eq!(names(&all), ["brief", "good"], "the one that was revoked ended first");
        all.forget_ended(soon + SHOWN_FOR + Duration::from_secs(1)).await.unwrap();
        assert_eq!(names(&all), ["good"]);
        assert_eq!(names(&tokens(folder.path()).await), ["good"], "they are in the database");

        let all = Tokens { most: 4, ..all };
        let past = SystemTime::now() - Duration::from_secs(60);
        for (name, expires) in [("b", Some(past + Duration::from_secs(1))), ("a", Some(past)), ("c", None), ("d", None)]
        {
            all.create(name, Role::Viewer, "alice", expires).await.unwrap();
        }
        assert_eq!(names(&all), ["b", "c", "d", "good"], "the one that ended first gave room");
        all.create("e", Role::Viewer, "alice", None).await.unwrap();
        assert!(matches!(all.create("f", Role::Viewer, "alice", None).await, Err(TokenError::TooMany)));
        all.revoke("good").await.unwrap();
        all.create("f", Role::Viewer, "alice", None).await.unwrap();
        assert_eq!(names(&all), ["c", "d", "e", "f"]);
    }

    #[tokio::test]
    async fn a_change_is_made_whole_also_where_its_caller_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let all = tokens(folder.path()).await;
        let (_, secret) = all.create("ci", Role::Viewer, "alice", None).await.unwrap();
        let Found::Good(_, end) = all.find(secret.reveal(), SystemTime::now()) else { panic!() };
        // It begins, and is given up at its first wait.
        let mut revoking = Box::pin(all.revoke("ci"));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(revoking.as_mut().poll(context))).await;
        assert!(begun.is_pending() && !end.is_cancelled());
        drop(revoking);
        end.cancelled().await;
        assert!(matches!(all.find(secret.reveal(), SystemTime::now()), Found::Revoked(_)));
        assert!(tokens(folder.path()).await.list()[0].revoked.is_some());
    }

    #[tokio::test]
    async fn the_file_is_made_once_and_refused_where_others_can_reach_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let all = tokens(folder.path()).await;
        all.take_file(&path, "torchd").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let Found::Good(token, _) = all.find(text.trim_end(), SystemTime::now()) else { panic!() };
        assert_eq!((token.role, &*token.owner), (Role::Admin, "torchd"));
        assert!(all.list().is_empty() && matches!(all.revoke(OF_FILE).await, Err(TokenError::OfFile)));
        let again = tokens(folder.path()).await;
        again.take_file(&path, "torchd").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);

        let refused = |words: &str| {
            let error = read_or_make(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        refused("its mode is 0640");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "torchd_12").unwrap();
        refused("holds no token");
        fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        refused("no regular file");
    }
}
