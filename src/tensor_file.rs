//! Files of named tensors: safetensors, and the state dicts that `torch.save` writes. Reads what a
//! file holds, reads and judges values, and writes `.pt` files; without libtorch, and without
//! executing anything that a file says.
//!
//! Every number of a file is checked against the file's size before anything is allocated or read
//! by it. This module must not decide which tensors a model needs: its callers do.

pub mod archive;
mod dtype;
mod finite;
pub mod matching;
mod pickle;
mod problem;
pub mod pt;
pub mod safetensors;
pub mod script;
mod source;
mod state_dict;
mod tensor;

use std::fs::File;
use std::{fmt, io};

pub use dtype::Dtype;
pub use finite::{Values, bytes_to_judge, judge_values};
pub use problem::Problem;
pub use rawzip::ReaderAt;
pub use source::{Part, PartReader, Positioned};
pub use tensor::{Layout, Tensor};

use crate::looks::{self, looks_like};

/// The values of a file are read when it is judged where they are fewer bytes than this. Larger
/// files are judged by the job that takes them.
pub const VALUES_BELOW_BYTES: u64 = 64_000_000;

/// The kinds of files that hold named tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A safetensors file.
    Safetensors,
    /// A file of `torch.save`, as PyTorch 1.6 and later write it.
    Pt,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Safetensors, Self::Pt];

    /// The one that a file has by its first bytes, if it has any.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut head = [0; archive::SIGNATURE.len()];
        match Positioned(file).read_exact_at(&mut head, 0) {
            Ok(()) if head == archive::SIGNATURE => Ok(Self::Pt),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(Self::Safetensors),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Pt => ".pt",
        })
    }
}

/// The contents of a file of named tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFile {
    /// The kind of file.
    pub format: Format,
    /// Its tensors: in the order of their values in a safetensors file, in the order of the state
    /// dict in a `.pt` file. No name stands there twice.
    pub tensors: Vec<Tensor>,
    /// The keys of a `.pt` file under which state dicts are usually saved and were found. One: the
    /// tensors are those under it. None or several: the tensors are all of the file, and their
    /// names begin with the keys that lead to them.
    pub state_dicts: Vec<String>,
    /// Tensors of a `.pt` file that are not under that key, such as the state of an optimizer.
    pub left_out: u64,
}

impl TensorFile {
    /// Reads the contents of a file in any of the formats.
    ///
    /// # Errors
    /// The mistake in the file; values are not read.
    pub fn read(file: &File) -> Result<Self, Problem> {
        let size_bytes = file.metadata().map_err(Problem::Unreadable)?.len();
        Self::read_from(&Positioned(file), size_bytes)
    }

    /// The same from `size_bytes` bytes of any source, such as an entry of an archive.
    pub fn read_from(source: &dyn ReaderAt, size_bytes: u64) -> Result<Self, Problem> {
        let head = source::read_at_most(source, 0, looks::HEAD_BYTES as u64, size_bytes)?;
        if head.starts_with(archive::SIGNATURE) {
            return pt::read(source, size_bytes);
        }
        if head.starts_with(&pt::BEFORE_1_6) {
            return Err(Problem::Refused(
                "is a .pt file in the form before PyTorch 1.6, which is not read: load it and save it again with \
                 torch.save(torch.load(PATH), PATH)"
                    .into(),
            ));
        }
        if !safetensors::begins(&head) {
            let needed = "a safetensors file or a .pt file of torch.save";
            return Err(Problem::Other { looks: looks_like(&head), needed });
        }
        let tensors = safetensors::read(source, size_bytes)?;
        Ok(Self { format: Format::Safetensors, tensors, state_dicts: Vec::new(), left_out: 0 })
    }

    /// The tensor with that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
