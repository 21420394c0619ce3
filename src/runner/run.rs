//! `torchd-runner run`: takes the job's lock, reads its order, loads, trains, and says how it
//! ended.

use std::path::PathBuf;
use std::time::Duration;

use tch::Device;
use torchd::attempt::{self, Begun};
use torchd::dataset::OpenFiles;
use torchd::fault;
use torchd::gpu::Meter;
use torchd::job::Spec;
use torchd::job::end::{EXIT_MACHINE, EXIT_STORAGE};
use torchd::job::length::{Place, Plan};
use torchd::job::order::{LeasedDevice, Order};
use torchd::job::spec::{ThreadWait, Work};
use torchd::journal::JobFolder;
use torchd::proto::v1::{JobEndReason, RunnerEnded, RunnerResumed, RunnerStarted};
use torchd::tensorboard::{EventFileWriter, cut_after};

use crate::apply::Application;
use crate::assemble::{assemble, keep_preprocessing};
use crate::checkpoint::{self, Loaded, Saver};
use crate::confine::confine;
use crate::cuda::{self, Cuda};
use crate::failure::{Failure, Result};
use crate::inputs::{folders, open_inputs};
use crate::memory_limit;
use crate::probe::libtorch_version;
use crate::pulse::Pulse;
use crate::ranks::{Ranks, Store};
use crate::report::Report;
use crate::stop::Stop;
use crate::team;
use crate::together::found_by_first;
use crate::train::Finish;
use crate::{FAILURE, SUCCESS};

/// Trains the job in a folder.
pub(crate) fn run(job: PathBuf, attempt: u32) -> u8 {
    // The reader of the log may go away, with the daemon; the job goes on.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .init();
    // Before any thread exists.
    let stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return refuse(&format!("signals cannot be received: {error}"), 1),
    };
    let folder = JobFolder::new(job);
    let Begun { order, writer, lock: _lock } = match attempt::begin(&folder, attempt) {
        Ok(begun) => begun,
        Err(refused) => return refuse(&refused.words, refused.code),
    };
    let mut report = Report::new(writer);
    let follows = order.rank.is_some_and(|rank| rank.rank > 0);
    let home = if follows { folder.of_rank() } else { folder.clone() };
    // It makes connections, which are not allowed later.
    let meeting = home.meeting(attempt);
    let store = order.meeting.as_ref().map_or(Store::File(&meeting), |place| Store::At(place, attempt));
    let cuda = open_cuda(&order);
    let join = |rank| Ranks::join(rank, &store, device(cuda.as_ref())?, &stop);
    let ranks = order.rank.map(join).transpose();
    let opened = Opened { cuda, inputs: open_inputs(&order), ranks };
    let also = follows.then(|| home.path());
    confine(&folder, also, &order, &folders(&opened.inputs));
    if follows {
        report.keep_quiet();
    }
    let mut step = 0;
    let (reason, message) = match train(&home, &order, opened, &mut report, &stop, &mut step) {
        Ok(Finish::Complete(words)) => (JobEndReason::Finished, words),
        Ok(Finish::Stopped) => (JobEndReason::Interrupted, format!("stopped after step {step}")),
        Err(Failure { reason: JobEndReason::StartFailed, message }) => return refuse(&message, EXIT_MACHINE as u8),
        Err(Failure { reason, message }) => (reason, message),
    };
    match report.ended(RunnerEnded { reason: reason.into(), message, step, ..RunnerEnded::default() }) {
        Ok(ended) if matches!(ended.reason(), JobEndReason::Finished | JobEndReason::Interrupted) => {
            tracing::info!(step, "{}", ended.message);
            SUCCESS
        }
        Ok(ended) => {
            tracing::error!(step, reason = torchd::job::end::label(ended.reason()), "{}", ended.message);
            FAILURE
        }
        // The journal cannot hold it, so the exit code says it.
        Err(Failure { message, .. }) => refuse(&message, EXIT_STORAGE as u8),
    }
}

/// Files and libraries that are opened before the runner is confined.
struct Opened {
    /// None for a job that computes on the CPU.
    cuda: Option<Cuda>,
    inputs: Result<OpenFiles>,
    /// None for a job of one rank.
    ranks: Result<Option<Ranks>>,
}

