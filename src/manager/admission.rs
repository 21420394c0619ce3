//! Judges a request: everything that can be known before training is told here, all mistakes at
//! once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::afar;
use super::file_work::{self, FileWork, Limits};
use super::known_data::KnownData;
use super::outlasting;
use super::resources::{host_memory, judge_gpus, judge_ranks, owner_of_memory, place, place_afar};
use super::staging::Copies;
use super::trained::{self, Trained};
use super::warm_start::{self, Warm};
use super::{JobError, ManagerSettings, model_files, programs, weights};
use crate::dataset::{
    DataFile, DataRoots, Details, Facts, Fault, Files, Format, Lookup, OpenFiles, Preparation, Problem, Selection, Use,
    WHOLE_BELOW_BYTES,
};
use crate::fault;
use crate::gate::Wanted;
use crate::gpu::GpuSlot;
use crate::job::length::{Length, Place, Plan};
use crate::job::outline::Outline;
use crate::job::probe::ProbeReport;
use crate::job::spec::data::{Data, Named};
use crate::job::spec::model::Set;
use crate::job::spec::{self, DataFacts, Fitted, ModelWork, Resources, Scale, Spec, Work};
use crate::job::{DataInputs, Inputs, Violation, Violations};
use crate::journal::{FileStates, Manifest, TrainedOn};
use crate::judging::{self, model::OperatorList};
use crate::proto::v1;
use crate::shortage::Unjudged;

/// The field of the set to judge by.
const VALIDATION: &str = "data.validation";

/// How requests are judged. Files below 64 MB are read and unpacked, which takes seconds at most
/// where they answer.
pub(super) const JUDGING: Limits = Limits {
    at_once: 2,
    turn: Duration::from_secs(2),
    answer: Duration::from_secs(60),
    threads: 32,
    threads_of_root: 16,
    threads_of_part: 4,
};

/// A request that can be run here.
#[derive(Debug)]
pub struct Admitted {
    /// The request, every default filled in.
    pub spec: Spec,
    /// Its files.
    pub inputs: Inputs,
    /// Its model; None where it runs a program.
    pub model: Option<AdmittedModel>,
    /// Remarkable values of the data that are no mistakes.
    pub notes: Vec<String>,
    /// The files that it will have in its folder.
    pub(super) copies: Copies,
}

/// A model that can be trained, or applied, here.
#[derive(Debug)]
pub struct AdmittedModel {
    /// The facts of its data.
    pub facts: DataFacts,
    /// How long the job is.
    pub plan: Plan,
    /// Optimizer steps that are done before it begins.
    pub first_step: u64,
    /// A closer look at the training set, or the test set ...
    pub details: Details,
    /// ... and at the validation set.
    pub validation_details: Option<Details>,
    /// The memory of the host that it takes at least, in bytes.
    pub memory_bytes: u64,
}

/// The parts of the machine that a request is judged by.
#[derive(Debug)]
pub(super) struct Machine {
    /// The libraries that a runner finds. Programs need none of them.
    pub(super) probe: ProbeReport,
    /// The reason for which no job gets a GPU, where there is one.
    pub(super) gpu_block: Option<String>,
    /// The GPUs.
    pub(super) slots: Vec<GpuSlot>,
    /// The operators of libtorch; None where no model asks for them.
    pub(super) operators: Option<Arc<OperatorList>>,
}

/// Judges a request on a thread for files: data files are read.
pub(super) async fn admit(
    message: v1::JobSpec,
    settings: Arc<ManagerSettings>,
    machine: Machine,
    known: Arc<KnownData>,
    judging: &FileWork,
) -> Result<Admitted, JobError> {
    let judged = judging.run(files(&message, &settings), move |wanted| {
        fault::point("judging");
        judge(&message, &settings, &machine, &known, wanted)
    });
    judged.await?.map_err(refused)
}

