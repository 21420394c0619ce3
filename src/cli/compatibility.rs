//! Runtimes, install plans, and whether a machine can run them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::arguments::{AcceleratorChoice, AccessArguments, PlanArguments};
use super::connection::Connection;
use super::failure::Failure;
use super::output::{Output, tell};
use super::{cluster, spec_file, table};
use crate::proto::json;
use crate::proto::v1::{self, CompatibilityReport, Severity, Verdict};

type Done = Result<ExitCode, Failure>;

pub(super) async fn runtimes(connection: Connection, output: Output, mut request: v1::ListRuntimesRequest) -> Done {
    let mut all = v1::ListRuntimesResponse::default();
    loop {
        let page = connection.compatibility().list_runtimes(request.clone()).await?.into_inner();
        all.runtimes.extend(page.runtimes);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let unknown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    output.print(&all, |all| {
        let row = |runtime: &v1::Runtime| {
            [
                runtime.display_name.clone(),
                unknown(&runtime.pytorch_version),
                unknown(&runtime.torchvision_version),
                unknown(&runtime.python_version),
                unknown(&runtime.cuda_version),
                unknown(&runtime.release_date),
                match runtime.support() {
                    v1::Support::Unknown => format!("unknown: {}", runtime.support_reason),
                    _ => runtime.support_reason.clone(),
                },
            ]
        };
        let rows: Vec<_> = all.runtimes.iter().map(row).collect();
        table::columns(["RUNTIME", "PYTORCH", "TORCHVISION", "PYTHON", "CUDA", "RELEASED", "SUPPORT"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn plan(connection: Connection, output: Output, arguments: PlanArguments) -> Done {
    let PlanArguments { pytorch, accelerator, python, runtime, cuda, driver, compute } = arguments;
    let accelerator = match accelerator {
        AcceleratorChoice::Gpu => v1::Accelerator::Gpu,
        AcceleratorChoice::Cpu => v1::Accelerator::Cpu,
    };
    let request = v1::PlanInstallRequest {
        runtime: runtime.unwrap_or_default(),
        python_version: python.unwrap_or_default(),
        accelerator: accelerator.into(),
        pytorch_version: pytorch.unwrap_or_default(),
        cuda_variant: cuda.unwrap_or_default(),
        driver_version: driver.unwrap_or_default(),
        compute_capability: compute.unwrap_or_default(),
    };
    let plan = connection.compatibility().plan_install(request).await?.into_inner();
    output.print(&plan, describe_plan)?;
    Ok(ExitCode::SUCCESS)
}

fn describe_plan(plan: &v1::InstallPlan) -> String {
    let steps = plan.steps.iter().enumerate();
    let steps: Vec<_> =
        steps.map(|(place, step)| format!("{}. {}\n   {}", place + 1, step.requirement, step.why)).collect();
    table::facts(&[
        ("runtime", plan.runtime.clone()),
        ("Python", plan.python_version.clone()),
        ("PyTorch", format!("{} ({})", plan.pytorch_version, plan.variant)),
        ("torchvision", plan.torchvision_version.clone()),
        ("steps", steps.join("\n")),
        ("with pip", plan.pip_command.clone()),
        ("in a notebook", plan.notebook_magic.clone()),
        ("requirements", if plan.steps.is_empty() { String::new() } else { plan.requirement_lines.join("\n") }),
        ("notes", plan.notes.join("\n")),
        ("sources", plan.sources.iter().map(source).collect::<Vec<_>>().join("\n")),
    ])
}

/// Judges this machine, or the one whose facts stand in a file. Without a daemon this machine is
/// judged by `torchd` itself.
pub(super) async fn check(
    access: &AccessArguments,
    output: Output,
    facts: Option<&Path>,
    as_of: String,
    is_local: bool,
) -> Done {
    let facts = facts.map(|file| spec_file::read::<v1::MachineFacts>(file, &[])).transpose()?;
    let report = if is_local { local()? } else { remote(access, facts, as_of).await? };
    output.print(&report, |report| describe(report, facts_table(report)))?;
    Ok(exit_code(report.verdict()))
}

/// One page for a person: what is wrong first, then what is here.
pub(super) async fn doctor(connection: Connection, output: Output) -> Done {
    let request = v1::CheckCompatibilityRequest::default();
    let report = connection.compatibility().check_compatibility(request).await?.into_inner();
    let version = connection.system().get_version(v1::GetVersionRequest {}).await?.into_inner();
    let cluster = connection.system().get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    output.print(&report, |report| {
        let versions = format!("{}\n{}", cluster::versions(&version), cluster::capabilities(&cluster));
        describe(report, format!("{}\n{versions}", facts_table(report)))
    })?;
    Ok(exit_code(report.verdict()))
}

async fn remote(
    access: &AccessArguments,
    facts: Option<v1::MachineFacts>,
    as_of: String,
) -> Result<CompatibilityReport, Failure> {
    let connection = match Connection::open(access).await {
        Ok(connection) => connection,
        Err(Failure::Unreachable { server, cause }) if facts.is_none() && as_of.is_empty() => {
            tell(&format!("torchd cannot be reached at {server} ({cause}); `torchd --check-machine` looks instead"));
            return local();
        }
        Err(failure) => return Err(failure),
    };
    let request = v1::CheckCompatibilityRequest { facts, as_of };
    Ok(connection.compatibility().check_compatibility(request).await?.into_inner())
}

/// Asks the daemon's program beside this one, or the one in PATH, to look at this machine.
fn local() -> Result<CompatibilityReport, Failure> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("torchd")).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| PathBuf::from("torchd"));
    let output = Command::new(&program).arg("--check-machine").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::Other(format!("{} cannot be started: {error}", program.display())))?;
    if !output.status.success() {
        return Err(Failure::Other(format!("{} --check-machine ended with {}", program.display(), output.status)));
    }
    json::from_str(String::from_utf8_lossy(&output.stdout).trim()).map_err(|error| Failure::Other(error.to_string()))
}

/// 0 where everything fits, 1 where less is possible, 2 where something does not work, 3 where that
/// is not known.
fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Degraded => ExitCode::from(1),
        Verdict::Broken => ExitCode::from(2),
        Verdict::Unknown | Verdict::Unspecified => ExitCode::from(3),
    }
}

