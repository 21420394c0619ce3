//! The catalogue: what is known of runtimes, PyTorch builds, CUDA toolkits, GPUs and node types,
//! each row with its source.
//!
//! The rows lie in TOML files, which are compiled in. An operator may lay files of the same names
//! beside the daemon: a row with the key of one of ours takes its place, others are added. A
//! catalogue is taken whole or not at all.

mod judge;
mod rows;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;

pub(super) use rows::{
    Build, Conflict, CudaErrorCode, Generation, Gpu, InstallForm, Library, NodeType, Release, RuntimeRow, SourceRow,
    Toolkit,
};

/// Everything that is known, each list in order of its key.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Databricks runtimes, oldest first.
    pub runtimes: Vec<RuntimeRow>,
    /// PyTorch releases, oldest first.
    pub releases: Vec<Release>,
    /// CUDA toolkits, oldest first.
    pub toolkits: Vec<Toolkit>,
    /// GPUs by name.
    pub gpus: Vec<Gpu>,
    /// Generations of GPUs that drivers or toolkits have left behind, oldest first.
    pub generations: Vec<Generation>,
    /// Types of virtual machines that need care.
    pub nodes: Vec<NodeType>,
    /// Errors of the CUDA runtime.
    pub cuda_errors: Vec<CudaErrorCode>,
    /// Libraries that PyTorch loads, and what brings them.
    pub libraries: Vec<Library>,
    /// Where all that was read, by id.
    pub sources: BTreeMap<String, SourceRow>,
}

/// The text of one file.
#[derive(Debug, Clone)]
pub struct CatalogueFile {
    /// Its name, such as `runtimes.toml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One mistake in a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueMistake {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The mistake, with the field's name.
    pub what: String,
}

