//! Files that clients have sent: each owner's in a folder of its own, which is a data root of that
//! owner's jobs.
//!
//! A file is whole or absent: it comes as a partial upload, which lies apart, and gets its name
//! once it has its checksum and is on the disk. No name leads out of the folder of its owner.
//! Everything here blocks, but for [`Uploads::root`] and [`Uploads::owner_of`], and is done behind
//! a gate.
//!
//! Where things lie, below `<state>/uploads`: `<owner>/<name>`, `.partial/<owner>/<hash>.part` and
//! `.json`.

mod error;
mod name;
mod owner;
mod partial;
mod tree;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::beneath::{Folder, present};
use crate::gate::Wanted;
use crate::sha256::Sha256;
pub use error::UploadError;
pub use name::Name;
pub use owner::Owner;
pub use partial::Partial;
pub use writer::{Begin, Upload};

/// The folder of uploads, in the state folder.
pub const FOLDER: &str = "uploads";
/// The folder of partial uploads. No owner has this name.
const PARTIAL: &str = ".partial";
/// Uploads that an owner may have under way.
const MOST_AT_ONCE: usize = 16;
/// From one look for partial uploads that have expired to the next.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// How much an owner may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all files and of all partial uploads, these as if they were whole.
    pub quota_bytes: u64,
    /// Files and partial uploads.
    pub max_files: usize,
}

/// The uploads of all owners; cheap to clone.
#[derive(Debug, Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A canonical path.
    place: PathBuf,
    limits: Limits,
    /// Owners that have a folder.
    owners: Mutex<BTreeSet<Owner>>,
    /// Uploads that are under way, with the bytes that are still to come. Nobody reads or writes
    /// files while holding it.
    active: Mutex<HashMap<(Owner, Name), u64>>,
    /// Held while room is looked for, and while names change.
    changes: Mutex<()>,
}

/// A file that has come whole.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Its bytes.
    pub size_bytes: u64,
    /// When it had come.
    pub updated: SystemTime,
    /// Its checksum, where it was asked for.
    pub sha256: Option<String>,
}

/// The files of a name: the one that has come whole, and the one that is on its way.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The file.
    pub whole: Option<Whole>,
    /// The upload that has not come whole.
    pub partial: Option<Partial>,
}

impl Stored {
    /// Bytes that count for the quota.
    fn used_bytes(&self) -> u64 {
        let whole = self.whole.as_ref().map_or(0, |whole| whole.size_bytes);
        whole.saturating_add(self.partial.as_ref().map_or(0, |partial| partial.size_bytes))
    }
}

/// All that an owner has.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files by name.
    pub files: BTreeMap<Name, Stored>,
    /// Bytes that count for the quota.
    pub used_bytes: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Whole {
    fn of(file: &File, sha256: Option<String>) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self { size_bytes: about.len(), updated: about.modified()?, sha256 })
    }
}

