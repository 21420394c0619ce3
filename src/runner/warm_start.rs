//! Takes up the weights that a job begins with, from a file of either format.
//!
//! The request was judged by the same rules, but large files by their headers alone, and a file may
//! have changed before it was copied.

use std::fs::File;
use std::io;

use tch::{Kind, Tensor};
use torchd::job::spec::WarmStart;
use torchd::journal::JobFolder;
use torchd::proto::v1::JobEndReason;
use torchd::tensor_file::matching::{Needed, fit};
use torchd::tensor_file::{self, Format, Positioned, Problem, TensorFile, Values};

use crate::checkpoint::{dtype_of, is_allowed};
use crate::failure::{Failure, Result, first_line};
use crate::model::Network;

/// Puts the weights from the job's folder into a network, as far as the spec wants them. `BadData`
/// where they do not fit.
pub(crate) fn take(folder: &JobFolder, wanted: &WarmStart, network: &dyn Network) -> Result<()> {
    let bad = |what: String| Failure::new(JobEndReason::BadData, format!("warm_start: {what}"));
    // With random weights in their place it would be another job.
    let gone = || bad("its copy of the weights is gone from the job's folder".into());
    let (name, file) = open(folder)?.ok_or_else(gone)?;
    let refused = |problem: Problem| match problem {
        Problem::Unreadable(error) => Failure::storage(name)(error),
        problem => bad(format!("{name} {problem}")),
    };
    let found = TensorFile::read(&file).map_err(refused)?;
    let mut needed = Vec::new();
    let mut own: Vec<(String, Tensor)> = Vec::new();
    network.result(&mut |name, tensor| {
        // Checkpoints hold a tied tensor under its first name alone.
        let is_tied = tensor.numel() > 0 && own.iter().any(|(_, first)| is_same(first, tensor));
        needed.push(Needed { can_be_absent: is_tied, values: network.values(name), ..need(name, tensor)? });
        own.push((name.to_owned(), tensor.shallow_clone()));
        Ok(())
    })?;
    let places = fit(&needed, &found, &wanted.rules).map_err(|wrong| {
        let words: Vec<_> = wrong.into_iter().map(|wrong| wrong.what).collect();
        bad(format!("{name} {}", words.join("; ")))
    })?;
    for (((_, own), needed), place) in own.into_iter().zip(&needed).zip(places) {
        let Some(place) = place else { continue };
        let values = read(&found.tensors[place], &file, own.kind()).map_err(refused)?;
        if !is_allowed(&values, needed.values)? {
            return Err(bad(format!("{name}: {} holds {}", found.tensors[place].name, needed.values.refused())));
        }
        tch::no_grad(|| own.shallow_clone().f_copy_(&values))?;
    }
    Ok(())
}

/// Whether two tensors are the same memory.
fn is_same(one: &Tensor, other: &Tensor) -> bool {
    (one.data_ptr(), one.size(), one.kind()) == (other.data_ptr(), other.size(), other.kind())
}

/// The file of the weights, with its name; None where there is none.
fn open(folder: &JobFolder) -> Result<Option<(&'static str, File)>> {
    for name in Format::ALL.map(JobFolder::warm_start) {
        match File::open(folder.path().join(name)) {
            Ok(file) => return Ok(Some((name, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::storage(name)(error)),
        }
    }
    Ok(None)
}

fn need(name: &str, tensor: &Tensor) -> Result<Needed> {
    let dtype = dtype_of(tensor.kind()).ok_or_else(|| {
        let what = format!("{name} is {:?}, which is not read", tensor.kind());
        Failure::new(JobEndReason::Internal, what)
    })?;
    let shape = tensor.size().iter().map(|size| size.unsigned_abs()).collect();
    Ok(Needed { name: name.to_owned(), dtype, shape, can_be_absent: false, values: Values::Finite })
}

/// The values of a tensor, whose shape and type are those of one of the network's, on the CPU.
fn read(tensor: &tensor_file::Tensor, file: &File, kind: Kind) -> std::result::Result<Tensor, Problem> {
    let bytes = tensor.read(&Positioned(file))?;
    let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
    let made = Tensor::f_from_data_size(&bytes, &shape, kind);
    made.map_err(|error| Problem::Unreadable(io::Error::other(first_line(&error))))
}
