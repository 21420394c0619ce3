//! Judges a request: everything that can be known before training is told here, all mistakes at once.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::known_data::KnownData;
use super::warm_start::{self, Warm};
use super::{JobError, ManagerSettings};
use crate::dataset::{DataRoots, Facts, Part};
use crate::gpu::GpuSlot;
use crate::job::order::IdxFiles;
use crate::job::probe::ProbeReport;
use crate::job::spec::{self, DataFacts, Device, IdxPaths, Place, Plan, Resources, Spec, set_field};
use crate::job::{Inputs, Violation, Violations};
use crate::mirror;
use crate::proto::v1;

/// Requests that are judged at the same time; the others wait.
static JUDGED_AT_ONCE: Semaphore = Semaphore::const_new(2);

/// A request that can be run here.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The request, every default filled in.
    pub spec: v1::JobSpec,
    /// Its files.
    pub inputs: Inputs,
    /// What they hold.
    pub facts: DataFacts,
    /// How long it is.
    pub plan: Plan,
    /// What it begins with.
    pub(super) warm: Option<Warm>,
}

/// Judges a request on a thread of its own: data files are read.
pub(super) async fn admit(
    message: v1::JobSpec,
    settings: Arc<ManagerSettings>,
    probe: ProbeReport,
    gpu_block: Option<String>,
    slots: Vec<GpuSlot>,
    known: Arc<KnownData>,
) -> Result<Admitted, JobError> {
    // Data files are read and unpacked: many requests at once would take the memory, and the threads that others need.
    let turn = JUDGED_AT_ONCE.acquire().await.map_err(|_| JobError::Gone)?;
    let no_gpu = gpu_block.or_else(|| (probe.cuda_devices == 0).then_some(probe.cuda.absent_reason));
    let judged = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        judge(&message, &settings, no_gpu.as_deref(), &slots, &known)
    });
    judged.await.map_err(|_| JobError::Gone)?.map_err(refused)
}

/// Mistakes are told. Where nothing but the machine keeps a request from being judged, that is
/// told.
fn refused(wrong: Violations) -> JobError {
    let (mut unjudged, mistakes): (Vec<_>, Vec<_>) = wrong.0.into_iter().partition(|found| found.is_unjudged);
    match unjudged.pop() {
        Some(Violation { field, description, .. }) if mistakes.is_empty() => {
            JobError::Shortage { what: format!("{field}: {description}") }
        }
        _ => JobError::Invalid(Violations(mistakes)),
    }
}

fn judge(
    message: &v1::JobSpec,
    settings: &ManagerSettings,
    no_gpu: Option<&str>,
    slots: &[GpuSlot],
    known: &KnownData,
) -> Result<Admitted, Violations> {
    let spec::Reading { data, mut resources, demands, spec, mistakes: mut wrong } = spec::read(message);
    let (roots, cpu_slots) = (&settings.data_roots, settings.cpu_slots);
    let (mut train, mut validation) = (None, None);
    if let Some(data) = &data {
        let mut judge = |field, paths| judge_set(field, paths, roots, known, &mut wrong);
        train = judge("data.train", &data.train);
        validation = data.validation.as_ref().and_then(|paths| judge("data.validation", paths));
    }
    place(&mut resources, cpu_slots, no_gpu, &mut wrong);
    judge_memory(resources, slots, &mut wrong);
    demands.judge(train.as_ref().map(|set| &set.1), validation.as_ref().map(|set| &set.1), &mut wrong);
    let copy = message.output.as_ref().map(|output| output.mirror.as_str()).filter(|mirror| !mirror.is_empty());
    let copy = copy.map(|wanted| mirror::judge(wanted, &settings.mirror_roots)).transpose();
    let copy = copy.unwrap_or_else(|what| {
        wrong.add("output.mirror", what);
        None
    });
    let wanted = spec.as_ref().and_then(|spec| spec.warm_start.as_ref());
    let warm = wanted.and_then(|wanted| warm_start::find(wanted, settings, &mut wrong));
    let (Some(spec), Some((train, train_facts)), true) = (spec, train, wrong.0.is_empty()) else { return Err(wrong) };
    let (validation, validation_facts) = validation.unzip();
    let facts = DataFacts { train: train_facts, validation: validation_facts };
    let ttl_after_end = spec.ttl_after_end.or(settings.ttl_after_end);
    let mirror = copy.map(|path| path.display().to_string());
    let fitted = Spec { resources, ttl_after_end, mirror, ..spec }.fit(&facts)?;
    let plan = fitted.plan(facts.train.examples, Place::default());
    let admitted =
        plan.map(|plan| Admitted { spec: fitted.to_proto(), inputs: Inputs { train, validation }, facts, plan, warm });
    wrong.or(admitted)
}

