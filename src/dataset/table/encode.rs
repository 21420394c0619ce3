//! From the rows of a table to the bytes of inputs and targets.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::{Access, Dtype, Facts, Field, HostBatch, Problem, Rows, Source};
use super::Table;
use super::layout::Values;
use super::roles::{InputEncoding, Missing};
use super::words::{MISSING, Words};

/// How the rows of a table become inputs and targets: learned from the training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEncoding {
    /// The inputs of the network.
    pub inputs: Vec<InputColumns>,
    /// The columns to answer.
    pub targets: Vec<String>,
}

/// The columns of an input, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputColumns {
    /// Its name.
    pub name: String,
    /// How its columns become values.
    pub encoding: InputEncoding,
    /// Its columns.
    pub columns: Vec<ColumnEncoding>,
}

/// A column of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnEncoding {
    /// Its name.
    pub name: String,
    /// The number in place of one that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
    /// Its categories, in the order of their numbers; None of a column of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
}

impl InputColumns {
    /// Numbers in an example.
    pub(super) fn width(&self) -> usize {
        self.columns.iter().map(|column| column.width(self.encoding)).sum()
    }

    /// The type of its values.
    pub(super) fn dtype(&self) -> Dtype {
        match self.encoding {
            InputEncoding::OneHot => Dtype::F32,
            InputEncoding::Index => Dtype::I64,
        }
    }
}

impl ColumnEncoding {
    fn width(&self, encoding: InputEncoding) -> usize {
        match (encoding, &self.categories) {
            (InputEncoding::OneHot, Some(categories)) => categories.len(),
            (InputEncoding::OneHot, None) | (InputEncoding::Index, _) => 1,
        }
    }
}

/// An encoding with the places of the values in a table.
#[derive(Debug)]
pub(super) struct Encoder {
    inputs: Vec<Vec<Part>>,
    target: Target,
}

/// The values of an example that come out of one column, or of neighbours.
#[derive(Debug)]
enum Part {
    /// Numbers that lie side by side, with what stands for each that is missing.
    Numbers { slot: usize, missing: Vec<f32> },
    /// One of `width` numbers is 1.
    OneHot { slot: usize, width: usize, places: Vec<u32> },
    /// The number of a category, from 1 on; 0 for one that is not known.
    Index { slot: usize, places: Vec<u32> },
}

#[derive(Debug)]
pub(super) enum Target {
    /// The rows have none.
    None,
    /// The slot of the words, and the class of each.
    Class(usize, Vec<u32>),
    /// The slots of the numbers.
    Numbers(Vec<usize>),
}

/// An encoding, and the number of each name in it.
#[derive(Debug)]
pub(super) struct Codes {
    encoding: TableEncoding,
    /// By column.
    categories: HashMap<String, Numbers>,
    classes: Numbers,
}

/// The numbers of names.
type Numbers = HashMap<String, u32>;

/// The number of each word of a table; [`MISSING`] for one that has none.
fn places(words: &Words, names: &Numbers) -> Vec<u32> {
    (0..words.count() as u32).map(|number| names.get(words.word(number)).copied().unwrap_or(MISSING)).collect()
}

impl Codes {
    /// Those of an encoding with these classes.
    pub(super) fn of(encoding: &TableEncoding, classes: &[String]) -> Self {
        let numbers = |names: &[String]| names.iter().cloned().zip(0..).collect::<Numbers>();
        let columns = encoding.inputs.iter().flat_map(|input| &input.columns);
        let categories = columns.filter_map(|column| Some((column.name.clone(), numbers(column.categories.as_ref()?))));
        Self { encoding: encoding.clone(), categories: categories.collect(), classes: numbers(classes) }
    }

