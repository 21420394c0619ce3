//! Users of the HTTP pages with the hashes of their passwords, in the file that programs with
//! Prometheus' exporter-toolkit take as `--web.config.file`.
//!
//! The file is read again when it changes. Hashes are of bcrypt, and slow on purpose: one is
//! computed at a time, and a password that was right is remembered.
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>)

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file_mark::FileMark;

/// Right passwords that are remembered.
const MOST_REMEMBERED: usize = 100;
/// bcrypt takes no longer one.
const LONGEST_PASSWORD: usize = 72;

/// The file, as far as torchd takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
    #[serde(default)]
    tls_server_config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    http_server_config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    rate_limit: Option<serde::de::IgnoredAny>,
}

#[derive(Debug)]
struct Users {
    mark: Option<FileMark>,
    hashes: Arc<BTreeMap<String, String>>,
    /// Right pairs by their hashes.
    remembered: HashMap<[u8; 32], Arc<str>>,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is the password of this user.
    Right(Arc<str>),
    /// It is nobody's.
    Wrong,
    /// It was not looked at.
    Unchecked,
}

/// The users of the pages.
#[derive(Debug)]
pub(super) struct Passwords {
    path: PathBuf,
    users: Mutex<Users>,
    /// Hashed in place of those of users that there are not, so that the time tells nothing.
    decoy: String,
    turn: Arc<Semaphore>,
}

impl Passwords {
    /// Reads the file.
    ///
    /// # Errors
    /// The mistake in it, in words.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let (mark, hashes) = read(path)?;
        let users = Users { mark, hashes: Arc::new(hashes), remembered: HashMap::new() };
        let decoy = bcrypt::hash("", bcrypt::DEFAULT_COST).map_err(|error| error.to_string())?;
        Ok(Self { path: path.to_owned(), users: Mutex::new(users), decoy, turn: Arc::new(Semaphore::new(1)) })
    }

    /// The user of a pair that was right before; None where it has to be checked.
    pub(super) fn remembered(&self, pair: &str) -> Option<Arc<str>> {
        self.renew();
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.remembered.get(&key(pair)).cloned()
    }

    /// Checks base64 of `user:password`, unless there were too many failures by the time of its
    /// turn.
    pub(super) async fn check(&self, pair: &str, are_many: impl Fn() -> bool) -> Checked {
        if are_many() {
            return Checked::Unchecked;
        }
        let Ok(turn) = self.turn.clone().acquire_owned().await else { return Checked::Unchecked };
        if let Some(user) = self.remembered(pair) {
            return Checked::Right(user);
        }
        if are_many() {
            return Checked::Unchecked;
        }
        self.computed(pair, turn).await.map_or(Checked::Wrong, Checked::Right)
    }

    /// The user of a pair that is right. The turn is over when the hash is computed, also where
    /// nobody waits for it any more.
    async fn computed(&self, pair: &str, turn: OwnedSemaphorePermit) -> Option<Arc<str>> {
        let decoded = STANDARD.decode(pair).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = decoded.as_deref()?.split_once(':')?;
        if password.len() > LONGEST_PASSWORD {
            return None;
        }
        let hashes = self.users.lock().unwrap_or_else(PoisonError::into_inner).hashes.clone();
        let known = hashes.get(user).cloned();
        let (is_known, hash) = (known.is_some(), known.unwrap_or_else(|| self.decoy.clone()));
        let password = password.to_owned();
        let is_right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        if !(is_right.await.unwrap_or(false) && is_known) {
            return None;
        }
        let user: Arc<str> = user.into();
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // It was right by the hashes from before; those of now may be others.
        if Arc::ptr_eq(&users.hashes, &hashes) {
            if users.remembered.len() >= MOST_REMEMBERED {
                users.remembered.clear();
            }
            users.remembered.insert(key(pair), user.clone());
        }
        Some(user)
    }

    /// Reads the file again where it has changed. One with a mistake leaves the users as they were.
    fn renew(&self) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let now = FileMark::of(&self.path);
        if users.mark == now {
            return;
        }
        users.mark = now;
        match read(&self.path) {
            Ok((mark, hashes)) => {
                *users = Users { mark, hashes: Arc::new(hashes), remembered: HashMap::new() };
                tracing::info!(path = %self.path.display(), "the users of the pages are read again");
            }
            Err(why) => {
                tracing::error!(path = %self.path.display(), why, "the users of the pages stay as they were: the file has a mistake");
            }
        }
    }
}

