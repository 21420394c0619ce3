//! The libraries on disk: whether libtorch can be loaded, and whether it is the right one.

use super::Case;
use super::builds::to_build;
use crate::compat::catalogue::Library;
use crate::compat::install::repair_command;
use crate::compat::{Catalogue, Reason, Version, finding};
use crate::proto::v1::{Finding, Remedy};

/// The build whose libraries are loaded, such as `2.11.0+cu130`, and the remedy that installs all
/// of it; None where it is not known.
type Installed = Option<(String, Remedy)>;

pub(super) fn judge(case: &mut Case<'_>) {
    let torch = &case.facts.torch;
    let installed = installed(case);
    if !torch.load_error.is_empty() {
        let found = explain(case.catalogue, &torch.load_error, Reason::LibtorchNotLoadable, installed.clone());
        case.add(found);
    } else if torch.version.is_none() {
        let found = finding(Reason::TorchUnknown, "The version of PyTorch is not known").found("no torch.version");
        let ask = "python3 -c 'import torch; print(torch.__version__)'".to_owned();
        case.add(found.needed("a version such as 2.11.0+cu126").remedy("Ask PyTorch itself.", &[ask]));
    }
    if !torch.cuda_load_error.is_empty() {
        let found = explain(case.catalogue, &torch.cuda_load_error, Reason::LibtorchCudaNotLoadable, installed);
        case.add(found);
    }
    if let (Some(version), Some(built_for)) = (&torch.version, &torch.built_for)
        && version != built_for
    {
        let found = finding(
            Reason::LibtorchVersionMismatch,
            "The runner finds another libtorch than the one it was built for",
        )
        .found(format!("libtorch {version}"))
        .needed(format!("libtorch {built_for}"))
        .remedy(
            format!(
                "Install libtorch {built_for}, or let runner.libtorch_dir in the settings name the folder that has it."
            ),
            &[],
        )
        .sources(case.catalogue, &["tch-readme"]);
        case.add(found);
    }
    system(case);
}

/// The C and the C++ library.
fn system(case: &mut Case<'_>) {
    let Some(release) = case.release else { return };
    let torch = case.torch();
    let checks = [
        (&case.facts.glibc, &release.glibc, Reason::GlibcTooOld, "C library (glibc)", "GLIBC_"),
        (&case.facts.glibcxx, &release.glibcxx, Reason::LibstdcxxTooOld, "C++ library (libstdc++)", "GLIBCXX_"),
    ];
    let mut found = Vec::new();
    for (has, needs, reason, library, prefix) in checks {
        if let (Some(has), Some(needs)) = (has, needs)
            && has < needs
        {
            found.push(
                finding(reason, format!("The system's {library} is too old for {torch}"))
                    .found(format!("{prefix}{has}"))
                    .needed(format!("{prefix}{needs}"))
                    .remedy(
                        "Move to a newer release of the operating system: these libraries cannot be exchanged alone.",
                        &[],
                    )
                    .sources(case.catalogue, &release.sources),
            );
        }
    }
    found.into_iter().for_each(|found| case.add(found));
}

/// The message of the dynamic loader, as a finding: None where it did not say that a library cannot
/// be loaded.
pub fn explain_loader(catalogue: &Catalogue, text: &str) -> Option<Finding> {
    let says = [
        NONE_FOUND,
        "cannot open shared object file",
        NO_ROOM,
        "' not found (required by",
        "undefined symbol",
        "file too short",
        "invalid ELF header",
    ];
    let line = text.lines().find(|line| says.iter().any(|words| line.contains(words)))?;
    Some(explain(catalogue, line, Reason::LibtorchNotLoadable, None))
}

/// The words of the loader where mmap(2) fails: for want of memory, because of a limit of the
/// address space, or because the file system is mounted with noexec.
const NO_ROOM: &str = "failed to map segment from shared object";

/// Our own words where no place has a libtorch that a runner can use: the loader is not asked then.
const NONE_FOUND: &str = "no libtorch ";

