//! A model as a job names it: one archive with the graphs `train` and `eval`, or one file a graph.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::archive::{Archive, Model};
use super::judge::{self, Judged};
use super::operators::Operators;
use super::problem::Problem;
use super::refusal::Refusal;
use super::summary::Summary;
use crate::shortage::Unjudged;
use crate::tensor_file::{self, ReaderAt, VALUES_BELOW_BYTES, bytes_to_judge, judge_values};

/// The names of the graphs in an archive with both.
const TRAIN: &str = "train";
pub(super) const EVAL: &str = "eval";
/// The name that `torch.export.load` asks for. An archive that was trained has its graph `eval`
/// under this name as well, which is not looked at.
pub(super) const LOADED: &str = "model";

/// Which of the two files of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// That of the graph for training, and perhaps of both.
    Path,
    /// That of the graph for evaluation alone.
    EvalPath,
}

/// A file that is open, with its bytes.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The file.
    pub bytes: &'a dyn ReaderAt,
    /// Its bytes.
    pub size_bytes: u64,
}

/// A reason for which a model is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The file.
    pub side: Side,
    /// The finding, and the remedy: words that follow the file's path.
    pub what: String,
    /// The system's number of an error that kept the file from being read.
    pub os_error: Option<i32>,
}

/// A model that has been read.
#[derive(Debug)]
pub struct Bundle {
    /// The file of the graph for training.
    pub archive: Archive,
    /// That of the graph for evaluation, where it is another one.
    pub eval_archive: Option<Archive>,
    train: String,
    eval: Option<String>,
}

/// A model that can be trained.
#[derive(Debug)]
pub struct Verdict {
    /// Its graph for training.
    pub train: Judged,
    /// Its graph for evaluation.
    pub eval: Option<Judged>,
    /// Everything that a job has to know of it.
    pub summary: Summary,
}

impl Refused {
    /// The reason for which nothing is known of the file; None where it is wrong.
    pub fn unjudged(&self) -> Option<Unjudged> {
        self.os_error.map(io::Error::from_raw_os_error).as_ref().and_then(Unjudged::of)
    }
}

impl Side {
    /// Its field in a spec, within the section.
    pub fn field(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::EvalPath => "eval_path",
        }
    }

    fn refuses(self, what: impl fmt::Display) -> Refused {
        Refused { side: self, what: what.to_string(), os_error: None }
    }

    /// The refusal of its file for a problem.
    pub fn of_problem(self, problem: Problem) -> Refused {
        let os_error = match &problem {
            Problem::File(tensor_file::Problem::Unreadable(error)) => error.raw_os_error(),
            _ => None,
        };
        Refused { side: self, what: problem.to_string(), os_error }
    }
}

impl Bundle {
    /// Reads the files of a model.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(path: Source<'_>, eval_path: Option<Source<'_>>) -> Result<Self, Vec<Refused>> {
        let read = |side: Side, source: Source<'_>| {
            Archive::read(source.bytes, source.size_bytes).map_err(|problem| side.of_problem(problem))
        };
        let (archive, other) =
            (read(Side::Path, path), eval_path.map(|source| read(Side::EvalPath, source)).transpose());
        let (archive, eval_archive) = match (archive, other) {
            (Ok(archive), Ok(other)) => (archive, other),
            (archive, other) => return Err([archive.err(), other.err()].into_iter().flatten().collect()),
        };
        let (train, own_eval) = graphs(&archive).map_err(|what| vec![Side::Path.refuses(what)])?;
        let eval = match &eval_archive {
            None => own_eval,
            Some(_) if own_eval.is_some() => {
                let what = "is not needed: the archive of path has a graph eval; leave one of them out";
                return Err(vec![Side::EvalPath.refuses(what)]);
            }
            Some(other) => Some(graph_of(other, EVAL).map_err(|what| vec![Side::EvalPath.refuses(what)])?),
        };
        Ok(Self { archive, eval_archive, train, eval })
    }

    /// The graph for training with its tensors.
    pub fn train(&self) -> &Model {
        &self.archive.models[&self.train]
    }

    /// The graph for evaluation with its tensors, and the file that it lies in.
    pub fn eval(&self) -> Option<(Side, &Model)> {
        let name = self.eval.as_ref()?;
        Some(match &self.eval_archive {
            None => (Side::Path, &self.archive.models[name]),
            Some(other) => (Side::EvalPath, &other.models[name]),
        })
    }

    /// Judges whether a libtorch with these operators trains it.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub fn judge(&self, operators: &Operators) -> Result<Verdict, Vec<Refused>> {
        let told = |side: Side, graph: &str, refusals: Vec<Refusal>| {
            let tell = move |refusal| side.refuses(format!("has the graph {graph}, and {refusal}"));
            refusals.into_iter().map(tell).collect::<Vec<_>>()
        };
        let train = judge::train(self.train(), operators).map_err(|found| told(Side::Path, &self.train, found))?;
        let eval = match self.eval() {
            None => None,
            Some((side, model)) => Some(
                judge::eval(model, self.train(), &train.facts, operators)
                    .map_err(|found| told(side, self.eval.as_deref().unwrap_or(EVAL), found))?,
            ),
        };
        let summary = Summary::of(self.train(), &train.facts, eval.as_ref().map(|eval| &eval.facts));
        let summary = summary.map_err(|found| told(Side::Path, &self.train, found))?;
        Ok(Verdict { train, eval, summary })
    }

    /// Judges the values of its parameters and of its buffers, where they are few enough to be
    /// read.
    ///
    /// # Errors
    /// The first one from which nothing can be trained.
    pub fn judge_values(&self, path: Source<'_>) -> Result<(), Refused> {
        for (tensors, values) in self.train().state() {
            if bytes_to_judge(&tensors) < VALUES_BELOW_BYTES {
                let judged = judge_values(&tensors, values, path.bytes);
                judged.map_err(|problem| Side::Path.of_problem(Problem::File(problem)))?;
            }
        }
        Ok(())
    }
}

/// The names of the graphs for training and, where there is one, for evaluation.
fn graphs(archive: &Archive) -> Result<(String, Option<String>), String> {
    let has = |name: &str| archive.models.contains_key(name).then(|| name.to_owned());
    match (has(TRAIN), has(EVAL)) {
        (Some(train), Some(eval)) if archive.models.len() == 2 + usize::from(has(LOADED).is_some()) => {
            Ok((train, Some(eval)))
        }
        _ => graph_of(archive, TRAIN).map(|name| (name, None)),
    }
}

/// The name of the only graph of an archive. An archive with several has to be named as a whole.
fn graph_of(archive: &Archive, wanted: &str) -> Result<String, String> {
    let mut names = archive.models.keys();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.clone()),
        _ => {
            let names: Vec<_> = archive.models.keys().map(|name| super::problem::shown(name)).collect();
            Err(format!(
                "has the graphs {}; one for {wanted} alone, or {TRAIN} and {EVAL} in path, are right",
                names.join(", ")
            ))
        }
    }
}
