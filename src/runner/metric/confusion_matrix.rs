//! How many targets of each class were taken for which.

use serde::Serialize;
use tch::{Kind, Tensor};
use torchd::job::spec::loss::Answer;

use super::precision_recall::counts;
use super::{About, Finding, Rule};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct ConfusionMatrix {
    about: About,
    classes: i64,
    /// `[classes * classes]`, row by row.
    cells: Tensor,
}

/// A matrix of counts, as its file has it.
#[derive(Debug, Serialize)]
pub(crate) struct Matrix {
    /// The names of the rows: the classes of targets.
    target_classes: Vec<String>,
    /// The names of the columns: the classes that they were taken for.
    answer_classes: Vec<String>,
    /// Targets of a class that were taken for each.
    matrix: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    pub(super) fn new(about: About) -> Result<Self> {
        let classes = match about.answer {
            Answer::Class(classes) => classes as i64,
            // A label holds or not.
            Answer::Labels(_) | Answer::Numbers(_) | Answer::Shares => 2,
        };
        let cells = Tensor::f_zeros([classes * classes], (Kind::Double, about.device))?;
        Ok(Self { about, classes, cells })
    }
}

impl Rule for ConfusionMatrix {
    fn add(&mut self, _: &mut [&mut Tensor], _: &Outputs, pair: &Pair) -> Result<()> {
        let About { answer, ignored, .. } = self.about;
        let flat = |tensor: Tensor| tensor.f_to_kind(Kind::Int64)?.f_flatten(0, -1);
        let (named, is) = (flat(pair.decided(answer)?)?, flat(pair.right(answer)?)?);
        let counts = counts(&is, ignored)?;
        let row = is.f_mul_scalar(self.classes)?.f_mul(&counts.f_to_kind(Kind::Int64)?)?;
        let _ = self.cells.f_index_add_(0, &row.f_add(&named)?, &counts)?;
        Ok(())
    }

    fn value(&mut self, _: &[&Tensor]) -> Result<Finding> {
        let cells = Vec::<f64>::try_from(&self.cells)?;
        let rows = cells.chunks(self.classes as usize);
        let matrix = rows.map(|row| row.iter().map(|count| *count as u64).collect()).collect();
        let names = || (0..self.classes).map(|class| class.to_string()).collect();
        Ok(Finding::Matrix(Matrix { target_classes: names(), answer_classes: names(), matrix }))
    }

    fn clear(&mut self) -> Result<()> {
        Ok(self.cells.f_zero_().map(drop)?)
    }
}

impl Matrix {
    /// All targets in it.
    pub(crate) fn targets(&self) -> u64 {
        self.matrix.iter().flatten().sum()
    }
}
