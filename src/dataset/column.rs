//! The values of one field while its file is read: converted to the type of batches, judged, and
//! kept where they are needed.

use super::numbers::{Misfit, Numbers};
use super::{Dtype, Field, Range};

/// A field that is being filled, file by file.
pub(super) struct Column {
    field: Field,
    numbers: Numbers,
    /// Its values as batches have them, example by example but for the file in hand, whose order
    /// they have; None where they are not kept.
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
        let file = InHand { order: Order::Rows, examples: 0, next: 0, begun: Vec::new(), kept: 0 };
        Self { field, numbers, bytes: is_kept.then(Vec::new), before: 0, file }
    }

    /// Begins the next file, which has so many examples in that order.
    pub(super) fn begin(&mut self, order: Order, examples: u64) {
        self.end();
        self.before += self.file.examples;
        let kept = self.bytes.as_ref().map_or(0, Vec::len);
        self.file = InHand { order, examples, next: 0, begun: Vec::new(), kept };
    }

    /// Puts the values of the file in hand into the order of examples.
    fn end(&mut self) {
        let InHand { order, examples, kept, .. } = self.file;
        if let (Some(bytes), Order::Columns) = (&mut self.bytes, order)
            && self.field.values() > 1
        {
            let rows = by_rows(&bytes[kept..], &self.field, examples);
            bytes.truncate(kept);
            bytes.extend_from_slice(&rows);
        }
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
        let Self { field, numbers, bytes, before, file: InHand { order, examples, next, .. } } = self;
        let width = field.values().max(1);
        let (order, examples, before) = (*order, *examples, *before);
        let example = move |place: u64| match order {
            Order::Rows => place / width,
            Order::Columns => place % examples,
        };
        let (mut range, mut place, mut misfit) = (field.range, *next, None);
        // Values that are stored as batches have them are copied at once.
        let mut bytes = bytes.as_mut();
        if numbers.are(field.dtype)
            && let Some(bytes) = bytes.take()
        {
            bytes.extend_from_slice(values);
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
                    bytes.extend_from_slice(&single.to_le_bytes());
                }
                place += 1;
            }),
            Dtype::I64 => numbers.each_whole(values, |value| {
                match value {
                    Ok(value) => {
                        range = Some(Range::with(range, value, before + example(place)));
                        if let Some(bytes) = &mut bytes {
                            bytes.extend_from_slice(&value.to_le_bytes());
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
    pub(super) fn finish(mut self) -> (Field, Option<Vec<u8>>) {
        self.end();
        (self.field, self.bytes)
    }
}

/// The values of examples row by row, from an array whose first dimension is fastest.
fn by_rows(columns: &[u8], field: &Field, examples: u64) -> Vec<u8> {
    let width = field.dtype.bytes() as usize;
    // Where the values of the first example lie, in the order of rows: its last dimension fastest.
    let mut places = vec![0usize];
    let mut stride = examples as usize;
    for &size in &field.shape {
        let steps = (0..size as usize).map(|index| index * stride);
        places = places.iter().flat_map(|place| steps.clone().map(move |step| place + step)).collect();
        stride *= size as usize;
    }
    let mut rows = Vec::with_capacity(columns.len());
    for example in 0..examples as usize {
        for place in &places {
            let begin = (place + example) * width;
            rows.extend_from_slice(&columns[begin..begin + width]);
        }
    }
    rows
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