fn train(
    folder: &JobFolder,
    order: &Order,
    opened: Opened,
    report: &mut Report,
    stop: &Stop,
    step: &mut u64,
) -> Result<Finish> {
    let ranks = opened.ranks?;
    let stop = ranks.as_ref().map_or(stop, Ranks::stop).clone();
    let leads = ranks.as_ref().is_none_or(Ranks::leads);
    // Told before anything can go wrong: what was written beyond that step does not count from here
    // on.
    let loaded = resume(folder, order, report, ranks.as_ref())?;
    *step = loaded.as_ref().map_or(0, |loaded| loaded.manifest.place.step);
    if leads {
        begin_to_tell(folder, order, report, *step)?;
    }
    let device = device(opened.cuda.as_ref())?;
    let message = folder.read_spec().map_err(Failure::storage("the spec cannot be read"))?;
    let spec = Spec::stored(&message).map_err(|what| Failure::new(JobEndReason::Internal, what))?;
    let spec = match &order.edits {
        Some(edits) => {
            let edited = spec.edited(edits);
            edited.map_err(|wrong| {
                Failure::new(JobEndReason::Internal, format!("the order has edits that are wrong: {wrong}"))
            })?
        }
        None => spec,
    };
    // As many as when the job was taken, also where the machine has become smaller since: the
    // numbers depend on them.
    let cpu_threads = spec.resources.cpu_threads.unwrap_or(order.lease.cpu_threads);
    tch::set_num_threads(i32::try_from(cpu_threads).unwrap_or(i32::MAX));
    tch::set_num_interop_threads(1);
    let wait = team::begin(spec.resources.thread_wait.unwrap_or(ThreadWait::Adaptive));
    if let Some(limit) = spec.resources.memory_limit_bytes {
        let watched = memory_limit::watch(limit, report.journal().clone());
        watched
            .map_err(|error| Failure::machine(format!("the thread that looks at memory cannot be started: {error}")))?;
    }
    let stall_timeout = spec.retry.stall_timeout;
    let Work::Model(work) = spec.work else {
        return Err(Failure::new(JobEndReason::Internal, "the job runs a program, and this runner trains models"));
    };
    if work.mode.applies() {
        let mut application = Application::assemble(*work, order, opened.inputs?, folder, device)?;
        let count = application.parameter_count();
        report.started(started(device, order, wait, application.plan, Place::default(), count))?;
        let _pulse = pulse(report, &stop, stall_timeout)?;
        return application.run(report, &stop, step);
    }
    if loaded.is_none() && work.warm_start.as_ref().is_some_and(|warm| warm.resume) {
        let what = "it has no checkpoint any more, and warm_start.resume wants it to go on from one";
        return Err(Failure::new(JobEndReason::BadCheckpoint, what));
    }
    let is_new = loaded.is_none();
    let graphs = opened.cuda.map(|cuda| cuda.graphs);
    let mut training = assemble(*work, order, opened.inputs, folder, device, loaded, graphs)?;
    training.ranks = ranks;
    training.compare_beginnings()?;
    // Jobs that an earlier version began have none.
    if leads && (is_new || !folder.preprocessing().exists()) {
        keep_preprocessing(&training)?;
    }
    if let Some(gpu) = order.lease.gpu() {
        // An engine names GPUs by CUDA's numbers, which are not the driver's.
        let is_number = gpu.visible.bytes().all(|byte| byte.is_ascii_digit());
        let uuid = if is_number { cuda::device_uuid() } else { None };
        match Meter::start(order.nvml_library.clone(), uuid.unwrap_or_else(|| gpu.visible.clone())) {
            Ok(meter) => training.meter = Some((gpu.index, meter)),
            Err(error) => tracing::warn!(%error, "the GPU's readings will be missing: no thread can be started"),
        }
    }
    let count = training.network.parameters().count();
    report.started(started(device, order, wait, training.plan, training.place, count))?;
    let total_steps = training.plan.total_steps;
    tracing::info!(device = device_name(device, order), step = training.place.step, "training for {total_steps} steps");
    let saver = match leads {
        true => report.files().and_then(|files| Saver::start(folder.clone(), training.work.checkpoints, files)),
        false => Ok(Saver::idle()),
    };
    let mut saver = saver.map_err(|error| {
        Failure::new(JobEndReason::Internal, format!("the thread that writes checkpoints cannot be started: {error}"))
    })?;
    let _pulse = pulse(report, &stop, stall_timeout)?;
    let finish = training.run(report, &mut saver, &stop);
    *step = training.place.step;
    finish
}

