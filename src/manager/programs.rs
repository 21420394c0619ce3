//! Whether a job may run its program here, and where that lies.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Manager, ManagerSettings};
use crate::job::Violations;
use crate::job::order::{Launch, ProgramLimits};
use crate::job::spec::Program;
use crate::shortage::Unjudged;

/// Where a program is looked for that nobody says the PATH for.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The programs that jobs may run.
#[derive(Debug, Clone, Default)]
pub struct ProgramRules {
    /// Jobs may run programs at all.
    pub enabled: bool,
    /// Programs, and folders of programs, that they may run.
    pub allowed: Vec<PathBuf>,
    /// PATH of the daemon.
    pub search_path: Option<OsString>,
    /// Limits of each of their processes.
    pub limits: ProgramLimits,
}

/// Finds the program of a job, or adds why it cannot run here. Reads names of files, and no file.
pub(super) fn judge(program: &Program, settings: &ManagerSettings, wrong: &mut Violations) -> Option<Launch> {
    let rules = &settings.programs;
    if !rules.enabled {
        let what = "is set, and this torchd runs no programs of clients; programs.enabled in its settings lets it";
        wrong.add("program", what);
        return None;
    }
    let working_dir = match &program.working_dir {
        None => None,
        Some(folder) => match settings.data_roots.open_data_folder(folder) {
            Ok(folder) => Some(folder.path().to_owned()),
            Err(problem) => {
                wrong.add_found("program.working_dir", problem.to_string(), problem.unjudged());
                return None;
            }
        },
    };
    match rules.find(program, working_dir.as_deref()) {
        Ok(executable) => {
            let reads =
                settings.data_roots.paths().chain(prefixes(&executable)).chain(rules.readable(program)).collect();
            Some(Launch { executable, working_dir, reads })
        }
        Err((what, unjudged)) => {
            wrong.add_found("program.command[0]", what, unjudged);
            None
        }
    }
}

impl Manager {
    /// Whether jobs may run programs of the user's own, which need no libtorch.
    pub fn runs_programs(&self) -> bool {
        self.settings.programs.enabled
    }
}

impl ProgramRules {
    /// The programs and folders that jobs may run, which a program may start in its turn, as a
    /// shell does, and the installation of the Python of its virtual environment.
    fn readable(&self, program: &Program) -> Vec<PathBuf> {
        let venv = program.env.get("VIRTUAL_ENV");
        let bin = venv.and_then(|venv| Path::new(venv).join("bin").canonicalize().ok());
        let bin = bin.filter(|bin| self.allowed.iter().any(|allowed| bin.starts_with(allowed)));
        let home = bin.map(|bin| prefixes(&bin.join("python"))).unwrap_or_default();
        self.allowed.iter().cloned().chain(home).collect()
    }

