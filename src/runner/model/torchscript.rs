//! A TorchScript module, from its archive in the job's folder.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::sync::Arc;

use tch::{Device, Tensor};
use torchd::exported::summary::{Role, wrong_name};
use torchd::job::spec::Weight;
use torchd::job::spec::model::{Initial, Seen, TorchScript as Settings};
use torchd::journal::{JobFolder, write_whole_by};
use torchd::proto::v1::JobEndReason;

use super::{Mode, Network, Outputs, Parameters};
use crate::checkpoint::dtype_of;
use crate::failure::{Failure, Result};
use crate::feed::Batch;
use crate::script::{Named, Script};
use crate::stateful::{Stateful, Tensors};

/// The network.
pub(crate) struct Net {
    script: Script,
    method: &'static CStr,
    parameters: Parameters,
    /// Parameters and buffers by name, tied ones once, in the order of the module.
    kept: Vec<(String, Tensor)>,
    /// All names, also the others of tied ones, in the order of the module, with the places of
    /// their tensors.
    names: Vec<(String, usize)>,
    /// The names of the metrics that it gives with its loss; None where it gives an output.
    metrics: Option<Vec<String>>,
}

fn bad(what: impl AsRef<str>) -> Failure {
    Failure::new(JobEndReason::BadData, format!("model.torchscript: {}", what.as_ref()))
}

/// A refusal of the interpreter is one of the module, unless memory has run out.
fn refused(what: String) -> Failure {
    match Failure::from(tch::TchError::Torch(what.clone())) {
        failure @ Failure { reason: JobEndReason::OutOfMemory, .. } => failure,
        _ => bad(what),
    }
}

impl Net {
    /// Loads the module onto a device.
    pub(super) fn open(settings: &Settings, folder: &JobFolder, device: Device) -> Result<Self> {
        let script = Script::load(&folder.path().join(JobFolder::SCRIPT), device).map_err(refused)?;
        let method = if settings.training_step { c"training_step" } else { c"forward" };
        Self::of(script, method)
    }

    /// Runs the module on some examples, without learning from them: the settings know what it
    /// gives afterwards.
    pub(super) fn see(&mut self, settings: &mut Settings, batch: &Batch) -> Result<()> {
        let name = self.method.to_string_lossy();
        match self.script.arguments(self.method) {
            None => return Err(bad(format!("it has no method {name}"))),
            Some(count) if count != batch.inputs.len() => {
                let given = batch.inputs.len();
                return Err(bad(format!("{name} takes {count} arguments, and the data give {given}")));
            }
            Some(_) => {}
        }
        let (first, rest) = self.run(batch, Mode::Evaluate)?;
        let (mut output, mut metrics) = (first.size(), Vec::new());
        if settings.training_step {
            if !output.is_empty() {
                return Err(bad(format!("{name} returns a loss of the shape {output:?}; a single number is needed")));
            }
            for (metric, value) in rest {
                if value.dim() != 0 {
                    let found = value.size();
                    return Err(bad(format!(
                        "{name} returns the metric {metric:?} of the shape {found:?}; a single number is needed"
                    )));
                }
                if let Some(what) = wrong_name(&metric) {
                    return Err(bad(format!("{name} returns the metric {metric:?}, which {what}")));
                }
                metrics.push(metric);
            }
            self.metrics = Some(metrics.clone());
        } else {
            if !rest.is_empty() {
                return Err(bad("forward returns several values; one tensor is needed, or a training_step"));
            }
            if output.first() != Some(&batch.size) {
                let size = batch.size;
                return Err(bad(format!(
                    "forward returns the shape {output:?} for {size} examples; its first dimension has to count them"
                )));
            }
            output.remove(0);
        }
        let output = output.iter().map(|size| size.unsigned_abs()).collect();
        settings.seen = Some(Arc::new(Seen { weights: self.weights()?, output, metrics }));
        Ok(())
    }

