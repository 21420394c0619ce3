//! Which arrays are in memory as a whole while a job has them, and which stay in their files.
//!
//! What does not fit its share of the memory stays in its files, the largest array first, as far as
//! its values lie there as they are. So that every attempt of a job does the same, it follows from
//! the files and that share alone.

use std::cmp::Reverse;

use super::super::column::Order;
use super::super::resident::InFiles;
use super::super::table::shards::window_bytes;
use super::super::{Dtype, Facts, Problem, Reading, SHARE_OF_DATA};
use super::{Array, Part};

/// Bytes of an example that are in memory wherever its values are: its number in the order of an
/// epoch.
const NUMBER_BYTES: u64 = 4;
/// Bytes of the weight of an example.
const WEIGHT_BYTES: u64 = 8;
/// What makes an array whose first dimension is fastest one that can be read in parts.
const REORDER: &str = "save np.ascontiguousarray of it";

/// The arrays of a set by where they are.
pub(super) struct Residence {
    /// Whether each array stays in its files ...
    in_files: Vec<bool>,
    /// ... and whether it is read all the same, since its range has to be known.
    is_ranged: Vec<bool>,
    /// The memory that the job needs; None where no array stays in its files.
    pub(super) memory: Option<InFiles>,
    /// The reason why more than the share is in memory all the same, and the remedy; None where it
    /// is not.
    pub(super) whole: Option<String>,
}

impl Residence {
    /// That of these arrays. `places` are those of the inputs and, last, of the target; `weighing`
    /// is that of the weights.
    ///
    /// # Errors
    /// Arrays that have to be read as a whole, and are more than all memory that a job can have.
    pub(super) fn of(
        arrays: &[Array<'_>],
        facts: &Facts,
        places: &[usize],
        weighing: Option<usize>,
        reading: &Reading<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut bytes = vec![0u64; arrays.len()];
        let mut is_ranged = vec![false; arrays.len()];
        let has_target = places.len() > facts.inputs.len();
        for (number, (field, &place)) in facts.fields().zip(places).enumerate() {
            bytes[place] = bytes[place].saturating_add(field.bytes().saturating_mul(facts.examples));
            // Tokens tell a network how many there are, and targets how many classes.
            is_ranged[place] |= field.dtype == Dtype::I64 || has_target && number == facts.inputs.len();
        }
        let weights = weighing.map_or(0, |_| WEIGHT_BYTES.saturating_mul(facts.examples));
        let mut residence = Self { in_files: vec![false; arrays.len()], is_ranged, memory: None, whole: None };
        let Some(most) = reading.memory_bytes else { return Ok(residence) };
        let total = |bytes: &[u64]| bytes.iter().fold(weights, |sum, bytes| sum.saturating_add(*bytes));
        let mut order: Vec<usize> = (0..arrays.len()).filter(|place| Some(*place) != weighing).collect();
        order.sort_by_key(|place| Reverse(bytes[*place]));
        order.retain(|place| {
            bytes[*place] > 0 && arrays[*place].parts.iter().all(|part| arrays[*place].is_placed(part).is_ok())
        });
        let placed = order.iter().fold(0u64, |sum, place| sum.saturating_add(bytes[*place]));
        let all = most.saturating_mul(SHARE_OF_DATA);
        // Where the others are more than the share, they are read as a whole as ever.
        let budget = if total(&bytes).saturating_sub(placed) <= most { most } else { all };
        for place in order {
            if total(&bytes) <= budget {
                break;
            }
            (residence.in_files[place], bytes[place]) = (true, 0);
        }
        let in_memory = total(&bytes);
        // The largest array, where it could be read in parts if its file were another.
        let whole = arrays.iter().zip(&bytes).max_by_key(|(_, bytes)| **bytes);
        let whole = whole.and_then(|(array, bytes)| {
            let (part, remedy) = array.parts.iter().find_map(|part| Some((part, array.is_placed(part).err()?)))?;
            Some((array, bytes, part, remedy))
        });
        if in_memory > all {
            let refused = whole.map(|(array, bytes, part, remedy)| {
                let what = format!("takes {bytes} bytes of memory, as it is read as a whole, and the job has {all}");
                let what = format!("has {:?}, which {what}; {remedy}, so that rows can be read one by one", array.name);
                part.file.problem(what)
            });
            return refused.map_or(Ok(residence), |problem| Err(vec![problem]));
        }
        if in_memory > most {
            residence.whole = whole.map(|(array, _, _, remedy)| {
                let remedy = format!("for {:?} {remedy}, so that rows can be read one by one", array.name);
                format!(
                    "take {in_memory} bytes of memory, as they are read as a whole, and the job has {all}; {remedy}"
                )
            });
        }
        if residence.in_files.contains(&true) {
            let ahead_bytes = window_bytes(most);
            let numbers = NUMBER_BYTES.saturating_mul(facts.examples);
            let memory_bytes = in_memory.saturating_add(numbers).saturating_add(ahead_bytes);
            residence.memory = Some(InFiles { memory_bytes, ahead_bytes });
        }
        Ok(residence)
    }

    /// Whether an array stays in its files.
    pub(super) fn is_in_files(&self, place: usize) -> bool {
        self.in_files[place]
    }

    /// Whether all of its values are read before training.
    pub(super) fn is_read(&self, place: usize) -> bool {
        !self.in_files[place] || self.is_ranged[place]
    }
}

impl Array<'_> {
    /// Whether examples of a part can be read one by one, or what has to be done so that they can.
    fn is_placed(&self, part: &Part<'_>) -> Result<(), &'static str> {
        let has_rows = part.order == Order::Rows || self.shape.iter().skip(1).all(|size| *size == 1);
        if has_rows { part.place.map(drop) } else { part.place.and(Err(REORDER)) }
    }
}
