//! GPUs for people: how busy, how full, how hot, why their clocks are reduced, whether they are
//! well, and which jobs hold them.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use super::arguments::GpuArguments;
use super::connection::Connection;
use super::failure::Failure;
use super::output::Output;
use super::table;
use crate::proto::v1::{self, ClockReduction, GpuHealthState, GpuSourceState};

type Done = Result<ExitCode, Failure>;

/// Cells of a bar.
const BAR: usize = 10;
/// Puts the cursor to the upper left and clears what is below. (ECMA-48)
const HOME: &str = "\x1b[H\x1b[J";

pub(super) async fn gpus(connection: Connection, output: Output, arguments: GpuArguments) -> Done {
    let GpuArguments { watch, interval, processes, events } = arguments;
    if processes {
        return list_processes(connection, output).await;
    }
    if events {
        return list_events(connection, output).await;
    }
    let style = Style::detect();
    if !watch {
        let answer = connection.gpus().list_gpus(v1::ListGpusRequest::default()).await?.into_inner();
        let page = |answer: &v1::ListGpusResponse| page(&answer.gpus, answer.source.as_ref());
        output.print_painted(&answer, page, |page| painted(&page, style))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interval = interval.map(|interval| Duration::from(interval).try_into()).transpose();
    let interval = interval.map_err(|error| Failure::Mistake(format!("--interval: {error}")))?;
    let mut stream = connection.gpus().watch_gpus(v1::WatchGpusRequest { interval }).await?.into_inner();
    loop {
        let answer = tokio::select! {
            answer = stream.message() => answer?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        let Some(answer) = answer else { return Ok(ExitCode::SUCCESS) };
        let page = |answer: &v1::WatchGpusResponse| page(&answer.gpus, answer.source.as_ref());
        output.print_painted(&answer, page, |page| {
            let page = painted(&page, style);
            if style.is_terminal { format!("{HOME}{page}") } else { page + "\n" }
        })?;
    }
}

async fn list_processes(connection: Connection, output: Output) -> Done {
    let answer = connection.gpus().list_gpu_processes(v1::ListGpuProcessesRequest::default()).await?.into_inner();
    output.print(&answer, |answer| {
        let row = |process: &v1::GpuProcess| {
            let share = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{:.0} %", ratio * 100.0));
            let job = match (process.job.as_str(), process.left_behind) {
                ("", _) => "-".to_owned(),
                (job, false) => job.to_owned(),
                (job, true) => format!("{job} (ended)"),
            };
            [
                process.gpu.trim_start_matches("gpus/").to_owned(),
                process.pid.to_string(),
                job,
                process.used_memory_bytes.map_or("-".into(), gigabytes),
                share(process.sm_ratio),
                process.program.clone(),
            ]
        };
        let rows: Vec<_> = answer.processes.iter().map(row).collect();
        let mut text = table::columns(["GPU", "PID", "JOB", "MEMORY", "SM", "PROGRAM"], &rows);
        if answer.hidden_processes > 0 {
            let (count, memory) = (answer.hidden_processes, gigabytes(answer.hidden_memory_bytes));
            text += &format!(
                "\n{count} of no job hold {memory}; gpu.show_foreign_processes = true in torchd's settings shows them\n"
            );
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list_events(connection: Connection, output: Output) -> Done {
    let answer = connection.gpus().list_gpu_events(v1::ListGpuEventsRequest::default()).await?.into_inner();
    output.print(&answer, |answer| {
        let row = |event: &v1::GpuEvent| {
            let remedy = if event.remedy.is_empty() { String::new() } else { format!(" — {}", event.remedy) };
            [
                table::time(event.time),
                event.gpu.trim_start_matches("gpus/").to_owned(),
                event.jobs.join(", "),
                format!("{}{remedy}", event.message),
            ]
        };
        let rows: Vec<_> = answer.events.iter().map(row).collect();
        let mut text = table::columns(["TIME", "GPU", "JOBS", "WHAT"], &rows);
        if !answer.absent_reason.is_empty() {
            text += &format!("\nThe driver's own events are not seen: {}\n", answer.absent_reason);
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How a page may look.
#[derive(Debug, Clone, Copy)]
struct Style {
    is_terminal: bool,
    has_colour: bool,
}

impl Style {
    fn detect() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        // https://no-color.org
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_terminal, has_colour: is_terminal && !wants_none }
    }

    /// Text in a colour of the terminal; its width stays that of the text.
    fn paint(self, text: &str, colour: Colour) -> String {
        match (self.has_colour, colour) {
            (false, _) => text.to_owned(),
            (true, Colour::Good) => format!("\x1b[32m{text}\x1b[0m"),
            (true, Colour::Warning) => format!("\x1b[33m{text}\x1b[0m"),
            (true, Colour::Bad) => format!("\x1b[31m{text}\x1b[0m"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Colour {
    Good,
    Warning,
    Bad,
}

/// The first words of the line that tells of a replay.
const REPLAYED: &str = "REPLAYED from the profile";
/// The first words of the line that tells of old readings.
const STALE: &str = "These readings are";

/// Everything on one page, without colours.
fn page(gpus: &[v1::Gpu], source: Option<&v1::GpuSource>) -> String {
    let mut text = String::new();
    if let Some(source) = source {
        if !source.replayed_profile.is_empty() {
            text += &format!("{REPLAYED} {}: not the GPUs of this machine\n", source.replayed_profile);
        }
        if source.state() != GpuSourceState::Watching {
            text += &format!("{}\n", source.message);
            source.remedies.iter().for_each(|remedy| text += &format!("  {remedy}\n"));
        }
        if source.stale {
            let age = source.age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
            text += &format!("{STALE} {} old.\n", table::duration(age));
        }
        if !text.is_empty() && !gpus.is_empty() {
            text.push('\n');
        }
    }
    if gpus.is_empty() {
        return text;
    }
    let rows: Vec<[String; 9]> = gpus
        .iter()
        .flat_map(|gpu| {
            let instances = gpu.mig_instances.iter().map(instance_row);
            std::iter::once(row(gpu)).chain(instances).collect::<Vec<_>>()
        })
        .collect();
    let heading = ["GPU", "MODEL", "USE", "MEMORY", "POWER", "TEMP", "CLOCKS", "HEALTH", "JOBS"];
    text += &table::columns(heading, &rows);
    for gpu in gpus {
        for line in notes(gpu) {
            text += &format!("\nGPU {}: {line}", gpu.index);
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(source) = source {
        let parts = [
            ("driver", &source.driver_version),
            ("NVML", &source.nvml_version),
            ("CUDA up to", &source.cuda_driver_version),
        ];
        let known: Vec<_> = parts.iter().filter(|(_, version)| !version.is_empty()).collect();
        let words: Vec<_> = known.iter().map(|(name, version)| format!("{name} {version}")).collect();
        if !words.is_empty() {
            text += &format!("\n{}\n", words.join(", "));
        }
    }
    text
}

/// Adds the colours to a page: bars by how full they are, health by how bad it is, and the lines
/// that matter most.
fn painted(page: &str, style: Style) -> String {
    if !style.has_colour {
        return page.to_owned();
    }
    let mut text = String::new();
    for line in page.lines() {
        text += &match line {
            _ if line.starts_with(REPLAYED) => style.paint(line, Colour::Warning),
            _ if line.starts_with(STALE) => style.paint(line, Colour::Bad),
            _ => painted_row(line, style),
        };
        text.push('\n');
    }
    text
}

fn painted_row(line: &str, style: Style) -> String {
    let (mut text, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(['█', '░']) {
        let bar: String = rest[start..].chars().take_while(|cell| ['█', '░'].contains(cell)).collect();
        let full = bar.chars().filter(|cell| *cell == '█').count();
        let colour = match full {
            0..=6 => Colour::Good,
            7..=8 => Colour::Warning,
            _ => Colour::Bad,
        };
        text += &rest[..start];
        text += &style.paint(&bar, colour);
        rest = &rest[start + bar.len()..];
    }
    let rest = rest.replacen("degraded", &style.paint("degraded", Colour::Warning), 1);
    text + &rest.replacen("FAILED", &style.paint("FAILED", Colour::Bad), 1)
}

fn row(gpu: &v1::Gpu) -> [String; 9] {
    let utilization = gpu.utilization.unwrap_or_default();
    let memory = gpu.memory.unwrap_or_default();
    let power = gpu.power.unwrap_or_default();
    let temperature = gpu.temperature.unwrap_or_default();
    let limit = power.enforced_limit_milliwatts.or(power.limit_milliwatts);
    [
        gpu.index.to_string(),
        gpu.model.clone(),
        utilization.gpu_ratio.map_or("-".into(), |ratio| format!("{} {:3.0} %", bar(ratio), ratio * 100.0)),
        full(memory.used_bytes, memory.total_bytes),
        match (power.average_milliwatts, limit) {
            (Some(now), Some(limit)) if limit > 0 => {
                let ratio = now as f64 / limit as f64;
                format!("{} {:3.0}/{:.0} W", bar(ratio), now as f64 / 1e3, limit as f64 / 1e3)
            }
            (Some(now), _) => format!("{:.0} W", now as f64 / 1e3),
            (None, _) => "-".into(),
        },
        temperature.gpu_celsius.map_or("-".into(), |celsius| format!("{celsius:.0} °C")),
        clocks(gpu),
        match gpu.health.clone().unwrap_or_default().state() {
            GpuHealthState::Healthy => "healthy".into(),
            GpuHealthState::Degraded => "degraded".into(),
            GpuHealthState::Failed => "FAILED".into(),
            GpuHealthState::Unspecified => "-".into(),
        },
        jobs(&gpu.jobs, gpu.process_count),
    ]
}

fn instance_row(instance: &v1::MigInstance) -> [String; 9] {
    let memory = instance.memory.unwrap_or_default();
    let busy = instance.activity.unwrap_or_default().sm_ratio;
    let none = || "-".to_owned();
    [
        format!("└ {}", instance.index),
        format!("MIG {}", instance.profile),
        busy.map_or_else(none, |ratio| format!("{} {:3.0} %", bar(ratio), ratio * 100.0)),
        full(memory.used_bytes, memory.total_bytes),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        jobs(&instance.jobs, None),
    ]
}

fn full(used: Option<u64>, total: Option<u64>) -> String {
    match (used, total) {
        (Some(used), Some(total)) if total > 0 => {
            format!("{} {:5.1}/{:.1} GB", bar(used as f64 / total as f64), used as f64 / 1e9, total as f64 / 1e9)
        }
        _ => "-".into(),
    }
}

fn bar(ratio: f64) -> String {
    let cells = (ratio.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "█".repeat(cells) + &"░".repeat(BAR - cells)
}

/// How fast, and why not faster.
fn clocks(gpu: &v1::Gpu) -> String {
    let clocks = gpu.clocks.unwrap_or_default();
    let now = clocks.sm_hertz.map_or("-".into(), |hertz| format!("{} MHz", hertz / 1_000_000));
    let reasons: Vec<_> = gpu.clock_reductions().map(reduction).collect();
    if reasons.is_empty() { now } else { format!("{now}: {}", reasons.join(", ")) }
}

fn reduction(reason: ClockReduction) -> &'static str {
    match reason {
        ClockReduction::Idle => "idle",
        ClockReduction::ApplicationClocks => "set so",
        ClockReduction::PowerCap => "power limit",
        ClockReduction::HardwareSlowdown => "hardware slowdown",
        ClockReduction::SyncBoost => "sync boost",
        ClockReduction::SoftwareThermal => "warm",
        ClockReduction::HardwareThermal => "HOT",
        ClockReduction::PowerBrake => "power supply",
        ClockReduction::DisplayClocks => "display",
        ClockReduction::Other | ClockReduction::Unspecified => "other",
    }
}

fn jobs(jobs: &[String], count: Option<v1::GpuProcessCount>) -> String {
    let mut parts: Vec<String> = jobs.iter().map(|job| job.trim_start_matches("jobs/").to_owned()).collect();
    if let Some(count) = count.filter(|count| count.foreign > 0) {
        let memory = gigabytes(count.foreign_memory_bytes);
        parts.push(match count.foreign {
            1 => format!("1 other process ({memory})"),
            others => format!("{others} other processes ({memory})"),
        });
    }
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// The reasons against a GPU, with their remedies.
fn notes(gpu: &v1::Gpu) -> Vec<String> {
    let reasons = gpu.health.iter().flat_map(|health| &health.reasons);
    reasons.map(|reason| format!("{}. {}", reason.message.trim_end_matches('.'), reason.remedy)).collect()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> v1::Gpu {
        v1::Gpu {
            index: 0,
            model: "NVIDIA A10".into(),
            utilization: Some(v1::GpuUtilization { gpu_ratio: Some(0.97), ..Default::default() }),
            memory: Some(v1::GpuMemory {
                used_bytes: Some(12_000_000_000),
                total_bytes: Some(24_000_000_000),
                ..Default::default()
            }),
            clocks: Some(v1::GpuClocks { sm_hertz: Some(1_695_000_000), ..Default::default() }),
            clock_reductions: vec![ClockReduction::PowerCap.into()],
            health: Some(v1::GpuHealth { state: GpuHealthState::Healthy.into(), reasons: vec![] }),
            jobs: vec!["jobs/abc".into()],
            ..Default::default()
        }
    }

    #[test]
    fn a_gpu_is_a_line_with_bars_and_words_and_what_is_absent_is_a_dash() {
        let text = page(&[gpu()], None);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("0    NVIDIA A10  ██████████  97 %  █████░░░░░  12.0/24.0 GB  -"), "{text}");
        assert!(line.ends_with("1695 MHz: power limit  healthy  abc"), "{text}");
    }

    #[test]
    fn a_replay_and_what_is_wrong_are_told_first_and_last() {
        let reason =
            v1::GpuHealthReason { message: "it is hot".into(), remedy: "cool it".into(), ..Default::default() };
        let health = v1::GpuHealth { state: GpuHealthState::Failed.into(), reasons: vec![reason] };
        let source = v1::GpuSource {
            state: GpuSourceState::Watching.into(),
            replayed_profile: "h100".into(),
            driver_version: "590.48.01".into(),
            ..Default::default()
        };
        let text = page(&[v1::Gpu { health: Some(health), ..gpu() }], Some(&source));
        assert!(text.starts_with("REPLAYED from the profile h100"), "{text}");
        assert!(text.contains("FAILED") && text.contains("\nGPU 0: it is hot. cool it\n"), "{text}");
        assert!(text.ends_with("\ndriver 590.48.01\n"), "{text}");
        let colour = Style { is_terminal: true, has_colour: true };
        assert!(painted(&page(&[gpu()], None), colour).contains("\x1b[31m██████████\x1b[0m"));
    }
}
