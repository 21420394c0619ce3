//! Taking checkpoints up again: which is the newest good one or the best, and the values that its
//! tensors may hold.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tch::Tensor;
use torchd::job::retention::Quantity;
use torchd::job::spec::may_hold_infinities;
use torchd::journal::{Checkpoint, Damaged, JobFolder, Manifest, Survey, checkpoints, damage};
use torchd::proto::v1::JobEndReason;
use torchd::tensor_file::Values;

use super::{DTYPES, MODEL_FILE, STATE_FILE, is_allowed};
use crate::failure::{Failure, Result};

/// The contents of a good checkpoint.
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    pub(crate) weights: BTreeMap<String, Tensor>,
    pub(crate) state: BTreeMap<String, Tensor>,
}

/// The newest good checkpoint up to that step, on the CPU; None for None, which begins anew. Every
/// later one is set aside: it was superseded. `tell` hears of those that are damaged. Where no
/// other is left nothing is touched, and the attempt ends.
pub(crate) fn newest_good(
    folder: &JobFolder,
    up_to: Option<u64>,
    mut tell: impl FnMut(&Damaged) -> Result<()>,
) -> Result<Option<Loaded>> {
    let cannot = || Failure::storage("the checkpoints cannot be read");
    let mut survey = Survey::of(folder).map_err(cannot())?;
    let mut found = None;
    if let Some(up_to) = up_to {
        found = survey.newest_good(up_to, load).map_err(cannot())?;
        let begins = found.as_ref().map_or(0, |loaded| loaded.manifest.place.step);
        let passed_over: Vec<_> = survey.damaged.iter().filter(|damaged| damaged.step >= begins).collect();
        for damaged in &passed_over {
            tracing::error!(step = damaged.step, "a checkpoint is passed over: {}", damaged.problem);
            tell(damaged)?;
        }
        if found.is_none() {
            let words = match passed_over.as_slice() {
                [] => format!("that of step {up_to} is not there any more, and no other is"),
                all => told(all),
            };
            return Err(Failure::new(JobEndReason::BadCheckpoint, format!("no checkpoint can be used: {words}")));
        }
    }
    let step = found.as_ref().map(|loaded| loaded.manifest.place.step);
    survey.set_aside_after(folder, step).map_err(cannot())?;
    Ok(found)
}

/// The checkpoint of that step, which another rank has found good.
pub(crate) fn at(folder: &JobFolder, step: u64) -> Result<Loaded> {
    let cannot = || Failure::storage("the checkpoints cannot be read");
    let present = checkpoints(folder).map_err(cannot())?;
    let found = present.iter().find(|checkpoint| checkpoint.step() == step).map(load).transpose().map_err(cannot())?;
    found.unwrap_or_else(|| Err("it is not there".into())).map_err(|what| {
        let what = format!("{} cannot be used: {what}", JobFolder::checkpoint_name(step));
        Failure::new(JobEndReason::BadCheckpoint, what)
    })
}

/// The best value of a quantity among the checkpoints.
pub(crate) fn best_value(folder: &JobFolder, by: Quantity) -> Result<Option<f64>> {
    let present = checkpoints(folder).map_err(Failure::storage("the checkpoints cannot be read"))?;
    let values = present.iter().filter_map(|checkpoint| checkpoint.manifest.metrics.get(&by.tag()).copied());
    Ok(values.reduce(|best, value| if by.is_better(value, best) { value } else { best }))
}

/// The best good checkpoint by a quantity of its validation pass, or the newest where nothing tells
/// which is the best; None where there is none. Those that are damaged are passed over.
pub(crate) fn best_good(folder: &JobFolder, by: Option<Quantity>) -> Result<Option<Loaded>> {
    let cannot = || Failure::storage("the checkpoints cannot be read");
    let mut present = checkpoints(folder).map_err(cannot())?;
    let value = |checkpoint: &Checkpoint| checkpoint.manifest.metrics.get(&by?.tag()).copied();
    present.sort_by(|one, other| {
        let newest_first = other.step().cmp(&one.step());
        match (by, value(one), value(other)) {
            (Some(by), Some(a), Some(b)) if by.is_better(a, b) => Ordering::Less,
            (Some(by), Some(a), Some(b)) if by.is_better(b, a) => Ordering::Greater,
            // Of equally good ones the earliest counts.
            (Some(_), Some(_), Some(_)) => newest_first.reverse(),
            (_, Some(_), None) => Ordering::Less,
            (_, None, Some(_)) => Ordering::Greater,
            (_, None, None) | (None, Some(_), Some(_)) => newest_first,
        }
    });
    for checkpoint in &present {
        match load(checkpoint).map_err(cannot())? {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(what) => tracing::error!(step = checkpoint.step(), "a checkpoint is passed over: {what}"),
        }
    }
    Ok(None)
}

/// Damaged checkpoints in words that fit into an end; there is a record for each.
fn told(damaged: &[&Damaged]) -> String {
    const MOST: usize = 5;
    let mut words: Vec<_> = damaged.iter().take(MOST).map(ToString::to_string).collect();
    if damaged.len() > MOST {
        words.push(format!("and {} more", damaged.len() - MOST));
    }
    words.join("; ")
}

/// The contents of a checkpoint, or its fault; an error where the machine cannot read it now. Where
/// infinities may be among the weights, the network will tell.
fn load(checkpoint: &Checkpoint) -> io::Result<std::result::Result<Loaded, String>> {
    let file = |name: &str, values: fn(&str) -> Values| match checkpoint.read(name) {
        Ok(bytes) => Ok(tensors(&bytes, values).map_err(|what| format!("{name}: {what}"))),
        Err(error) => damage(error).map(Err),
    };
    let in_state = |name: &str| if may_hold_infinities(name) { Values::Infinite } else { Values::Finite };
    let (weights, state) = (file(MODEL_FILE, |_| Values::Infinite)?, file(STATE_FILE, in_state)?);
    let manifest = checkpoint.manifest.clone();
    Ok(weights.and_then(|weights| Ok(Loaded { manifest, weights, state: state? })))
}

/// The tensors of a safetensors file, on the CPU. They hold the values that are allowed by their
/// names: nothing goes on from a training that has diverged.
pub(crate) fn tensors(
    bytes: &[u8],
    values: impl Fn(&str) -> Values,
) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let dtype = view.dtype();
        let Some((kind, _)) = DTYPES.into_iter().find(|(_, known)| *known == dtype) else {
            return Err(format!("{name} is {dtype:?}, which is not read"));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())?;
        judge(&name, &tensor, values(&name))?;
        Ok((name, tensor))
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// Refuses a tensor of a file that holds other values than these.
pub(crate) fn judge(name: &str, tensor: &Tensor, values: Values) -> std::result::Result<(), String> {
    match is_allowed(tensor, values) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{name} holds {}", values.refused())),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts weights from a file into a network.
#[cfg(test)]
pub(crate) fn load_weights(path: &std::path::Path, network: &mut dyn crate::stateful::Stateful) {
    let mut weights =
        crate::stateful::Tensors::new(tensors(&std::fs::read(path).unwrap(), |_| Values::Finite).unwrap(), 0);
    network.load(&mut weights).unwrap();
    weights.all_taken().unwrap();
}