    /// The encoder of a table, which has all columns; None where one is of another kind.
    pub(super) fn encoder(&self, table: &Table) -> Option<Encoder> {
        let Self { encoding, categories, classes } = self;
        let input = |input: &InputColumns| {
            let part = |column: &ColumnEncoding| {
                let taken = table.column(&column.name)?;
                Some(match (&taken.values, categories.get(&column.name)) {
                    (&Values::Numbers(slot), None) => {
                        let missing = match taken.missing {
                            Missing::Constant(value) => Some(value),
                            Missing::Mean | Missing::Drop | Missing::Refuse => column.missing,
                        };
                        Part::Numbers { slot, missing: vec![missing.map_or(f32::NAN, |value| value as f32)] }
                    }
                    (Values::Words(slot, words), Some(names)) => {
                        let (slot, places) = (*slot, places(words, names));
                        match input.encoding {
                            InputEncoding::OneHot => Part::OneHot { slot, width: names.len(), places },
                            InputEncoding::Index => Part::Index { slot, places },
                        }
                    }
                    (Values::Numbers(_), Some(_)) | (Values::Words(..), None) | (Values::Text, _) => return None,
                })
            };
            let mut parts: Vec<Part> = Vec::new();
            for column in &input.columns {
                let part = part(column)?;
                match (parts.last_mut(), part) {
                    (Some(Part::Numbers { slot, missing }), Part::Numbers { slot: next, missing: its })
                        if next == *slot + missing.len() =>
                    {
                        missing.extend(its);
                    }
                    (_, part) => parts.push(part),
                }
            }
            Some(parts)
        };
        let inputs = encoding.inputs.iter().map(input).collect::<Option<_>>()?;
        let number = |name: &String| match table.column(name)?.values {
            Values::Numbers(slot) => Some(slot),
            Values::Words(..) | Values::Text => None,
        };
        let target = match encoding.targets.first().and_then(|name| table.words_of(name)) {
            None if table.roles.targets.is_empty() => Target::None,
            Some((slot, words)) => Target::Class(slot, places(words, classes)),
            None => Target::Numbers(encoding.targets.iter().map(number).collect::<Option<_>>()?),
        };
        Some(Encoder { inputs, target })
    }
}

impl Encoder {
    /// Puts rows of a table into a batch of a set with these facts, in place of what it holds.
    pub(super) fn encode(
        &self,
        facts: &Facts,
        table: &Table,
        rows: impl ExactSizeIterator<Item = u64> + Clone,
        into: &mut HostBatch,
    ) {
        let bytes = |field: &Field| field.bytes() as usize * rows.len();
        into.inputs.resize_with(self.inputs.len(), Vec::new);
        for ((input, field), batch) in self.inputs.iter().zip(&facts.inputs).zip(&mut into.inputs) {
            batch.clear();
            batch.reserve_exact(bytes(field));
            rows.clone().for_each(|row| Self::input(table, row, input, batch));
        }
        into.targets.clear();
        into.targets.reserve_exact(bytes(&facts.target));
        rows.for_each(|row| self.answer(table, row, &mut into.targets));
    }

    /// The target.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Adds the values of an input of a row to a batch.
    fn input(table: &Table, row: u64, input: &[Part], batch: &mut Vec<u8>) {
        for part in input {
            match part {
                Part::Numbers { slot, missing } => {
                    let begin = batch.len();
                    batch.resize(begin + 4 * missing.len(), 0);
                    let (into, _) = batch[begin..].as_chunks_mut();
                    let values = table.numbers(row, *slot, missing.len());
                    for ((into, value), missing) in into.iter_mut().zip(values).zip(missing) {
                        *into = if value.is_nan() { *missing } else { *value }.to_le_bytes();
                    }
                }
                Part::OneHot { slot, width, places } => {
                    let begin = batch.len();
                    batch.resize(begin + 4 * width, 0);
                    let word = table.word(row, *slot);
                    if let Some(&place) = places.get(word as usize).filter(|place| **place != MISSING) {
                        let begin = begin + 4 * place as usize;
                        batch[begin..begin + 4].copy_from_slice(&1f32.to_le_bytes());
                    }
                }
                Part::Index { slot, places } => {
                    let place = places.get(table.word(row, *slot) as usize).filter(|place| **place != MISSING);
                    batch.extend_from_slice(&place.map_or(0, |place| i64::from(*place) + 1).to_le_bytes());
                }
            }
        }
    }

    fn answer(&self, table: &Table, row: u64, batch: &mut Vec<u8>) {
        match &self.target {
            Target::None => {}
            Target::Class(slot, places) => {
                let class = places.get(table.word(row, *slot) as usize).copied().unwrap_or(MISSING);
                batch.extend_from_slice(&i64::from(class).to_le_bytes());
            }
            Target::Numbers(slots) => {
                for slot in slots {
                    batch.extend_from_slice(&table.number(row, *slot).to_le_bytes());
                }
            }
        }
    }
}

/// Rows of a table as examples.
pub(super) struct Encoded {
    pub facts: Facts,
    pub rows: Rows,
    pub table: Arc<Table>,
    pub encoder: Encoder,
}

impl Source for Encoded {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        Access::Memory
    }

    fn fill(&self, wanted: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        let rows = wanted.iter().map(|&place| self.rows.row(place));
        self.encoder.encode(&self.facts, &self.table, rows, into);
        Ok(())
    }
}
