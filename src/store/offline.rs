//! The database without its threads, for looking it over and for making it anew while no daemon
//! runs: read whole, written whole.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};

use super::jobs;
use super::requests::Asked;
use super::tokens::{self, StoredToken};
use super::{StoreError, check, migrations};
use crate::job::Job;

/// The thing that lies where the database should.
#[derive(Debug)]
pub enum Contents {
    /// Nothing, or an empty file, as a torchd leaves it that dies within its first moments.
    Nothing,
    /// A whole database of an earlier form; the next start of torchd changes it.
    Earlier {
        /// Its form.
        form: usize,
    },
    /// A whole database.
    Whole {
        /// Every job with the request that made it, in order of arrival.
        jobs: Vec<(Job, Option<Asked>)>,
        /// Every token, in the order of their names.
        tokens: Vec<StoredToken>,
    },
}

/// When the database was made, where the file system tells.
pub fn born(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.created().ok()
}

/// Judges the database and reads it, and changes nothing. A daemon may serve from it meanwhile.
pub fn look(path: &Path) -> Result<Contents, StoreError> {
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(Contents::Nothing);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(check::damaged)?;
    connection.busy_timeout(super::PATIENCE)?;
    check::sound(&connection)?;
    match migrations::form(&connection)? {
        0 => Ok(Contents::Nothing),
        form if form < migrations::NEWEST => Ok(Contents::Earlier { form }),
        _ => Ok(Contents::Whole { jobs: jobs::all(&connection)?, tokens: tokens::all(&connection)? }),
    }
}

/// Makes a database of these jobs, in that order, and tokens, where there is none. Durable when it
/// returns, but for its name.
pub fn make(path: &Path, jobs: &[(Job, Option<Asked>)], tokens: &[StoredToken]) -> Result<(), StoreError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    migrations::apply(&mut connection)?;
    let transaction = connection.transaction()?;
    for (job, request) in jobs {
        jobs::insert(&transaction, job, request.as_ref())?;
    }
    for token in tokens {
        tokens::insert(&transaction, token)?;
    }
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error.into())
}
