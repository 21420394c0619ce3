//! Commands about jobs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use super::arguments::{AfterArguments, ResumeArguments, StateFilter};
use super::connection::Connection;
use super::failure::{Failure, Flag};
use super::following::Following;
use super::output::{Output, tell, write};
use super::progress::size;
use super::{after, array, description, spec_file, table, watch};
use crate::proto::{json, v1};
use crate::terminal::shown_in_line;

/// A job whose share of time that it waits for its data is larger says so.
const WAITS_MUCH: f64 = 0.2;

/// The flags of `resume` that set fields which torchd may refuse.
const RESUME_FLAGS: [Flag; 4] = [
    Flag("--epochs", "edits.epochs", ""),
    Flag("--max-steps", "edits.max_steps", ""),
    Flag("--learning-rate", "edits.learning_rate", ""),
    Flag("--batch-size", "edits.batch_size", ""),
];

type Done = Result<ExitCode, Failure>;

/// `jobs/{id}`, from that or from the bare id.
pub(super) fn name(job: &str) -> String {
    if job.starts_with("jobs/") { job.to_owned() } else { format!("jobs/{job}") }
}

pub(super) async fn submit(
    connection: Connection,
    output: Output,
    mut spec: v1::JobSpec,
    after: AfterArguments,
    watch: bool,
    request_id: String,
) -> Done {
    after.add_to(&mut spec);
    let request = v1::CreateJobRequest { spec: Some(spec), request_id };
    let job = connection.jobs().create_job(request).await?.into_inner();
    created(connection, output, &job, watch).await
}