/// The files that a request names. In words these are their folders, as it writes them.
fn files(message: &v1::JobSpec, settings: &ManagerSettings) -> file_work::Files {
    let reading = spec::read(message).model;
    let data = reading.as_ref().and_then(|reading| reading.data.as_ref());
    let sets = data.iter().flat_map(|data| data.sets()).flat_map(|(_, set)| set.files());
    let model = reading.as_ref().and_then(|reading| reading.demands.model.as_ref());
    let models = model.iter().flat_map(|model| model.files());
    let warm = message.warm_start.as_ref().and_then(|warm| warm.source.as_ref());
    let (file, job) = match warm {
        Some(v1::warm_start::Source::File(name)) => (Some(name), None),
        Some(v1::warm_start::Source::Checkpoint(name)) => (None, Some(name)),
        None => (None, None),
    };
    let outlasting = outlasting::named(message);
    let folder = |path: &str| Path::new(path).parent().unwrap_or(Path::new("")).display().to_string();
    let named = sets.map(|(_, path)| path.as_str()).chain(models.map(|(_, path)| path));
    let read: Vec<_> = named.chain(file.map(String::as_str)).collect();
    let job = job.map(String::as_str);
    let mut folders: Vec<_> = read.iter().copied().chain(job).map(folder).chain(outlasting.clone()).collect();
    folders.sort_unstable();
    folders.dedup();
    let parts = read.into_iter().flat_map(|path| settings.data_roots.parts(path));
    let copies = outlasting.iter().filter_map(|folder| settings.mirror_roots.part(Path::new(folder)));
    file_work::Files::new(format!("the files in {:?}", folders.join(", ")), parts.chain(copies))
}

/// Mistakes are told. Where nothing but the machine keeps a request from being judged, that is
/// told.
fn refused(wrong: Violations) -> JobError {
    let (mut unjudged, mistakes): (Vec<_>, Vec<_>) = wrong.0.into_iter().partition(|found| found.unjudged.is_some());
    let Some(Violation { field, description, unjudged: Some(unjudged) }) =
        unjudged.pop().filter(|_| mistakes.is_empty())
    else {
        return JobError::Invalid(Violations(mistakes));
    };
    let what = format!("{field}: {description}");
    match unjudged {
        Unjudged::Shortage => JobError::Shortage { what },
        Unjudged::Storage | Unjudged::Changed => JobError::FilesUnavailable(what),
    }
}

