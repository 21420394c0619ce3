//! `torchd-runner dry-run`: trains on one batch of a job, with bounded memory, and tells what came
//! of it as JSON. Nothing is written but the answer.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, setrlimit};
use tch::Device;
use torchd::dataset::Division;
use torchd::job::Spec;
use torchd::job::dry_run::{Answer, DryRun};
use torchd::job::outline::Outline;
use torchd::job::spec::{Data, DataFacts, Fitted, ModelWork, Work};
use torchd::journal::JobFolder;
use torchd::proto::v1::JobEndReason;

use crate::assemble::assemble;
use crate::checkpoint;
use crate::confine::confine;
use crate::failure::{Failure, Result};
use crate::inputs::{folders, open_inputs};
use crate::memory::own_peak_bytes;
use crate::metric::Finding;
use crate::model::Mode;
use crate::step::{Over, Stepped};
use crate::{FAILURE, SUCCESS};

/// Trains on one batch of the job in a folder.
pub(crate) fn run(job: PathBuf, most_memory_bytes: u64) -> u8 {
    let answer = match try_run(&JobFolder::new(job), most_memory_bytes) {
        Ok(done) => Answer::Done(done),
        Err(Failure { reason, message }) => Answer::Failed { message, is_memory: reason == JobEndReason::OutOfMemory },
    };
    match serde_json::to_writer(io::stdout(), &answer) {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("torchd-runner: {error}");
            FAILURE
        }
    }
}

fn try_run(folder: &JobFolder, most_memory_bytes: u64) -> Result<DryRun> {
    let internal = |what: String| Failure::new(JobEndReason::Internal, what);
    // Nobody waits for the answer when the daemon is gone.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| internal(error.to_string()))?;
    // Allocated memory, not mapped memory: libtorch maps gigabytes that nobody touches.
    let most = Some(most_memory_bytes);
    let limited = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
    limited.map_err(|error| internal(error.to_string()))?;
    let order = folder.read_order(1).map_err(Failure::storage("the order cannot be read"))?;
    let message = folder.read_spec().map_err(Failure::storage("the spec cannot be read"))?;
    let inputs = open_inputs(&order);
    confine(folder, None, &order, &folders(&inputs));
    tch::set_num_threads(1);
    tch::set_num_interop_threads(1);
    let spec = Spec::stored(&message).map_err(internal)?;
    let loaded = checkpoint::newest_good(folder, order.resume_step, |_| Ok(()))?;
    let Work::Model(work) = spec.work else { return Err(internal("a program is not tried".into())) };
    let mut training = assemble(*work, &order, inputs, folder, Device::Cpu, loaded, None)?;
    let batch = training.next_batch(&mut |_| Ok(true))?.ok_or_else(Failure::no_examples)?;
    let begun = Instant::now();
    let stepped = training.train_step(&batch, true)?;
    let seconds = begun.elapsed().as_secs_f64();
    let Stepped::Moved(Some(gradient_norm)) = stepped else {
        return Err(training.diverged("the loss or a gradient was not finite"));
    };
    let loss = training.sums.mean_loss()?;
    let mut metrics = BTreeMap::new();
    for (name, finding) in training.sums.metrics()? {
        if let Finding::Number(number) = finding {
            metrics.insert(name, number);
        }
    }
    if let Some(feed) = &mut training.validation {
        let size = training.work.validation_batch_size.unwrap_or(training.work.batch_size);
        let batch = feed.first(size.into())?;
        let _ = tch::no_grad(|| training.compute(&batch, Mode::Evaluate, Over::Sum))?;
    }
    let facts = DataFacts { train: training.train.facts().clone(), validation: None };
    let data = Data { validation: None, division: Division::default(), ..training.work.data.clone() };
    let work = ModelWork { data, ..training.work.clone() };
    let Fitted { network, work } = work.fit(&facts).map_err(|wrong| internal(wrong.to_string()))?;
    let network = network.ok_or_else(|| internal("the data do not tell what the model gives".into()))?;
    Ok(DryRun {
        loss,
        gradient_norm,
        metrics,
        outline: Outline::of(&network.weights, work.model.own_loss()),
        output: network.output,
        seconds,
        peak_memory_bytes: own_peak_bytes(),
    })
}