/// Tells of a job that was made, and follows it where that is wanted.
pub(super) async fn created(connection: Connection, output: Output, job: &v1::Job, watch: bool) -> Done {
    if !watch {
        output.print(job, |job| format!("{} is {}\n", job.name, waiting_state(job)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !output.is_json() {
        write(&format!("{} in {}\n", job.name, job.directory))?;
    }
    watch::watch_new(connection, output, job).await
}

pub(super) async fn validate(
    connection: Connection,
    output: Output,
    spec: &Path,
    dry_run: bool,
    set: &[String],
) -> Done {
    let spec: v1::JobSpec = spec_file::read(spec, set)?;
    let is_program = spec.program.is_some();
    let spec = Some(spec);
    let answer = connection.jobs().validate_job(v1::ValidateJobRequest { spec, dry_run }).await?.into_inner();
    output.print(&answer, |answer| {
        let steps = match answer.first_step {
            0 => answer.total_steps.to_string(),
            done => format!("{}, of which {done} are done", answer.total_steps),
        };
        let mut facts = vec![("verdict", "the job can run here".into())];
        let sets =
            [("training set", &answer.train), ("validation set", &answer.validation), ("test set", &answer.test)];
        facts.extend(sets.into_iter().filter_map(|(name, set)| Some((name, description::data(set.as_ref()?)))));
        facts.extend(answer.model_outline.iter().map(|outline| ("model", description::model(outline))));
        // Nobody knows what a program takes, and how long it is.
        if !is_program {
            facts.push(("memory", format!("{} at least", size(answer.memory_bytes))));
            facts.push((if answer.test.is_some() { "batches" } else { "steps" }, steps));
        }
        facts.extend(answer.notes.iter().map(|note| ("note", note.clone())));
        facts.extend(answer.dry_run.iter().flat_map(tried));
        table::facts(&facts)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The outcome of a dry run.
fn tried(run: &v1::DryRun) -> Vec<(&'static str, String)> {
    let metrics: Vec<_> = run.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    let parameters = run.model_outline.as_ref().map_or(0, |outline| outline.parameter_count);
    let seconds = run.step_time.map_or(0.0, |time| time.seconds as f64 + f64::from(time.nanos) / 1e9);
    vec![
        ("parameters", parameters.to_string()),
        ("output of an example", format!("{:?}", run.output_sizes)),
        ("loss of a batch", format!("{:.4}", run.loss)),
        ("metrics of a batch", metrics.join(", ")),
        ("gradient norm", format!("{:.4}", run.gradient_norm)),
        ("time of a batch", format!("{:.1} ms on one thread", seconds * 1e3)),
        ("peak memory", format!("{:.1} MB", run.peak_memory_bytes as f64 / 1e6)),
    ]
}

pub(super) async fn list(
    connection: Connection,
    output: Output,
    states: &[StateFilter],
    labels: Vec<(String, String)>,
    owner: String,
    limit: usize,
) -> Done {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    let mut all = v1::ListJobsResponse::default();
    let states: Vec<i32> = states.iter().map(|state| job_state(*state).into()).collect();
    while all.jobs.len() < limit {
        let page_size = i32::try_from((limit - all.jobs.len()).min(1000)).unwrap_or(1000);
        let (states, labels, owner) = (states.clone(), labels.clone(), owner.clone());
        let request = v1::ListJobsRequest { page_size, page_token: all.next_page_token, states, labels, owner };
        let page = connection.jobs().list_jobs(request).await?.into_inner();
        all.jobs.extend(page.jobs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    output.print(&all, |all| {
        // One owner alone is no news.
        let are_several = all.jobs.windows(2).any(|two| two[0].owner != two[1].owner);
        let rows: Vec<_> = all.jobs.iter().map(|job| row(job, are_several)).collect();
        let heading = ["JOB", "NAME", "ARRAY", "OWNER", "STATE", "PRIORITY", "PROGRESS", "AGE", "NOTE"];
        table::columns_but_empty(heading, &rows, &["ARRAY", "OWNER", "PRIORITY"])
    })?;
    Ok(ExitCode::SUCCESS)
}

fn job_state(filter: StateFilter) -> v1::JobState {
    match filter {
        StateFilter::Queued => v1::JobState::Queued,
        StateFilter::Starting => v1::JobState::Starting,
        StateFilter::Running => v1::JobState::Running,
        StateFilter::Stopping => v1::JobState::Stopping,
        StateFilter::Succeeded => v1::JobState::Succeeded,
        StateFilter::Failed => v1::JobState::Failed,
        StateFilter::Cancelled => v1::JobState::Cancelled,
        StateFilter::Paused => v1::JobState::Paused,
    }
}

fn row(job: &v1::Job, has_owner: bool) -> [String; 9] {
    let age = job.create_time.and_then(|time| SystemTime::try_from(time).ok()).and_then(|time| time.elapsed().ok());
    let note = match &job.end {
        Some(end) if job.state() == v1::JobState::Succeeded => {
            let accuracy =
                job.progress.as_ref().and_then(|progress| progress.latest_scalars.get("accuracy/validation"));
            accuracy.map_or_else(
                || end.message.clone(),
                |accuracy| format!("validation accuracy {:.2} %", accuracy * 100.0),
            )
        }
        Some(end) => end.message.clone(),
        None if job.state() == v1::JobState::Paused => {
            job.last_attempt_end.as_ref().map(|end| end.message.clone()).unwrap_or_default()
        }
        None => job.waiting_reason.clone(),
    };
    let spec = job.spec.as_ref();
    let priority = spec.map_or(0, |spec| spec.priority);
    [
        job.name.clone(),
        spec.map(|spec| spec.display_name.clone()).unwrap_or_default(),
        spec.and_then(array::place).unwrap_or_default(),
        if has_owner { job.owner.clone() } else { String::new() },
        table::state(job.state()),
        if priority == 0 { String::new() } else { priority.to_string() },
        job.progress.as_ref().map(|progress| how_far(job, progress)).unwrap_or_default(),
        age.map(table::duration).unwrap_or_default(),
        note,
    ]
}

/// The threads of computation that the newest attempt of a model has.
fn threads(job: &v1::Job) -> String {
    let Some(progress) = job.progress.as_ref() else { return String::new() };
    let wait = match progress.thread_wait() {
        v1::ThreadWait::Unspecified => return String::new(),
        v1::ThreadWait::Adaptive => "adaptive",
        v1::ThreadWait::Passive => "passive",
        v1::ThreadWait::Active => "active",
        v1::ThreadWait::Openmp => "openmp",
    };
    let ranks = job.spec.as_ref().and_then(|spec| spec.resources?.ranks).unwrap_or(1);
    let of_ranks = if ranks > 1 { format!(" for each of {ranks} ranks") } else { String::new() };
    format!("{}{of_ranks}, {wait}", progress.cpu_threads)
}

/// How far a job is: a share, or the step of a program that tells no share.
fn how_far(job: &v1::Job, progress: &v1::JobProgress) -> String {
    match (is_program(job), progress.progress_ratio, progress.step) {
        (true, 0.0, 0) => "-".into(),
        (true, 0.0, step) => format!("step {step}"),
        (_, ratio, _) => format!("{:.0} %", ratio * 100.0),
    }
}

fn is_program(job: &v1::Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.program.is_some())
}

fn waiting_state(job: &v1::Job) -> String {
    match job.waiting_reason.as_str() {
        "" => table::state(job.state()),
        reason => format!("{}: {reason}", table::state(job.state())),
    }
}

pub(super) async fn show(connection: Connection, output: Output, job: &str) -> Done {
    let job = connection.jobs().get_job(v1::GetJobRequest { name: name(job) }).await?.into_inner();
    let list = v1::ListCheckpointsRequest { name: job.name.clone(), page_size: 1, page_token: String::new() };
    // The rest of the job is told even if its folder cannot be read.
    let damaged = connection.jobs().list_checkpoints(list).await.map(|list| list.into_inner().damaged);
    output.print(&job, |job| describe(job, &damaged.unwrap_or_default()))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(job: &v1::Job, damaged: &[v1::CheckpointDamaged]) -> String {
    let mut facts = vec![
        ("job", job.name.clone()),
        ("name", job.spec.as_ref().map(|spec| spec.display_name.clone()).unwrap_or_default()),
        ("owner", job.owner.clone()),
        ("state", waiting_state(job)),
        ("waits for", after::open(job)),
        ("created", table::time(job.create_time)),
        ("started", table::time(job.start_time)),
        ("ended", table::time(job.end_time)),
    ];
    if let Some(progress) = &job.progress {
        // A program may tell of one and not of the other.
        let of = |count: u64, total: u64| if total > 0 { format!("{count} of {total}") } else { count.to_string() };
        if !is_program(job) || progress.step > 0 || progress.total_steps > 0 {
            facts.push(("step", of(progress.step, progress.total_steps)));
        }
        if progress.total_epochs > 0 || progress.epoch > 0 {
            facts.push(("epoch", of(progress.epoch.into(), progress.total_epochs.into())));
        }
        let values: Vec<_> =
            progress.latest_scalars.iter().map(|(tag, value)| format!("{tag} {}", table::number(*value))).collect();
        facts.push(("scalars", values.join("\n")));
    }
    facts.push(("data", data_wait(job)));
    facts.push(("threads", threads(job)));
    if job.attempt > 1 || job.restarts > 0 {
        facts.push(("attempt", format!("{}, restarts after failures: {}", job.attempt, job.restarts)));
    }
    if let Some(end) = job.last_attempt_end.as_ref().filter(|_| job.end.is_none()) {
        facts.push(("attempt before", format!("{}: {}", table::reason(end.reason()), end.message)));
    }
    if let Some(point) = &job.resume_from {
        facts.push(("resumes from", format!("step {}", point.step)));
    }
    if !damaged.is_empty() {
        let lines: Vec<_> = damaged.iter().map(|damaged| format!("{}: {}", damaged.path, damaged.problem)).collect();
        facts.push(("damaged checkpoints", lines.join("\n")));
    }
    if let Some(end) = &job.end {
        let signal = end.signal.map(|signal| format!(", signal {signal}"));
        let code = end.exit_code.map(|code| format!(", exit code {code}"));
        let how = signal.or(code).unwrap_or_default();
        facts.push(("end", format!("{}{how}: {}", table::reason(end.reason()), end.message)));
        if job.state() == v1::JobState::Failed {
            facts.push(("last log lines", end.log_tail.join("\n")));
        }
    }
    let limit = job.spec.as_ref().and_then(|spec| spec.resources).and_then(|resources| resources.memory_limit_bytes);
    if let Some(limit) = limit {
        facts.push(("memory limit", size(limit)));
    }
    if let Some(model) = &job.model_outline {
        facts.push(("model", description::model(model)));
        if model.has_own_loss {
            facts.push(("loss", own_loss(&model.own_metrics)));
        }
    }
    if let Some(copy) = &job.mirror {
        let state = match (copy.complete, copy.error.as_str()) {
            (true, _) => "complete".to_owned(),
            (false, "") => format!("last written {}", table::time(copy.last_success_time)),
            (false, error) => format!("not up to date: {error}"),
        };
        facts.push(("copy", format!("{}: {state}", copy.folder)));
    }
    if let Some(edits) = &job.edits {
        facts.push(("edits", describe_edits(edits)));
    }
    facts.push(("folder", job.directory.clone()));
    let spec = job.spec.as_ref().and_then(|spec| json::to_value(spec, false).ok());
    facts.push(("spec", spec.and_then(|spec| serde_json::to_string_pretty(&spec).ok()).unwrap_or_default()));
    table::facts(&facts)
}

/// Says of a job that runs that it waits for its data, where that takes a good part of its time.
fn data_wait(job: &v1::Job) -> String {
    let ratio = job.progress.as_ref().and_then(|progress| progress.latest_scalars.get("data/wait_ratio"));
    let ratio = ratio.filter(|ratio| job.state() == v1::JobState::Running && **ratio > WAITS_MUCH);
    let words = |ratio: &f64| {
        let share = ratio * 100.0;
        format!(
            "training waits for its data for {share:.0} % of its time: reading and decoding them is too slow for it"
        )
    };
    ratio.map(words).unwrap_or_default()
}

/// The edits of all resumes, each on a line. Those of earlier versions are not in `set`.
fn describe_edits(edits: &v1::JobEdits) -> String {
    let v1::JobEdits { length, learning_rate, batch_size, set } = edits;
    let length = length.map(|length| match length {
        v1::job_edits::Length::Epochs(epochs) => format!("epochs = {epochs}"),
        v1::job_edits::Length::MaxSteps(steps) => format!("max_steps = {steps}"),
    });
    let rate = learning_rate.map(|rate| format!("learning_rate = {rate}"));
    let batch_size = batch_size.map(|size| format!("batch_size = {size}"));
    let set =
        set.iter().map(|v1::FieldEdit { path, value }| format!("{} = {}", shown_in_line(path), shown_in_line(value)));
    length.into_iter().chain(rate).chain(batch_size).chain(set).collect::<Vec<_>>().join("\n")
}

fn own_loss(metrics: &[String]) -> String {
    let metrics = if metrics.is_empty() { String::new() } else { format!(", with {}", metrics.join(", ")) };
    format!("the model's own, a mean over the examples of each batch{metrics}")
}

pub(super) async fn logs(connection: Connection, output: Output, job: &str, follow: bool, tail_lines: u32) -> Done {
    let request = v1::ReadJobLogRequest { name: name(job), offset_bytes: 0, tail_lines, follow };
    let mut log = Following::begin(connection, request).await?;
    while let Some(piece) = log.next(|words| tell(&format!("torchctl: {words}"))).await? {
        output.print_content(&piece, |piece| &piece.text)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn cancel(connection: Connection, output: Output, job: &str, now: bool) -> Done {
    let job = connection.jobs().cancel_job(v1::CancelJobRequest { name: name(job), now }).await?.into_inner();
    output.print(&job, |job| format!("{} is {}\n", job.name, table::state(job.state())))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn pause(connection: Connection, output: Output, job: &str) -> Done {
    let job = connection.jobs().pause_job(v1::PauseJobRequest { name: name(job) }).await?.into_inner();
    output.print(&job, |job| format!("{} is {}\n", job.name, table::state(job.state())))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(connection: Connection, output: Output, arguments: ResumeArguments) -> Done {
    let ResumeArguments { job, epochs, max_steps, learning_rate, batch_size, set, from_scratch, accept_new_data } =
        arguments;
    let set = set.iter().map(|set| spec_file::edit(set).map_err(Failure::Mistake)).collect::<Result<_, _>>()?;
    let length = epochs.map(v1::job_edits::Length::Epochs).or(max_steps.map(v1::job_edits::Length::MaxSteps));
    let edits = Some(v1::JobEdits { length, learning_rate, batch_size, set });
    let request = v1::ResumeJobRequest { name: name(&job), edits, from_scratch, accept_new_data };
    let refused = |status| Failure::from(status).with_flags(&RESUME_FLAGS);
    let job = connection.jobs().resume_job(request).await.map_err(refused)?.into_inner();
    output.print(&job, |job| {
        let from = match &job.resume_from {
            Some(point) => format!("goes on from step {}", point.step),
            None if from_scratch => "begins anew".to_owned(),
            None => "had saved nothing yet and begins anew".to_owned(),
        };
        format!("{} is {}; it {from}\n", job.name, waiting_state(job))
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn set_priority(connection: Connection, output: Output, job: &str, priority: i32) -> Done {
    let request = v1::SetJobPriorityRequest { name: name(job), priority };
    let job = connection.jobs().set_job_priority(request).await?.into_inner();
    output.print(&job, |job| {
        let priority = job.spec.as_ref().map_or(0, |spec| spec.priority);
        format!("{} has the priority {priority}; it is {}\n", job.name, waiting_state(job))
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn delete(connection: Connection, output: Output, job: &str) -> Done {
    let name = name(job);
    connection.jobs().delete_job(v1::DeleteJobRequest { name: name.clone() }).await?;
    write(&if output.is_json() { "{}\n".to_owned() } else { format!("{name} is deleted\n") })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_waits_for_its_data_for_more_than_a_fifth_of_its_time_says_so() {
        let told = |ratio: f64, state: v1::JobState| {
            let latest_scalars = [("data/wait_ratio".to_owned(), ratio)].into();
            let progress = Some(v1::JobProgress { latest_scalars, ..v1::JobProgress::default() });
            describe(&v1::Job { progress, state: state.into(), ..v1::Job::default() }, &[])
        };
        let words = "training waits for its data for 43 % of its time";
        assert!(told(0.43, v1::JobState::Running).contains(words));
        assert!(!told(0.2, v1::JobState::Running).contains("training waits"));
        assert!(!told(0.43, v1::JobState::Succeeded).contains("training waits"));
    }

    #[test]
    fn the_threads_of_a_model_are_told_with_how_they_wait() {
        let told = |thread_wait: v1::ThreadWait| {
            let progress = v1::JobProgress { cpu_threads: 3, thread_wait: thread_wait.into(), ..Default::default() };
            threads(&v1::Job { progress: Some(progress), ..v1::Job::default() })
        };
        assert_eq!(told(v1::ThreadWait::Openmp), "3, openmp");
        assert_eq!(told(v1::ThreadWait::Unspecified), "");
        let thread_wait = v1::ThreadWait::Passive.into();
        let progress = Some(v1::JobProgress { cpu_threads: 1, thread_wait, ..Default::default() });
        let resources = Some(v1::Resources { ranks: Some(2), ..v1::Resources::default() });
        let spec = Some(v1::JobSpec { resources, ..v1::JobSpec::default() });
        assert_eq!(threads(&v1::Job { progress, spec, ..v1::Job::default() }), "1 for each of 2 ranks, passive");
    }
}
