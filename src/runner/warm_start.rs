//! Takes up the weights that a job begins with, from a file of either format.
//!
//! The request was judged by the same rules, but large files by their headers alone, and a file may
//! have changed before it was copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use tch::{Device, Kind, Tensor};
use torchd::job::spec::WarmStart;
use torchd::journal::JobFolder;
use torchd::proto::v1::JobEndReason;
use torchd::tensor_file::matching::{Needed, fit};
use torchd::tensor_file::{self, Format, Positioned, Problem, TensorFile};

use crate::checkpoint::{dtype_of, is_finite};
use crate::failure::{Failure, Result, first_line};
use crate::stateful::{Stateful, Tensors};
use crate::train::take_up;

/// Puts the weights from the job's folder into a network, as far as the spec wants them. `BadData`
/// where they do not fit.
pub(crate) fn take(folder: &JobFolder, wanted: &WarmStart, network: &mut dyn Stateful) -> Result<()> {
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
    let mut own = Vec::new();
    network.save(&mut |name, tensor| {
        needed.push(need(name, tensor)?);
        own.push((name.to_owned(), tensor.shallow_clone()));
        Ok(())
    })?;
    let places = fit(&needed, &found, &wanted.rules).map_err(|wrong| {
        let words: Vec<_> = wrong.into_iter().map(|wrong| wrong.what).collect();
        bad(format!("{name} {}", words.join("; ")))
    })?;
    let mut taken = BTreeMap::new();
    for ((own_name, own), place) in own.into_iter().zip(places) {
        let values = match place {
            Some(place) => {
                let tensor = &found.tensors[place];
                read(tensor, &file, own.kind()).map_err(refused)?.map_err(|what| bad(format!("{name}: {what}")))?
            }
            None => own.f_to_device(Device::Cpu)?,
        };
        taken.insert(own_name, values);
    }
    take_up(&mut [network], Tensors::new(taken, 0)).map_err(bad)
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
    Ok(Needed { name: name.to_owned(), dtype, shape, can_be_absent: false })
}

/// The values of a tensor, whose shape and type are those of one of the network's, on the CPU. The
/// inner error tells that they cannot be used.
fn read(
    tensor: &tensor_file::Tensor,
    file: &File,
    kind: Kind,
) -> std::result::Result<std::result::Result<Tensor, String>, Problem> {
    let bytes = tensor.read(&Positioned(file))?;
    let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
    let made = Tensor::f_from_data_size(&bytes, &shape, kind).and_then(|values| Ok((is_finite(&values)?, values)));
    Ok(match made {
        Ok((true, values)) => Ok(values),
        Ok((false, _)) => Err(format!("{} holds numbers that are not finite", tensor.name)),
        Err(error) => Err(first_line(&error)),
    })
}
