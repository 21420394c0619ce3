//! The environment as text. A variable that is not UTF-8 is a mistake if torchd reads it, and is
//! ignored otherwise.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::Settings;
use super::keys::Mistake;
use super::read::{Flags, Invalid, load};

/// The variables of the environment, by name. Tests give their own.
pub type Environment = BTreeMap<String, String>;

/// Variables that are read as text, by their full names.
const READ: [&str; 5] =
    ["HOME", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "CUDA_VISIBLE_DEVICES"];
/// Prefixes of the names of others.
const PREFIXES: [&str; 5] = ["TORCHD__", "DATABRICKS_", "DB_", "SPARK_", "PYSPARK_"];

/// Reads, merges and judges all sources, and returns the environment with the settings. `cpus` is
/// the number of cores of this machine.
///
/// # Errors
/// All mistakes at once.
pub fn gather(
    flags: &Flags,
    variables: impl Iterator<Item = (OsString, OsString)>,
    cpus: u32,
) -> Result<(Settings, Environment), Invalid> {
    let (environment, mut mistakes) = read(variables);
    match load(flags, &environment, cpus) {
        Ok(settings) if mistakes.is_empty() => Ok((settings, environment)),
        Ok(_) => Err(Invalid(mistakes)),
        Err(Invalid(others)) => {
            mistakes.extend(others);
            Err(Invalid(mistakes))
        }
    }
}

/// The first folder that a variable of systemd names, which may name several; an empty one is none.
pub fn first_folder<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name)?.split(':').find(|folder| !folder.is_empty())
}

fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> (Environment, Vec<Mistake>) {
    let (mut environment, mut mistakes) = (Environment::new(), Vec::new());
    for (name, value) in variables {
        let shown = name.to_string_lossy().into_owned();
        let is_ours = READ.contains(&shown.as_str()) || PREFIXES.iter().any(|prefix| shown.starts_with(prefix));
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(environment.insert(name, value)),
            (name, Err(value)) if is_ours => mistakes.push(Mistake {
                key: name.unwrap_or(shown),
                origin: "the environment".into(),
                what: format!("is {value:?}, which is not UTF-8; text is needed"),
            }),
            (Err(name), Ok(_)) if is_ours => mistakes.push(Mistake {
                key: format!("{name:?}"),
                origin: "the environment".into(),
                what: "no such setting: its name is not UTF-8".into(),
            }),
            _ => {}
        }
    }
    (environment, mistakes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn the_first_folder_that_a_variable_names_is_no_empty_one() {
        for (folders, first) in [("/a:/b", Some("/a")), (":/b", Some("/b")), (":", None), ("", None)] {
            let environment = Environment::from([("NAME".to_owned(), folders.to_owned())]);
            assert_eq!(first_folder(&environment, "NAME"), first, "{folders:?}");
        }
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_a_mistake_if_torchd_reads_it_and_hides_no_other() {
        let odd = |text: &str| OsString::from_vec([text.as_bytes(), &[0xff]].concat());
        let variables = [
            ("HOME".into(), "/home/a".into()),
            ("LS_COLORS".into(), odd("a")),
            (odd("OTHER"), "1".into()),
            ("TORCHD__JOBS__MAX_QUEUED".into(), odd("7")),
            (odd("TORCHD__JOBS"), "1".into()),
            ("STATE_DIRECTORY".into(), odd("/var/lib")),
            ("TORCHD__JOBS__CPU_SLOTS".into(), "none".into()),
        ];
        let flags =
            Flags { config: Some("/dev/null".into()), state_dir: Some(odd("/state").into()), ..Flags::default() };
        let Invalid(mistakes) = gather(&flags, variables.into_iter(), 1).unwrap_err();
        let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        let expected =
            ["TORCHD__JOBS__MAX_QUEUED", r#""TORCHD__JOBS\xFF""#, "STATE_DIRECTORY", "state_dir", "jobs.cpu_slots"];
        assert_eq!(keys, expected, "{mistakes:#?}");
        assert!(mistakes[0].what.contains(r#"is "7\xFF", which is not UTF-8"#), "{mistakes:#?}");
    }
}
