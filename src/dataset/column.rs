//! The values of one field while its file is read: converted to the type of batches, judged, and
//! kept where they are needed.

use super::numbers::{Misfit, Numbers};
use super::{Dtype, Field, Range};

/// A field that is being filled, file by file.
pub(super) struct Column {
    field: Field,
    numbers: Numbers,
    /// Its values as batches have them, example by example; None where they are not kept.
    bytes: Option<Vec<u8>>,
    /// Examples of the files before the one in hand.
    before: u64,
    file: InHand,
}

/// The file that is being read.
struct InHand {
    order: Order,
    examples: u64,
    /// The place of the next value in it.
    next: u64,
    /// The first bytes of a value whose last ones are yet to come.
    begun: Vec<u8>,
    /// The kept bytes of the files before.
    kept: usize,
    /// Of a file in the order of columns the place in an example of each column's value; empty
    /// where the values of an example lie side by side.
    slots: Vec<usize>,
}

/// The order of the values of an array in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last dimension fastest, as C has it.
    Rows,
    /// The first one fastest, which counts the examples, as Fortran has it.
    Columns,
}

impl Column {
    /// The column of a field; `numbers` are those of its files. Its values are kept where asked
    /// for.
    pub(super) fn new(field: Field, numbers: Numbers, is_kept: bool) -> Self {
        let file = InHand { order: Order::Rows, examples: 0, next: 0, begun: Vec::new(), kept: 0, slots: Vec::new() };
        Self { field, numbers, bytes: is_kept.then(Vec::new), before: 0, file }
    }

