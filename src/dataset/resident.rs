//! Arrays that are in memory as a whole, row by row.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::{Content, Preparation, Prepared};
use super::details::{self, Details};
use super::moments::measure;
use super::{Access, Dtype, Facts, Field, HostBatch, Problem, Range, Rows, Source};

/// The arrays of a set, one for each input and one for the targets.
pub(super) struct Arrays {
    /// Facts of all rows.
    pub facts: Facts,
    /// Bytes row by row, for each input; None where they were read to be judged.
    pub inputs: Option<Vec<Arc<Vec<u8>>>>,
    /// The same of the targets; None where a large file is judged by its header.
    pub targets: Option<Arc<Vec<u8>>>,
    /// The numbers that weigh the rows, or why there are none; None where they were not read.
    pub weights: Result<Option<Vec<f64>>, String>,
}

impl Content for Arrays {
    fn rows(&self) -> u64 {
        self.facts.examples
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        let target = &self.facts.target;
        if (target.dtype, target.values()) != (Dtype::I64, 1) {
            let found = format!("{:?} of {}", target.shape, target.dtype.name());
            return Err(format!("is set, and the target {:?} is {found}; classes are needed", target.name).into());
        }
        // A large file is judged without: any division has the same counts.
        let Some(targets) = &self.targets else { return Ok(Vec::new()) };
        let classes = || targets.as_chunks().0.iter().map(|&class| u64::from_le_bytes(class));
        let numbers: BTreeMap<_, _> = classes().collect::<BTreeSet<_>>().into_iter().zip(0..).collect();
        Ok(classes().map(|class| numbers[&class]).collect())
    }

    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        self.weights.as_ref().map(|weights| weights.as_deref().map(Cow::Borrowed)).map_err(Clone::clone)
    }

    fn learn(&self, rows: &Rows, moments: bool) -> Result<Preparation, Vec<Problem>> {
        let mut preparation = Preparation::default();
        if moments && let Some(inputs) = &self.inputs {
            let measured = self.facts.inputs.iter().zip(inputs);
            let measured =
                measured.filter_map(|(field, column)| Some((field.name.clone(), measure(field, column, rows)?)));
            preparation.moments = measured.collect::<BTreeMap<_, _>>();
        }
        Ok(preparation)
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let Some(targets) = &self.targets else { return Details::default() };
        let target = &self.facts.target;
        let is_class = (target.dtype, target.values()) == (Dtype::I64, 1);
        let labels = targets.as_chunks().0;
        let classes = rows.iter().filter(|_| is_class).map(|row| i64::from_le_bytes(labels[row as usize]));
        Details { was_read: true, classes: details::classes(classes, &preparation.classes), ..Details::default() }
    }

    fn prepare(&self, rows: Rows, _: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let mut facts = self.facts.clone();
        facts.examples = rows.count();
        if let (Rows::Chosen(_), Some(targets)) = (&rows, &self.targets) {
            facts.target.range = range(&facts.target, targets, &rows);
        }
        let source = self.inputs.as_ref().zip(self.targets.as_ref()).map(|(inputs, targets)| {
            let (inputs, targets) = (inputs.clone(), targets.clone());
            Box::new(Resident { facts: facts.clone(), rows, inputs, targets }) as Box<dyn Source>
        });
        Ok(Prepared { facts, source, notes: Vec::new() })
    }
}

/// Some rows of arrays.
struct Resident {
    facts: Facts,
    rows: Rows,
    inputs: Vec<Arc<Vec<u8>>>,
    targets: Arc<Vec<u8>>,
}

impl Source for Resident {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        Access::Memory
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        into.inputs.resize_with(self.inputs.len(), Vec::new);
        let inputs = self.facts.inputs.iter().zip(&self.inputs).zip(&mut into.inputs);
        for ((field, column), batch) in inputs {
            gather(column, field.bytes(), &self.rows, places, batch);
        }
        gather(&self.targets, self.facts.target.bytes(), &self.rows, places, &mut into.targets);
        Ok(())
    }
}

fn gather(column: &[u8], width: u64, rows: &Rows, places: &[u64], batch: &mut Vec<u8>) {
    let width = width as usize;
    batch.clear();
    batch.reserve(width * places.len());
    for &place in places {
        let begin = rows.row(place) as usize * width;
        batch.extend_from_slice(&column[begin..begin + width]);
    }
}

/// The range of a field over rows, by their places in the set.
fn range(field: &Field, column: &[u8], rows: &Rows) -> Option<Range> {
    let width = usize::try_from(field.bytes()).ok()?;
    let mut found = None;
    for (row, place) in rows.iter().zip(0..) {
        let begin = row as usize * width;
        let example = &column[begin..begin + width];
        match field.dtype {
            Dtype::I64 => {
                for &value in example.as_chunks().0 {
                    found = Some(Range::with(found, i64::from_le_bytes(value), place));
                }
            }
            Dtype::F32 => {
                for &value in example.as_chunks().0 {
                    let value = f32::from_le_bytes(value);
                    for bound in [value.floor(), value.ceil()] {
                        found = Some(Range::with(found, bound as i64, place));
                    }
                }
            }
            Dtype::Pixel => return None,
        }
    }
    found
}
