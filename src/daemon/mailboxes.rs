//! The mailboxes of launches whose ranks have no route to the daemon: one more door to the same
//! services.
//!
//! A list in the state folder names each mailbox from before its creation until after its removal.
//! By it a daemon removes the mailboxes that an earlier daemon has left, and tries failed removals
//! again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Extensions;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer;

use crate::access::{Connection, Guest, Strangers};
use crate::beneath::{Folder, present};
use crate::journal::write_whole;
use crate::launches::{self, Launch, Launches, Mailbox};
use crate::mailbox::{self, Opened, Place, Receiver};
use crate::mirror::Roots;
use crate::services::AnswerLayer;
use crate::umask::open_to_group;

/// New launches are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Mailboxes that are left are tried to be removed this often.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Mailboxes that are removed at once.
const MOST_REMOVALS: usize = 16;
/// The methods for ranks.
const PATHS: &str = "/torchd.v1.LaunchService/";
/// Calls of a rank that are answered at once, at most.
const CALLS: u32 = 8;

/// Serves mailboxes.
pub(super) struct Mailboxes {
    /// The launches.
    pub(super) launches: Launches,
    /// The folders below which mailboxes lie.
    pub(super) roots: Arc<Roots>,
    /// The file of the list.
    pub(super) list: PathBuf,
    /// The folders of all jobs.
    pub(super) jobs: PathBuf,
}

/// A mailbox that is served, and its place among the strangers.
type Served = BTreeMap<Mailbox, Guest>;

