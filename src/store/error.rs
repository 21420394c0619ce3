//! Errors of the database.

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own words.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The thread could not be started.
    #[error("the database's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// The thread has ended.
    #[error("the database has been closed")]
    Gone,
    /// A question of a client was not answered in time: too many others wait, or the disk is slow.
    #[error("the database has not answered within {0:?}: too many ask, or the disk is slow; ask again later")]
    Busy(std::time::Duration),
    /// The job was changed by somebody else in between.
    #[error("job {id} is no longer at generation {expected}")]
    Conflict {
        /// The job.
        id: String,
        /// The generation that the change was based on.
        expected: u64,
    },
    /// A row that this version cannot have written.
    #[error(transparent)]
    Odd(#[from] Odd),
    /// The file is damaged, or is no database.
    #[error("damaged, or no database; SQLite says: {what}")]
    Damaged {
        /// SQLite's own words.
        what: String,
    },
    /// The file is a database of something else.
    #[error("a database of another program: it holds {table:?} and no jobs")]
    Foreign {
        /// One of its tables.
        table: String,
    },
    /// The copy that is made before a change of form could not be made.
    #[error("the copy {path}, without which the database is not changed, cannot be made: {cause}", path = path.display())]
    Backup {
        /// Where it should lie.
        path: std::path::PathBuf,
        /// Why not.
        cause: String,
    },
    /// The database was written by a later version.
    #[error(
        "the database has form {found}, and this version knows forms up to {known}; start the version that wrote it"
    )]
    TooNew {
        /// Its form.
        found: usize,
        /// The newest form of this version.
        known: usize,
    },
}

impl StoreError {
    /// The disk of the database has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// A row that this version cannot have written: it is damaged, or a later version wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database holds something odd for job {id}: {what}")]
pub struct Odd {
    /// The job.
    pub id: String,
    /// The oddity.
    pub what: String,
}

impl Odd {
    pub(super) fn new(id: &str, what: &dyn std::fmt::Display) -> Self {
        Self { id: id.to_owned(), what: what.to_string() }
    }
}