    fn of(script: Script, method: &'static CStr) -> Result<Self> {
        let (mut kept, mut names, mut learned) = (Vec::<(String, Tensor)>::new(), Vec::new(), Vec::new());
        let mut places = HashMap::new();
        for Named { name, tensor, is_learned } in script.tensors().map_err(refused)? {
            let place = (tensor.data_ptr() as usize, tensor.size(), tensor.stride());
            match places.get(&place).filter(|_| tensor.numel() > 0) {
                Some(&first) => names.push((name, first)),
                None => {
                    places.insert(place, kept.len());
                    names.push((name.clone(), kept.len()));
                    if is_learned {
                        learned.push((name.clone(), tensor.shallow_clone()));
                    }
                    kept.push((name, tensor));
                }
            }
        }
        let parameters = Parameters::of(learned.into_iter());
        Ok(Self { script, method, parameters, kept, names, metrics: None })
    }

    /// Its tensors, as the spec knows them.
    fn weights(&self) -> Result<Vec<Weight>> {
        let learned: Vec<_> = self.parameters.named().map(|(name, _)| name).collect();
        let weight = |name: &str, tensor: &Tensor, same_as: Option<String>| {
            let dtype = dtype_of(tensor.kind());
            let dtype = dtype.ok_or_else(|| bad(format!("{name} is {:?}, which is not saved", tensor.kind())))?;
            let is_learned = learned.contains(&same_as.as_deref().unwrap_or(name));
            let role = if is_learned { Role::Learned } else { Role::Kept };
            Ok(Weight { name: name.to_owned(), dtype, shape: tensor.size(), role, same_as, initial: Initial::Given })
        };
        let own = self.kept.iter().map(|(name, tensor)| weight(name, tensor, None));
        let ties = self.names.iter().filter(|(name, place)| *name != self.kept[*place].0);
        let tied = ties.map(|(name, place)| {
            let (first, tensor) = &self.kept[*place];
            weight(name, tensor, Some(first.clone()))
        });
        own.chain(tied).collect()
    }

    /// The first value that the method returns, and the others by name.
    fn run(&self, batch: &Batch, mode: Mode) -> Result<(Tensor, Vec<(String, Tensor)>)> {
        self.script.train(mode == Mode::Train).map_err(refused)?;
        let inputs: Vec<_> = batch.inputs.iter().collect();
        let run = || self.script.call(self.method, &inputs);
        let returned = if mode == Mode::Train { run() } else { tch::no_grad(run) };
        let shapes = || {
            let shapes: Vec<_> =
                inputs.iter().map(|input| format!("{:?} of {:?}", input.size(), input.kind())).collect();
            shapes.join(", ")
        };
        let mut returned = returned
            .map_err(|what| refused(format!("{} of {}: {what}", self.method.to_string_lossy(), shapes())))?
            .into_iter();
        let (_, first) = returned.next().ok_or_else(|| bad("it returns nothing"))?;
        // Those of a dictionary in a tuple: `1.accuracy`.
        let rest = returned.map(|(path, value)| (path.strip_prefix("1.").unwrap_or(&path).to_owned(), value));
        Ok((first, rest.collect()))
    }
}

impl Network for Net {
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs> {
        let (output, mut rest) = self.run(batch, mode)?;
        let Some(names) = &self.metrics else { return Ok(output.into()) };
        let metric = |name: &String| {
            let place = rest.iter().position(|(known, value)| known == name && value.dim() == 0);
            place.map(|place| rest.swap_remove(place).1).ok_or_else(|| {
                bad(format!("training_step does not return the single number {name:?}, which it returned at first"))
            })
        };
        let metrics = names.iter().map(metric).collect::<Result<_>>()?;
        Ok(Outputs { output, metrics })
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn result(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.names.iter().try_for_each(|(name, place)| put(name, &self.kept[*place].1))
    }

    fn write_artifacts(&self, folder: &JobFolder) -> io::Result<()> {
        // A module that is loaded for inference is in evaluation.
        self.script.train(false).map_err(io::Error::other)?;
        let place = folder.artifacts().join(JobFolder::SCRIPT);
        let aside = place.with_extension("part");
        self.script.save(&aside).map_err(io::Error::other)?;
        let written = write_whole_by(&place, |file| io::copy(&mut std::fs::File::open(&aside)?, &mut &*file).map(drop));
        std::fs::remove_file(&aside)?;
        written
    }
}

impl Stateful for Net {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.kept.iter().try_for_each(|(name, tensor)| put(name, tensor))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.kept.iter().try_for_each(|(name, tensor)| tensors.copy_to(name, tensor))
    }
}