/// Finds the files of a set and judges them; None where there are mistakes.
fn judge_set(
    field: &str,
    paths: &IdxPaths,
    roots: &DataRoots,
    known: &KnownData,
    wrong: &mut Violations,
) -> Option<(IdxFiles, Facts)> {
    let mut find = |part| -> Option<PathBuf> {
        let path = paths.of(part);
        match roots.resolve(path) {
            Ok(found) => Some(found),
            Err(problem) => {
                wrong.add_found(set_field(field, part), problem.to_string(), problem.is_unjudged());
                None
            }
        }
    };
    let (images, labels) = (find(Part::Images), find(Part::Labels));
    let files = IdxFiles { images: images?, labels: labels? };
    match known.inspect(&files) {
        Ok(facts) => Some((files, facts)),
        Err(problems) => {
            for problem in problems {
                wrong.add_found(set_field(field, problem.part), problem.what, problem.is_unjudged);
            }
            None
        }
    }
}

/// No GPU of this machine will ever have more than all of its memory.
fn judge_memory(resources: Resources, slots: &[GpuSlot], wrong: &mut Violations) {
    let Some(wanted) = resources.gpu_memory_bytes else { return };
    if resources.gpu_count == Some(0) {
        let found = format!("is {wanted}, and the job computes on the CPU, as there is no GPU that it could use");
        wrong.add("resources.gpu_memory_bytes", found);
        return;
    }
    let largest = slots.iter().filter_map(|slot| Some((slot.memory_bytes?, &slot.label))).max();
    if let Some((most, label)) = largest.filter(|(most, _)| *most < wanted) {
        wrong.add("resources.gpu_memory_bytes", format!("is {wanted}; the most on this machine is {most}, on {label}"));
    }
}

/// Decides which part of this machine the job will take. `no_gpu` is why it can be no GPU.
fn place(resources: &mut Resources, cpu_slots: u32, no_gpu: Option<&str>, wrong: &mut Violations) {
    let wants_gpu = resources.device == Device::Cuda || resources.gpu_count == Some(1);
    let has_gpu = no_gpu.is_none();
    if let Some(reason) = no_gpu.filter(|_| wants_gpu) {
        let field = if resources.device == Device::Cuda { "resources.device" } else { "resources.gpu_count" };
        let asked = if resources.device == Device::Cuda { "is cuda" } else { "is 1" };
        wrong
            .add(field, format!("{asked}, and CUDA does not work on this machine: {reason}; use device = cpu or auto"));
    }
    let on_gpu = wants_gpu || (resources.device == Device::Auto && resources.gpu_count.is_none() && has_gpu);
    resources.gpu_count = Some(u32::from(on_gpu));
    match resources.cpu_threads {
        Some(threads) if threads > cpu_slots => {
            wrong
                .add("resources.cpu_threads", format!("is {threads}; jobs may take {cpu_slots} cores on this machine"));
        }
        Some(_) => {}
        None => resources.cpu_threads = Some(if on_gpu { 1 } else { cpu_slots }),
    }
}
