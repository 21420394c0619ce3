//! Answers as the columns of a table, for all formats that are tables.

use tch::Tensor;
use torchd::job::spec::loss::Answer;

use super::answers::{Answers, Layout};
use crate::failure::Result;

/// The column of the names of examples, which are paths of images.
const NAME: &str = "path";

/// One of the arrays of answers as columns of a table.
pub(super) struct Columns {
    /// The names of the columns.
    pub(super) names: Vec<String>,
    /// The kind of their cells.
    pub(super) kind: Kind,
}

/// A kind of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The names of examples.
    Name,
    /// Classes, which may have names.
    Class,
    /// Whole numbers.
    Whole,
    /// Floats of 32 bits.
    Number,
}

/// The cells of one of the arrays, row by row.
pub(super) enum Cells<'a> {
    /// Classes and whole numbers.
    Whole(Vec<i64>),
    /// Floats.
    Numbers(Vec<f32>),
    /// The names of examples.
    Names(&'a [String]),
}

impl Layout {
    /// The columns of each array in the order of [`Answers::cells`]. `classes` are the names of
    /// classes; empty where they have none.
    pub(super) fn columns(&self, classes: &[String]) -> Vec<Columns> {
        let count = |shape: &[u64]| shape.iter().product::<u64>();
        let predictions = count(&self.predictions);
        let numbered = |name: &str, count: u64| -> Vec<String> {
            if count == 1 { vec![name.to_owned()] } else { (0..count).map(|place| format!("{name}_{place}")).collect() }
        };
        let is_class = matches!(self.answer, Some(Answer::Class(_)));
        let kind = |is_whole: bool| match (is_whole, is_class) {
            (true, true) => Kind::Class,
            (true, false) => Kind::Whole,
            (false, _) => Kind::Number,
        };
        let names = self.has_names.then(|| Columns { names: vec![NAME.to_owned()], kind: Kind::Name });
        let mut arrays: Vec<_> = names.into_iter().collect();
        arrays.push(Columns { names: numbered("prediction", predictions), kind: kind(self.is_whole()) });
        let probabilities = self.probabilities.as_ref().map(|shape| match self.answer {
            Some(Answer::Class(known)) => {
                let class = |class: u64| classes.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
                let of = |place: String| (0..known).map(move |number| format!("{place}_{}", class(number)));
                numbered("probability", predictions).into_iter().flat_map(of).collect()
            }
            _ => numbered("probability", count(shape)),
        });
        arrays.extend(probabilities.map(|names| Columns { names, kind: Kind::Number }));
        if let Some(target) = &self.target {
            let names = numbered("target", count(&target.shape));
            arrays.push(Columns { names, kind: kind(self.has_whole_targets()) });
            arrays.push(Columns { names: vec!["loss".to_owned()], kind: Kind::Number });
        }
        arrays
    }
}

impl Answers {
    /// Examples that are answered.
    pub(super) fn count(&self) -> usize {
        self.predictions.size().first().map_or(0, |&size| size as usize)
    }

    /// The cells of each array: names where there are any, predictions, and as far as there are any
    /// probabilities, targets and losses.
    pub(super) fn cells(&self, layout: &Layout) -> Result<Vec<Cells<'_>>> {
        let Self { names, predictions, probabilities, targets, loss } = self;
        let mut arrays: Vec<_> = layout.has_names.then_some(Cells::Names(names)).into_iter().collect();
        arrays.push(cells(predictions, layout.is_whole())?);
        if let Some(probabilities) = probabilities {
            // Those of a class beside each other.
            let is_class = matches!(layout.answer, Some(Answer::Class(_)));
            let dim = if is_class { layout.class_dim } else { -1 };
            let last = if probabilities.dim() > 1 {
                probabilities.f_movedim_int(dim, -1)?
            } else {
                probabilities.shallow_clone()
            };
            arrays.push(cells(&last, false)?);
        }
        arrays.extend(targets.as_ref().map(|targets| cells(targets, layout.has_whole_targets())).transpose()?);
        arrays.extend(loss.as_ref().map(|loss| cells(loss, false)).transpose()?);
        Ok(arrays)
    }
}

fn cells(numbers: &Tensor, is_whole: bool) -> Result<Cells<'static>> {
    let flat = numbers.f_reshape([-1])?;
    Ok(if is_whole { Cells::Whole(Vec::try_from(flat)?) } else { Cells::Numbers(Vec::try_from(flat)?) })
}

/// A class by its name; one that has none by its number.
pub(super) fn class(number: i64, names: &[String]) -> String {
    let name = usize::try_from(number).ok().and_then(|class| names.get(class));
    name.cloned().unwrap_or_else(|| number.to_string())
}