/// A catalogue that is not taken: all its mistakes, though a file that is no TOML is read no
/// further than the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueError(pub Vec<CatalogueMistake>);

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, CatalogueMistake { file, line, what }) in self.0.iter().enumerate() {
            write!(f, "{}{file}, line {line}: {what}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for CatalogueError {}

/// The files that are compiled in.
const EMBEDDED: [(&str, &str); 9] = [
    ("cuda.toml", include_str!("catalogue/cuda.toml")),
    ("cuda_errors.toml", include_str!("catalogue/cuda_errors.toml")),
    ("generations.toml", include_str!("catalogue/generations.toml")),
    ("gpus.toml", include_str!("catalogue/gpus.toml")),
    ("libraries.toml", include_str!("catalogue/libraries.toml")),
    ("nodes.toml", include_str!("catalogue/nodes.toml")),
    ("pytorch.toml", include_str!("catalogue/pytorch.toml")),
    ("runtimes.toml", include_str!("catalogue/runtimes.toml")),
    ("sources.toml", include_str!("catalogue/sources.toml")),
];

/// A row, and where it stands.
struct Placed<T> {
    file: String,
    line: usize,
    row: T,
}

/// Rows of all files while they are read.
#[derive(Default)]
struct Reading {
    runtimes: Vec<Placed<RuntimeRow>>,
    releases: Vec<Placed<Release>>,
    toolkits: Vec<Placed<Toolkit>>,
    gpus: Vec<Placed<Gpu>>,
    generations: Vec<Placed<Generation>>,
    nodes: Vec<Placed<NodeType>>,
    cuda_errors: Vec<Placed<CudaErrorCode>>,
    libraries: Vec<Placed<Library>>,
    sources: BTreeMap<String, SourceRow>,
    mistakes: Vec<CatalogueMistake>,
}

impl Catalogue {
    /// The catalogue that is compiled in, with the rows of these files put over it.
    pub fn load(overrides: &[CatalogueFile]) -> Result<Self, CatalogueError> {
        let mut reading = Reading::default();
        for (name, text) in EMBEDDED {
            reading.file(name, name, text);
        }
        for file in overrides {
            let known = EMBEDDED.iter().map(|(name, _)| *name);
            match known.clone().find(|name| *name == file.name) {
                Some(name) => reading.file(name, &file.name, &file.text),
                None => {
                    let names: Vec<_> = known.collect();
                    let what = format!("no file of that name is known; there are {}", names.join(", "));
                    reading.mistakes.push(CatalogueMistake { file: file.name.clone(), line: 1, what });
                }
            }
        }
        reading.finish()
    }

    /// The files that an override may have.
    pub fn file_names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }
}

impl Reading {
    fn file(&mut self, kind: &str, name: &str, text: &str) {
        match kind {
            "runtimes.toml" => take(name, text, "runtime", &mut self.runtimes, &mut self.mistakes),
            "pytorch.toml" => take(name, text, "release", &mut self.releases, &mut self.mistakes),
            "cuda.toml" => take(name, text, "toolkit", &mut self.toolkits, &mut self.mistakes),
            "gpus.toml" => take(name, text, "gpu", &mut self.gpus, &mut self.mistakes),
            "generations.toml" => take(name, text, "generation", &mut self.generations, &mut self.mistakes),
            "nodes.toml" => take(name, text, "node", &mut self.nodes, &mut self.mistakes),
            "cuda_errors.toml" => take(name, text, "error", &mut self.cuda_errors, &mut self.mistakes),
            "libraries.toml" => take(name, text, "library", &mut self.libraries, &mut self.mistakes),
            _ => match toml::from_str::<BTreeMap<String, SourceRow>>(text) {
                Ok(sources) => self.sources.extend(sources),
                Err(error) => self.mistakes.push(mistake_of(name, text, &error)),
            },
        }
    }
}

/// A row of a file: what it is called, and what it refers to.
trait Row: DeserializeOwned {
    type Key: Ord + fmt::Display;

    fn key(&self) -> Self::Key;
}

/// Reads the rows of a file. Two of one key in a file are a mistake; one of a file before is
/// replaced.
fn take<T: Row>(
    name: &str,
    text: &str,
    table: &'static str,
    rows: &mut Vec<Placed<T>>,
    mistakes: &mut Vec<CatalogueMistake>,
) {
    let parsed: BTreeMap<String, Vec<Spanned<T>>> = match toml::from_str(text) {
        Ok(parsed) => parsed,
        Err(error) => return mistakes.push(mistake_of(name, text, &error)),
    };
    let mut read: Vec<Placed<T>> = Vec::new();
    for (key, list) in parsed {
        if key != table {
            let line = list.first().map_or(1, |row| line_of(text, row.span().start));
            let what = format!("[[{key}]] is not known; [[{table}]] is");
            mistakes.push(CatalogueMistake { file: name.into(), line, what });
            continue;
        }
        let (mut line, mut counted) = (1, 0);
        for row in list {
            // In the order of the file: each byte is looked at once.
            line += line_of(&text[counted..], row.span().start - counted) - 1;
            counted = row.span().start;
            let row = Placed { file: name.into(), line, row: row.into_inner() };
            if let Some(before) = read.last() {
                let (last, this) = (before.row.key(), row.row.key());
                if this <= last {
                    let what = format!("{this} stands behind {last}; rows stand in order, each once");
                    mistakes.push(CatalogueMistake { file: name.into(), line, what });
                }
            }
            read.push(row);
        }
    }
    rows.retain(|old| read.iter().all(|new| new.row.key() != old.row.key()));
    rows.append(&mut read);
    rows.sort_by_key(|row| row.row.key());
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The mistake that the parser found, with the line and the words that stand there.
fn mistake_of(name: &str, text: &str, error: &toml::de::Error) -> CatalogueMistake {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let found = text.lines().nth(line - 1).unwrap_or_default().trim();
    CatalogueMistake { file: name.into(), line, what: format!("`{found}`: {}", error.message().replace('\n', ", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(name: &str, text: &str) -> Result<Catalogue, CatalogueError> {
        Catalogue::load(&[CatalogueFile { name: name.into(), text: text.into() }])
    }

    #[track_caller]
    fn refused(name: &str, text: &str) -> CatalogueMistake {
        over(name, text).unwrap_err().0.remove(0)
    }

    #[test]
    fn the_embedded_catalogue_is_right() {
        let catalogue = Catalogue::load(&[]).unwrap_or_else(|error| panic!("{error}"));
        assert!(catalogue.runtimes.len() > 30 && catalogue.releases.len() > 40 && catalogue.toolkits.len() > 20);
    }

    #[test]
    fn a_row_of_an_operator_is_added_or_takes_the_place_of_ours() {
        let before = Catalogue::load(&[]).unwrap();
        let rows = "[[runtime]]\nname = \"7.3 LTS ML\"\npytorch = \"1.7.0\"\nsources = [\"azure-pytorch-page\"]\n\n\
                    [[runtime]]\nname = \"99.1 ML\"\npytorch = \"2.11.0\"\nreleased = 2026-11-01\nsources = [\"own\"]\n";
        let sources =
            CatalogueFile { name: "sources.toml".into(), text: "[own]\ntitle = \"Ours\"\nwhere = \"x\"\n".into() };
        let rows = CatalogueFile { name: "runtimes.toml".into(), text: rows.into() };
        let after = Catalogue::load(&[rows, sources]).unwrap();
        assert_eq!(after.runtimes.len(), before.runtimes.len() + 1);
        assert_eq!(after.runtimes.last().unwrap().name.to_string(), "99.1 ML");
        let row = after.runtimes.iter().find(|row| row.name.to_string() == "7.3 LTS ML").unwrap();
        assert_eq!(row.pytorch.as_ref().unwrap().to_string(), "1.7.0");
    }

    #[test]
    fn mistakes_are_told_with_file_line_and_field() {
        let syntax = refused("runtimes.toml", "\n[[runtime]]\nname = \"9.9 ML\nsources = []\n");
        assert_eq!((syntax.file.as_str(), syntax.line), ("runtimes.toml", 3));
        let version =
            refused("runtimes.toml", "[[runtime]]\nname = \"99.9 ML\"\npython = \"3.x\"\nsources = [\"x\"]\n");
        assert!(
            version.line == 3 && version.what.contains("python = \"3.x\"") && version.what.contains("2.11.0"),
            "{version:?}"
        );
        let field = refused("runtimes.toml", "[[runtime]]\nname = \"99.9 ML\"\npyton = \"3.1\"\nsources = [\"x\"]\n");
        assert!(field.line == 3 && field.what.contains("unknown field `pyton`"), "{field:?}");
        let day =
            refused("runtimes.toml", "[[runtime]]\nname = \"99.9 ML\"\nreleased = 2020-13-01\nsources = [\"x\"]\n");
        assert_eq!(day.line, 3, "{day:?}");
        let kind = refused("runtimes.toml", "[[runtimes]]\nname = \"99.9 ML\"\nsources = [\"x\"]\n");
        assert!(kind.what.contains("[[runtime]] is"), "{kind:?}");
        assert!(refused("runtime.toml", "").what.contains("runtimes.toml"));
    }

    #[test]
    fn contradictions_are_refused() {
        let row = |rest: &str| format!("[[runtime]]\nname = \"99.9 ML\"\n{rest}\nsources = [\"azure-pytorch-page\"]\n");
        let cases = [
            ("runtimes.toml", row("released = 2026-01-02\nend_of_support = 2026-01-01"), "end_of_support"),
            ("runtimes.toml", row("pytorch = \"2.10.7\""), "pytorch"),
            ("runtimes.toml", row("pytorch = \"2.11.0\"\npytorch_build = \"cu92\""), "pytorch_build"),
            ("runtimes.toml", "[[runtime]]\nname = \"99.9 ML\"\nsources = []\n".into(), "sources"),
            ("runtimes.toml", "[[runtime]]\nname = \"99.9 ML\"\nsources = [\"nobody\"]\n".into(), "sources"),
            ("runtimes.toml", row("") + "\n" + &row(""), "each once"),
            (
                "pytorch.toml",
                "[[release]]\nversion = \"9.0\"\npython = { min = \"3.9\", max = \"3.8\" }\ninstall = \"index\"\n\
                 sources = [\"cog-torch\"]\nbuilds = [ { variant = \"cpu\" } ]\n"
                    .into(),
                "python",
            ),
            (
                "pytorch.toml",
                "[[release]]\nversion = \"9.0\"\npython = { max = \"3.8\" }\ninstall = \"index\"\n\
                 sources = [\"cog-torch\"]\nbuilds = [ { variant = \"cu118\", cuda = \"12.6\" } ]\n"
                    .into(),
                "variant",
            ),
            (
                "cuda.toml",
                "[[toolkit]]\nversion = \"99.0\"\nminor_compatibility_driver = \"9.0\"\ndriver = \"8.0\"\n\
                 sources = [\"cuda-13-4-notes\"]\n"
                    .into(),
                "minor_compatibility_driver",
            ),
        ];
        for (file, text, words) in cases {
            let mistake = refused(file, &text);
            assert!(mistake.what.contains(words), "{words}: {mistake:?}");
        }
    }
}
