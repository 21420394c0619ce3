//! Following a job: a progress bar on a terminal, a line an epoch elsewhere, every message as JSON
//! for scripts. The stream, and its new start after a restart of the daemon, is the business of
//! `following`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::connection::Connection;
use super::failure::Failure;
use super::following::{Following, Watched};
use super::job_commands::name;
use super::output::{Output, tell, write};
use super::table;
use crate::proto::v1::{self, job_record::What, watch_event::Event};
use crate::terminal::shown_in_line;

/// The exit code that a shell gives a program that Ctrl-C ended: 128 and SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Follows a job to its end.
pub(super) async fn watch(
    connection: Connection,
    output: Output,
    job: &str,
    after_sequence: u64,
) -> Result<ExitCode, Failure> {
    let name = name(job);
    let following = Following::begin(connection, Watched::new(name.clone(), after_sequence)).await?;
    follow(following, output, &name).await
}

/// Follows a job that the daemon has just taken.
pub(super) async fn watch_new(connection: Connection, output: Output, job: &v1::Job) -> Result<ExitCode, Failure> {
    follow(Following::of(connection, Watched::new(job.name.clone(), 0)), output, &job.name).await
}

async fn follow(mut following: Following<Watched>, output: Output, name: &str) -> Result<ExitCode, Failure> {
    let mut screen = Screen::new(output);
    let mut last: Option<v1::Job> = None;
    loop {
        let message = tokio::select! {
            message = following.next(|words| screen.bar.suspend(|| tell(&format!("torchctl: {words}")))) => message?,
            _ = tokio::signal::ctrl_c() => {
                screen.finish();
                tell(&format!("{0} goes on: `torchctl watch {0}` follows it, `torchctl cancel {0}` ends it", name));
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            }
        };
        let Some(message) = message else { break };
        if output.is_json() {
            output.print(&message, |_| String::new())?;
        }
        for event in message.events.into_iter().filter_map(|event| event.event) {
            match event {
                Event::Snapshot(job) => {
                    screen.snapshot(&job);
                    last = Some(job);
                }
                Event::Record(record) => screen.record(&record)?,
            }
        }
    }
    screen.finish();
    let job = last.ok_or_else(|| Failure::Other("torchd ended the watch without telling the end of the job".into()))?;
    if !output.is_json() {
        write(&ending(&job))?;
    }
    Ok(if job.state() == v1::JobState::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ending(job: &v1::Job) -> String {
    let end = job.end.clone().unwrap_or_default();
    let mut text = format!("{} {}: {}\n", job.name, table::state(job.state()), shown_in_line(&end.message));
    let latest = job.progress.iter().flat_map(|progress| &progress.latest_scalars);
    for (name, value) in of_set(latest, "validation") {
        text += &match name.as_str() {
            "accuracy" => format!("validation accuracy {:.2} %\n", value * 100.0),
            name => format!("validation {name} {value:.4}\n"),
        };
    }
    if job.state() == v1::JobState::Failed {
        end.log_tail.iter().for_each(|line| text += &format!("  {}\n", shown_in_line(line)));
    }
    text
}

/// The loss of a set, where it is known, and then its metrics, also those that the model gives.
fn of_set<'a>(latest: impl IntoIterator<Item = (&'a String, &'a f64)>, set: &str) -> Vec<(String, f64)> {
    let named = |(tag, value): (&String, &f64)| {
        let (name, found) = tag.rsplit_once('/')?;
        (found == set).then(|| (shown_in_line(name), *value))
    };
    let mut values: Vec<_> = latest.into_iter().filter_map(named).collect();
    values.sort_by(|(one, _), (other, _)| (one != "loss", one).cmp(&(other != "loss", other)));
    values
}

/// The progress that people see while they wait.
struct Screen {
    bar: ProgressBar,
    is_live: bool,
    is_silent: bool,
    latest: BTreeMap<String, f64>,
    steps_per_epoch: u64,
    /// Epochs that were over at the last scalars.
    epochs_told: u64,
    has_validation: bool,
    waiting: String,
    was_paused: bool,
}

impl Screen {
    fn new(output: Output) -> Self {
        let is_live = stderr().is_terminal() && !output.is_json();
        let target = if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is ours and right; if it were not, the bar would have its default looks.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len}  {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let latest = BTreeMap::new();
        let is_silent = output.is_json();
        Self {
            bar,
            is_live,
            is_silent,
            latest,
            steps_per_epoch: 0,
            epochs_told: 0,
            has_validation: false,
            waiting: String::new(),
            was_paused: false,
        }
    }

    fn snapshot(&mut self, job: &v1::Job) {
        if job.waiting_reason != self.waiting {
            self.waiting.clone_from(&job.waiting_reason);
            if !self.is_silent && !self.waiting.is_empty() {
                self.bar.suspend(|| tell(&format!("{}: {}", table::state(job.state()), shown_in_line(&self.waiting))));
            }
        }
        let is_paused = job.state() == v1::JobState::Paused;
        if is_paused && !self.was_paused && !self.is_silent {
            let why = job.last_attempt_end.as_ref().map(|end| shown_in_line(&end.message)).unwrap_or_default();
            self.bar.suspend(|| {
                tell(&format!("paused: {why}; `torchctl resume {}` puts it back into the queue", job.name))
            });
        }
        self.was_paused = is_paused;
        let data = job.spec.as_ref().and_then(|spec| spec.data.as_ref());
        self.has_validation = data.is_some_and(|data| data.validation.is_some());
        let Some(progress) = &job.progress else { return };
        self.bar.set_length(progress.total_steps);
        self.bar.set_position(progress.step);
        self.bar.set_prefix(format!("epoch {}/{}", progress.epoch, progress.total_epochs));
        let values = of_set(&progress.latest_scalars, "train").into_iter();
        let mut words: Vec<_> = values.map(|(name, value)| format!("{name} {value:.4}")).collect();
        if let Some(speed) = progress.examples_per_second {
            words.push(format!("{speed:.0} examples/s"));
        }
        if let Some(left) = progress.remaining.and_then(|left| left.try_into().ok()) {
            words.push(format!("{} left", table::duration(left)));
        }
        self.bar.set_message(words.join("  "));
    }

    fn record(&mut self, record: &v1::JobRecord) -> Result<(), Failure> {
        match &record.what {
            Some(What::Started(started)) => self.steps_per_epoch = started.steps_per_epoch.max(1),
            Some(What::Scalars(scalars)) => {
                let line = self.line_of(scalars);
                if let Some(line) = line.filter(|_| !self.is_live && !self.is_silent) {
                    return write(&line);
                }
            }
            Some(What::Resumed(resumed)) => {
                self.latest.clear();
                self.epochs_told = resumed.step.checked_div(self.steps_per_epoch).unwrap_or(0);
                if !self.is_silent {
                    let from =
                        if resumed.path.is_empty() { "anew".to_owned() } else { format!("from step {}", resumed.step) };
                    self.bar.suspend(|| tell(&format!("attempt {} begins {from}", record.attempt)));
                }
            }
            Some(What::Damaged(damaged)) => {
                if !self.is_silent {
                    let v1::CheckpointDamaged { path, problem, .. } = damaged;
                    self.bar.suspend(|| tell(&format!("{path} is damaged and passed over: {problem}")));
                }
            }
            Some(What::Progress(_) | What::Checkpoint(_) | What::Ended(_)) | None => {}
        }
        Ok(())
    }

    /// Takes scalars up, and tells of them in a line: those of validation, or the first ones of
    /// training after the end of an epoch where nothing is validated.
    fn line_of(&mut self, scalars: &v1::ScalarValues) -> Option<String> {
        self.latest.extend(scalars.values.iter().map(|value| (value.tag.clone(), value.value)));
        let is_validation = scalars.values.iter().any(|value| value.tag.ends_with("/validation"));
        let epochs = scalars.step.checked_div(self.steps_per_epoch).unwrap_or(0);
        let is_due = is_validation || (!self.has_validation && epochs > self.epochs_told);
        self.epochs_told = epochs;
        is_due.then(|| self.epoch_line(scalars.step))
    }

    fn epoch_line(&self, step: u64) -> String {
        let epoch = step.div_ceil(self.steps_per_epoch.max(1));
        let train = of_set(&self.latest, "train").into_iter().map(|(name, value)| format!("{name} {value:.4}"));
        let validation = of_set(&self.latest, "validation").into_iter();
        let words: Vec<_> =
            train.chain(validation.map(|(name, value)| format!("validation {name} {value:.4}"))).collect();
        format!("epoch {epoch}, step {step}: {}\n", words.join(", "))
    }

    fn finish(&self) {
        if self.is_live && self.bar.length().is_some() {
            self.bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::Format;
    use super::*;

    fn scalars(step: u64, values: &[(&str, f64)]) -> v1::ScalarValues {
        let value = |(tag, value): &(&str, f64)| v1::ScalarValue { tag: (*tag).into(), value: *value };
        v1::ScalarValues { step, values: values.iter().map(value).collect() }
    }

    #[test]
    fn a_line_tells_every_metric_and_an_epoch_without_validation_has_one_too() {
        let mut screen = Screen::new(Output::new(Format::Table));
        screen.steps_per_epoch = 7;
        let train = |step| scalars(step, &[("mean_abs/train", 0.25), ("loss/train", 0.5), ("learning_rate", 0.1)]);
        let told = |step| format!("epoch 2, step {step}: loss 0.5000, mean_abs 0.2500\n");
        let lines = [5, 10, 13].map(|step| screen.line_of(&train(step)));
        assert_eq!(lines, [None, Some(told(10)), None]);
        screen.has_validation = true;
        assert_eq!(screen.line_of(&train(14)), None);
        let line = screen.line_of(&scalars(14, &[("bias/validation", 1.0), ("loss/validation", 0.75)])).unwrap();
        assert!(line.ends_with("mean_abs 0.2500, validation loss 0.7500, validation bias 1.0000\n"), "{line}");
    }
}
