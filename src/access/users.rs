//! Users of this machine: names, and their roles on the Unix socket.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use super::connection::Peer;
use crate::config::Security;
use crate::role::Role;

/// The name of a user is asked for again after this time.
const FRESH: Duration = Duration::from_secs(60);
/// A user without a name is called by the number behind this.
const NAMELESS: &str = "uid-";

/// The roles of users of this machine.
#[derive(Debug)]
pub(super) struct Users {
    own: u32,
    /// Its members may submit.
    socket_group: u32,
    users: HashMap<u32, Role>,
    groups: HashMap<u32, Role>,
    names: Recent<u32, Arc<str>>,
    uids: Recent<Arc<str>, Option<u32>>,
}

/// Answers of the system that are still fresh.
#[derive(Debug)]
struct Recent<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(_, told)| told.elapsed() < FRESH).map(|(answer, _)| answer.clone())
    }

    fn put(&self, key: K, answer: V) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (_, told)| told.elapsed() < FRESH);
        answers.insert(key, (answer, Instant::now()));
    }
}

impl Users {
    /// Reads the rules of the settings. The socket belongs to the group of this process.
    ///
    /// # Errors
    /// The setting that names a user or a group which this machine does not know.
    pub(super) fn new(security: &Security) -> Result<Self, String> {
        let user = |name: &str| User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()));
        let group = |name: &str| Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()));
        let (mut users, mut groups) = (HashMap::new(), HashMap::new());
        for (name, role) in &security.users {
            users.insert(number("security.users", name, user)?, *role);
        }
        for (name, role) in &security.groups {
            groups.insert(number("security.groups", name, group)?, *role);
        }
        let (own, socket_group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        Ok(Self { own, socket_group, users, groups, names: Recent::new(), uids: Recent::new() })
    }

    /// The role of a process at the other end of the socket; None for none, as for a program of a
    /// job, which would be an admin by its user. The user's own entry decides before those of
    /// groups, of which the highest counts.
    pub(super) fn role(&self, peer: &Peer) -> Option<Role> {
        if peer.is_of_job {
            return None;
        }
        if peer.uid == 0 || peer.uid == self.own {
            return Some(Role::Admin);
        }
        let of_groups = || peer.groups.iter().filter_map(|group| self.groups.get(group)).max().copied();
        let of_socket = || peer.groups.contains(&self.socket_group).then_some(Role::Submitter);
        self.users.get(&peer.uid).copied().or_else(of_groups).or_else(of_socket)
    }

    /// The login name of a user, or `uid-1000` where the machine has none. It may ask a directory
    /// server, and block.
    pub(super) fn name(&self, uid: u32) -> Result<Arc<str>, nix::Error> {
        let name: Arc<str> = match found(User::from_uid(Uid::from_raw(uid)))? {
            Some(user) => user.name.into(),
            None => format!("{NAMELESS}{uid}").into(),
        };
        self.names.put(uid, name.clone());
        Ok(name)
    }

    /// The name if it is known without asking.
    pub(super) fn known_name(&self, uid: u32) -> Option<Arc<str>> {
        self.names.get(&uid)
    }

    /// The user of a name; None where the machine has none. It may block.
    pub(super) fn uid(&self, name: &Arc<str>) -> Result<Option<u32>, nix::Error> {
        let uid = match name.strip_prefix(NAMELESS).and_then(|uid| uid.parse().ok()) {
            Some(uid) => Some(uid),
            None => found(User::from_name(name))?.map(|user| user.uid.as_raw()),
        };
        self.uids.put(name.clone(), uid);
        Ok(uid)
    }

    /// The user if it is known without asking.
    pub(super) fn known_uid(&self, name: &Arc<str>) -> Option<Option<u32>> {
        self.uids.get(name)
    }
}

/// The answer of the system. Some errors are its way to say that there is no such user.
/// (getpwnam_r(3))
fn found(asked: nix::Result<Option<User>>) -> nix::Result<Option<User>> {
    match asked {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        asked => asked,
    }
}

/// The number of a user or group that the settings name.
fn number(key: &str, name: &str, find: impl Fn(&str) -> nix::Result<Option<u32>>) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match find(name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => {
            Err(format!("{key} names {name}, whom this machine does not know; `getent` lists those that it knows"))
        }
        Err(error) => Err(format!("{key} names {name}, who cannot be looked up: {error}; the number may stand there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(users: &[(u32, Role)], groups: &[(u32, Role)]) -> Users {
        Users {
            own: 70,
            socket_group: 71,
            users: users.iter().copied().collect(),
            groups: groups.iter().copied().collect(),
            names: Recent::new(),
            uids: Recent::new(),
        }
    }

    #[test]
    fn roles_come_from_the_user_then_from_groups_then_from_the_socket() {
        let users = users(&[(1, Role::Viewer), (2, Role::Admin)], &[(10, Role::Viewer), (11, Role::Admin)]);
        let role = |uid, groups: &[u32]| users.role(&Peer { uid, groups: groups.into(), is_of_job: false });
        for (uid, groups, expected) in [
            (0, &[][..], Some(Role::Admin)),
            (70, &[], Some(Role::Admin)),
            (1, &[11, 71], Some(Role::Viewer)),
            (2, &[], Some(Role::Admin)),
            (3, &[10, 71], Some(Role::Viewer)),
            (3, &[10, 11], Some(Role::Admin)),
            (3, &[71], Some(Role::Submitter)),
            (3, &[72], None),
            (3, &[], None),
        ] {
            assert_eq!(role(uid, groups), expected, "{uid} {groups:?}");
        }
        assert_eq!(users.role(&Peer { uid: 70, groups: [71].into(), is_of_job: true }), None);
    }

    #[test]
    fn users_are_named_and_unknown_ones_have_their_number() {
        let users = users(&[], &[]);
        assert_eq!(&*users.name(0).unwrap(), "root");
        assert_eq!(&*users.known_name(0).unwrap(), "root");
        assert_eq!(&*users.name(4_000_000_001).unwrap(), "uid-4000000001");
        for (name, uid) in [("root", Some(0)), ("uid-7", Some(7)), ("nobody of that name", None)] {
            let name = name.into();
            assert_eq!((users.known_uid(&name), users.uid(&name), users.known_uid(&name)), (None, Ok(uid), Some(uid)));
        }
    }

    #[test]
    fn a_user_whom_the_machine_does_not_know_is_a_mistake() {
        let error = number("security.users", "nobody of that name", |name| {
            User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()))
        });
        assert!(error.unwrap_err().contains("security.users names nobody of that name"));
    }
}
