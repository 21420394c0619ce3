//! Which versions go together: a catalogue of facts, each with its source, and the rules that judge
//! a machine by it.
//!
//! Everything here is pure: facts go in, answers come out, nothing is read and nothing is changed.
//! Nothing is guessed: what no source told is answered as unknown.

mod catalogue;
mod date;
mod facts;
mod finding;
mod gpu_code;
mod install;
mod rules;
mod runtime;
mod texts;
mod version;

pub use catalogue::{Catalogue, CatalogueError, CatalogueFile, CatalogueMistake};
pub use date::Date;
pub use facts::Facts;
pub use finding::{Reason, finding};
pub use install::{PlanError, plan};
pub use rules::{check, explain_loader};
pub use runtime::{NoRuntime, RuntimeFilter, RuntimeQuery, SupportOn, UnknownRuntime};
pub use texts::{MOST_BYTES, TorchVersion};
pub use version::{Version, VersionError};

/// The catalogue that is compiled in, read once for all tests.
#[cfg(test)]
fn embedded() -> &'static Catalogue {
    static CATALOGUE: std::sync::LazyLock<Catalogue> =
        std::sync::LazyLock::new(|| Catalogue::load(&[]).unwrap_or_else(|error| panic!("{error}")));
    &CATALOGUE
}
