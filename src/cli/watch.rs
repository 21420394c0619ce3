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
pub(super) const EXIT_INTERRUPTED: u8 = 130;

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
                tell_goes_on(name);
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

/// Tells that a job goes on although nobody follows it.
pub(super) fn tell_goes_on(name: &str) {
    tell(&format!("{name} goes on: `torchctl watch {name}` follows it, `torchctl cancel {name}` ends it"));
}

/// Tells that a job is paused, why, and the way on.
pub(super) fn paused(job: &v1::Job) -> String {
    let why = job.last_attempt_end.as_ref().map(|end| shown_in_line(&end.message)).unwrap_or_default();
    let why = why.trim_start_matches("paused; ").trim_end_matches('.');
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("paused{why}; `torchctl resume {}` puts it back into the queue", job.name)
}

fn ending(job: &v1::Job) -> String {
    let end = job.end.clone().unwrap_or_default();
    let mut text = format!("{} {}: {}\n", job.name, table::state(job.state()), shown_in_line(&end.message));
    let latest = job.progress.as_ref().map(|progress| &progress.latest_scalars);
    for (label, value) in latest.map(|latest| labelled(latest, &["/validation", "/test"])).unwrap_or_default() {
        match label.as_str() {
            "validation accuracy" | "test accuracy" => text += &format!("{label} {:.2} %\n", value * 100.0),
            _ => text += &format!("{label} {value:.4}\n"),
        }
    }
    if job.state() == v1::JobState::Failed {
        end.log_tail.iter().for_each(|line| text += &format!("  {}\n", shown_in_line(line)));
    }
    text
}

/// The means with these endings of their tags, each with its label: the loss first, then the
/// metrics, also those that a model gives.
fn labelled<'a>(
    latest: impl IntoIterator<Item = (&'a String, &'a f64)> + Clone,
    endings: &[&str],
) -> Vec<(String, f64)> {
    let label = |name: &str, ending: &str| match ending {
        "/validation" => format!("validation {}", shown_in_line(name)),
        "/test" => format!("test {}", shown_in_line(name)),
        _ => shown_in_line(name),
    };
    let of = |ending: &&str| {
        let ending = *ending;
        let named =
            latest.clone().into_iter().filter_map(move |(tag, value)| Some((tag.strip_suffix(ending)?, *value)));
        let mut named: Vec<_> = named.collect();
        named.sort_by_key(|(name, _)| (*name != "loss", *name));
        named.into_iter().map(|(name, value)| (label(name, ending), value)).collect::<Vec<_>>()
    };
    endings.iter().flat_map(of).collect()
}

/// The parts that the bar of a program has.
const PARTS: u64 = 100;

/// The line of scalars of a program.
fn program_line(scalars: &v1::ScalarValues) -> String {
    let words = scalars.values.iter().map(|value| format!("{} {:.4}", shown_in_line(&value.tag), value.value));
    format!("step {}: {}\n", scalars.step, words.collect::<Vec<_>>().join(", "))
}

