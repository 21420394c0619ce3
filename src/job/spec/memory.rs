//! The memory of the host that a job needs at least, held against what the machine has.
//!
//! Only what is certain is counted: a job that is refused here could never have trained. What else
//! libtorch takes shows when the job runs.

use super::{Demands, Model};
use crate::dataset::Facts;
use crate::job::Violations;

/// Memory that jobs can have.
#[derive(Debug, Clone, Copy)]
pub struct HostMemory<'a> {
    /// How much, in bytes; 0 where it is not known.
    pub bytes: u64,
    /// Who has it, for example `this machine`.
    pub owner: &'a str,
}

/// Adds what needs more memory than there is. `sets` are the data sets that are known, each with
/// its field.
pub fn judge_memory(
    demands: &Demands,
    sets: &[(&str, Facts)],
    on_gpu: bool,
    memory: HostMemory<'_>,
    wrong: &mut Violations,
) {
    let HostMemory { bytes: most, owner } = memory;
    if most == 0 {
        return;
    }
    let pixels =
        |facts: &Facts| facts.examples.saturating_mul(u64::from(facts.height)).saturating_mul(u64::from(facts.width));
    // The files are in memory as they are, and beside them the tensors: a byte a pixel, and 64 bits
    // a label.
    let files = sets.iter().map(|(_, facts)| pixels(facts).saturating_add(facts.examples));
    let tensors = || sets.iter().map(|(_, facts)| pixels(facts).saturating_add(facts.examples.saturating_mul(8)));
    // Tensors go on to a GPU one by one.
    let held = if on_gpu { tensors().max().unwrap_or(0) } else { sum(tensors()) };
    let to_load = sum(files).saturating_add(held);
    let largest = sets.iter().max_by_key(|(_, facts)| pixels(facts));
    if let Some((field, Facts { examples, height, width, .. })) = largest.filter(|_| to_load > most) {
        let found = format!("holds {examples} images of {height}x{width}");
        let need = format!("to load the data takes {to_load} bytes of memory at least, and {owner} has {most}");
        return wrong.add(format!("{field}.idx.images"), format!("{found}; {need}"));
    }
    let Some(model) = demands.model.filter(|_| !on_gpu) else { return };
    for (field, batch) in [
        ("training.batch_size", Some(demands.batch_size)),
        ("training.validation_batch_size", demands.validation_batch_size),
    ] {
        let Some(batch) = batch else { continue };
        let need = u64::from(batch).saturating_mul(model.bytes_per_example()).saturating_add(held);
        if need > most {
            let what = format!("a batch and the data take {need} bytes of memory at least, and {owner} has {most}");
            wrong.add(field, format!("is {batch}; {what}"));
        }
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

impl Model {
    /// Bytes that are in memory at once for each example of a batch, at least: its values as 32-bit
    /// floats, and the output of the first layer.
    fn bytes_per_example(self) -> u64 {
        match self {
            Self::MnistCnn { .. } => 4 * (28 * 28 + 10 * 24 * 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(examples: u64, batch_size: u32, on_gpu: bool, bytes: u64) -> Vec<String> {
        let facts = Facts {
            examples,
            height: 28,
            width: 28,
            highest_label: None,
            lowest_label: None,
            images_bytes: 0,
            labels_bytes: 0,
        };
        let demands = Demands {
            model: Some(Model::MnistCnn { dropout: 0.5 }),
            length: None,
            batch_size,
            validation_batch_size: None,
        };
        let sets = [("data.train", facts), ("data.validation", Facts { examples: 10, ..facts })];
        let mut wrong = Violations::default();
        judge_memory(&demands, &sets, on_gpu, HostMemory { bytes, owner: "this machine" }, &mut wrong);
        wrong.0.into_iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect()
    }

    #[test]
    fn data_and_batches_that_no_memory_can_hold_are_named_with_both_figures() {
        let gib = 1 << 30;
        assert!(judge(60_000, 64, false, gib).is_empty());
        // 100 GB of pixels, of labels 1 and 8 bytes.
        let told = judge(127_551_020, 64, false, 24 * gib);
        let bytes = 2 * 784 * 127_551_030u64 + 9 * 127_551_030;
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("data.train.idx.images: holds 127551020 images of 28x28; "), "{told:?}");
        assert!(told[0].contains(&format!("takes {bytes} bytes")) && told[0].contains("this machine has 25769803776"));
        let told = judge(2_000_000, 2_000_000, false, 24 * gib);
        assert!(told[0].starts_with("training.batch_size: is 2000000; a batch and the data take"), "{told:?}");
        // The GPU's memory is another matter.
        assert!(judge(2_000_000, 2_000_000, true, 24 * gib).is_empty());
        assert!(judge(u64::MAX, 64, false, u64::MAX).is_empty() && judge(u64::MAX, 64, false, 0).is_empty());
    }
}