    /// Begins the next file, which has so many examples in that order.
    pub(super) fn begin(&mut self, order: Order, examples: u64) {
        self.before += self.file.examples;
        let kept = self.bytes.as_ref().map_or(0, Vec::len);
        let is_scattered = order == Order::Columns && self.field.values() > 1;
        let slots = if is_scattered { slots_of_columns(&self.field.shape) } else { Vec::new() };
        if let (Some(bytes), true) = (&mut self.bytes, is_scattered) {
            // Each value is put to its place at once, so that the array is in memory once.
            bytes.resize(kept + (examples * self.field.bytes()) as usize, 0);
        }
        self.file = InHand { order, examples, next: 0, begun: Vec::new(), kept, slots };
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// A value that the field cannot hold, in words that follow the file's path.
    pub(super) fn take(&mut self, mut block: &[u8]) -> Result<(), String> {
        let width = self.numbers.kind.width();
        let begun = &mut self.file.begun;
        if !begun.is_empty() {
            let (rest, others) = block.split_at(block.len().min(width - begun.len()));
            begun.extend_from_slice(rest);
            block = others;
            if begun.len() < width {
                return Ok(());
            }
            let value = std::mem::take(begun);
            self.take_whole(&value)?;
        }
        let (values, rest) = block.split_at(block.len() / width * width);
        self.file.begun.extend_from_slice(rest);
        self.take_whole(values)
    }

    /// The same with values that are complete.
    fn take_whole(&mut self, values: &[u8]) -> Result<(), String> {
        let Self { field, numbers, bytes, before, file } = self;
        let InHand { order, examples, next, kept, slots, .. } = file;
        let width = field.values().max(1);
        let (order, examples, before, kept) = (*order, *examples, *before, *kept);
        let example = move |place: u64| match order {
            Order::Rows => place / width,
            Order::Columns => place % examples,
        };
        let (mut range, mut place, mut misfit) = (field.range, *next, None);
        // Values that are stored as batches have them are copied at once.
        let mut bytes = bytes.as_mut();
        let size = field.dtype.bytes() as usize;
        let put = |bytes: &mut Vec<u8>, place: u64, value: &[u8]| {
            if slots.is_empty() {
                return bytes.extend_from_slice(value);
            }
            let (column, example) = ((place / examples) as usize, (place % examples) as usize);
            let begin = kept + (example * slots.len() + slots.get(column).copied().unwrap_or(0)) * size;
            if let Some(into) = bytes.get_mut(begin..begin + size) {
                into.copy_from_slice(value);
            }
        };
        if numbers.are(field.dtype)
            && let Some(bytes) = bytes.take()
        {
            if slots.is_empty() {
                bytes.extend_from_slice(values);
            } else {
                (place..).zip(values.chunks_exact(size)).for_each(|(place, value)| put(bytes, place, value));
            }
        }
        match field.dtype {
            Dtype::Pixel => place += values.len() as u64,
            Dtype::F32 => numbers.each_float(values, |value| {
                let single = value as f32;
                if !single.is_finite() {
                    misfit.get_or_insert((place, Misfit::Float(value)));
                }
                for bound in [single.floor(), single.ceil()] {
                    range = Some(Range::with(range, bound as i64, before + example(place)));
                }
                if let Some(bytes) = &mut bytes {
                    put(bytes, place, &single.to_le_bytes());
                }
                place += 1;
            }),
            Dtype::I64 => numbers.each_whole(values, |value| {
                match value {
                    Ok(value) => {
                        range = Some(Range::with(range, value, before + example(place)));
                        if let Some(bytes) = &mut bytes {
                            put(bytes, place, &value.to_le_bytes());
                        }
                    }
                    Err(value) => _ = misfit.get_or_insert((place, Misfit::Whole(value))),
                }
                place += 1;
            }),
        }
        (field.range, *next) = (range, place);
        let Some((place, misfit)) = misfit else { return Ok(()) };
        Err(misfit.told_of(&field.name, example(place)))
    }

    /// The field with its range, and its values example by example where they are kept.
    pub(super) fn finish(self) -> (Field, Option<Vec<u8>>) {
        (self.field, self.bytes)
    }
}

/// The place in an example, its last dimension fastest, of each value in the order of columns, its
/// first dimension fastest.
fn slots_of_columns(shape: &[u64]) -> Vec<usize> {
    let (mut slots, mut stride) = (vec![0usize], shape.iter().product::<u64>() as usize);
    for &size in shape {
        stride /= (size as usize).max(1);
        let steps = (0..size as usize).map(|index| index * stride);
        slots = steps.flat_map(|step| slots.iter().map(move |slot| slot + step).collect::<Vec<_>>()).collect();
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::super::numbers::Kind;
    use super::*;

    fn field(dtype: Dtype, shape: &[u64]) -> Field {
        Field { name: "x".into(), file: "path".into(), dtype, shape: shape.to_vec(), range: None }
    }

    #[test]
    fn values_are_whole_however_the_bytes_are_cut() {
        let file: Vec<u8> = [1.5f64, -2.0, 3.0].iter().flat_map(|value| value.to_be_bytes()).collect();
        for cut in 1..file.len() {
            let numbers = Numbers { kind: Kind::F64, is_big_endian: true };
            let mut column = Column::new(field(Dtype::F32, &[]), numbers, true);
            column.begin(Order::Rows, 3);
            for block in file.chunks(cut) {
                column.take(block).unwrap();
            }
            let (field, bytes) = column.finish();
            let expected: Vec<u8> = [1.5f32, -2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(bytes.unwrap(), expected, "blocks of {cut}");
            assert_eq!(field.range, Some(Range { lowest: -2, highest: 3, highest_at: 2 }));
        }
    }

    #[test]
    fn columns_become_rows() {
        // np.arange(12).reshape(2, 3, 2), in Fortran's order.
        let file = [0u8, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
        let numbers = Numbers::little_endian(Kind::U8);
        let mut column = Column::new(field(Dtype::I64, &[3, 2]), numbers, true);
        column.begin(Order::Columns, 2);
        column.take(&file).unwrap();
        let (field, bytes) = column.finish();
        let values: Vec<_> = bytes.unwrap().as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect();
        assert_eq!(values, (0..12).collect::<Vec<_>>());
        assert_eq!(field.range, Some(Range { lowest: 0, highest: 11, highest_at: 1 }));
    }

    #[test]
    fn files_follow_one_another_each_in_its_own_order() {
        let numbers = Numbers::little_endian(Kind::U8);
        let mut column = Column::new(field(Dtype::I64, &[2]), numbers, true);
        for (order, file) in [(Order::Columns, &[0u8, 2, 1, 3][..]), (Order::Rows, &[4, 9]), (Order::Columns, &[6, 7])]
        {
            column.begin(order, file.len() as u64 / 2);
            file.chunks(3).for_each(|block| column.take(block).unwrap());
        }
        let (field, bytes) = column.finish();
        let values: Vec<_> = bytes.unwrap().as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect();
        assert_eq!(values, [0, 1, 2, 3, 4, 9, 6, 7]);
        assert_eq!(field.range, Some(Range { lowest: 0, highest: 9, highest_at: 2 }));
    }

    #[test]
    fn values_that_a_batch_cannot_hold_are_told_with_their_example() {
        let told = |kind, dtype, bytes: &[u8]| {
            let mut column = Column::new(field(dtype, &[2]), Numbers::little_endian(kind), false);
            column.begin(Order::Rows, 2);
            column.take(bytes).unwrap_err()
        };
        let floats: Vec<u8> = [0.0f64, 1.0, 2.0, 1e300].iter().flat_map(|value| value.to_le_bytes()).collect();
        let words = r#"in "x", in the example 1 counted from 0; every value must be a 32-bit float"#;
        let found = told(Kind::F64, Dtype::F32, &floats);
        assert!(found.starts_with("holds 1000") && found.ends_with(words), "{found}");
        let found = told(Kind::F32, Dtype::F32, &[f32::NAN, 1.0].map(f32::to_le_bytes).concat());
        assert_eq!(found, r#"holds NaN in "x", in the example 0 counted from 0; every value must be finite"#);
        let found = told(Kind::U64, Dtype::I64, &u64::MAX.to_le_bytes());
        assert!(found.contains("holds 18446744073709551615") && found.ends_with("below 2^63"), "{found}");
    }
}