    /// The program of a command, as an absolute path.
    fn find(&self, program: &Program, working_dir: Option<&Path>) -> Result<PathBuf, (String, Option<Unjudged>)> {
        let told = |what: String| (what, None);
        let name = program.command.first().map(String::as_str).unwrap_or_default();
        let path = if !name.contains('/') {
            let search = program.env.get("PATH").map(OsString::from).or_else(|| self.search_path.clone());
            let search = search.unwrap_or_else(|| DEFAULT_PATH.into());
            let mut places = std::env::split_paths(&search).filter(|folder| folder.is_absolute());
            let found = places.find_map(|folder| Some(folder.join(name)).filter(|path| is_executable(path)));
            found
                .ok_or_else(|| told(format!("is {name:?}, which is in no folder of the PATH, {}", search.display())))?
        } else if name.starts_with('/') {
            name.into()
        } else {
            let folder = working_dir.ok_or_else(|| {
                told(format!("is {name:?}, a path from program.working_dir, which is not set; name an absolute path"))
            })?;
            folder.join(name)
        };
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => told(format!("is {name:?}, which is not there")),
            _ => (format!("is {name:?}, which cannot be looked at: {error}"), Unjudged::of(&error)),
        };
        // The last part of a path may be a link, by which a virtual environment is found.
        let parent = path.parent().unwrap_or(Path::new("/")).canonicalize().map_err(unreadable)?;
        let path = parent.join(path.file_name().unwrap_or_default());
        let real = path.canonicalize().map_err(unreadable)?;
        if !is_executable(&path) {
            let path = path.display();
            return Err(told(match real.is_file() {
                true => format!(
                    "is {name:?}, and {path} is not executable; `chmod +x` makes it so, or name its interpreter \
                     first, as in `python3 {name}`"
                ),
                false => format!("is {name:?}, and {path} is no file; name a program"),
            }));
        }
        let is_allowed = |allowed: &PathBuf| path.starts_with(allowed) || real.starts_with(allowed);
        if !self.allowed.iter().any(is_allowed) {
            let what = format!("is {name:?}, and {} is not among the programs that this torchd runs", path.display());
            return Err(told(format!("{what}; programs.allowed in its settings lists them")));
        }
        Ok(path)
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// The folders that a program was installed into, with its libraries: those above its `bin`, by its
/// own path and by that which links lead to, as from a virtual environment to its Python. None of
/// the system.
fn prefixes(executable: &Path) -> Vec<PathBuf> {
    let ways = [Some(executable.to_owned()), executable.canonicalize().ok()].into_iter().flatten();
    let mut prefixes: Vec<_> = ways
        .filter_map(|path| {
            let bin = path.parent()?;
            let is_bin = bin.file_name().is_some_and(|name| name == "bin");
            Some(if is_bin { bin.parent()? } else { bin }.to_owned())
        })
        .filter(|prefix| !["/", "/usr", "/usr/local"].iter().any(|system| prefix == Path::new(system)))
        .collect();
    prefixes.dedup();
    prefixes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn program(command: &str, path: Option<&str>) -> Program {
        Program {
            command: vec![command.into()],
            working_dir: None,
            env: path.map(|path| ("PATH".to_owned(), path.to_owned())).into_iter().collect(),
            reads_events: true,
        }
    }

    #[test]
    fn a_program_is_found_by_path_and_name_and_only_if_it_is_allowed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let put = |path: &str, mode| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("env/bin/train", 0o755);
        put("env/bin/notes", 0o644);
        put("other/train", 0o755);
        symlink("../../other/train", root.join("env/bin/link")).unwrap();
        symlink("env/bin", root.join("way")).unwrap();
        let rules = ProgramRules { enabled: true, allowed: vec![root.join("env")], ..ProgramRules::default() };
        let at = |path: &str| root.join(path).display().to_string();
        let find = |command: &str, path: Option<&str>, dir: Option<&Path>| {
            rules.find(&program(command, path), dir).map_err(|(what, _)| what)
        };
        let train = root.join("env/bin/train");
        assert_eq!(find(&at("env/bin/train"), None, None), Ok(train.clone()));
        assert_eq!(find(&at("way/train"), None, None), Ok(train.clone()));
        assert_eq!(find("train", Some(&at("env/bin")), None), Ok(train.clone()));
        assert_eq!(find("bin/train", None, Some(&root.join("env"))), Ok(train));
        // A link of a folder that is allowed may lead out of it, as those of environments do.
        assert_eq!(find(&at("env/bin/link"), None, None), Ok(root.join("env/bin/link")));
        for (command, path, words) in [
            (at("other/train"), None, "is not among the programs"),
            (at("env/../other/train"), None, "is not among the programs"),
            (at("env/bin/notes"), None, "is not executable; `chmod +x` makes it so"),
            (at("env/bin/gone"), None, "is not there"),
            (at("env/bin"), None, "is no file; name a program"),
            ("train".into(), Some(at("nowhere")), "is in no folder of the PATH"),
            ("bin/train".into(), None, "a path from program.working_dir, which is not set"),
        ] {
            let told = find(&command, path.as_deref(), None).unwrap_err();
            assert!(told.contains(words), "{command}: {told}");
        }
        assert_eq!(prefixes(&root.join("env/bin/train")), [root.join("env")]);
        assert_eq!(prefixes(&root.join("env/bin/link")), [root.join("env"), root.join("other")]);
        assert_eq!(prefixes(Path::new("/usr/bin/env")), [] as [PathBuf; 0]);
    }
}
