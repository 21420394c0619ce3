//! A program of the user's own in place of a model.

use std::collections::BTreeMap;
use std::path::Path;

use super::labels::LONGEST_NAME;
use super::section::Fields;
use crate::job::Violations;
use crate::proto::v1;

/// Bytes of a command, and of an environment. The kernel takes 2 MB for both by default.
const MOST_BYTES: usize = 128 << 10;

/// Variables that torchd sets.
const OURS: [&str; 1] = ["CUDA_VISIBLE_DEVICES"];
/// The prefix of others.
const OUR_PREFIX: &str = "TORCHD_";
/// The number of a job among those that were asked for together, which clients set.
const ARRAY_INDEX: &str = "TORCHD_ARRAY_INDEX";

/// A program that a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments; at least one.
    pub command: Vec<String>,
    /// The folder that it is started in, as the client named it; None for its own.
    pub working_dir: Option<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// The scalars of event files that it writes are those of the job.
    pub reads_events: bool,
}

impl Program {
    /// Reads the section. The other sections of the message concern models, and are refused.
    pub(super) fn read(message: &v1::Program, spec: &v1::JobSpec, wrong: &mut Violations) -> Option<Self> {
        let before = wrong.0.len();
        refuse_sections(spec, wrong);
        let v1::Program { command, working_dir, env, report } = message;
        let mut fields = Fields::new("program", wrong);
        match command.first() {
            None => fields.wrong("command", "is missing; name the program and its arguments"),
            Some(program) if program.is_empty() => fields.wrong("command[0]", "is empty; name a program"),
            Some(_) => {}
        }
        let bytes: usize = command.iter().map(|argument| argument.len() + 1).sum();
        if bytes > MOST_BYTES {
            fields.wrong("command", format!("has {bytes} bytes; at most {MOST_BYTES} are right"));
        }
        for (place, _) in command.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
            fields.wrong(&format!("command[{place}]"), "holds a zero byte, which no argument can");
        }
        if working_dir.contains('\0') {
            fields.wrong("working_dir", "holds a zero byte, which no path can");
        }
        for (name, value) in env {
            let at = format!("env.{name:?}");
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(is_word) || name.starts_with(|first: char| first.is_ascii_digit()) {
                fields.wrong(&at, "is no name of a variable; letters, digits and _ are right, and no digit first");
            } else if (name.starts_with(OUR_PREFIX) && name != ARRAY_INDEX) || OURS.contains(&name.as_str()) {
                fields.wrong(&at, "is a variable that torchd sets; leave it out");
            } else if value.contains('\0') {
                fields.wrong(&at, "holds a zero byte, which no variable can");
            }
        }
        let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if bytes > MOST_BYTES {
            fields.wrong("env", format!("has {bytes} bytes; at most {MOST_BYTES} are right"));
        }
        (wrong.0.len() == before).then(|| Self {
            command: command.clone(),
            working_dir: Some(working_dir.clone()).filter(|folder| !folder.is_empty()),
            env: env.clone(),
            reads_events: report.and_then(|report| report.tensorboard).unwrap_or(true),
        })
    }

    /// Writes the section that it was read from.
    pub(super) fn write(&self, message: &mut v1::JobSpec) {
        message.program = Some(v1::Program {
            command: self.command.clone(),
            working_dir: self.working_dir.clone().unwrap_or_default(),
            env: self.env.clone(),
            report: Some(v1::ProgramReport { tensorboard: Some(self.reads_events) }),
        });
    }

    /// The name of its script, or its own.
    pub(super) fn name(&self) -> String {
        let of = |path: &String| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let script = self.command.iter().skip(1).find(|argument| argument.ends_with(".py"));
        let name = script.or(self.command.first()).and_then(of).unwrap_or_else(|| "program".into());
        name.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect()
    }
}

/// Refuses the sections that concern a model.
fn refuse_sections(spec: &v1::JobSpec, wrong: &mut Violations) {
    let v1::JobSpec { seed, model, data, training, optimizer, checkpoint, logging, warm_start, .. } = spec;
    let v1::JobSpec { loss, schedule, metrics, mode, lr_range, output, .. } = spec;
    let predictions = output.as_ref().is_some_and(|output| output.predictions != 0);
    for (field, is_set) in [
        ("seed", *seed != 0),
        ("model", model.is_some()),
        ("data", data.is_some()),
        ("training", training.is_some()),
        ("optimizer", optimizer.is_some()),
        ("checkpoint", checkpoint.is_some()),
        ("logging", logging.is_some()),
        ("warm_start", warm_start.is_some()),
        ("loss", loss.is_some()),
        ("schedule", schedule.is_some()),
        ("metrics", !metrics.is_empty()),
        ("mode", *mode != 0),
        ("lr_range", lr_range.is_some()),
        ("output.predictions", predictions),
    ] {
        if is_set {
            wrong.add(field, "is set, and the job runs a program in place of a model; leave one of them out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn program(command: &[&str]) -> v1::JobSpec {
        let command = command.iter().map(|argument| (*argument).to_owned()).collect();
        v1::JobSpec { program: Some(v1::Program { command, ..v1::Program::default() }), ..v1::JobSpec::default() }
    }

    #[test]
    fn a_program_is_named_by_its_script_and_read_back_the_same() {
        for (command, name) in [
            (&["python3", "-u", "scripts/train.py", "--lr", "0.1"][..], "train.py"),
            (&["/opt/bin/torchrun", "--nproc-per-node", "2"], "torchrun"),
            (&["a\nb"], "ab"),
        ] {
            let spec = read(&program(command)).spec.unwrap();
            assert_eq!(spec.display_name, name);
            assert_eq!(read(&spec.to_proto()).spec.unwrap(), spec);
        }
    }

    #[test]
    fn mistakes_of_a_program_are_told_by_their_fields() {
        let told = |message: &v1::JobSpec| -> Vec<String> {
            let mistakes = read(message).mistakes.0.into_iter();
            mistakes.map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
        };
        for (command, words) in [
            (&[][..], "program.command: is missing"),
            (&[""], "program.command[0]: is empty"),
            (&["a", "b\0"], "program.command[1]: holds a zero byte"),
            (&[&*"x".repeat(MOST_BYTES)], "program.command: has 131073 bytes; at most 131072"),
        ] {
            assert!(told(&program(command))[0].starts_with(words), "{:?}", told(&program(command)));
        }
        let mut spec = program(&["python"]);
        for name in ["1A", "A-B", "", "TORCHD_JOB", "CUDA_VISIBLE_DEVICES", "FINE"] {
            spec.program.as_mut().unwrap().env.insert(name.into(), "x".into());
        }
        assert_eq!(told(&spec).len(), 5, "{:?}", told(&spec));
        let model = v1::JobSpec { model: Some(v1::Model::default()), seed: 1, ..program(&["python"]) };
        let fields: Vec<_> = read(&model).mistakes.0.into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["seed", "model"]);
    }
}
