//! Readers of data files into host arrays, and what can be judged before anything is read whole.
//!
//! Owns: where data may lie, the file formats, what is wrong with a file in a user's words. Knows
//! no model, no libtorch and no job: callers decide what the facts mean.
//!
//! A format is one file with its [`Files`] variant, and one line in `formats!` below.

mod array_set;
pub mod cifar;
mod column;
pub mod compressed;
pub mod content;
pub mod csv;
mod data_file;
mod details;
pub mod draw;
mod fingerprint;
pub mod idx;
pub mod image_folder;
mod lookup;
mod moments;
pub mod named_arrays;
pub mod npy;
pub mod npz;
pub mod numbers;
pub mod parquet;
pub mod paths;
mod preprocessing;
mod resident;
pub mod roots;
mod rows;
mod sampling;
mod schema;
pub mod sets;
pub mod split;
pub mod table;
pub mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::paths::Paths;
pub use content::{Content, Depth, Moments, Preparation, Prepared, Reading, SHARE_OF_DATA};
pub use data_file::DataFile;
pub use details::{ClassCount, ColumnFacts, ColumnValues, Details, Role};
pub use fingerprint::Fingerprint;
pub use lookup::Lookup;
pub use preprocessing::{PIXEL_SCALE, Preprocessing};
pub use roots::{DataRoots, PathProblem};
pub use rows::Rows;
pub use sampling::{Chances, Sampling};
pub use schema::{Dtype, Facts, Field, Problem, Range};
use serde::{Deserialize, Serialize};
pub use sets::{Fault, Judged, OpenFiles, Selection, Sets, Use};
pub use split::{Division, Split};

use crate::sha256::Sha256;

/// Below this size on disk a file is read whole when a request is judged; above it the header has
/// to do.
pub const WHOLE_BELOW_BYTES: u64 = 64_000_000;

/// A kind of data set: which files it has, and how they are read. `P` is what stands for a file: a
/// name in a request, or a canonical path in an order.
pub trait Format<P> {
    /// The format with other words for its files.
    type With<Q>;

