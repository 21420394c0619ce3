//! Images that tables list: a column names the file of each below the folder, another one holds
//! what to answer. Rows keep the order of the tables, and may name an image twice.

use std::borrow::Cow;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::MOST_TOLD;
use super::images::{Decoded, Images, Targets};
use super::list::{MAX_IMAGES, is_image};
use crate::beneath::NotAFile;
use crate::dataset::content::{Content, Preparation, Prepared};
use crate::dataset::details::Details;
use crate::dataset::split::Part;
use crate::dataset::table::layout::{Apart, FILES};
use crate::dataset::table::{Table, Tables};
use crate::dataset::{DataFile, Field, Find, Format, Problem, Reading, Rows, Source, csv};
use crate::shortage::Unjudged;

/// The fields of the tables.
const TABLE_PATH: &str = "table.path";
const TABLE_PATHS: &str = "table.paths";
/// That of the column of names.
const IMAGE_COLUMN: &str = "image_column";

/// Folders in a path: a fingerprint of the folder goes into as many.
const MOST_FOLDERS: usize = 16;

/// Tables that list images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing<P> {
    /// The tables.
    pub table: csv::Files<P>,
    /// The column that names the images.
    pub column: String,
}

/// A field of the section of a table, in that of images.
fn field(of_table: &str) -> Option<&'static str> {
    Some(match of_table {
        "path" => TABLE_PATH,
        "paths" => TABLE_PATHS,
        "target" => "table.target",
        "targets" => "table.targets",
        "missing" => "table.missing",
        FILES => IMAGE_COLUMN,
        _ => return None,
    })
}

/// Problems of a table as those of its images.
fn told(mut problems: Vec<Problem>) -> Vec<Problem> {
    for problem in &mut problems {
        if let Some(field) = field(&problem.file) {
            problem.file = field.into();
        }
    }
    problems
}

impl<P> Listing<P> {
    /// The tables, each with its field.
    pub(super) fn files(&self) -> Vec<(&'static str, &P)> {
        let named = |(of_table, path): (&'static str, _)| (field(of_table).unwrap_or(of_table), path);
        self.table.files().into_iter().map(named).collect()
    }

    /// The same with tables that were found.
    pub(super) fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Listing<Q>> {
        let table = self.table.locate(&mut OfImages(find))?;
        Some(Listing { table, column: self.column.clone() })
    }

    /// Reads the tables, and judges the names in them.
    pub(super) fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Tables, Vec<Problem>> {
        let apart = Apart { files: Some(self.column.clone()), ..Apart::of(reading) };
        // The columns of another table tell nothing here.
        let reading = Reading { known: None, ..*reading };
        let tables = self.table.tables(files, &apart, &reading).map_err(told)?;
        let table = tables.table();
        if table.rows == 0 {
            // The first image tells the size of all.
            let what = "drops all rows of the part that a request reads; name an image there";
            return Err(vec![Problem::of_field(field("missing").unwrap_or(TABLE_PATH), what.into())]);
        }
        let rows = tables.estimate().unwrap_or(tables.rows());
        if rows > MAX_IMAGES as u64 {
            let what = format!("has {rows} rows; {MAX_IMAGES} images at most are taken");
            return Err(vec![Problem::of_file(TABLE_PATH, table.places.first_file(), what)]);
        }
        let wrong = (0..table.rows).filter_map(|row| {
            let what = judge_name(path(table, row)).err()?;
            Some(Problem::of_field(TABLE_PATH, format!("{}: {:?} {what}", table.at_file(row), table.file(row))))
        });
        let wrong: Vec<_> = wrong.take(MOST_TOLD).collect();
        if wrong.is_empty() { Ok(tables) } else { Err(wrong) }
    }
}

/// Finds tables by their fields in the section of images.
struct OfImages<'a, P, Q>(&'a mut dyn Find<P, Q>);

impl<P, Q> Find<P, Q> for OfImages<'_, P, Q> {
    fn one(&mut self, of_table: &'static str, name: &P) -> Option<Q> {
        self.0.one(field(of_table).unwrap_or(of_table), name)
    }

    fn folder(&mut self, of_table: &'static str, name: &P) -> Option<Q> {
        self.0.folder(field(of_table).unwrap_or(of_table), name)
    }

    fn all(&mut self, of_table: &'static str, names: &[P]) -> Option<Vec<Q>> {
        self.0.all(field(of_table).unwrap_or(of_table), names)
    }
}