impl Uploads {
    /// Opens the folder of uploads, makes it where it is missing, and removes what has expired or
    /// was left by a crash. The operator may have put it on another disk by a link.
    pub fn open(place: &Path, limits: Limits) -> io::Result<Self> {
        match fs::create_dir(place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let place = place.canonicalize()?;
        let entries = Folder::open(&place)?.entries()?;
        let owners =
            entries.iter().filter(|entry| entry.is_folder).filter_map(|entry| Owner::of_folder(&entry.name)).collect();
        let (owners, active, changes) = (Mutex::new(owners), Mutex::default(), Mutex::default());
        let uploads = Self { shared: Arc::new(Shared { place, limits, owners, active, changes }) };
        uploads.look_for_expired();
        Ok(uploads)
    }

    /// The folder that the jobs of an owner may read: a canonical path. None where the owner has
    /// none. Asks no file system.
    pub fn root(&self, owner: &Owner) -> Option<PathBuf> {
        locked(&self.shared.owners).contains(owner).then(|| self.shared.place.join(owner.to_string()))
    }

    /// The owner of a file by its canonical path; None for one that was not uploaded. Asks no file
    /// system.
    pub fn owner_of(&self, path: &Path) -> Option<Owner> {
        let below = path.strip_prefix(&self.shared.place).ok()?;
        Owner::of_folder(below.iter().next()?.to_str()?)
    }

    /// How much an owner may have.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// All that an owner has.
    pub fn list(&self, owner: &Owner, wanted: &Wanted) -> Result<Listing, UploadError> {
        let place = self.shared.folder()?;
        let mut files = BTreeMap::<_, Stored>::new();
        if let Some(folder) = present(place.folder(owner.to_string()))? {
            tree::walk(&folder, wanted, &mut |name, about| {
                let updated = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.entry(name).or_default().whole = Some(Whole { size_bytes: about.len(), updated, sha256: None });
            })?;
        }
        if let Some(folder) = present(place.folder(partial_folder(owner)))? {
            for (name, partial) in partial::all(&folder)? {
                files.entry(name).or_default().partial = Some(partial);
            }
        }
        let used_bytes = files.values().map(Stored::used_bytes).fold(0, u64::saturating_add);
        Ok(Listing { files, used_bytes })
    }

    /// The files of a name, with the checksum of the one that is whole: it is read for that.
    pub fn stat(&self, owner: &Owner, name: &Name, wanted: &Wanted) -> Result<Stored, UploadError> {
        let place = self.shared.folder()?;
        let mut stored = Stored::default();
        if let Some(folder) = present(place.folder(owner.to_string()))?
            && let Some(file) = tree::open(&folder, name)?
        {
            let sha256 = Sha256::of_reader(&mut wanted.reads(&file))?;
            stored.whole = Some(Whole::of(&file, Some(sha256))?);
        }
        if let Some(folder) = present(place.folder(partial_folder(owner)))? {
            stored.partial = partial::read(&folder, name)?;
        }
        match stored {
            Stored { whole: None, partial: None } => Err(UploadError::Unknown(name.clone())),
            stored => Ok(stored),
        }
    }

    /// Removes a file, and a partial upload of that name. A process that has it open may read on.
    pub fn delete(&self, owner: &Owner, name: &Name) -> Result<(), UploadError> {
        // Nobody begins to send a file of that name meanwhile.
        let _claim = self.shared.claim(owner, name)?;
        let _changes = locked(&self.shared.changes);
        let place = self.shared.folder()?;
        let mut was_there = false;
        if let Some(folder) = present(place.folder(owner.to_string()))?
            && tree::open(&folder, name)?.is_some()
        {
            was_there = true;
            folder.remove_file(name.path())?;
            tree::remove_empty_folders(&folder, name)?;
            folder.sync()?;
        }
        if let Some(folder) = present(place.folder(partial_folder(owner)))? {
            was_there |= partial::read(&folder, name)?.is_some();
            partial::remove(&folder, name)?;
        }
        if !was_there {
            return Err(UploadError::Unknown(name.clone()));
        }
        tracing::info!(%owner, %name, "an uploaded file is removed");
        Ok(())
    }

    /// Removes partial uploads to which nothing was added for a day, at an interval.
    pub async fn remove_expired_at_intervals(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let uploads = self.clone();
            if tokio::task::spawn_blocking(move || uploads.look_for_expired()).await.is_err() {
                return;
            }
        }
    }

    /// Removes what it can; the next look tries the rest again.
    fn look_for_expired(&self) {
        if let Err(error) = self.remove_expired() {
            tracing::error!(%error, "partial uploads that have expired cannot be removed");
        }
    }

    fn remove_expired(&self) -> io::Result<()> {
        let _changes = locked(&self.shared.changes);
        let place = self.shared.folder()?;
        let Some(folder) = present(place.folder(PARTIAL))? else { return Ok(()) };
        for entry in folder.entries()? {
            if let Some(owner) = Owner::of_folder(&entry.name).filter(|_| entry.is_folder) {
                self.shared.remove_expired_of(&owner, &folder.folder(&entry.name)?)?;
            }
        }
        Ok(())
    }
}

/// Where the partial uploads of an owner lie.
fn partial_folder(owner: &Owner) -> String {
    format!("{PARTIAL}/{owner}")
}

impl Shared {
    fn folder(&self) -> io::Result<Folder> {
        Folder::open(&self.place)
    }

    fn remove_expired_of(&self, owner: &Owner, folder: &Folder) -> io::Result<()> {
        partial::remove_expired(folder, |name| locked(&self.active).contains_key(&(owner.clone(), name.clone())))
    }

    /// Makes the caller the only one that changes the files of a name, until the claim is dropped.
    fn claim(self: &Arc<Self>, owner: &Owner, name: &Name) -> Result<Claim, UploadError> {
        let mut active = locked(&self.active);
        let key = (owner.clone(), name.clone());
        if active.contains_key(&key) {
            return Err(UploadError::Active(name.clone()));
        }
        if active.keys().filter(|(other, _)| other == owner).count() >= MOST_AT_ONCE {
            return Err(UploadError::TooManyAtOnce(MOST_AT_ONCE));
        }
        active.insert(key.clone(), 0);
        Ok(Claim { shared: self.clone(), key })
    }
}

/// The right to change the files of a name.
#[derive(Debug)]
struct Claim {
    shared: Arc<Shared>,
    key: (Owner, Name),
}

impl Claim {
    /// So many bytes are still to come.
    fn set_unwritten(&self, bytes: u64) {
        locked(&self.shared.active).insert(self.key.clone(), bytes);
    }

    /// Bytes of all others that are still to come.
    fn unwritten_of_others(&self) -> u64 {
        let active = locked(&self.shared.active);
        let others = active.iter().filter(|(key, _)| **key != self.key);
        others.map(|(_, unwritten)| *unwritten).fold(0, u64::saturating_add)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.shared.active).remove(&self.key);
    }
}
