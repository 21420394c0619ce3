//! Rounds of a measurement, in which a bench and its peer take turns.

/// Their number.
pub(crate) const ROUNDS: usize = 7;

/// The middle of some values, with the least and the most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// That of some values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { least: values[0], median: values[values.len() / 2], most: values[values.len() - 1] }
    }
}