/// The path of an image below the folder, without the `./` that some programs write before it.
pub(super) fn path(table: &Table, row: u64) -> &str {
    let name = table.file(row);
    name.strip_prefix("./").unwrap_or(name)
}

/// Whether a path can be that of an image below a folder; what is wrong with it. What it takes is
/// what a fingerprint of the folder goes over, so that no image changes unseen.
fn judge_name(path: &str) -> Result<(), String> {
    let parts = Path::new(path).components();
    let is_beneath = parts.clone().all(|part| matches!(part, Component::Normal(_)));
    if path.starts_with('/') {
        return Err("is an absolute path; an image is named by its path below the folder".into());
    }
    if !is_beneath {
        return Err("leads out of the folder, or may; an image is named by its path below the folder".into());
    }
    if path.contains('\0') {
        return Err("holds a zero byte, which no path can".into());
    }
    if path.split('/').any(|part| part.starts_with('.')) {
        return Err("has a part that begins with a dot; such files are passed over".into());
    }
    if parts.count() > MOST_FOLDERS + 1 {
        return Err(format!("lies deeper than {MOST_FOLDERS} folders"));
    }
    if !is_image(path) {
        return Err("is no image by its name; images are .jpg, .jpeg or .png".into());
    }
    Ok(())
}

/// The problem of an image that cannot be opened.
pub(super) fn unopened(table: &Table, row: u64, root: &Path, error: &io::Error) -> Problem {
    let (at, path, root) = (table.at_file(row), path(table, row), root.display());
    let what = match (NotAFile::of(error), error.kind()) {
        (Some(NotAFile { found, .. }), _) => format!("is {found} in {root}; an image is needed"),
        (None, io::ErrorKind::NotFound) => format!("is not in {root}"),
        (None, io::ErrorKind::NotADirectory) => {
            format!("is a link in {root}, or its way leads through a link or a file; links are not followed")
        }
        (None, _) => format!("in {root} cannot be read: {error}"),
    };
    let unjudged = Unjudged::of(error);
    Problem { unjudged, ..Problem::of_field(TABLE_PATH, format!("{at}: {path:?} {what}")) }
}

/// The rows of the tables.
pub(super) struct Listed {
    tables: Tables,
    images: Arc<Images>,
    is_judged: bool,
}

impl Listed {
    /// Those of tables that list these images.
    pub(super) fn new(tables: Tables, images: Images, is_judged: bool) -> Self {
        Self { tables, images: Arc::new(images), is_judged }
    }

    /// The preparation of targets, as tables have it.
    fn of_targets(&self, preparation: &Preparation) -> Preparation {
        let (classes, table) = (preparation.classes.clone(), Some(self.tables.of_targets()));
        Preparation { classes, table, is_of_sample: preparation.is_of_sample, ..Preparation::default() }
    }
}

impl Content for Listed {
    fn rows(&self) -> u64 {
        self.tables.rows()
    }

    fn estimate(&self) -> Option<u64> {
        self.tables.estimate()
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.tables.memory_bytes()
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        self.tables.strata()
    }

    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        self.tables.weights()
    }

    fn parts_by(&self, column: &str) -> Result<Vec<Part>, Problem> {
        self.tables.parts_by(column)
    }

    fn look_over(&mut self, sets: &[&Rows], _: bool) -> Result<(), Vec<Problem>> {
        self.tables.look_over(sets, false).map_err(told)
    }

    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>> {
        // A model is applied to images of folders as well as of tables: the columns do not count.
        let Preparation { classes, .. } = self.tables.learn(rows, false).map_err(told)?;
        self.images.learn(classes, (measure && !self.is_judged).then_some(rows))
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        Details { was_read: false, ..self.tables.details(rows, &self.of_targets(preparation)) }
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let prepared = self.tables.prepare(rows.clone(), &self.of_targets(preparation)).map_err(told)?;
        let Prepared { mut facts, source, notes } = prepared;
        facts.inputs = vec![self.images.field()];
        facts.is_resident = false;
        let file = field(&facts.target.file).map_or(facts.target.file, Cow::Borrowed);
        facts.target = Field { file, ..facts.target };
        let decoded = |targets| -> Box<dyn Source> {
            let (facts, images, targets) = (facts.clone(), self.images.clone(), Targets::Table(targets));
            Box::new(Decoded { facts, images, rows, targets })
        };
        Ok(Prepared { source: source.map(decoded), facts, notes })
    }
}

#[cfg(test)]
mod tests;
