//! A model that PyTorch exported, from its archive in the job's folder.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use tch::{Device, TchError, Tensor};
use torchd::exported::bundle::{Refused, Side, Source, Verdict};
use torchd::exported::operators::Operators;
use torchd::exported::{self, Bundle, SeededStep};
use torchd::job::spec::model::Exported as Settings;
use torchd::journal::{JobFolder, write_whole_by};
use torchd::proto::v1::JobEndReason;
use torchd::shortage::Unjudged;
use torchd::tensor_file::{Positioned, Values};

use super::{Mode, Network, Outputs, Parameters};
use crate::checkpoint;
use crate::dispatcher;
use crate::exported::{Exported, Named, Part};
use crate::failure::{Failure, Result};
use crate::feed::Batch;
use crate::graph::Value;
use crate::inputs::failure;
use crate::stateful::{Stateful, Tensors};

/// The files of a model, read and judged once more: they may have changed since the request, or
/// this libtorch may be another one.
pub(crate) struct Opened {
    path: File,
    eval_path: Option<File>,
    bundle: Bundle,
    verdict: Verdict,
}

impl Opened {
    /// Opens the files in a job's folder, and tells the model what is in them. A job that goes on
    /// is paused where they are gone or damaged: a person may put them back.
    pub(super) fn open(settings: &mut Settings, folder: &JobFolder, is_new: bool) -> Result<Self> {
        let reason = if is_new { JobEndReason::BadData } else { JobEndReason::DataChanged };
        let refused = |refused| refused_for(reason, refused);
        let open = |name: &str| {
            let failed = |error| unread(reason, &format!("its copy {name} in the job's folder"), &error);
            File::open(folder.path().join(name)).map_err(failed)
        };
        let path = open(JobFolder::EXPORTED)?;
        let eval_path = settings.eval_path.is_some().then(|| open(JobFolder::EXPORTED_EVAL)).transpose()?;
        let size = |file: &File| {
            let about = file.metadata().map_err(|error| unread(reason, "its copy in the job's folder", &error));
            about.map(|about| about.len())
        };
        let (size_bytes, eval_bytes) = (size(&path)?, eval_path.as_ref().map(size).transpose()?);
        let bytes = Positioned(&path);
        let eval = eval_path.as_ref().map(Positioned);
        let eval = eval.as_ref().zip(eval_bytes).map(|(bytes, size_bytes)| Source { bytes, size_bytes });
        let source = Source { bytes: &bytes, size_bytes };
        let bundle = Bundle::read(source, eval).map_err(refused)?;
        let schemas = dispatcher::schemas("aten")?;
        let verdict = bundle.judge(&Operators::new(schemas.iter().map(String::as_str))).map_err(refused)?;
        settings.summary = Some(verdict.summary.clone().into());
        Ok(Self { path, eval_path, bundle, verdict })
    }

    /// The model on a device.
    fn load(&self, device: Device) -> Result<Exported> {
        let (path, eval_path) = (Positioned(&self.path), self.eval_path.as_ref().map(Positioned));
        let Verdict { train, eval, summary } = &self.verdict;
        let train = Part { source: &path, model: self.bundle.train(), judged: train };
        let eval = self.bundle.eval().zip(eval.as_ref()).map(|((_, model), judged)| {
            let source = eval_path.as_ref().unwrap_or(&path);
            Part { source, model, judged }
        });
        Exported::load(train, eval, &summary.tensors, device).map_err(|error| match error {
            TchError::Io(error) => unread(JobEndReason::BadData, "its copy in the job's folder", &error),
            other => other.into(),
        })
    }

    /// Repeats the step that PyTorch recorded in the archive, if it has one. On the CPU, whatever
    /// the device of the job is: there the numbers are those of PyTorch.
    fn rehearse(&self) -> Result<()> {
        let path = Positioned(&self.path);
        let step = SeededStep::read(&self.bundle.archive, &path)
            .map_err(|problem| refused_for(JobEndReason::BadData, vec![Side::Path.of_problem(problem)]))?;
        let Some(step) = step else { return Ok(()) };
        let model = self.load(Device::Cpu)?;
        model.rehearse(&step, &path).map_err(of_graph)
    }
}

/// A failure for that reason, unless the files could not be read at all.
fn refused_for(reason: JobEndReason, refused: Vec<Refused>) -> Failure {
    let unjudged = refused.iter().find_map(Refused::unjudged);
    let words: Vec<_> =
        refused.into_iter().map(|refused| format!("{} {}", refused.side.field(), refused.what)).collect();
    failure(reason, format!("model.exported: {}", words.join("; ")), unjudged)
}

/// A failure for a file that cannot be read.
fn unread(reason: JobEndReason, which: &str, error: &io::Error) -> Failure {
    failure(reason, format!("model.exported: {which} cannot be read: {error}"), Unjudged::of(error))
}

/// An error of an operator is one of the model, unless memory has run out.
fn of_graph(error: tch::TchError) -> Failure {
    let failure = Failure::from(error);
    match failure.reason {
        JobEndReason::OutOfMemory => failure,
        _ => {
            let words = failure.message;
            // The words of an embedding whose input names a row that it does not have.
            let way = match words.contains("index out of range in self") {
                true => "; the data hold a number beyond the rows of this embedding, which count from 0",
                false => "",
            };
            Failure::new(JobEndReason::BadData, format!("model.exported: {words}{way}"))
        }
    }
}

