//! `torchd-runner run`: takes the job's lock, reads its order, loads, trains, and says how it ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tch::Device;
use torchd::dataset::labelled_images;
use torchd::gpu::Meter;
use torchd::job::order::{IdxFiles, LeasedDevice, Order};
use torchd::job::spec::{self, DataFacts, Plan, Spec};
use torchd::journal::{ExitNote, JobFolder, JobLock, JournalWriter};
use torchd::proto::v1::{JobEndReason, RunnerEnded, RunnerStarted};
use torchd::tensorboard::EventFileWriter;

use crate::batches::Examples;
use crate::cuda::Cuda;
use crate::failure::{Failure, Result};
use crate::model::Network;
use crate::optimizer::Sgd;
use crate::probe::libtorch_version;
use crate::report::Report;
use crate::stop::Stop;
use crate::train::{Finish, Training};

/// Exit code of a runner that has no business here: another one holds the lock, or the attempt is over.
const NOT_MINE: u8 = 75;

/// Trains the job in a folder.
pub(crate) fn run(job: PathBuf, attempt: u32) -> ExitCode {
    // Whoever reads the log may go away, with the daemon; the job goes on.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .init();
    // Before any thread exists.
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return refuse(&format!("signals cannot be received: {error}"), 1),
    };
    let folder = JobFolder::new(job);
    let lock = match JobLock::take(&folder) {
        Ok(Some(lock)) => lock,
        Ok(None) => return refuse("another runner holds the lock of this job", NOT_MINE),
        Err(error) => return refuse(&format!("the lock of {} cannot be taken: {error}", folder.path().display()), 1),
    };
    let order = match own_order(&folder, attempt) {
        Ok(Some(order)) => order,
        Ok(None) => return refuse(&format!("attempt {attempt} of this job is over"), NOT_MINE),
        Err(error) => return refuse(&format!("the order of attempt {attempt} cannot be read: {error}"), 1),
    };
    let opened = lock
        .sign(attempt)
        .and_then(|_| JournalWriter::open(&folder, &lock, attempt))
        .and_then(|journal| Ok(Report::new(journal, EventFileWriter::create(&folder.tensorboard(), 0)?)));
    let mut report = match opened {
        Ok(report) => report,
        Err(error) => return refuse(&format!("the job's folder cannot be written: {error}"), 1),
    };
    let mut step = 0;
    let (reason, message) = match train(&folder, &order, &mut report, &mut stop, &mut step) {
        Ok(Finish::Complete) => (JobEndReason::Finished, "trained to the end".to_owned()),
        Ok(Finish::Stopped) => (JobEndReason::Interrupted, format!("stopped after step {step}")),
        Err(Failure { reason, message }) => (reason, message),
    };
    let good = matches!(reason, JobEndReason::Finished | JobEndReason::Interrupted);
    let told = report.ended(RunnerEnded { reason: reason.into(), message: message.clone(), step });
    if good {
        tracing::info!(step, "{message}");
    } else {
        tracing::error!(step, reason = torchd::job::end::label(reason), "{message}");
    }
    match told {
        Ok(()) if good => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(Failure { message, .. }) => refuse(&message, 1),
    }
}

/// The order of this attempt; None where a later one or an exit shows that it is over.
fn own_order(folder: &JobFolder, attempt: u32) -> std::io::Result<Option<Order>> {
    let order = folder.read_order(attempt)?;
    let is_over =
        ExitNote::read(folder)?.is_some_and(|note| note.attempt >= attempt) || folder.order(attempt + 1).exists();
    Ok((!is_over && order.attempt == attempt).then_some(order))
}