fn describe(report: &CompatibilityReport, facts: String) -> String {
    let verdict = |verdict: Verdict| word(verdict.as_str_name(), "VERDICT_").to_uppercase();
    let gpu = report.gpu_verdict.map_or("there are none".to_owned(), |_| verdict(report.gpu_verdict()));
    let mut text = format!(
        "{}   (training on GPUs: {gpu}; on the CPU: {})\n\n",
        verdict(report.verdict()),
        verdict(report.cpu_verdict())
    );
    for finding in &report.findings {
        text += &describe_finding(finding);
    }
    if report.findings.is_empty() {
        text += "Nothing was found that does not fit.\n\n";
    }
    text + &facts
}

fn describe_finding(finding: &v1::Finding) -> String {
    let mark = match finding.severity() {
        Severity::Error => "BROKEN  ",
        Severity::Warning => "WARNING ",
        Severity::Unknown => "UNKNOWN ",
        Severity::Info | Severity::Unspecified => "INFO    ",
    };
    let ways: Vec<_> = finding
        .remedies
        .iter()
        .map(|remedy| remedy.commands.iter().fold(remedy.text.clone(), |text, command| format!("{text}\n  {command}")))
        .collect();
    let facts = table::facts(&[
        ("found", finding.found.clone()),
        ("needed", finding.needed.clone()),
        ("what to do", ways.join("\nor: ")),
        ("source", finding.sources.iter().map(source).collect::<Vec<_>>().join("\n")),
    ]);
    let facts: String = facts.lines().map(|line| format!("  {line}\n")).collect();
    format!("{mark}{} [{}]\n{facts}\n", finding.summary, finding.reason)
}

fn facts_table(report: &CompatibilityReport) -> String {
    let facts = report.facts.clone().unwrap_or_default();
    let torch = facts.torch.unwrap_or_default();
    let gpus = facts.gpus.map(|list| {
        let names = list.gpus.iter().map(|gpu| format!("{} {}", gpu.name, gpu.compute_capability).trim().to_owned());
        let names: Vec<_> = names.collect();
        if names.is_empty() { "none".to_owned() } else { names.join("\n") }
    });
    let variant = if torch.variant.is_empty() { String::new() } else { format!(" ({})", torch.variant) };
    table::facts(&[
        ("PyTorch", format!("{}{variant}", torch.version).trim().to_owned()),
        ("GPUs", gpus.unwrap_or_default()),
        ("NVIDIA driver", facts.driver_version),
        ("runtime", facts.runtime),
        ("Python", facts.python_version),
        ("node type", facts.node_type),
        ("C library", facts.glibc_version),
        ("C++ library", facts.glibcxx_version),
        ("system", facts.os),
        ("judged as of", report.as_of.clone()),
    ])
}

fn source(source: &v1::Source) -> String {
    format!("{} ({})", source.title, source.location)
}

/// An enum value in a word, such as `supported`.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}