/// The network.
pub(super) struct Net {
    opened: Opened,
    model: Exported,
    parameters: Parameters,
    /// The sizes of the output of an example; None where the model returns its loss.
    gives: Option<Vec<i64>>,
    metrics: usize,
    /// Buffers that begin with infinities, as masks do, by all of their names.
    infinite: HashSet<String>,
}

impl Net {
    /// The network with the weights of its archive. `gives` are the sizes that its summary
    /// promises. At the beginning of a job it repeats the step that PyTorch recorded.
    pub(super) fn new(opened: Opened, gives: &[u64], device: Device, is_beginning: bool) -> Result<Self> {
        if is_beginning {
            opened.rehearse()?;
        }
        let model = opened.load(device)?;
        let named = model.parameters.iter().map(|named| (named.name.clone(), named.tensor.shallow_clone()));
        let parameters = Parameters::of(named);
        let mut infinite = HashSet::new();
        for Named { name, tensor, .. } in &model.buffers {
            checkpoint::judge(name, tensor, Values::Infinite)
                .map_err(|what| Failure::new(JobEndReason::BadData, format!("model.exported: its buffer {what}")))?;
            if !checkpoint::is_finite(tensor)? {
                let ties = model.ties.iter().filter(|(_, first)| first == name).map(|(other, _)| other);
                infinite.extend(ties.chain([name]).cloned());
            }
        }
        let summary = &opened.verdict.summary;
        let gives = (!summary.brings_loss()).then(|| gives.iter().map(|&size| size as i64).collect());
        let metrics = summary.metrics().len();
        Ok(Self { opened, model, parameters, gives, metrics, infinite })
    }

    /// An archive with the weights as they are now.
    fn write(&self, file: &File, archive: &exported::Archive, source: &File) -> io::Result<()> {
        let values = |name: &str| match self.model.tensor(name) {
            Some(tensor) => checkpoint::bytes_of(tensor).map(Some).map_err(io::Error::other),
            None => Ok(None),
        };
        exported::write(BufWriter::new(file), archive, &Positioned(source), values)?.flush()
    }
}

impl Network for Net {
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs> {
        let inputs: Vec<_> = batch.inputs.iter().collect();
        let returned = self.model.forward(&inputs, mode).map_err(of_graph)?;
        let bad = |what: String| Failure::new(JobEndReason::BadData, format!("model.exported: {what}"));
        let tensor = |value: Value| match value {
            Value::Tensor(tensor) => Ok(tensor),
            other => Err(bad(format!("its graph returns {other:?} in place of a tensor"))),
        };
        let mut returned = returned.into_iter().map(tensor).collect::<Result<Vec<_>>>()?.into_iter();
        let output = returned.next().ok_or_else(|| bad("its graph returns nothing".into()))?;
        let metrics: Vec<_> = returned.collect();
        // The file tells of shapes, and may be wrong.
        let found = output.size();
        let right = match &self.gives {
            Some(sizes) => [batch.size].into_iter().chain(sizes.iter().copied()).collect::<Vec<_>>(),
            None => Vec::new(),
        };
        let numbers = metrics.iter().filter(|metric| metric.dim() == 0).count();
        if found != right || [metrics.len(), numbers] != [self.metrics; 2] {
            return Err(bad(format!(
                "its graph returned {found:?} and {} metrics, {numbers} of them single numbers; by its archive it \
                 returns {right:?} and {} metrics",
                metrics.len(),
                self.metrics
            )));
        }
        Ok(Outputs { output, metrics })
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn result(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let ties = self.model.ties.iter().filter_map(|(name, _)| Some((name.as_str(), self.model.tensor(name)?)));
        self.save(put)?;
        ties.into_iter().try_for_each(|(name, tensor)| put(name, tensor))
    }

    fn hidden(&self) -> Vec<(String, Tensor)> {
        let hidden = self.model.hidden().map(|named| (named.name.clone(), named.tensor.shallow_clone()));
        hidden.collect()
    }

    fn waits(&self) -> Option<String> {
        let found = exported::waits::first(&self.opened.verdict.train.plan);
        found.map(|what| format!("model.exported: {what}"))
    }

    fn write_artifacts(&self, folder: &JobFolder) -> io::Result<()> {
        let Opened { path, eval_path, bundle, .. } = &self.opened;
        if !bundle.archive.can_be_written() {
            tracing::warn!(
                "{} is not among the artifacts: the archive is in the container of PyTorch 2.7, which is not written; \
                 the weights are in {} and {}",
                JobFolder::EXPORTED,
                JobFolder::MODEL_FILE,
                JobFolder::MODEL_PT_FILE
            );
            return Ok(());
        }
        let artifacts = folder.artifacts();
        write_whole_by(&artifacts.join(JobFolder::EXPORTED), |file| self.write(file, &bundle.archive, path))?;
        if let (Some(archive), Some(source)) = (&bundle.eval_archive, eval_path) {
            write_whole_by(&artifacts.join(JobFolder::EXPORTED_EVAL), |file| self.write(file, archive, source))?;
        }
        Ok(())
    }
}

impl Stateful for Net {
    /// Parameters and buffers, tied ones once.
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.model.kept().try_for_each(|named| put(&named.name, &named.tensor))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.model.kept().try_for_each(|named| tensors.copy_to(&named.name, &named.tensor))
    }

    fn values(&self, name: &str) -> Values {
        if self.infinite.contains(name) { Values::Infinite } else { Values::Finite }
    }
}
