//! Arrays as the content of a set, row by row: in memory as a whole, or in their files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::array_set::Placed;
use super::content::{Content, Preparation, Prepared};
use super::details::{self, Details};
use super::moments::Measured;
use super::{Access, Dtype, Facts, Field, HostBatch, Problem, Range, Rows, Source};

/// The arrays of a set, one for each input and one for the targets.
pub(super) struct Arrays {
    /// Facts of all rows.
    pub facts: Facts,
    /// The values of each input; None where they were read to be judged.
    pub inputs: Option<Vec<Values>>,
    /// The same of the targets; None where a large file is judged by its header.
    pub targets: Option<Values>,
    /// The numbers that weigh the rows, or why there are none; None where they were not read.
    pub weights: Result<Option<Vec<f64>>, String>,
    /// The memory that a job needs where some arrays stay in their files; None where none does.
    pub in_files: Option<InFiles>,
    /// The reason why its values take more than their share of the memory.
    pub whole: Option<String>,
}

/// The memory of a job some of whose arrays stay in their files.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFiles {
    /// Bytes of all that is in memory while the job has its data.
    pub memory_bytes: u64,
    /// Bytes of batches that are read ahead, of each set.
    pub ahead_bytes: u64,
}

/// The values of an array.
#[derive(Clone)]
pub(super) enum Values {
    /// Row by row, as batches have them.
    Memory(Arc<Vec<u8>>),
    /// In its files.
    Files(Arc<Placed>),
}

impl Values {
    /// Values in memory, row by row.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self::Memory(Arc::new(bytes))
    }

    /// Hands out the values of a field in these rows, each with its row.
    ///
    /// # Errors
    /// Those of reading.
    fn each(&self, field: &Field, rows: &Rows, mut take: impl FnMut(u64, &[u8])) -> Result<(), Problem> {
        let width = field.bytes() as usize;
        match self {
            Self::Memory(bytes) => rows.iter().for_each(|row| take(row, &bytes[row as usize * width..][..width])),
            Self::Files(placed) => placed.each(rows, take)?,
        }
        Ok(())
    }

    /// Puts the values of a field in the rows of these places into a batch, in place of what it
    /// holds.
    fn gather(&self, field: &Field, rows: &Rows, places: &[u64], batch: &mut Vec<u8>) -> Result<(), Problem> {
        let bytes = match self {
            Self::Memory(bytes) => bytes,
            Self::Files(placed) => return placed.fill(places.iter().map(|place| rows.row(*place)), batch),
        };
        let width = field.bytes() as usize;
        batch.clear();
        batch.reserve(width * places.len());
        for &place in places {
            let begin = rows.row(place) as usize * width;
            batch.extend_from_slice(&bytes[begin..begin + width]);
        }
        Ok(())
    }
}

impl Content for Arrays {
    fn rows(&self) -> u64 {
        self.facts.examples
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.in_files.map(|in_files| in_files.memory_bytes)
    }

    fn is_in_files(&self) -> bool {
        self.in_files.is_some()
    }