impl Mailboxes {
    /// Answers calls by mailboxes until `stop`. Those in hand stay for the next daemon.
    pub(super) async fn serve(self, routes: Routes, layer: AnswerLayer, stop: CancellationToken) -> Result<(), String> {
        let list = Arc::new(List { file: self.list, change: Mutex::default() });
        let (mut served, mut by_task, mut receivers) = (Served::new(), HashMap::<Id, Mailbox>::new(), JoinSet::new());
        let strangers = Strangers::new();
        let service = layer.layer(routes);
        let mut sweep = Instant::now();
        let (mut sweeping, mut removals) = (BTreeSet::new(), JoinSet::new());
        while !stop.is_cancelled() {
            while let Some(done) = receivers.try_join_next_with_id() {
                let id = done.map_or_else(|error| error.id(), |(id, ())| id);
                if let Some(mailbox) = by_task.remove(&id) {
                    served.remove(&mailbox);
                    // It is not wanted any more.
                    sweep = Instant::now();
                }
            }
            for launch in self.launches.with_mailboxes() {
                let Some(mailbox) = launch.mailbox().filter(|mailbox| !served.contains_key(mailbox)).cloned() else {
                    continue;
                };
                let Some(key) = self.launches.seal_key(&launch) else { continue };
                if let Err(error) = list.clone().change(mailbox.clone(), true).await {
                    launch.note_look(Some(format!("{}: {error}", list.file.display())));
                    continue;
                }
                let connection = Connection::Mailbox(launches::of(&launch));
                let guest = strangers.enter(&connection);
                let mut extensions = Extensions::new();
                extensions.insert(guest.visit(connection));
                let most_in_hand = (CALLS * launch.world_size()) as usize;
                let (launches, roots) = (self.launches.clone(), self.roots.clone());
                let place = Arc::new(OfLaunch { launch, mailbox: mailbox.clone(), launches, roots });
                let service = service.clone();
                let receiver = Receiver { service, paths: PATHS, key, place, extensions, most_in_hand };
                served.insert(mailbox.clone(), guest);
                by_task.insert(receivers.spawn(receiver.serve()).id(), mailbox);
            }
            while let Some(done) = removals.try_join_next() {
                if let Ok(mailbox) = done {
                    sweeping.remove(&mailbox);
                }
            }
            if Instant::now() >= sweep {
                sweep = Instant::now() + SWEEP_EVERY;
                let listed = list.clone().all().await;
                for mailbox in listed.into_iter().filter(|mailbox| !served.contains_key(mailbox)) {
                    // One that hangs holds up no other.
                    if sweeping.len() < MOST_REMOVALS && sweeping.insert(mailbox.clone()) {
                        let (roots, jobs) = (self.roots.clone(), self.jobs.clone());
                        removals.spawn(list.clone().remove(mailbox, roots, jobs));
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        // Those of launches that have just ended, as far as there is time: the state folder may go
        // with this daemon, and the list with it.
        receivers.shutdown().await;
        for mailbox in list.clone().all().await.difference(&sweeping) {
            removals.spawn(list.clone().remove(mailbox.clone(), self.roots.clone(), self.jobs.clone()));
        }
        while removals.join_next().await.is_some() {}
        Ok(())
    }
}

/// The list of the mailboxes that are there.
struct List {
    file: PathBuf,
    /// One thread at a time changes it.
    change: Mutex<()>,
}

impl List {
    fn read(&self) -> io::Result<BTreeSet<Mailbox>> {
        let Some(text) = present(std::fs::read(&self.file))? else { return Ok(BTreeSet::new()) };
        Ok(serde_json::from_slice(&text)?)
    }

    /// All that are listed; none where the list cannot be read.
    async fn all(self: Arc<Self>) -> BTreeSet<Mailbox> {
        let this = self.clone();
        let all = tokio::task::spawn_blocking(move || this.read()).await.map_err(io::Error::other).flatten();
        all.unwrap_or_else(|error| {
            tracing::warn!(list = %self.file.display(), %error, "the list of mailboxes cannot be read");
            BTreeSet::new()
        })
    }

    /// Adds a mailbox to the list, or takes it off.
    async fn change(self: Arc<Self>, mailbox: Mailbox, is_there: bool) -> io::Result<()> {
        let change = move || {
            let _turn = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = self.read()?;
            let is_change = if is_there { all.insert(mailbox) } else { all.remove(&mailbox) };
            if is_change { write_whole(&self.file, &serde_json::to_vec_pretty(&all)?) } else { Ok(()) }
        };
        tokio::task::spawn_blocking(change).await.map_err(io::Error::other)?
    }

    /// Removes a mailbox that is not served, where no launch uses it any more. A removal that fails
    /// is tried again.
    async fn remove(self: Arc<Self>, mailbox: Mailbox, roots: Arc<Roots>, jobs: PathBuf) -> Mailbox {
        let at = mailbox.clone();
        let remove = move || {
            // One of a job that could not be read yet stays for it.
            let is_left = at.is_left(&jobs)?;
            if is_left {
                mailbox::clear(&roots.open(&at.storage)?, &at.name)?;
            }
            Ok(is_left)
        };
        let noted = match tokio::task::spawn_blocking(remove).await.map_err(io::Error::other).flatten() {
            Ok(true) => self.change(mailbox.clone(), false).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(mailbox = %mailbox.path().display(), %error, "a mailbox is left, and its removal is tried again");
        }
        mailbox
    }
}

/// The mailbox of a launch.
struct OfLaunch {
    launch: Arc<Launch>,
    mailbox: Mailbox,
    launches: Launches,
    roots: Arc<Roots>,
}

impl Place for OfLaunch {
    fn open(&self) -> io::Result<Opened> {
        let Mailbox { storage, name, .. } = &self.mailbox;
        let storage = self.roots.open(storage)?;
        let is_for_group = storage.hands_group_on()?;
        let made = |made: &Folder| {
            if is_for_group {
                open_to_group(made);
            }
        };
        let opened = storage.make_folder_and(name, made).and_then(|folder| {
            match folder.write_new(mailbox::HERE, 0o600) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            Opened::beneath(&storage, name)
        });
        opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.mailbox.path().display())))
    }

    fn storage(&self) -> &Path {
        &self.mailbox.storage
    }

    fn is_over(&self) -> bool {
        self.launches.of(self.launch.job().as_str(), self.launch.attempt()).is_none()
    }

    fn note(&self, trouble: Option<String>) {
        self.launch.note_look(trouble);
    }
}
