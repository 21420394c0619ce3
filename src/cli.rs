//! torchctl: a client of the protocol like any other, for people and their scripts. Knows nothing
//! of the daemon but `proto`, and reads files of models itself.

mod after;
mod arguments;
mod array;
mod artifacts;
mod cluster;
mod compatibility;
mod connection;
mod description;
mod failure;
mod following;
mod gpus;
mod inspect;
mod job_commands;
mod licenses;
mod output;
mod progress;
mod run_program;
mod scalars;
mod spec_file;
mod table;
mod tokens;
mod uploads;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub(crate) use arguments::AccessArguments;
use arguments::{Arguments, Command, FilesCommand};
pub(crate) use connection::{Connection, Link};
pub(crate) use failure::Failure;
use output::Output;
pub use spec_file::with_sets;

use crate::proto::{self, v1};

/// Runs a command and tells how it ended: 0; 1 for a job that did not succeed and for other
/// refusals; 64 for a mistake in the request; 69 where the daemon cannot be reached. `check` and
/// `doctor` end by their verdict: 0 to 3.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(failure::EXIT_MISTAKE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Other(format!("cannot start: {error}")).print(),
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { access, output, command } = arguments;
    let output = Output::new(output);
    let connection = || Connection::open(&access);
    match command {
        Command::Submit { spec, set, after, watch, request_id } => {
            job_commands::submit(connection().await?, output, spec_file::read(&spec, &set)?, after, watch, request_id)
                .await
        }
        Command::Redo(arguments) => after::redo(connection().await?, output, arguments).await,
        Command::Priority { job, priority } => {
            job_commands::set_priority(connection().await?, output, &job, priority).await
        }
        Command::Run(arguments) => run_program::run(connection().await?, output, arguments).await,
        Command::Validate { spec, dry_run, set } => {
            job_commands::validate(connection().await?, output, &spec, dry_run, &set).await
        }
        Command::Jobs { states, labels, owner, limit } => {
            job_commands::list(connection().await?, output, &states, labels, owner, limit).await
        }
        Command::Show { job } => job_commands::show(connection().await?, output, &job).await,
        Command::Watch { job, after } => watch::watch(connection().await?, output, &job, after).await,
        Command::Logs { job, follow, tail } => {
            job_commands::logs(connection().await?, output, &job, follow, tail).await
        }
        Command::Cancel { job, now } => job_commands::cancel(connection().await?, output, &job, now).await,
        Command::Pause { job } => job_commands::pause(connection().await?, output, &job).await,
        Command::Resume(arguments) => job_commands::resume(connection().await?, output, arguments).await,
        Command::Checkpoints { job } => artifacts::checkpoints(connection().await?, output, &job).await,
        Command::Download(arguments) => artifacts::download(connection().await?, output, arguments).await,
        Command::Upload(arguments) => uploads::upload(connection().await?, output, arguments).await,
        Command::Files { command } => {
            uploads::files(connection().await?, output, command.unwrap_or(FilesCommand::Ls)).await
        }
        Command::Delete { job } => job_commands::delete(connection().await?, output, &job).await,
        Command::Scalars { job, tag } => scalars::scalars(connection().await?, output, &job, tag.as_deref()).await,
        Command::Runtimes { as_of, pytorch, supported, lts } => {
            let request = v1::ListRuntimesRequest {
                pytorch_version: pytorch.unwrap_or_default(),
                as_of: as_of.unwrap_or_default(),
                supported_only: supported,
                lts_only: lts,
                ..v1::ListRuntimesRequest::default()
            };
            compatibility::runtimes(connection().await?, output, request).await
        }
        Command::PlanInstall(arguments) => compatibility::plan(connection().await?, output, arguments).await,
        Command::Check { facts, as_of, local } => {
            compatibility::check(&access, output, facts.as_deref(), as_of.unwrap_or_default(), local).await
        }
        Command::Doctor => compatibility::doctor(connection().await?, output).await,
        Command::Version { licenses: true } => licenses::print(output),
        Command::Version { licenses: false } => cluster::version(connection().await?, output).await,
        Command::Gpus(arguments) => gpus::gpus(connection().await?, output, arguments).await,
        Command::Inspect { file } => inspect::inspect(output, &file),
        Command::Descriptors => {
            output::write_bytes(proto::DESCRIPTORS)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Token { command } => tokens::token(connection().await?, output, command).await,
        Command::Whoami => tokens::whoami(connection().await?, output).await,
        Command::Cluster => cluster::cluster(connection().await?, output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "torchctl", &mut script);
            output::write(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
