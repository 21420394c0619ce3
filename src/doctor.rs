//! Looks a daemon's state over, and makes a lost database anew from the jobs' folders, which hold all that is needed for it. It knows
//! no settings, no processes and no terminal: `daemon` asks and prints. Nothing is removed: what is replaced is set aside.

mod examine;
mod rebuild;
mod repair;

use std::path::PathBuf;

pub use examine::{Findings, examine};
pub use repair::{RepairError, Repaired, give_to_owner_of, repair};

/// Where the state lies.
#[derive(Debug, Clone)]
pub struct Places {
    /// The database.
    pub database: PathBuf,
    /// Holds one folder a job.
    pub jobs: PathBuf,
}