fn judge(
    message: &v1::JobSpec,
    settings: &ManagerSettings,
    machine: &Machine,
    known: &KnownData,
    wanted: &Wanted,
) -> Result<Admitted, Violations> {
    let mut wrong = Violations::default();
    let (taken, trained) = trained::take_over(message, settings, &mut wrong);
    let message = taken.as_ref().unwrap_or(message);
    let spec::Reading { model: reading, mut resources, spec, mistakes } = spec::read(message);
    let Some(spec::ModelReading { data, mut demands }) = reading else {
        return judge_program(message, spec, resources, mistakes, settings, machine);
    };
    // A model that could not be taken over is not missing.
    let is_untaken = taken.is_some() && trained.is_none();
    wrong.0.extend(mistakes.0.into_iter().filter(|wrong| !is_untaken || wrong.field != "model"));
    let Machine { probe, gpu_block, slots, operators } = machine;
    let absent = (probe.cuda_devices == 0).then_some(probe.cuda.absent_reason.as_str());
    let no_gpu = gpu_block.as_deref().or(absent);
    let cpu_slots = settings.cpu_slots;
    let owner = owner_of_memory(resources, settings);
    let is_afar = message.scale.is_some();
    let memory = host_memory(resources, is_afar, settings, &owner, &mut wrong);
    let JudgedSets { train, validation, preparation, mut notes, is_sample, memory_bytes } = match &data {
        Some(data) => {
            let preparation = trained.as_ref().map(|trained| trained.preprocessing.known());
            let adapt = |selection| Selection {
                known: preparation.clone(),
                memory_bytes: memory.of_data(),
                may_lack_target: preparation.is_some() && demands.mode.may_lack_target(),
                ..selection
            };
            judge_sets(data, adapt, &settings.data_roots, known, wanted, &mut wrong)
        }
        None => JudgedSets::default(),
    };
    let model = match (&mut demands.model, operators) {
        (Some(model), Some(operators)) => {
            model_files::judge(model, settings, trained.as_ref(), operators, wanted, &mut wrong)
        }
        _ => Vec::new(),
    };
    if is_afar {
        place_afar(&mut resources);
        afar::judge_files(train.iter().chain(&validation).flat_map(|set| set.files.paths()), settings, &mut wrong);
    } else {
        judge_ranks(resources, &probe.no_ranks, &probe.no_gpu_ranks, &mut wrong);
        place(&mut resources, cpu_slots, no_gpu, demands.recipe.shards.is_some(), &mut wrong);
        judge_gpus(resources, slots, &mut wrong);
    }
    resources.thread_wait.get_or_insert(settings.thread_wait);
    let (train_set, validation_set) = (train.as_ref().map(Judged::set), validation.as_ref().map(Judged::set));
    let applies = demands.mode.applies();
    // Without the preprocessing of a job the test set stands for that which the model learned from.
    let taught = trained.as_ref().map(Trained::facts).or_else(|| train.as_ref().map(|test| test.facts.clone()));
    let taught = taught.filter(|_| applies);
    let sets: Vec<_> = match (&taught, train_set) {
        (Some(taught), Some(test)) => {
            let name = trained.as_ref().map_or(spec::TRAINED_ON, |trained| &trained.name);
            demands.judge_use(&Set { path: name.into(), facts: taught }, &test, &mut wrong);
            vec![test]
        }
        (_, train) => {
            demands.judge(train.as_ref(), validation_set.as_ref(), &mut wrong);
            train.into_iter().chain(validation_set).collect()
        }
    };
    let learned_from = taught.as_ref().or(train.as_ref().map(|train| &train.facts));
    // Weights are as wide as the inputs.
    let has_widths = learned_from.is_some_and(|facts| !facts.may_widen);
    let network = learned_from.filter(|_| has_widths).and_then(|facts| demands.network(facts));
    if let (Some(test), Some(preparation), true, None) = (&train, &preparation, applies, &trained) {
        trained::judge_untaught(&test.path, preparation, network.as_ref(), &mut wrong);
    }
    let on_gpu = resources.gpus().is_some();
    spec::judge_memory(&demands, learned_from, &sets, memory_bytes, on_gpu, memory, &mut wrong);
    let memory_bytes = spec::memory_bytes(&demands, learned_from, &sets, memory_bytes, on_gpu);
    demands.recipe.judge_device(resources.gpu_count != Some(0), &mut wrong);
    let copy = outlasting::judge_mirror(message, settings, &mut wrong);
    let storage = outlasting::judge_storage(message, settings, &mut wrong);
    let work = spec.as_ref().and_then(Spec::model);
    let asked = work.and_then(|work| work.warm_start.as_ref());
    let warm = asked.and_then(|asked| warm_start::find(asked, settings, &mut wrong));
    if let (Some(warm), Some(work), Some(asked)) = (&warm, work, asked) {
        let aim = learned_from.and_then(|facts| demands.aim(facts));
        let metrics = aim.map(|aim| aim.metrics).unwrap_or_default();
        let own_metrics = demands.own_metrics();
        let needs = network.as_ref().map(|network| weights::Needs {
            network,
            rules: &asked.rules,
            work,
            metrics: &metrics,
            own_metrics,
        });
        weights::judge(warm, asked.source.field(), needs.as_ref(), wanted, &mut wrong);
    }
    let (Some(spec), Some(train), true) = (spec, train, wrong.0.is_empty()) else { return Err(wrong) };
    // The runner counts the examples of data that were judged by a sample.
    if let Some(Warm::Checkpoint { checkpoint, .. }) = warm.as_ref().filter(|_| !is_sample) {
        judge_data(&checkpoint.manifest, &train, validation.as_ref(), known, wanted, &mut wrong);
    }
    let (mut validation_facts, mut validation_details) = (None, None);
    let validation = validation.map(|set| {
        (validation_facts, validation_details) = (Some(set.facts), Some(set.details));
        set.files
    });
    let Work::Model(work) = spec.work else { return Err(wrong) };
    let validation = validation.filter(|_| work.data.validation.is_some());
    let facts = DataFacts { train: train.facts, validation: validation_facts };
    let fits = taught.map(|taught| DataFacts { train: taught, validation: Some(facts.train.clone()) });
    let ttl_after_end = spec.ttl_after_end.or(settings.ttl_after_end);
    let scale = spec.scale.map(|scale| Scale { storage, ..scale });
    let known_model = demands.model.clone().unwrap_or_else(|| work.model.clone());
    let Fitted { work: mut fitted, network } =
        ModelWork { model: known_model, ..*work }.fit(fits.as_ref().unwrap_or(&facts))?;
    let outline = network.filter(|_| has_widths).map(|network| Outline::of(&network.weights, fitted.model.own_loss()));
    fitted.model.forget_files();
    let inputs = DataInputs { train: train.files, validation, outline, memory_bytes: memory.of_data() }.into();
    let place = match &warm {
        Some(Warm::Checkpoint { checkpoint, .. }) => checkpoint.manifest.place,
        Some(Warm::Weights(_)) | None => Place::default(),
    };
    let plan = fitted.plan(facts.train.examples, place);
    if let Some(plan) = plan {
        judge_length(fitted.length, plan, place, &mut wrong);
    }
    let first_step = place.step;
    let copies = Copies { warm, model, preprocessing: trained.map(|trained| trained.bytes) };
    let details = train.details;
    if !applies && !is_sample && details.classes.len() == 1 {
        notes.push("the target has one class: nothing can be learned from it".into());
    }
    let lowest = details.classes.iter().map(|class| class.number).filter(|number| *number >= 0).min();
    if let Some(lowest @ 1..) = lowest.filter(|_| !applies && !is_sample) {
        notes.push(format!(
            "the lowest label is {lowest}; labels count from 0, so that no example has the first output"
        ));
    }
    let work = fitted.into();
    let admitted = plan.map(|plan| Admitted {
        spec: Spec { work, resources, scale, ttl_after_end, mirror: copy, ..spec },
        inputs,
        model: Some(AdmittedModel { facts, plan, first_step, details, validation_details, memory_bytes }),
        notes,
        copies,
    });
    wrong.or(admitted)
}

