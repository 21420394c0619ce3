//! Training steps as CUDA graphs (`training.cuda_graphs`): the work of a step is recorded once, and
//! replayed for each batch of the same size, so that the GPU does not wait for the host to start
//! one small operator after the other.
//!
//! A step is taken in the plain way, operator by operator,
//! - on the CPU, and where the library that captures is not there or of another libtorch;
//! - where an exported graph asks for values on the host (`exported/waits.rs`);
//! - where the training set has no whole batch; and else
//! - for the first [`WARM_UP`] steps of whole batches, in which libtorch and the optimizer make
//!   what they keep;
//! - for a batch of another size, as the last one of an epoch may be.
//!
//! The first three hold for a whole attempt, and the log says them. What of a spec cannot be
//! captured at all is refused with the request (`job/spec/capture.rs`).
//!
//! Recorded work reads and writes tensors at their places in memory: the batch is copied into one
//! that stays, the learning rate lies on the device, sums are cleared and not replaced. A
//! checkpoint that comes back brings new tensors, and the graphs are forgotten. Random numbers are
//! a function of seed and step as in plain steps: a replay begins at the seed that is set before
//! it.
//!
//! Plain steps of such a job run the same operators on the same stream, so that it is of no account
//! which steps are captured; a resumed job has others in the plain way. None of this has been run
//! on a GPU yet: the tests go through it on the CPU, with a recorder that does recorded work again.

mod library;
#[cfg(test)]
pub(crate) mod tests;

use tch::{TchError, Tensor};
use torchd::job::spec::Clip;

pub(crate) use self::library::{Found, Library};
use crate::failure::{Failure, Result};
use crate::feed::Batch;
use crate::step::Stepped;
use crate::train::Training;

/// Whole batches that are taken in the plain way first. PyTorch's manual has three ("CUDA
/// semantics", "CUDA Graphs").
const WARM_UP: u32 = 3;

/// Records work and does it again.
pub(crate) trait Recorder {
    /// Records work, which does not happen. The number of the recording.
    fn record(&mut self, work: &mut dyn FnMut() -> Result<()>) -> Result<usize>;

    /// Does what was recorded. `work` is the same, for a recorder that has nothing but that.
    fn replay(&mut self, recording: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// Forgets all recordings.
    fn forget(&mut self) -> Result<()>;
}

/// The captured steps of a job.
pub(crate) struct Capture {
    recorder: Box<dyn Recorder>,
    course: Course,
    /// The batch that recorded work reads.
    fixed: Option<Batch>,
    /// The recordings: without and with the norm of the gradients.
    recorded: [Option<Recorded>; 2],
}

/// A recording of a step.
struct Recorded {
    number: usize,
    /// The norm of the gradients, at the place where each replay puts it.
    norm: Option<Tensor>,
}

/// The way in which a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Operator by operator.
    Plain,
    /// Recorded, and then replayed.
    Record,
    /// Replayed.
    Replay,
}

/// How far capturing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    /// Examples of a whole batch.
    batch_size: i64,
    /// Whole batches in the plain way since it began, up to [`WARM_UP`].
    warm: u32,
}

impl Course {
    /// The way of a step with that many examples.
    fn way(self, size: i64, is_recorded: bool) -> Way {
        match (size == self.batch_size && self.warm >= WARM_UP, is_recorded) {
            (false, _) => Way::Plain,
            (true, false) => Way::Record,
            (true, true) => Way::Replay,
        }
    }

    /// Counts a step that was taken in the plain way.
    fn took(&mut self, size: i64) {
        if size == self.batch_size {
            self.warm = WARM_UP.min(self.warm + 1);
        }
    }
}

/// Everything that decides whether the steps of an attempt are captured, besides the spec.
struct Facts<'a> {
    /// Why the library is not there.
    lacks_library: Option<&'a str>,
    /// Why the network cannot be captured.
    waits: Option<String>,
    /// Examples of the training set.
    examples: u64,
    /// Examples of a whole batch.
    batch_size: u32,
}

/// Why the steps of an attempt are not captured; None where they are.
fn obstacle(Facts { lacks_library, waits, examples, batch_size }: Facts<'_>) -> Option<String> {
    let lacks = lacks_library.map(str::to_owned);
    let is_short = examples < u64::from(batch_size);
    let short = || format!("training.batch_size is {batch_size}, and the training set has {examples} examples");
    lacks.or(waits).or_else(|| is_short.then(short))
}

