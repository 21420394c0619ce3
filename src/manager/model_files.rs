//! The files of a model that a request names: opened beneath the data roots, judged, and copied by
//! their descriptors.

use std::sync::Arc;

use super::ManagerSettings;
use super::trained::Trained;
use super::warm_start::Source;
use super::weights::WhileWanted;
use crate::gate::Wanted;
use crate::job::Violations;
use crate::job::spec::Model;
use crate::job::spec::model::Exported;
use crate::journal::JobFolder;
use crate::judging::model::{self, OperatorList, Refusal, Side};
use crate::shortage::Unjudged;
use crate::tensor_file::{Problem, script};

/// A file of a model.
#[derive(Debug)]
pub(super) struct ModelFile {
    /// Its field in the spec.
    pub(super) field: String,
    /// Its name in the job's folder.
    pub(super) name: &'static str,
    /// The file.
    pub(super) source: Source,
}

/// Opens the files of a model, which are the copies of `trained` where the model is that of another
/// job, and judges it by the operators of libtorch; the model knows what is in them afterwards.
pub(super) fn judge(
    model: &mut Model,
    settings: &ManagerSettings,
    trained: Option<&Trained>,
    operators: &OperatorList,
    wanted: &Wanted,
    wrong: &mut Violations,
) -> Vec<ModelFile> {
    let before = wrong.0.len();
    let section = format!("model.{}", model.name());
    let mut files = Vec::new();
    let names: &[&str] = match model {
        Model::Torchscript(_) => &[JobFolder::SCRIPT],
        _ => &[JobFolder::EXPORTED, JobFolder::EXPORTED_EVAL],
    };
    for ((field, path), &name) in model.files().into_iter().zip(names) {
        let field = format!("{section}.{field}");
        if let Some(trained) = trained {
            match trained.open(name) {
                Ok(source) => files.push(ModelFile { field, name, source }),
                Err(refusal) => refusal.tell(&field, wrong),
            }
            continue;
        }
        match settings.data_roots.open(path) {
            Err(problem) => wrong.add_found(field, problem.to_string(), problem.unjudged()),
            Ok(file) => match file.reader().and_then(|reader| Source::new(reader, file.path().to_owned())) {
                Err(error) => {
                    let what = format!("is {path:?}, which cannot be read: {error}");
                    wrong.add_found(field, what, Unjudged::of(&error));
                }
                Ok(source) => files.push(ModelFile { field, name, source }),
            },
        }
    }
    if wrong.0.len() > before {
        return Vec::new();
    }
    match (model, files.as_slice()) {
        (Model::Exported(exported), [path, rest @ ..]) => {
            judge_exported(exported, path, rest.first(), operators, wanted, wrong);
        }
        (Model::Torchscript(_), [path]) => judge_script(path, wanted, wrong),
        _ => {}
    }
    files
}

/// Judges a TorchScript archive, which is not loaded here.
fn judge_script(path: &ModelFile, wanted: &Wanted, wrong: &mut Violations) {
    let Source { file, size_bytes, path: place, .. } = &path.source;
    let Err(problem) = script::judge(&WhileWanted::new(file, wanted), *size_bytes) else { return };
    let unjudged = if let Problem::Unreadable(error) = &problem { Unjudged::of(error) } else { None };
    wrong.add_found(&path.field, format!("{} {problem}", place.display()), unjudged);
}

fn judge_exported(
    exported: &mut Exported,
    path: &ModelFile,
    eval_path: Option<&ModelFile>,
    operators: &OperatorList,
    wanted: &Wanted,
    wrong: &mut Violations,
) {
    match model::judge(&path.source.file, eval_path.map(|file| &file.source.file), operators, wanted) {
        Ok(summary) => exported.summary = Some(Arc::new(summary)),
        Err(Refusal::Unanswered(failure)) => {
            let what = format!("{} {}", path.source.path.display(), failure.what);
            wrong.add_found(&path.field, what, failure.unjudged);
        }
        Err(Refusal::Files(refused)) => {
            for refused in refused {
                let file = match refused.side {
                    Side::Path => path,
                    Side::EvalPath => eval_path.unwrap_or(path),
                };
                let what = format!("{} {}", file.source.path.display(), refused.what);
                wrong.add_found(&file.field, what, refused.unjudged());
            }
        }
    }
}
