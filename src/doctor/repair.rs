//! Makes the database anew from the jobs' folders. The old one is set aside first and the new one
//! put in its place last, so that a repair that is cut off leaves a database that torchd refuses,
//! and can be made again. Its caller holds the daemon's lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Places;
use super::examine::by_id;
use crate::beneath::folder_of;
use crate::dataset::DataRoots;
use crate::job::JobId;
use crate::journal::{JobFolder, sync_folder, write_whole};
use crate::manager::{JobFile, Old, Rebuilt, rebuild};
use crate::proto::json;
use crate::store::{self, Contents, StoreError, StoredToken};

/// The files that SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A note where the tokens of the old database cannot be had.
const NO_TOKENS: &str = "tokens: those that `torchctl token create` made are not in the new database; make them anew";

/// The result of a repair.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Jobs in the new database.
    pub rebuilt: usize,
    /// Notes on some of them.
    pub notes: Vec<String>,
    /// Folders of jobs that are not in the new database, and why; they were left as they are.
    pub left: Vec<String>,
    /// Where the old database is now, if there was one.
    pub aside: Option<PathBuf>,
}

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database is whole and of a later version.
    #[error(transparent)]
    TooNew(StoreError),
    /// The new database could not be made.
    #[error("the new database {path} cannot be made: {cause}", path = path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// Why not.
        cause: StoreError,
    },
    /// The system refuses.
    #[error("{what}: {cause}")]
    Io {
        /// The step that failed.
        what: String,
        /// The system's words.
        cause: io::Error,
    },
}

/// A job of the new database.
struct Kept {
    job_file: JobFile,
    folder: JobFolder,
    /// Its job.json does not say what the database will.
    is_patched: bool,
}

/// Makes the database anew. Data that no order names any more is looked for in `roots`.
pub fn repair(places: &Places, roots: &DataRoots, now: SystemTime) -> Result<Repaired, RepairError> {
    let mut repaired = Repaired::default();
    let (rows, tokens) = match store::look(&places.database) {
        Ok(Contents::Whole { jobs, tokens }) => (Some(by_id(jobs)), tokens),
        Err(error @ StoreError::TooNew { .. }) => return Err(RepairError::TooNew(error)),
        Ok(Contents::Nothing | Contents::Earlier { .. }) | Err(_) => {
            repaired.notes.push(NO_TOKENS.to_owned());
            (None, Vec::new())
        }
    };
    let folders = JobFolder::all(&places.jobs).map_err(cannot(format!("{} cannot be read", places.jobs.display())))?;
    let born = store::born(&places.database);
    let mut kept = Vec::new();
    for (id, folder) in folders {
        let old = rows.as_ref().map(|rows| Old { row: rows.get(&id), born });
        match rebuild(&id, &folder, old, roots) {
            Ok(Some(Rebuilt { job_file, how })) => {
                let is_patched = how.is_some();
                repaired.notes.extend(how.map(|how| format!("{}: {how}", id.name())));
                kept.push(Kept { job_file, folder, is_patched });
            }
            Ok(None) => {}
            Err(why) => repaired.left.push(format!("{}: {why}", id.name())),
        }
    }
    let known: BTreeSet<&JobId> = kept.iter().map(|kept| &kept.job_file.job.id).collect();
    for id in rows.iter().flat_map(|rows| rows.keys()).filter(|id| !known.contains(id)) {
        if !places.jobs.join(id.as_str()).exists() {
            repaired.left.push(format!("{}: only the old database has it, and its folder is gone", id.name()));
        }
    }
    kept.sort_by(|one, other| {
        let key = |kept: &Kept| (kept.job_file.job.created, kept.job_file.job.id.clone());
        key(one).cmp(&key(other))
    });
    tell_requests_apart(&mut kept, &mut repaired.notes);
    repaired.rebuilt = kept.len();
    repaired.aside = replace(&places.database, &kept, &tokens, now)?;
    for kept in &kept {
        if let Err(error) = mend(kept, now) {
            repaired.notes.push(format!("{}: its folder cannot be mended: {error}", kept.job_file.job.id.name()));
        }
    }
    Ok(repaired)
}

/// A folder that was copied by hand has the request of the other one.
fn tell_requests_apart(kept: &mut [Kept], notes: &mut Vec<String>) {
    let mut taken = BTreeSet::new();
    for Kept { job_file, is_patched, .. } in kept {
        if let Some(asked) = &job_file.request
            && !taken.insert(asked.request_id.clone())
        {
            let (name, id) = (job_file.job.id.name(), &asked.request_id);
            notes.push(format!("{name}: an earlier job has its request id {id:?} too, and keeps it"));
            job_file.request = None;
            *is_patched = true;
        }
    }
}

/// Makes the new database, sets the old one aside, and puts the new one in its place.
fn replace(
    database: &Path,
    kept: &[Kept],
    tokens: &[StoredToken],
    now: SystemTime,
) -> Result<Option<PathBuf>, RepairError> {
    let made = with_suffix(database, ".new");
    for path in family(&made) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot(format!("{} cannot be removed", path.display()))(error));
            }
            _ => {}
        }
    }
    let jobs: Vec<_> = kept.iter().map(|kept| (kept.job_file.job.clone(), kept.job_file.request.clone())).collect();
    store::make(&made, &jobs, tokens).map_err(|cause| RepairError::Make { path: made.clone(), cause })?;
    let folder = folder_of(database);
    let failed = |what: &str| cannot(format!("{} cannot be {what}", database.display()));
    let aside = free_name(database, now);
    let mut is_old = false;
    // The database first: without it, nobody takes its write-ahead log for that of another one.
    for (old, aside) in family(database).iter().zip(family(&aside)) {
        match fs::rename(old, aside) {
            Ok(()) => is_old |= old == database,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("set aside")(error)),
        }
    }
    sync_folder(folder)
        .and_then(|()| fs::rename(&made, database))
        .and_then(|()| sync_folder(folder))
        .map_err(failed("put in place"))?;
    Ok(is_old.then_some(aside))
}

/// Writes the missing files of a job's folder. Damaged files are set aside.
fn mend(kept: &Kept, now: SystemTime) -> io::Result<()> {
    let Kept { job_file, folder, is_patched } = kept;
    if *is_patched {
        set_aside(&folder.job(), now)?;
        job_file.write(folder)?;
    }
    if folder.read_spec().is_err() {
        set_aside(&folder.spec(), now)?;
        let text = json::to_string(&job_file.job.spec.to_proto(), false).map_err(io::Error::other)?;
        write_whole(&folder.spec(), text.as_bytes())?;
    }
    Ok(())
}

fn set_aside(path: &Path, now: SystemTime) -> io::Result<()> {
    match fs::rename(path, free_name(path, now)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `torchd.db.corrupt-20261123-171455`, or with a number behind it where that is taken.
fn free_name(path: &Path, now: SystemTime) -> PathBuf {
    let stamp = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':', 'Z'], "").replace('T', "-");
    let first = with_suffix(path, &format!(".corrupt-{stamp}"));
    let others = (2..).map(|number| with_suffix(path, &format!(".corrupt-{stamp}-{number}")));
    std::iter::once(first.clone()).chain(others).find(|name| !name.exists()).unwrap_or(first)
}

/// A database and what SQLite keeps beside it.
fn family(database: &Path) -> Vec<PathBuf> {
    let beside = COMPANIONS.iter().map(|suffix| with_suffix(database, suffix));
    std::iter::once(database.to_owned()).chain(beside).collect()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn cannot(what: String) -> impl FnOnce(io::Error) -> RepairError {
    move |cause| RepairError::Io { what, cause }
}