    /// Its files, each with its field in the format's section of a spec, such as `images`.
    fn files(&self) -> Vec<(&'static str, &P)>;

    /// The same set with the files that `find` gives in place of its own, or None where it gave
    /// none for one; it is asked for all.
    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Self::With<Q>>;

    /// Reads the files, opened in the order of [`Format::files`].
    ///
    /// # Errors
    /// All that is wrong with the files, or that nobody waits for it any more.
    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>>;
}

/// Finds the files of a set by their names.
pub trait Find<P, Q> {
    /// The file of a field that takes one.
    fn one(&mut self, field: &'static str, name: &P) -> Option<Q>;

    /// The folder of a field that takes one.
    fn folder(&mut self, field: &'static str, name: &P) -> Option<Q>;

    /// The files of a field that takes several, in the order of the names; at least one.
    fn all(&mut self, field: &'static str, names: &[P]) -> Option<Vec<Q>>;
}

/// A set of examples that is open. The examples of a place are the same whenever it is asked.
/// Several threads read it at once, each into a batch of its own.
pub trait Source: Send + Sync {
    /// Its contents.
    fn facts(&self) -> &Facts;

    /// How its examples are best read.
    fn access(&self) -> Access<'_>;

    /// The name by which people know the example of a place, such as the path of an image; None
    /// where it has none.
    fn name(&self, _place: u64) -> Option<&str> {
        None
    }

    /// Bytes of batches that are read ahead of the loop at most, where its examples are read one by
    /// one; None for as many as are useful.
    fn ahead_bytes(&self) -> Option<u64> {
        None
    }

    /// The chances of its examples in a pass in random order; None where each comes once.
    fn chances(&self) -> Option<&Arc<Chances>> {
        None
    }

    /// Puts the examples of these places, each below the number of examples, into a batch, in
    /// place of what it holds. A source of shards is asked for the places of one shard, all of
    /// them, in rising order.
    ///
    /// # Errors
    /// The fault of a file that could only be seen now.
    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem>;
}

/// The cost of reading the examples of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    /// All of them are in memory: reading is copying.
    Memory,
    /// Each is read by itself, such as an image from its file, or a row of an array from its place in
    /// one: all orders cost the same.
    Single,
    /// Those of a shard, a run of places, are read together, such as rows of a group of a Parquet
    /// file.
    Shards {
        /// The places behind the last ones of the shards, rising; no shard is empty, and the last
        /// number is that of the examples.
        ends: &'a [u64],
        /// Bytes of the examples that are shuffled together. As many are read ahead of them.
        window_bytes: u64,
    },
}

impl Access<'_> {
    /// The checksum of the shards and the size of a window: the order of a pass in random order
    /// follows from both. None of a set that is not read in shards.
    pub fn shards(self) -> Option<String> {
        let Self::Shards { ends, window_bytes } = self else { return None };
        let mut digest = Sha256::default();
        ends.iter().chain([&window_bytes]).for_each(|number| digest.update(&number.to_le_bytes()));
        Some(digest.finish())
    }
}

/// Examples in memory, as bytes in the order of [`Facts::inputs`] and its target: row by row, each
/// value in little-endian order.
#[derive(Debug, Default)]
pub struct HostBatch {
    /// The bytes of each input.
    pub inputs: Vec<Vec<u8>>,
    /// The bytes of the targets.
    pub targets: Vec<u8>,
}

/// Makes the enum of all formats.
macro_rules! formats {
    ($($(#[$about:meta])* $variant:ident($name:literal, $format:ident)),+ $(,)?) => {
        /// The files of a set of examples, by format: names in a request, canonical paths in an
        /// order.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[serde(from = "Written<P>")]
        #[serde(bound(deserialize = "P: Deserialize<'de>"))]
        pub enum Files<P = PathBuf> {
            $($(#[$about])* #[serde(rename = $name)] $variant($format::Files<P>)),+
        }

        /// The forms in which orders and databases hold a set. Those of earlier versions name no
        /// format and are pairs of IDX files.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<P> {
            Idx(Pair<P>),
            Named(Box<Named<P>>),
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Pair<P> {
            images: P,
            labels: P,
        }

        #[derive(Deserialize)]
        enum Named<P> {
            $(#[serde(rename = $name)] $variant($format::Files<P>)),+
        }

        impl<P> From<Written<P>> for Files<P> {
            fn from(written: Written<P>) -> Self {
                match written {
                    Written::Idx(Pair { images, labels }) => Self::Idx(idx::Files { images: Paths::one(images), labels: Some(Paths::one(labels)) }),
                    Written::Named(named) => match *named {
                        $(Named::$variant(files) => Self::$variant(files)),+
                    },
                }
            }
        }

        impl<P> Files<P> {
            /// The name of the format in a spec.
            pub fn format(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),+ }
            }
        }

        impl<P> Format<P> for Files<P> {
            type With<Q> = Files<Q>;

            fn files(&self) -> Vec<(&'static str, &P)> {
                match self { $(Self::$variant(files) => files.files()),+ }
            }

            fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
                match self { $(Self::$variant(files) => files.locate(find).map(Files::$variant)),+ }
            }

            fn read(&self, opened: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
                match self { $(Self::$variant(files) => files.read(opened, reading)),+ }
            }
        }
    };
}

formats! {
    /// Images or rows of numbers and their labels in pairs of IDX files.
    Idx("idx", idx),
    /// Named arrays in safetensors files.
    Safetensors("safetensors", named_arrays),
    /// Two NumPy arrays in files of their own, or several each.
    Npy("npy", npy),
    /// Named NumPy arrays in archives.
    Npz("npz", npz),
    /// The binary files of CIFAR-10 and CIFAR-100.
    Cifar("cifar", cifar),
    /// A folder of images, a folder for each class.
    ImageFolder("image_folder", image_folder),
    /// Tables in delimited text.
    Csv("csv", csv),
    /// Tables in Parquet files.
    Parquet("parquet", parquet),
    /// Windows of a text.
    Text("text", text),
}

/// The kind of thing that a path of a set leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    /// A regular file.
    File,
    /// A folder of files.
    Folder,
}

impl Files {
    /// Opens all files, each by `open`, in the order of the format.
    ///
    /// # Errors
    /// The first one of `open`.
    pub fn open<E>(&self, open: impl FnMut(&Path, OnDisk) -> Result<DataFile, E>) -> Result<Vec<DataFile>, E> {
        let mut opening = Opening { open, opened: Ok(Vec::new()) };
        let _ = self.locate(&mut opening);
        opening.opened
    }
}

/// The files of a set while they are opened; the first error ends it.
struct Opening<E, O> {
    open: O,
    opened: Result<Vec<DataFile>, E>,
}

impl<E, O: FnMut(&Path, OnDisk) -> Result<DataFile, E>> Opening<E, O> {
    fn take(&mut self, path: &Path, kind: OnDisk) -> Option<()> {
        let opened = self.opened.as_mut().ok()?;
        match (self.open)(path, kind) {
            Ok(file) => opened.push(file),
            Err(error) => self.opened = Err(error),
        }
        self.opened.is_ok().then_some(())
    }
}

impl<E, O: FnMut(&Path, OnDisk) -> Result<DataFile, E>> Find<PathBuf, ()> for Opening<E, O> {
    fn one(&mut self, _: &'static str, path: &PathBuf) -> Option<()> {
        self.take(path, OnDisk::File)
    }

    fn folder(&mut self, _: &'static str, path: &PathBuf) -> Option<()> {
        self.take(path, OnDisk::Folder)
    }

    fn all(&mut self, _: &'static str, paths: &[PathBuf]) -> Option<Vec<()>> {
        paths.iter().map(|path| self.take(path, OnDisk::File)).collect()
    }
}

impl<P: AsRef<Path>> Files<P> {
    /// The paths of its files.
    pub fn paths(&self) -> Vec<&Path> {
        self.files().into_iter().map(|(_, path)| path.as_ref()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_this_version_and_as_earlier_ones_wrote_them() {
        let idx = Files::Idx(idx::Files { images: "/i".into(), labels: Some("/l".into()) });
        let text = serde_json::to_string(&idx).unwrap();
        let earlier = r#"{"idx":{"images":"/i","labels":"/l"}}"#;
        for text in [text.as_str(), earlier, r#"{"images":"/i","labels":"/l"}"#] {
            assert_eq!(serde_json::from_str::<Files>(text).unwrap(), idx);
        }
        let arrays = named_arrays::Files { paths: "/a".into(), inputs: vec!["x".into()], target: "y".into() };
        let arrays = Files::Safetensors(arrays);
        let text = serde_json::to_string(&arrays).unwrap();
        let earlier = r#"{"safetensors":{"path":"/a","inputs":["x"],"target":"y"}}"#;
        for text in [text.as_str(), earlier] {
            assert_eq!(serde_json::from_str::<Files>(text).unwrap(), arrays);
        }
        let earlier = r#"{"npy":{"input":"/x","target":"/y"}}"#;
        let npy = Files::Npy(npy::Files { input: "/x".into(), target: Some("/y".into()) });
        assert_eq!(serde_json::from_str::<Files>(earlier).unwrap(), npy);
        assert!(serde_json::from_str::<Files>(r#"{"images":"/i"}"#).is_err());
    }
}