impl Training {
    /// Begins to capture steps, where the spec wants it. `graphs` is the library, or why there is
    /// none; None on the CPU.
    pub(crate) fn begin_capture(&mut self, graphs: Option<Found>) -> Result<()> {
        let (true, Some(graphs)) = (self.work.recipe.cuda_graphs, graphs) else { return Ok(()) };
        let facts = Facts {
            lacks_library: graphs.as_ref().err().map(String::as_str),
            waits: self.network.waits(),
            examples: self.train.facts().examples,
            batch_size: self.work.batch_size,
        };
        match (obstacle(facts), graphs) {
            (Some(why), _) => {
                tracing::warn!("training.cuda_graphs: steps are not captured: {why}");
                Ok(())
            }
            (None, Ok(library)) => {
                let recorder = library.recorder(self.device)?;
                let size = self.work.batch_size;
                tracing::info!("training.cuda_graphs: steps of {size} examples are captured after {WARM_UP} of them");
                self.capture_by(Box::new(recorder))
            }
            (None, Err(_)) => Ok(()),
        }
    }

    /// Captures steps by a recorder.
    pub(crate) fn capture_by(&mut self, recorder: Box<dyn Recorder>) -> Result<()> {
        self.optimizer.keep_rate_there()?;
        self.context.captured = true;
        let course = Course { batch_size: self.work.batch_size.into(), warm: 0 };
        self.capture = Some(Capture { recorder, course, fixed: None, recorded: [None, None] });
        Ok(())
    }

    /// Takes a step by its recording, and records it first where there is none; the seed of the
    /// step is set. None for a step that is to be taken in the plain way.
    pub(crate) fn captured_step(&mut self, batch: &Batch, want_norm: bool) -> Result<Option<Stepped>> {
        let Some(mut capture) = self.capture.take() else { return Ok(None) };
        let stepped = capture.step(self, batch, want_norm);
        self.capture = Some(capture);
        stepped
    }
}

impl Capture {
    /// Forgets the recordings: the tensors that they read and write are others from here on.
    pub(crate) fn forget(&mut self) -> Result<()> {
        (self.recorded, self.course.warm) = ([None, None], 0);
        self.recorder.forget()
    }

    fn step(&mut self, training: &mut Training, batch: &Batch, want_norm: bool) -> Result<Option<Stepped>> {
        let Self { recorder, course, fixed, recorded } = self;
        let with_norm = want_norm || matches!(training.work.clip, Some(Clip::Norm(_)));
        let recorded = &mut recorded[usize::from(with_norm)];
        let way = course.way(batch.size, recorded.is_some());
        if way == Way::Plain {
            course.took(batch.size);
            return Ok(None);
        }
        let rate = training.learning_rate(training.place.step);
        training.optimizer.set_rate(rate)?;
        let fixed = put(batch, fixed)?;
        let mut norm = None;
        let mut work = || {
            norm = training.step_on_device(fixed, with_norm, rate)?;
            Ok(())
        };
        let number = match (way, &*recorded) {
            (Way::Replay, Some(recorded)) => recorded.number,
            _ => recorder.record(&mut work).map_err(cannot)?,
        };
        recorder.replay(number, &mut work)?;
        let recorded = recorded.get_or_insert(Recorded { number, norm: None });
        recorded.norm = norm.or(recorded.norm.take());
        training.place.step += 1;
        training.place.examples += batch.size as u64;
        training.sums.examples += batch.size as u64;
        training.count_skip(false)?;
        // The only wait for the device, in steps whose scalars are told.
        let told = recorded.norm.as_ref().filter(|_| want_norm).map(f64::try_from).transpose()?;
        Ok(Some(Stepped::Moved(told)))
    }
}

/// Copies a batch to the places that recorded work reads. They are made with the first one.
fn put<'a>(batch: &Batch, fixed: &'a mut Option<Batch>) -> Result<&'a Batch> {
    let copy = |tensor: &Tensor| -> std::result::Result<Tensor, TchError> {
        let mut copy = tensor.f_empty_like()?;
        copy.f_copy_(tensor)?;
        Ok(copy)
    };
    if let Some(fixed) = fixed {
        let from = batch.inputs.iter().chain([&batch.targets]);
        let to = fixed.inputs.iter_mut().chain([&mut fixed.targets]);
        to.zip(from).try_for_each(|(to, from)| to.f_copy_(from))?;
        return Ok(fixed);
    }
    let inputs = batch.inputs.iter().map(copy).collect::<std::result::Result<_, _>>()?;
    // Mixed examples are refused with the request.
    Ok(fixed.insert(Batch {
        inputs,
        targets: copy(&batch.targets)?,
        mixed: None,
        size: batch.size,
        slices: Vec::new(),
    }))
}

/// The failure of a recording: no step of the job can be captured, and the process cannot go on
/// after a capture that was broken off.
fn cannot(Failure { reason, message }: Failure) -> Failure {
    let what = "training.cuda_graphs is set, and a step of this job cannot be captured";
    Failure::new(reason, format!("{what}: {message}; submit it without"))
}
