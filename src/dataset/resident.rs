//! A set that is in memory as a whole.

use super::{Access, Facts, HostBatch, Problem, Source};

/// Columns of values, one for each input and one for the targets.
pub(super) struct Resident {
    facts: Facts,
    /// Bytes in the order of the examples, for each input.
    inputs: Vec<Vec<u8>>,
    targets: Vec<u8>,
}

impl Resident {
    /// A set of these columns, each as long as `facts` say.
    pub(super) fn new(facts: Facts, inputs: Vec<Vec<u8>>, targets: Vec<u8>) -> Self {
        debug_assert!(
            facts
                .inputs
                .iter()
                .zip(&inputs)
                .all(|(field, column)| { column.len() as u64 == field.bytes().saturating_mul(facts.examples) })
        );
        Self { facts, inputs, targets }
    }
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
            gather(column, field.bytes(), places, batch);
        }
        gather(&self.targets, self.facts.target.bytes(), places, &mut into.targets);
        Ok(())
    }
}

fn gather(column: &[u8], width: u64, places: &[u64], batch: &mut Vec<u8>) {
    let width = width as usize;
    batch.clear();
    batch.reserve(width * places.len());
    for &place in places {
        let begin = place as usize * width;
        batch.extend_from_slice(&column[begin..begin + width]);
    }
}
