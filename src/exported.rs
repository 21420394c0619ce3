//! Reads the models that `torch.export` writes (`.pt2`), strictly and without libtorch, and judges
//! whether torchd can train them.
//!
//! Owns: the container, the schema of its JSON, what a program's names and numbers must be. Runs
//! nothing of what it reads, trusts no number of the file, and knows no job: the caller decides
//! which data and which loss a program is for.

mod allowed;
pub mod archive;
pub mod arithmetic;
pub mod bundle;
pub mod compile;
mod convert;
pub mod dtype;
mod earlier;
pub mod extent;
pub mod facts;
mod json;
pub mod judge;
pub mod operators;
pub mod plan;
pub mod problem;
pub mod program;
pub mod refusal;
mod resolve;
mod schema;
pub mod seeded;
pub mod stored;
pub mod summary;
pub mod trace;
pub mod tree;
pub mod waits;
mod write;

pub use archive::{Archive, Model};
pub use bundle::Bundle;
pub use problem::Problem;
pub use program::Program;
pub use seeded::SeededStep;
pub use stored::Stored;
pub use summary::Summary;
pub use write::write;

#[cfg(test)]
mod tests;