/// Everything is loaded, and the job goes on from `place`.
fn started(
    device: Device,
    order: &Order,
    wait: ThreadWait,
    plan: Plan,
    place: Place,
    parameter_count: u64,
) -> RunnerStarted {
    let Plan { total_steps, steps_per_epoch, total_epochs, left_in_epoch } = plan;
    RunnerStarted {
        pid: std::process::id(),
        device: device_name(device, order),
        cpu_threads: u32::try_from(tch::get_num_threads()).unwrap_or(0),
        libtorch_version: libtorch_version(),
        total_steps,
        steps_per_epoch,
        parameter_count,
        first_step: place.step,
        first_epoch: u32::try_from(place.epoch + 1).unwrap_or(u32::MAX),
        steps_left_in_epoch: left_in_epoch,
        total_epochs,
        thread_wait: wait.to_proto().into(),
    }
}

/// The thread that tells of long steps.
fn pulse(report: &Report, stop: &Stop, stall_timeout: Option<Duration>) -> Result<Pulse> {
    report.journal().pulse(stop.clone(), stall_timeout).map_err(|error| {
        Failure::new(JobEndReason::Internal, format!("the thread that tells of long steps cannot be started: {error}"))
    })
}

/// The checkpoint to go on from.
fn resume(folder: &JobFolder, order: &Order, report: &mut Report, ranks: Option<&Ranks>) -> Result<Option<Loaded>> {
    let find = || checkpoint::newest_good(folder, order.resume_step, |damaged| report.damaged(damaged));
    let loaded = found_by_first(ranks, find, |step| checkpoint::at(folder, step))?;
    if order.attempt > 1 {
        let step = loaded.as_ref().map_or(0, |loaded| loaded.manifest.place.step);
        tracing::info!(step, "attempt {} goes on from step {step}", order.attempt);
    }
    Ok(loaded)
}

/// Tells from which step this attempt goes on, and opens its event file.
fn begin_to_tell(folder: &JobFolder, order: &Order, report: &mut Report, step: u64) -> Result<()> {
    // Before it is told: event files may lag behind the journal where we die in between, and never
    // hold what does not count.
    let cut = cut_after(&folder.tensorboard(), step as i64);
    if order.attempt > 1 {
        let path = if step > 0 { JobFolder::checkpoint_name(step) } else { String::new() };
        report.resumed(RunnerResumed { step, path, replaces_first: false })?;
        fault::point("resumed");
    }
    cut.map_err(Failure::storage("the event files of earlier attempts could not be cut"))?;
    let earlier = std::fs::read_dir(folder.tensorboard()).into_iter().flatten().flatten();
    let held: u64 = earlier.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum();
    match order.max_event_bytes.checked_sub(held).filter(|left| *left > 0) {
        Some(left) => {
            let events = EventFileWriter::create(&folder.tensorboard(), step as i64 + 1);
            report.write_events(events.map_err(Failure::storage("the event file could not be made"))?, left);
        }
        None => tracing::warn!("the event files hold as much as jobs.max_event_bytes allows; the journal has the rest"),
    }
    Ok(())
}

/// CUDA for a job that has a GPU.
fn open_cuda(order: &Order) -> Option<Cuda> {
    match order.lease.device {
        LeasedDevice::Cpu => None,
        LeasedDevice::Cuda => Some(Cuda::open()),
    }
}

/// The device of the order.
fn device(cuda: Option<&Cuda>) -> Result<Device> {
    match cuda.map(Cuda::absence) {
        None => Ok(Device::Cpu),
        Some(Some(reason)) => Err(Failure::new(JobEndReason::DeviceUnavailable, reason)),
        // The one that CUDA_VISIBLE_DEVICES leaves.
        Some(None) => Ok(Device::Cuda(0)),
    }
}

/// With the driver's number of the GPU, which is not the one that CUDA gives the only GPU that it
/// shows.
fn device_name(device: Device, order: &Order) -> String {
    match (device, order.lease.gpu()) {
        (Device::Cuda(_), Some(gpu)) => format!("cuda:{}", gpu.index),
        (Device::Cuda(index), None) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

fn refuse(message: &str, code: u8) -> u8 {
    tracing::error!("{message}");
    code
}
