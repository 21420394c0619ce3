//! The question whether an exported model can be trained by the operators of a libtorch.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use super::{Failure, Limits, OF_MODELS, Question, ask};
pub use crate::exported::bundle::Side;
use crate::exported::bundle::{Refused, Source};
use crate::exported::operators::Operators;
use crate::exported::{Bundle, Summary};
use crate::gate::Wanted;
use crate::tensor_file::{Positioned, ReaderAt};

/// The operators of a libtorch, as `torchd-runner operators` prints them. They lie in memory, where
/// children read them and nobody can change them.
#[derive(Debug)]
pub struct OperatorList(File);

impl OperatorList {
    /// Keeps a list.
    ///
    /// # Errors
    /// If the machine has no memory or descriptor for it.
    pub fn new(schemas: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create("operators", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(schemas)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(Self(file))
    }
}

/// The reason for which a model was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// Its files are wrong.
    Files(Vec<Refused>),
    /// The child gave no answer.
    Unanswered(Failure),
}

/// Judges the model in these files by the operators of a libtorch. Blocks, and ends early where
/// nobody waits any more.
///
/// # Errors
/// Everything that is wrong with the model, or why that cannot be told.
pub fn judge(
    path: &File,
    eval_path: Option<&File>,
    operators: &OperatorList,
    wanted: &Wanted,
) -> Result<Summary, Refusal> {
    let files = [&operators.0, path].into_iter().chain(eval_path).map(AsFd::as_fd);
    match ask(&Model {}, files, wanted) {
        Ok(Ok(summary)) => Ok(*summary),
        Ok(Err(refused)) => Err(Refusal::Files(refused)),
        Err(failure) => Err(Refusal::Unanswered(failure)),
    }
}

/// The question. Its files are the list of operators, that of `path`, and perhaps that of
/// `eval_path`.
#[derive(Serialize, Deserialize)]
pub(super) struct Model {}

impl Question for Model {
    const KIND: &'static str = "model";
    const LIMITS: Limits = OF_MODELS;
    type Answer = Result<Box<Summary>, Vec<Refused>>;

    fn answer(self, files: Vec<File>) -> io::Result<Self::Answer> {
        let [operators, models @ ..] = files.as_slice() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let mut schemas = vec![0; usize::try_from(operators.metadata()?.len()).map_err(io::Error::other)?];
        Positioned(operators).read_exact_at(&mut schemas, 0)?;
        let schemas = String::from_utf8(schemas).map_err(io::Error::other)?;
        let sources: Vec<_> =
            models.iter().map(|file| Ok((Positioned(file), file.metadata()?.len()))).collect::<io::Result<_>>()?;
        let mut sources = sources.iter().map(|(bytes, size_bytes)| Source { bytes, size_bytes: *size_bytes });
        let path = sources.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Bundle::read(path, sources.next()).and_then(|bundle| {
            let verdict = bundle.judge(&Operators::new(schemas.lines()))?;
            bundle.judge_values(path).map_err(|refused| vec![refused])?;
            Ok(Box::new(verdict.summary))
        }))
    }
}
