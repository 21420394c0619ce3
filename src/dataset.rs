//! Readers of data files into host arrays, and what can be judged from their headers alone.
//!
//! Owns: where data may lie, the file formats, what is wrong with a file in a user's words. Knows
//! no model, no libtorch and no job: whoever asks decides what the facts mean.

pub mod compressed;
mod data_file;
pub mod idx;
pub mod labelled_images;
pub mod roots;

pub use data_file::DataFile;
pub use labelled_images::{Facts, LabelledImages, Part, Problem};
pub use roots::{DataRoots, PathProblem};
