//! Means and deviations of the values of inputs.

use super::content::Moments;
use super::{Dtype, Field};

/// The moments of an input over rows: pixels by channel, scaled to 0..1; floats by place in a row
/// of numbers, or by channel.
pub(super) struct Measured {
    dtype: Dtype,
    /// Values of a group in an example.
    each: usize,
    sums: Sums,
}

impl Measured {
    /// Those of a field, without rows; None for an input that is neither.
    pub(super) fn of(field: &Field) -> Option<Self> {
        let groups = usize::try_from(field.normalized()?).ok()?;
        let each = usize::try_from(field.values()).ok()? / groups.max(1);
        Some(Self { dtype: field.dtype, each, sums: Sums::of(groups) })
    }

    /// Adds an example, as batches have it.
    pub(super) fn add(&mut self, example: &[u8]) {
        let Self { dtype, each, sums } = self;
        let mut add = |place: usize, value: f64| sums.add(place / *each, value);
        match dtype {
            Dtype::Pixel => example.iter().enumerate().for_each(|(place, &pixel)| add(place, pixel.into())),
            Dtype::F32 => {
                let values = example.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
                values.enumerate().for_each(|(place, value)| add(place, value.into()));
            }
            // Whole numbers have no moments.
            Dtype::I64 => {}
        }
    }

    /// The moments of so many examples.
    pub(super) fn moments(&self, examples: u64) -> Moments {
        let scale = if self.dtype == Dtype::Pixel { 255.0 } else { 1.0 };
        self.sums.moments(examples as f64 * self.each as f64, scale)
    }
}

/// Sums of groups of values, and of their squares.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    sums: Vec<(f64, f64)>,
    /// The first value of each group. Sums of shifted values: squares of large means would lose the
    /// part that varies.
    shift: Vec<Option<f64>>,
}

impl Sums {
    /// So many groups without values.
    pub(super) fn of(groups: usize) -> Self {
        Self { sums: vec![(0.0, 0.0); groups], shift: vec![None; groups] }
    }

    /// Adds a value to a group.
    pub(super) fn add(&mut self, group: usize, value: f64) {
        self.add_all(group, value, 1.0);
    }

    /// Adds that many equal values to a group.
    pub(super) fn add_all(&mut self, group: usize, value: f64, count: f64) {
        let by = value - *self.shift[group].get_or_insert(value);
        self.sums[group].0 += count * by;
        self.sums[group].1 += count * (by * by);
    }

    /// The moments of groups of so many values, divided by `scale`.
    pub(super) fn moments(&self, count: f64, scale: f64) -> Moments {
        let moment = |((sum, squares), shift): (&(f64, f64), &Option<f64>)| {
            let variance = (squares / count - (sum / count).powi(2)).max(0.0);
            let std = variance.sqrt() / scale;
            ((shift.unwrap_or(0.0) + sum / count) / scale, if std > 0.0 { std } else { 1.0 })
        };
        let (mean, std) = self.sums.iter().zip(&self.shift).map(moment).unzip();
        Moments { mean, std }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::*;

    fn measure(field: &Field, column: &[u8], rows: &Rows) -> Option<Moments> {
        let (mut measured, width) = (Measured::of(field)?, field.bytes() as usize);
        rows.iter().for_each(|row| measured.add(&column[row as usize * width..][..width]));
        Some(measured.moments(rows.count()))
    }

    #[test]
    fn channels_and_numbers_are_measured_over_the_rows_alone() {
        let field = |dtype, shape: &[u64]| Field {
            name: "x".into(),
            file: "path".into(),
            dtype,
            shape: shape.to_vec(),
            range: None,
        };
        let rows = Rows::chosen([0, 2]);
        let pixels = [0, 255, 51, 51, 9, 9, 9, 9, 255, 0, 51, 51];
        let moments = measure(&field(Dtype::Pixel, &[2, 1, 2]), &pixels, &rows).unwrap();
        assert_eq!((moments.mean, moments.std), (vec![0.5, 0.2], vec![0.5, 1.0]));
        let floats: Vec<u8> =
            [1e6f32, 2.0, 7.0, 7.0, 1e6 + 2.0, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let moments = measure(&field(Dtype::F32, &[2]), &floats, &rows).unwrap();
        assert_eq!((moments.mean, moments.std), (vec![1e6 + 1.0, 2.0], vec![1.0, 1.0]));
        assert_eq!(measure(&field(Dtype::I64, &[2]), &[0; 48], &rows), None);
    }
}
