//! `run`: submits a program, follows its log, and ends with its exit code.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::arguments::RunArguments;
use super::array;
use super::connection::Connection;
use super::failure::{Failure, Flag};
use super::job_commands;
use super::output::{Output, tell};
use super::watch::{EXIT_INTERRUPTED, paused, tell_goes_on};
use crate::proto::v1;
use crate::terminal::shown_in_line;

/// The exit code that a shell gives a program that a signal ended: 128 and the signal.
const BY_SIGNAL: i32 = 128;

/// The interval between two looks at what the log does not tell.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The flags that set fields which torchd may refuse.
const FLAGS: [Flag; 12] = [
    Flag("--gpus", "resources.device", "; --gpus 0 runs the program on the CPU"),
    Flag("--gpus", "resources.gpu_count", "; --gpus N gives it N GPUs, --gpus 0 none"),
    Flag("--cpus", "resources.cpu_threads", ""),
    Flag("--name", "display_name", ""),
    Flag("--priority", "priority", ""),
    Flag("--label", "labels", ""),
    Flag("--env", "program.env", ""),
    Flag("--cwd", "program.working_dir", ""),
    Flag("--time", "max_duration", ""),
    Flag("--retries", "retry.max_restarts", ""),
    Flag("--after, --after-success or --after-failure", "after", ""),
    Flag("--request-id", "request_id", ""),
];

/// Runs a program as a job.
pub(super) async fn run(connection: Connection, output: Output, arguments: RunArguments) -> Result<ExitCode, Failure> {
    let (detach, dry_run, array) = (arguments.detach, arguments.dry_run, arguments.array.clone());
    let request_id = arguments.request_id.clone();
    let spec = spec(arguments)?;
    if let Some(array) = array.filter(|_| !dry_run) {
        return array::create(connection, output, &spec, &array).await.map_err(|failure| failure.with_flags(&FLAGS));
    }
    let refused = |status| Failure::from(status).with_flags(&FLAGS);
    let spec = Some(spec);
    if dry_run {
        let request = v1::ValidateJobRequest { spec, dry_run: false };
        let answer = connection.jobs().validate_job(request).await.map_err(refused)?.into_inner();
        output.print(&answer, |_| "the job can be run; it was not submitted\n".into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = v1::CreateJobRequest { spec, request_id };
    let job = connection.jobs().create_job(request).await.map_err(refused)?.into_inner();
    if detach {
        output.print(&job, |job| format!("{}\n", job.name))?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("{0} in {1}; Ctrl-C leaves it as it is, `torchctl cancel {0}` ends it", job.name, job.directory));
    {
        let log = job_commands::logs(connection.clone(), output, &job.name, true, 0);
        let news = tell_news(connection.clone(), &job.name);
        tokio::select! {
            done = log => done?,
            never = news => match never {},
            _ = tokio::signal::ctrl_c() => {
                tell_goes_on(&job.name);
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            }
        };
    }
    let request = v1::GetJobRequest { name: job.name.clone() };
    let job = connection.jobs().get_job(request).await?.into_inner();
    let Some(end) = &job.end else {
        tell(&format!("{0} goes on: `torchctl watch {0}` follows it", job.name));
        return Ok(ExitCode::FAILURE);
    };
    if job.state() == v1::JobState::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("{}: {}", job.name, shown_in_line(&end.message)));
    let code = match (end.exit_code, end.signal) {
        (Some(code), _) => code,
        (None, Some(signal)) => BY_SIGNAL + signal,
        (None, None) => 1,
    };
    Ok(ExitCode::from(u8::try_from(code).ok().filter(|code| *code > 0).unwrap_or(1)))
}

/// Tells what the log does not: that a job waits for its first attempt or another one, or is
/// paused. A daemon that does not answer is told by who follows the log.
async fn tell_news(connection: Connection, name: &str) -> Infallible {
    let mut told = News::default();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let request = v1::GetJobRequest { name: name.to_owned() };
        if let Ok(job) = connection.jobs().get_job(request).await
            && let Some(words) = told.of(&job.into_inner())
        {
            tell(&words);
        }
    }
}