/// The progress that people see while they wait.
struct Screen {
    bar: ProgressBar,
    is_live: bool,
    is_silent: bool,
    latest: BTreeMap<String, f64>,
    steps_per_epoch: u64,
    has_validation: bool,
    /// Otherwise it applies a trained model, and has no epochs to tell.
    trains: bool,
    /// It is a program, whose scalars have names of its own, and tell no epochs.
    is_program: bool,
    /// The step of the newest scalars, where they are to be told once their epoch is over.
    untold: Option<u64>,
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
            has_validation: false,
            trains: true,
            is_program: false,
            untold: None,
            waiting: String::new(),
            was_paused: false,
        }
    }

    fn snapshot(&mut self, job: &v1::Job) {
        let data = job.spec.as_ref().and_then(|spec| spec.data.as_ref());
        self.has_validation = data.is_some_and(|data| data.validation.is_some() || data.split.is_some());
        self.trains = data.is_none_or(|data| data.test.is_none());
        self.is_program = job.spec.as_ref().is_some_and(|spec| spec.program.is_some());
        if job.waiting_reason != self.waiting {
            self.waiting.clone_from(&job.waiting_reason);
            if !self.is_silent && !self.waiting.is_empty() {
                self.bar.suspend(|| tell(&format!("{}: {}", table::state(job.state()), shown_in_line(&self.waiting))));
            }
        }
        let is_paused = job.state() == v1::JobState::Paused;
        if is_paused && !self.was_paused && !self.is_silent {
            self.bar.suspend(|| tell(&paused(job)));
        }
        self.was_paused = is_paused;
        let Some(progress) = &job.progress else { return };
        if self.is_program {
            return self.program(progress);
        }
        self.bar.set_length(progress.total_steps);
        self.bar.set_position(progress.step);
        self.bar.set_prefix(match self.trains {
            true => format!("epoch {}/{}", progress.epoch, progress.total_epochs),
            false => "batch".to_owned(),
        });
        let mut words = Vec::new();
        for (label, value) in labelled(&progress.latest_scalars, &["/train"]) {
            words.push(format!("{label} {value:.4}"));
        }
        if let Some(speed) = progress.examples_per_second {
            words.push(format!("{speed:.0} examples/s"));
        }
        if let Some(left) = progress.remaining.and_then(|left| left.try_into().ok()) {
            words.push(format!("{} left", table::duration(left)));
        }
        self.bar.set_message(words.join("  "));
    }

    /// The progress of a program, as far as it tells of it.
    fn program(&mut self, progress: &v1::JobProgress) {
        self.bar.set_length(PARTS);
        self.bar.set_position((progress.progress_ratio * PARTS as f64) as u64);
        self.bar.set_prefix(if progress.step > 0 { format!("step {}", progress.step) } else { String::new() });
        let values = progress.latest_scalars.iter();
        let words: Vec<_> = values.map(|(tag, value)| format!("{} {value:.4}", shown_in_line(tag))).collect();
        self.bar.set_message(words.join("  "));
    }

    fn record(&mut self, record: &v1::JobRecord) -> Result<(), Failure> {
        match &record.what {
            Some(What::Started(started)) => self.steps_per_epoch = started.steps_per_epoch.max(1),
            Some(What::Scalars(scalars)) if self.is_program => {
                if !self.is_live && !self.is_silent {
                    return write(&program_line(scalars));
                }
            }
            Some(What::Scalars(scalars)) => {
                if self.untold.is_some_and(|untold| self.epoch(untold) < self.epoch(scalars.step)) {
                    self.tell_epoch()?;
                }
                for value in &scalars.values {
                    self.latest.insert(value.tag.clone(), value.value);
                }
                let is_validation = scalars.values.iter().any(|value| value.tag.ends_with("/validation"));
                self.untold = Some(scalars.step).filter(|_| is_validation || !self.has_validation);
                if is_validation {
                    return self.tell_epoch();
                }
            }
            Some(What::Resumed(resumed)) => {
                self.latest.clear();
                self.untold = None;
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
            Some(What::Ended(_)) => return self.tell_epoch(),
            Some(What::Progress(_) | What::Checkpoint(_)) | None => {}
        }
        Ok(())
    }

    /// The epoch of a step, counted from 1.
    fn epoch(&self, step: u64) -> u64 {
        step.div_ceil(self.steps_per_epoch.max(1))
    }

    /// The line of the epoch whose scalars have come, where there is no bar.
    fn tell_epoch(&mut self) -> Result<(), Failure> {
        let Some(step) = self.untold.take().filter(|_| self.trains && !self.is_live && !self.is_silent) else {
            return Ok(());
        };
        write(&self.epoch_line(step))
    }

    fn epoch_line(&self, step: u64) -> String {
        let words = labelled(&self.latest, &["/train", "/validation"]);
        let words: Vec<_> = words.into_iter().map(|(label, value)| format!("{label} {value:.4}")).collect();
        format!("epoch {}, step {step}: {}\n", self.epoch(step), words.join(", "))
    }

    fn finish(&self) {
        if self.is_live && self.bar.length().is_some() {
            self.bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Format;

    #[test]
    fn the_loss_comes_first_and_metrics_of_the_model_are_told() {
        let latest = ["accuracy/train", "loss/train", "learning_rate", "loss/validation", "bias/validation"];
        let latest: BTreeMap<_, _> =
            latest.iter().zip([0.5, 1.5, 0.1, 2.5, 3.5]).map(|(tag, v)| (tag.to_string(), v)).collect();
        let mut screen = Screen::new(Output::new(Format::Table));
        (screen.latest, screen.steps_per_epoch) = (latest, 7);
        let line = "epoch 2, step 14: loss 1.5000, accuracy 0.5000, validation loss 2.5000, validation bias 3.5000\n";
        assert_eq!(screen.epoch_line(14), line);
    }

    #[test]
    fn without_validation_the_last_scalars_of_an_epoch_are_told() {
        let scalars = |step| {
            let values = vec![v1::ScalarValue { tag: "loss/train".into(), value: step as f64 }];
            v1::JobRecord { what: Some(What::Scalars(v1::ScalarValues { step, values })), ..Default::default() }
        };
        let mut screen = Screen { steps_per_epoch: 7, is_live: true, ..Screen::new(Output::new(Format::Table)) };
        let mut untold = |record: &v1::JobRecord| {
            screen.record(record).unwrap();
            screen.untold
        };
        assert_eq!([1, 5, 8].map(|step| untold(&scalars(step))), [Some(1), Some(5), Some(8)]);
        assert_eq!(untold(&v1::JobRecord { what: Some(What::Ended(Default::default())), ..Default::default() }), None);
    }
}
