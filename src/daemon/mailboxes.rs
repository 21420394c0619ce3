//! The mailboxes of launches whose ranks have no route to the daemon: one more door to the same
//! services.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Layer;

use crate::access::{Connection, Strangers};
use crate::beneath::Folder;
use crate::launches::{self, Launch, Launches};
use crate::mailbox::{Place, Receiver};
use crate::mirror::Roots;
use crate::services::AnswerLayer;
use crate::umask::open_to_group;

/// New launches are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Answers calls by mailboxes until `stop`. Those in hand stay for the next daemon.
pub(super) async fn serve(
    launches: Launches,
    roots: Arc<Roots>,
    routes: Routes,
    layer: AnswerLayer,
    stop: CancellationToken,
) -> Result<(), String> {
    let (mut served, mut receivers) = (HashMap::new(), JoinSet::new());
    let strangers = Strangers::new();
    let service = layer.layer(routes);
    while !stop.is_cancelled() {
        while let Some(done) = receivers.try_join_next() {
            if let Ok(name) = done {
                served.remove(&name);
            }
        }
        for launch in launches.with_mailboxes() {
            let name = (launch.job().clone(), launch.attempt());
            let Some(key) = launches.seal_key(&launch).filter(|_| !served.contains_key(&name)) else { continue };
            let connection = Connection::Mailbox(launches::of(&launch));
            let guest = strangers.enter(&connection);
            let mut extensions = Extensions::new();
            extensions.insert(guest.visit(connection));
            let place = Arc::new(OfLaunch { launch, launches: launches.clone(), roots: roots.clone() });
            let receiver = Receiver { service: service.clone(), key, place, extensions };
            served.insert(name.clone(), guest);
            receivers.spawn(async move {
                receiver.serve().await;
                name
            });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// The mailbox of a launch.
struct OfLaunch {
    launch: Arc<Launch>,
    launches: Launches,
    roots: Arc<Roots>,
}

impl OfLaunch {
    /// The folder of the mailbox, and its name there.
    fn storage(&self) -> io::Result<(Folder, String)> {
        let (storage, name) = self.launch.mailbox().ok_or(io::ErrorKind::NotFound)?;
        Ok((self.roots.open(storage)?, name))
    }
}

impl Place for OfLaunch {
    fn open(&self) -> io::Result<Folder> {
        let (storage, name) = self.storage()?;
        let is_for_group = storage.hands_group_on()?;
        let opened = storage.make_folder_and(&name, |made| {
            if is_for_group {
                open_to_group(made);
            }
        });
        opened.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    }

    fn remove(&self) -> io::Result<()> {
        let (storage, name) = self.storage()?;
        storage.remove_empty_folder(name)
    }

    fn is_over(&self) -> bool {
        self.launches.of(self.launch.job().as_str(), self.launch.attempt()).is_none()
    }

    fn note(&self, trouble: Option<String>) {
        self.launch.note_mailbox(trouble);
    }
}