/// The news of a job that were told: each once for an attempt.
#[derive(Debug, Default)]
struct News {
    /// The attempt behind which it waits; 0 before the first.
    waited: Option<u32>,
    attempt: Option<u32>,
    was_paused: bool,
}

impl News {
    /// The news that a job has.
    fn of(&mut self, job: &v1::Job) -> Option<String> {
        let is_paused = job.state() == v1::JobState::Paused;
        let was_paused = std::mem::replace(&mut self.was_paused, is_paused);
        match job.state() {
            v1::JobState::Queued if !job.waiting_reason.is_empty() => {
                let is_new = self.waited.replace(job.attempt) != Some(job.attempt);
                is_new.then(|| format!("queued: {}", shown_in_line(&job.waiting_reason)))
            }
            v1::JobState::Paused if !was_paused => Some(paused(job)),
            v1::JobState::Running => {
                let before = self.attempt.replace(job.attempt);
                let is_new = job.attempt > 1 && before != Some(job.attempt);
                is_new.then(|| format!("attempt {} begins", job.attempt))
            }
            _ => None,
        }
    }
}

/// The spec of a command line.
fn spec(arguments: RunArguments) -> Result<v1::JobSpec, Failure> {
    let RunArguments { gpus, cpus, name, priority, labels, env, cwd, venv, time, retries, after, .. } = arguments;
    let mut command = arguments.command;
    let cwd = match cwd {
        Some(cwd) => cwd,
        None => std::env::current_dir().map_err(|error| {
            Failure::Other(format!("the current folder cannot be told: {error}; name it with --cwd"))
        })?,
    };
    let mut variables: BTreeMap<String, String> = env.into_iter().collect();
    if let Some(venv) = venv {
        let venv = absolute(&venv)?;
        judge_environment(&venv)?;
        in_environment(&venv, &mut command, &mut variables);
    }
    let duration = |time: Duration| prost_types::Duration::try_from(time).ok();
    let mut spec = v1::JobSpec {
        display_name: name.unwrap_or_default(),
        priority: priority.unwrap_or_default(),
        labels: labels.into_iter().collect(),
        max_duration: time.and_then(duration),
        resources: Some(v1::Resources {
            device: if gpus > 0 { v1::Device::Cuda.into() } else { v1::Device::Cpu.into() },
            gpu_count: Some(gpus),
            cpu_threads: cpus,
            ..v1::Resources::default()
        }),
        retry: retries.map(|max_restarts| v1::Retry { max_restarts, ..v1::Retry::default() }),
        program: Some(v1::Program {
            command,
            working_dir: absolute(&cwd)?.display().to_string(),
            env: variables,
            report: None,
        }),
        ..v1::JobSpec::default()
    };
    after.add_to(&mut spec);
    Ok(spec)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Mistake(format!("{}: {error}", path.display())))
}

/// Refuses a folder that is no virtual environment: the program would run with another Python, or
/// with none.
fn judge_environment(venv: &Path) -> Result<(), Failure> {
    let found = match venv.metadata() {
        Ok(about) if !about.is_dir() => "is no folder".to_owned(),
        Ok(_) if venv.join("bin/python").exists() => return Ok(()),
        Ok(_) => "has no bin/python".to_owned(),
        Err(error) => format!("cannot be looked at: {error}"),
    };
    let venv = venv.display();
    Err(Failure::Mistake(format!("--venv is {venv}, which {found}; `python3 -m venv {venv}` makes one")))
}

/// Makes a command one of a virtual environment, as its `activate` does.
fn in_environment(venv: &Path, command: &mut [String], variables: &mut BTreeMap<String, String>) {
    let bin = venv.join("bin");
    if let Some(program) = command.first_mut().filter(|program| !program.contains('/'))
        && bin.join(&**program).exists()
    {
        *program = bin.join(&**program).display().to_string();
    }
    variables.entry("VIRTUAL_ENV".into()).or_insert_with(|| venv.display().to_string());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    variables.entry("PATH".into()).or_insert(path);
}