    fn whole(&self) -> Option<&str> {
        self.whole.as_deref()
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        let target = &self.facts.target;
        if (target.dtype, target.values()) != (Dtype::I64, 1) {
            let found = format!("{:?} of {}", target.shape, target.dtype.name());
            return Err(format!("is set, and the target {:?} is {found}; classes are needed", target.name).into());
        }
        // A large file is judged without: any division has the same counts.
        let Some(targets) = &self.targets else { return Ok(Vec::new()) };
        let mut found = BTreeSet::new();
        let all = Rows::All(self.facts.examples);
        targets.each(target, &all, |_, class| _ = found.insert(label(class)))?;
        let numbers: BTreeMap<_, _> = found.into_iter().zip(0..).collect();
        let mut strata = Vec::with_capacity(all.count() as usize);
        targets.each(target, &all, |_, class| strata.push(numbers.get(&label(class)).copied().unwrap_or(0)))?;
        Ok(strata)
    }

    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        self.weights.as_ref().map(|weights| weights.as_deref().map(Cow::Borrowed)).map_err(Clone::clone)
    }

    fn learn(&self, rows: &Rows, moments: bool) -> Result<Preparation, Vec<Problem>> {
        let mut preparation = Preparation::default();
        if moments && let Some(inputs) = &self.inputs {
            for (field, values) in self.facts.inputs.iter().zip(inputs) {
                let Some(mut measured) = Measured::of(field) else { continue };
                values.each(field, rows, |_, example| measured.add(example)).map_err(|problem| vec![problem])?;
                preparation.moments.insert(field.name.clone(), measured.moments(rows.count()));
            }
        }
        Ok(preparation)
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let Some(targets) = &self.targets else { return Details::default() };
        let target = &self.facts.target;
        let is_class = (target.dtype, target.values()) == (Dtype::I64, 1);
        let mut classes = Vec::new();
        // What cannot be read any more is told where it is needed.
        if is_class && targets.each(target, rows, |_, class| classes.push(label(class))).is_err() {
            return Details::default();
        }
        let classes = details::classes(classes.into_iter(), &preparation.classes);
        Details { was_read: true, classes, ..Details::default() }
    }

    fn prepare(&self, rows: Rows, _: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let mut facts = self.facts.clone();
        facts.examples = rows.count();
        if let (Rows::Chosen(_), Some(targets)) = (&rows, &self.targets) {
            facts.target.range = range(&facts.target, targets, &rows).map_err(|problem| vec![problem])?;
        }
        let source = self.inputs.as_ref().zip(self.targets.as_ref()).map(|(inputs, targets)| {
            let (inputs, targets, ahead_bytes) =
                (inputs.clone(), targets.clone(), self.in_files.map(|of| of.ahead_bytes));
            Box::new(Examples { facts: facts.clone(), rows, inputs, targets, ahead_bytes }) as Box<dyn Source>
        });
        Ok(Prepared { facts, source, notes: Vec::new() })
    }
}

/// Some rows of arrays.
struct Examples {
    facts: Facts,
    rows: Rows,
    inputs: Vec<Values>,
    targets: Values,
    /// Bytes of batches that are read ahead, where some arrays stay in their files.
    ahead_bytes: Option<u64>,
}

impl Source for Examples {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        if self.ahead_bytes.is_some() { Access::Single } else { Access::Memory }
    }

    fn ahead_bytes(&self) -> Option<u64> {
        self.ahead_bytes
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        into.inputs.resize_with(self.inputs.len(), Vec::new);
        let inputs = self.facts.inputs.iter().zip(&self.inputs).zip(&mut into.inputs);
        for ((field, values), batch) in inputs {
            values.gather(field, &self.rows, places, batch)?;
        }
        self.targets.gather(&self.facts.target, &self.rows, places, &mut into.targets)
    }
}

/// The class that the bytes of a target are.
fn label(bytes: &[u8]) -> i64 {
    bytes.first_chunk().map_or(0, |class| i64::from_le_bytes(*class))
}

/// The range of a field over rows.
fn range(field: &Field, values: &Values, rows: &Rows) -> Result<Option<Range>, Problem> {
    let mut found = None;
    if field.dtype == Dtype::Pixel {
        return Ok(None);
    }
    values.each(field, rows, |row, example| match field.dtype {
        Dtype::I64 => {
            for &value in example.as_chunks().0 {
                found = Some(Range::with(found, i64::from_le_bytes(value), row));
            }
        }
        Dtype::F32 => {
            for &value in example.as_chunks().0 {
                let value = f32::from_le_bytes(value);
                for bound in [value.floor(), value.ceil()] {
                    found = Some(Range::with(found, bound as i64, row));
                }
            }
        }
        Dtype::Pixel => {}
    })?;
    Ok(found)
}