fn explain(catalogue: &Catalogue, text: &str, reason: Reason, installed: Installed) -> Finding {
    let what = if reason == Reason::LibtorchCudaNotLoadable { "The CUDA half of libtorch" } else { "libtorch" };
    if text.contains(NONE_FOUND) {
        return finding(reason, "libtorch cannot be loaded: no place has one that the runner can use")
            .found(text.trim())
            .needed("the libtorch that the runner is built for")
            .remedy("Each place that was looked at says how to put it right.", &[]);
    }
    if text.contains(NO_ROOM) || text.contains("Cannot allocate memory") {
        return finding(reason, format!("{what} cannot be loaded: the process may not map so much memory"))
            .found(text.trim())
            .needed("several gigabytes of address space")
            .remedy("Raise the limit of the address space: `LimitAS=infinity` in the unit of torchd, or `ulimit -v unlimited` in the shell that starts it.", &[])
            .remedy("Where there is no such limit, the file lies on a file system that is mounted with noexec: move it.", &[]);
    }
    if let Some(name) = missing_library(text) {
        let found = finding(reason, format!("{what} cannot be loaded: {name} is missing"))
            .found(text.trim())
            .needed(name.clone());
        let row = catalogue.libraries.iter().find(|row| row.file == name);
        return match row {
            Some(row) => from_package(found, row, installed).sources(catalogue, &row.sources),
            None => found.remedy(
                format!("Install what brings {name} where the loader looks, or beside libtorch_cpu.so; `ldconfig -p` lists what it knows."),
                &[],
            ),
        };
    }
    if let Some((symbol, library)) = missing_version(text) {
        let reason = if symbol.starts_with("GLIBCXX_") { Reason::LibstdcxxTooOld } else { Reason::GlibcTooOld };
        return finding(reason, format!("{what} cannot be loaded: {library} is older than it needs"))
            .found(text.trim())
            .needed(symbol)
            .remedy(
                "Move to a newer release of the operating system: these libraries cannot be exchanged alone.",
                &[],
            );
    }
    finding(reason, format!("{what} cannot be loaded"))
        .found(text.trim())
        .needed("libraries of one build")
        .remedy("Its libraries may be of several builds, or damaged: install PyTorch anew into an empty folder.", &[])
}

fn installed(case: &Case<'_>) -> Installed {
    let (release, build) = case.release.zip(case.build)?;
    let name = format!("{}+{}", release.version, build.variant);
    if case.facts.torch.built_for.is_some() {
        return Some((name, to_build(case, release, build).remedy));
    }
    let text = format!(
        "Install PyTorch {} built for {} once more, with the packages that it asks for.",
        release.version, build.variant
    );
    Some((name, Remedy { text, commands: vec![repair_command(release, build)] }))
}

/// Tells what brings a library. Its commands are for one build: another one gets all that it needs
/// by its own.
fn from_package(found: Finding, row: &Library, installed: Installed) -> Finding {
    match (&row.build, installed) {
        (Some(of), Some((name, remedy))) if *of != name => found.remedy(remedy.text, &remedy.commands),
        (Some(_), None) => {
            found.remedy(format!("{} Another build asks for others: take those.", row.from), &row.commands)
        }
        _ => found.remedy(row.from.clone(), &row.commands),
    }
}

/// `libX.so.1: cannot open shared object file: ...`
fn missing_library(text: &str) -> Option<String> {
    let before = text.split(": cannot open shared object file").next().filter(|before| before.len() < text.len())?;
    let path = before.rsplit(": ").next()?.trim();
    Some(path.rsplit('/').next().unwrap_or(path).to_owned())
}

/// ``/lib/libc.so.6: version `GLIBC_2.34' not found (required by ...)``
fn missing_version(text: &str) -> Option<(String, String)> {
    let (library, rest) = text.split_once(": version `")?;
    let symbol = rest.split('\'').next()?;
    let number = symbol.rsplit('_').next()?;
    number.parse::<Version>().ok()?;
    Some((symbol.to_owned(), library.rsplit([' ', '/']).next().unwrap_or(library).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::embedded;

    #[test]
    fn words_of_the_loader_are_understood() {
        let catalogue = embedded();
        let cases = [
            (
                "torchd-runner: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file or directory",
                "LIBTORCH_NOT_LOADABLE",
                "libtorch_cpu.so is missing",
            ),
            (
                "/opt/torchd-runner: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /opt/libtorch_cpu.so)",
                "GLIBC_TOO_OLD",
                "libc.so.6 is older",
            ),
            (
                "/x: /usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /x)",
                "LIBSTDCXX_TOO_OLD",
                "libstdc++.so.6 is older",
            ),
            ("/x: symbol lookup error: /x: undefined symbol: _ZN2at4_ops", "LIBTORCH_NOT_LOADABLE", "cannot be loaded"),
            (
                "/x: error while loading shared libraries: libtorch_cpu.so: failed to map segment from shared object",
                "LIBTORCH_NOT_LOADABLE",
                "may not map so much memory",
            ),
            (
                "/x: error while loading shared libraries: libc10.so: cannot open shared object file: Cannot allocate memory",
                "LIBTORCH_NOT_LOADABLE",
                "may not map so much memory",
            ),
        ];
        for (text, code, words) in cases {
            let found = explain_loader(catalogue, &format!("some line\n{text}\n")).unwrap();
            assert_eq!(found.reason, code, "{found:#?}");
            assert!(found.summary.contains(words) && !found.remedies.is_empty(), "{found:#?}");
        }
        assert!(explain_loader(catalogue, "Killed\nnot found").is_none());
    }
}