/// Judges a request to run a program.
fn judge_program(
    message: &v1::JobSpec,
    spec: Option<Spec>,
    mut resources: Resources,
    mut wrong: Violations,
    settings: &ManagerSettings,
    machine: &Machine,
) -> Result<Admitted, Violations> {
    // Its own libraries, and not those of the runner, decide what it can do with a GPU.
    let slots = &machine.slots;
    let no_gpu = slots.is_empty().then_some("NVML tells of no GPU");
    let owner = owner_of_memory(resources, settings);
    host_memory(resources, false, settings, &owner, &mut wrong);
    place(&mut resources, settings.cpu_slots, no_gpu, false, &mut wrong);
    judge_gpus(resources, slots, &mut wrong);
    let mirror = outlasting::judge_mirror(message, settings, &mut wrong);
    let launch = spec.as_ref().and_then(Spec::program);
    let launch = launch.and_then(|program| programs::judge(program, settings, &mut wrong));
    let (Some(spec), Some(launch), true) = (spec, launch, wrong.0.is_empty()) else { return Err(wrong) };
    let ttl_after_end = spec.ttl_after_end.or(settings.ttl_after_end);
    Ok(Admitted {
        spec: Spec { resources, ttl_after_end, mirror, ..spec },
        inputs: Inputs::Program(launch),
        model: None,
        notes: Vec::new(),
        copies: Copies::default(),
    })
}

/// Whether a job can go on from a checkpoint with its data.
fn judge_data(
    manifest: &Manifest,
    train: &Judged,
    validation: Option<&Judged>,
    known: &KnownData,
    wanted: &Wanted,
    wrong: &mut Violations,
) {
    let states = |set: &Judged| {
        let files = known.states(&set.opened, wanted);
        files.map_err(|error| (set.path.clone(), error))
    };
    // Files that are split are those of the training set.
    let judged_by = validation.filter(|set| !set.opened.is_empty());
    let files = states(train).and_then(|train| Ok((train, judged_by.map(states).transpose()?)));
    let (train_files, validation_files) = match files {
        Ok(files) => files,
        Err((path, error)) => {
            return wrong.add_found(path, format!("cannot be read: {error}"), Unjudged::of(&error));
        }
    };
    let files = FileStates { train: train_files, validation: validation_files };
    let facts = DataFacts { train: train.facts.clone(), validation: validation.map(|set| set.facts.clone()) };
    if let Err(what) = manifest.judge_data(&TrainedOn::of(files, &facts)) {
        wrong.add("warm_start.resume", format!("is set, and {what}; without it the weights alone are taken"));
    }
}

/// Whether anything is left to do for a job that goes on at that place.
fn judge_length(length: Length, plan: Plan, place: Place, wrong: &mut Violations) {
    let Place { step, epoch, .. } = place;
    if step == 0 || plan.total_steps > step {
        return;
    }
    let (field, wanted, done) = match length {
        Length::Epochs(epochs) => ("training.epochs", u64::from(epochs), epoch),
        Length::Steps(steps) => ("training.max_steps", steps, step),
    };
    let has = format!("the checkpoint that it goes on from has done {done}");
    wrong.add(field, format!("is {wanted}, and {has}; a number above {done} is needed"));
}

/// Refuses a resume with edits, or with other data, that leaves nothing to do for a job that goes
/// on at that place.
pub(super) fn judge_rest(spec: &Spec, examples: u64, place: Place) -> Result<(), JobError> {
    let mut wrong = Violations::default();
    let work = spec.model();
    if let Some((work, plan)) = work.and_then(|work| Some((work, work.plan(examples, place)?))) {
        judge_length(work.length, plan, place, &mut wrong);
    }
    if wrong.0.is_empty() { Ok(()) } else { Err(JobError::Invalid(wrong)) }
}