fn train(folder: &JobFolder, order: &Order, report: &mut Report, stop: &mut Stop, step: &mut u64) -> Result<Finish> {
    let device = device(order)?;
    tch::set_num_threads(i32::try_from(order.lease.cpu_threads).unwrap_or(i32::MAX));
    tch::set_num_interop_threads(1);
    let message = folder.read_spec().map_err(Failure::storage("the spec cannot be read"))?;
    let reading = spec::read(&message);
    let spec = reading.spec.ok_or_else(|| Failure::new(JobEndReason::Internal, reading.mistakes.to_string()))?;
    let mut training = load(spec, order, folder, device)?;
    if let Some(gpu) = &order.lease.gpu {
        match Meter::start(order.nvml_library.clone(), gpu.visible.clone()) {
            Ok(meter) => training.meter = Some((gpu.index, meter)),
            Err(error) => tracing::warn!(%error, "the GPU's readings will be missing: no thread can be started"),
        }
    }
    report.started(RunnerStarted {
        pid: std::process::id(),
        device: device_name(device, order),
        cpu_threads: u32::try_from(tch::get_num_threads()).unwrap_or(0),
        libtorch_version: libtorch_version(),
        total_steps: training.plan.total_steps,
        steps_per_epoch: training.plan.steps_per_epoch,
        parameter_count: training.network.parameter_count(),
    })?;
    tracing::info!(device = device_name(device, order), "training for {} steps", training.plan.total_steps);
    let finish = training.run(report, stop);
    *step = training.step;
    finish
}

/// The device of the order. CUDA is opened only for a job that has a GPU.
fn device(order: &Order) -> Result<Device> {
    match order.lease.device {
        LeasedDevice::Cpu => Ok(Device::Cpu),
        LeasedDevice::Cuda => match Cuda::open().absence() {
            Some(reason) => Err(Failure::new(JobEndReason::DeviceUnavailable, reason)),
            // The one that CUDA_VISIBLE_DEVICES leaves.
            None => Ok(Device::Cuda(0)),
        },
    }
}

/// With the driver's number of the GPU, which is not the one that CUDA gives the only GPU that it shows.
fn device_name(device: Device, order: &Order) -> String {
    match (device, &order.lease.gpu) {
        (Device::Cuda(_), Some(gpu)) => format!("cuda:{}", gpu.index),
        (Device::Cuda(index), None) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Reads the data, judges it once more (it may have changed since the request, and large files were judged by their
/// headers), and moves everything to the device.
fn load(spec: Spec, order: &Order, folder: &JobFolder, device: Device) -> Result<Training> {
    let read = |files: &IdxFiles| {
        for path in [&files.images, &files.labels] {
            still_there(path).map_err(|what| Failure::new(JobEndReason::BadData, what))?;
        }
        labelled_images::load(&files.images, &files.labels).map_err(|problems| {
            let words: Vec<_> = problems.into_iter().map(|problem| problem.what).collect();
            Failure::new(JobEndReason::BadData, words.join("; "))
        })
    };
    let train = read(&order.inputs.train)?;
    let validation = order.inputs.validation.as_ref().map(read).transpose()?;
    let facts = DataFacts { train: train.facts, validation: validation.as_ref().map(|set| set.facts) };
    let bad_data = |wrong: String| Failure::new(JobEndReason::BadData, wrong);
    let spec = spec.fit(&facts).map_err(|wrong| bad_data(wrong.to_string()))?;
    let plan: Plan =
        spec.plan(train.facts.examples).ok_or_else(|| bad_data("more steps than can be counted".into()))?;
    Ok(Training {
        train: Examples::new(&train, &spec.data, device)?,
        validation: validation.map(|set| Examples::new(&set, &spec.data, device)).transpose()?,
        network: Network::new(spec.model, spec.seed, device)?,
        optimizer: Sgd::new(spec.optimizer),
        plan,
        folder: folder.clone(),
        device,
        spec,
        step: 0,
        meter: None,
    })
}

/// The request was judged with this path, which is canonical and lies under a data root. What has become a link since, or no
/// file, is not read.
fn still_there(path: &Path) -> std::result::Result<(), String> {
    match path.canonicalize() {
        Ok(found) if found != path => {
            Err(format!("{} leads to {} now; it did not when the job was taken", path.display(), found.display()))
        }
        Ok(found) if !found.is_file() => Err(format!("{} is no file any more", path.display())),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn refuse(message: &str, code: u8) -> ExitCode {
    tracing::error!("{message}");
    ExitCode::from(code)
}
