//! `run`: submits a program, follows its log, and ends with its exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::arguments::RunArguments;
use super::array;
use super::connection::Connection;
use super::failure::Failure;
use super::job_commands;
use super::output::{Output, tell};
use crate::proto::v1;
use crate::terminal::shown_in_line;

/// The exit code that a shell gives a program that a signal ended: 128 and the signal.
const BY_SIGNAL: i32 = 128;

/// Runs a program as a job.
pub(super) async fn run(connection: Connection, output: Output, arguments: RunArguments) -> Result<ExitCode, Failure> {
    let (detach, dry_run, array) = (arguments.detach, arguments.dry_run, arguments.array.clone());
    let spec = spec(arguments)?;
    if let Some(array) = array.filter(|_| !dry_run) {
        return array::create(connection, output, &spec, &array).await;
    }
    let spec = Some(spec);
    if dry_run {
        let request = v1::ValidateJobRequest { spec, dry_run: false };
        let answer = connection.jobs().validate_job(request).await?.into_inner();
        output.print(&answer, |_| "the job can be run; it was not submitted\n".into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = v1::CreateJobRequest { spec, ..Default::default() };
    let job = connection.jobs().create_job(request).await?.into_inner();
    if detach {
        output.print(&job, |job| format!("{}\n", job.name))?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("{0} in {1}; Ctrl-C leaves it as it is, `torchctl cancel {0}` ends it", job.name, job.directory));
    if !job.open_dependencies.is_empty() {
        tell(&format!("it {}", shown_in_line(&job.waiting_reason)));
    }
    job_commands::logs(connection.clone(), output, &job.name, true, 0).await?;
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
        in_environment(&absolute(&venv)?, &mut command, &mut variables);
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