/// The sets of a job; None for one with mistakes.
#[derive(Default)]
struct JudgedSets {
    train: Option<Judged>,
    validation: Option<Judged>,
    preparation: Option<Preparation>,
    notes: Vec<String>,
    /// Whether counts are estimates.
    is_sample: bool,
    /// Bytes of memory that their values take.
    memory_bytes: u64,
}

/// A set whose files are right.
struct Judged {
    /// Its field with its format, such as `data.train.idx`.
    path: String,
    files: Files,
    opened: Vec<DataFile>,
    facts: Facts,
    details: Details,
}

impl Judged {
    fn set(&self) -> Set<'_> {
        Set { path: self.path.clone(), facts: &self.facts }
    }
}

/// Opens the files of all sets and judges them.
fn judge_sets(
    data: &Data,
    adapt: impl Fn(Selection) -> Selection,
    roots: &DataRoots,
    known: &KnownData,
    wanted: &Wanted,
    wrong: &mut Violations,
) -> JudgedSets {
    let mut locate = |field: &str, named: &Named| {
        let mut lookup = Lookup::new(roots);
        let files = named.locate(&mut lookup);
        for (file, problem) in lookup.problems {
            wrong.add_found(format!("{field}.{}.{file}", named.format()), problem.to_string(), problem.unjudged());
        }
        Some((files?, lookup.opened))
    };
    let first = data.field();
    let train = locate(first, &data.train);
    let validation = data.validation.as_ref().map(|named| locate(VALIDATION, named));
    let mut judge = |fields: [&str; 2], train: (Files, Vec<DataFile>), validation: Option<(Files, Vec<DataFile>)>| {
        let (validation, judged_by) = validation.unzip();
        let selection = adapt(data.selection(train.0, validation));
        let opened = OpenFiles { train: train.1, validation: judged_by.unwrap_or_default() };
        let judged = known.judge(&selection, &opened, || judging::data::judge(&selection, &opened, wanted));
        let Selection { train, validation, .. } = selection;
        let held_out = fields[usize::from(validation.is_some())];
        let path = |field: &str, files: &Files| format!("{field}.{}", files.format());
        match judged {
            Ok(judged) => {
                let held_out = (
                    path(held_out, validation.as_ref().unwrap_or(&train)),
                    validation.unwrap_or_else(|| train.clone()),
                );
                let OpenFiles { train: opened, validation: judged_by } = opened;
                let validation = judged.validation.map(|facts| {
                    let ((path, files), details) = (held_out, judged.validation_details.unwrap_or_default());
                    Judged { path, files, opened: judged_by, facts, details }
                });
                let mut notes = judged.notes;
                if judged.is_sample {
                    let most = WHOLE_BELOW_BYTES / 1_000_000;
                    notes.push(format!("files above {most} MB were judged by their beginning: counts are estimates"));
                }
                let (path, details) = (path(fields[0], &train), judged.details);
                let train = Judged { path, files: train, opened, facts: judged.train, details };
                let (is_sample, memory_bytes) = (judged.is_sample, judged.memory_bytes);
                let preparation = Some(judged.preparation);
                JudgedSets { train: Some(train), validation, preparation, notes, is_sample, memory_bytes }
            }
            Err(faults) => {
                for Fault { set, problem: Problem { file, what, unjudged } } in faults {
                    let field = match (set, &validation) {
                        (None, _) => format!("data.{file}"),
                        (Some(Use::Validation), Some(files)) => format!("{}.{file}", path(held_out, files)),
                        (Some(_), _) => format!("{}.{file}", path(fields[0], &train)),
                    };
                    wrong.add_found(field, what, unjudged);
                }
                JudgedSets::default()
            }
        }
    };
    match (train, validation) {
        (Some(train), None) => judge([first; 2], train, None),
        (Some(train), Some(Some(validation))) => judge([first, VALIDATION], train, Some(validation)),
        // One set is judged although the other is not there.
        (Some(train), Some(None)) => JudgedSets { validation: None, ..judge([first; 2], train, None) },
        (None, Some(Some(validation))) => {
            let judged = judge([VALIDATION; 2], validation, None);
            JudgedSets { train: None, validation: judged.train, ..judged }
        }
        (None, None | Some(None)) => JudgedSets::default(),
    }
}
