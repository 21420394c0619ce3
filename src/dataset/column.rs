//! The values of one field while its file is read: converted to the type of batches, judged, and
//! kept where they are needed.

use super::numbers::{Misfit, Numbers};
use super::{Dtype, Field, Range};

/// A field that is being filled.
pub(super) struct Column {
    field: Field,
    numbers: Numbers,
    order: Order,
    examples: u64,
    /// Its values in the order of the file, as batches have them; None where they are not kept.
    bytes: Option<Vec<u8>>,
    /// The place of the next value in the file.
    next: u64,
    /// The first bytes of a value whose last ones are yet to come.
    begun: Vec<u8>,
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
    /// The column of a field of so many examples; `numbers` are those of the file. Its values are
    /// kept where asked for.
    pub(super) fn new(field: Field, numbers: Numbers, order: Order, examples: u64, is_kept: bool) -> Self {
        Self { field, numbers, order, examples, bytes: is_kept.then(Vec::new), next: 0, begun: Vec::new() }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// A value that the field cannot hold, in words that follow the file's path.
    pub(super) fn take(&mut self, mut block: &[u8]) -> Result<(), String> {
        let width = self.numbers.kind.width();
        if !self.begun.is_empty() {
            let (rest, others) = block.split_at(block.len().min(width - self.begun.len()));
            self.begun.extend_from_slice(rest);
            block = others;
            if self.begun.len() < width {
                return Ok(());
            }
            let value = std::mem::take(&mut self.begun);
            self.take_whole(&value)?;
        }
        let (values, rest) = block.split_at(block.len() / width * width);
        self.begun.extend_from_slice(rest);
        self.take_whole(values)
    }

    /// The same with values that are complete.
    fn take_whole(&mut self, values: &[u8]) -> Result<(), String> {
        let Self { field, numbers, order, examples, bytes, next, .. } = self;
        let width = field.values().max(1);
        let (order, examples) = (*order, *examples);
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
                    range = Some(Range::with(range, bound as i64, example(place)));
                }
                if let Some(bytes) = &mut bytes {
                    bytes.extend_from_slice(&single.to_le_bytes());
                }
                place += 1;
            }),
            Dtype::I64 => numbers.each_whole(values, |value| {
                match value {
                    Ok(value) => {
                        range = Some(Range::with(range, value, example(place)));
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
        let (found, right) = misfit.told();
        let (name, example) = (&field.name, example(place));
        Err(format!("holds {found} in {name:?}, in the example {example} counted from 0; {right}"))
    }

    /// The field with its range, and its values example by example where they are kept.
    pub(super) fn finish(self) -> (Field, Option<Vec<u8>>) {
        let bytes = self.bytes.map(|bytes| match self.order {
            Order::Columns if self.field.values() > 1 => by_rows(&bytes, &self.field, self.examples),
            Order::Rows | Order::Columns => bytes,
        });
        (self.field, bytes)
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
            let mut column = Column::new(field(Dtype::F32, &[]), numbers, Order::Rows, 3, true);
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
        let mut column = Column::new(field(Dtype::I64, &[3, 2]), numbers, Order::Columns, 2, true);
        column.take(&file).unwrap();
        let (field, bytes) = column.finish();
        let values: Vec<_> = bytes.unwrap().as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect();
        assert_eq!(values, (0..12).collect::<Vec<_>>());
        assert_eq!(field.range, Some(Range { lowest: 0, highest: 11, highest_at: 1 }));
    }

    #[test]
    fn values_that_a_batch_cannot_hold_are_told_with_their_example() {
        let told = |kind, dtype, bytes: &[u8]| {
            let mut column = Column::new(field(dtype, &[2]), Numbers::little_endian(kind), Order::Rows, 2, false);
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
