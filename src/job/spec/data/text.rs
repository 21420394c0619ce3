//! A text for language models, as a spec names it.

use super::read_path;
use crate::dataset::paths::Paths;
use crate::dataset::text::{Cut, Files, MOST_CONTEXT, Unit};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1::{self, dataset::Format as Kind};

impl Section for Files<String> {
    type Message = v1::TextDataset;
    const NAME: &str = "text";

    fn read(message: &v1::TextDataset, mut fields: Fields<'_>) -> Option<Self> {
        let v1::TextDataset { path, paths, unit, context, stride } = message;
        let paths = read_paths(path, paths, &mut fields);
        let unit = match v1::TextUnit::try_from(*unit) {
            Ok(v1::TextUnit::Unspecified | v1::TextUnit::Byte) => Unit::Byte,
            Ok(v1::TextUnit::Character) => Unit::Character,
            Err(_) => {
                fields.demand("unit", false, unit, "byte or character");
                Unit::Byte
            }
        };
        let is_right = (1..=MOST_CONTEXT).contains(context);
        fields.demand_given("context", is_right, *context, &format!("a number of tokens of 1 to {MOST_CONTEXT}"));
        let stride = fields.at_least_one("stride", *stride, *context);
        fields.done(Self { paths, unit, cut: Cut { context: *context, stride } })
    }

    fn to_proto(&self) -> v1::TextDataset {
        let (path, paths) = match &self.paths {
            Paths::Path(paths) => (paths.first().cloned().unwrap_or_default(), Vec::new()),
            Paths::Paths(paths) => (String::new(), paths.clone()),
        };
        let unit = match self.unit {
            Unit::Byte => v1::TextUnit::Byte,
            Unit::Character => v1::TextUnit::Character,
        };
        let Cut { context, stride } = self.cut;
        v1::TextDataset { path, paths, unit: unit.into(), context, stride: Some(stride) }
    }
}

/// Reads the names of the files.
fn read_paths(path: &str, paths: &[String], fields: &mut Fields<'_>) -> Paths<String> {
    if paths.is_empty() {
        return Paths::Path(vec![read_path("path", path, fields)]);
    }
    if !path.is_empty() {
        fields.wrong("path", "is set, and paths is as well; leave one of them out");
    }
    let paths = paths.iter().enumerate();
    Paths::Paths(paths.map(|(place, path)| read_path(&format!("paths[{place}]"), path, fields)).collect())
}

/// Gives a text to use a model on the unit and the context of the text that the model was trained
/// on, where it names none itself.
pub(in crate::job::spec) fn take_over(test: &mut v1::Dataset, trained: &v1::Dataset) {
    let (Some(Kind::Text(test)), Some(Kind::Text(trained))) = (&mut test.format, &trained.format) else { return };
    if test.unit() == v1::TextUnit::Unspecified {
        test.unit = trained.unit;
    }
    if test.context == 0 {
        test.context = trained.context;
    }
}