fn key(pair: &str) -> [u8; 32] {
    Sha256::digest(pair.as_bytes()).into()
}

fn read(path: &Path) -> Result<(Option<FileMark>, BTreeMap<String, String>), String> {
    let mark = FileMark::of(path);
    let text = fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let File { basic_auth_users, tls_server_config, http_server_config, rate_limit } = file;
    let others = [
        ("tls_server_config", tls_server_config.is_some(), "TLS is set by [tls] in torchd's settings"),
        ("http_server_config", http_server_config.is_some(), "torchd has no such settings"),
        ("rate_limit", rate_limit.is_some(), "torchd has bounds of its own"),
    ];
    if let Some((name, _, why)) = others.iter().find(|(_, is_set, _)| *is_set) {
        return Err(format!("{} has {name}: {why}; basic_auth_users alone is read", path.display()));
    }
    for (user, hash) in &basic_auth_users {
        if user.is_empty() || user.contains(':') {
            return Err(format!("{} has a user {user:?}; a name without a colon is needed", path.display()));
        }
        if let Err(error) = hash.parse::<bcrypt::HashParts>() {
            return Err(format!(
                "{}: the password of {user} is no hash of bcrypt ({error}); `htpasswd -nBC 10 \"\" | tr -d ':'` makes one",
                path.display()
            ));
        }
    }
    Ok((mark, basic_auth_users))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn right(passwords: &Passwords, pair: &str) -> Option<String> {
        match passwords.check(pair, || false).await {
            Checked::Right(user) => Some(user.to_string()),
            Checked::Wrong => None,
            Checked::Unchecked => panic!("it was not looked at"),
        }
    }

    fn pair(text: &str) -> String {
        STANDARD.encode(text)
    }

    #[tokio::test]
    async fn the_right_password_is_known_remembered_and_forgotten_when_the_file_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |password: &str| {
            let hash = bcrypt::hash(password, 4).unwrap();
            fs::write(file.path(), format!("basic_auth_users:\n  prometheus: {hash}\n  # one more\n  other: {hash}\n"))
                .unwrap();
        };
        write("secret");
        let passwords = Passwords::open(file.path()).unwrap();
        for wrong in [
            "prometheus:Secret",
            "prometheus:",
            "prometheus",
            "nobody:secret",
            "",
            &format!("prometheus:{}", "x".repeat(100)),
        ] {
            assert_eq!(right(&passwords, &pair(wrong)).await, None, "{wrong}");
        }
        assert_eq!(right(&passwords, "not base64").await, None);
        let good = pair("prometheus:secret");
        assert_eq!(passwords.remembered(&good), None);
        assert_eq!(right(&passwords, &good).await.as_deref(), Some("prometheus"));
        assert_eq!(passwords.remembered(&good).as_deref(), Some("prometheus"));
        write("another one");
        assert_eq!(passwords.remembered(&good), None);
        assert_eq!(right(&passwords, &good).await, None);
        fs::write(file.path(), "basic_auth_users: [").unwrap();
        assert_eq!(right(&passwords, &pair("other:another one")).await.as_deref(), Some("other"));
    }

    #[test]
    fn a_file_with_a_mistake_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, words) in [
            ("basic_auth_users:\n  a: plain\n", "the password of a is no hash of bcrypt"),
            ("basic_auth_users: [", "line 1"),
            ("tls_server_config:\n  cert_file: a\n", "TLS is set by [tls]"),
            ("basic_auth_user:\n  a: b\n", "basic_auth_user"),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = Passwords::open(file.path()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(Passwords::open(Path::new("/nowhere")).unwrap_err().contains("cannot be read"));
    }
}
