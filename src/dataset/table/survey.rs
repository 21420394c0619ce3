//! The values of a table's columns in the rows of a set: all that learning and judging ask for,
//! gathered in one pass over the rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::moments::Sums;
use super::super::{Moments, Range};
use super::Table;
use super::layout::{Column, Values};
use super::roles::Missing;
use super::words::{self, NotTaken};

/// The findings of a set.
#[derive(Debug)]
pub(super) struct Survey {
    /// By the columns that are taken.
    columns: Vec<Found>,
    /// Examples that were looked at.
    examples: u64,
}

/// The findings in a column.
#[derive(Debug)]
enum Found {
    Numbers(Numbers),
    /// The words, and their bytes as [`words::MOST_BYTES`] counts them.
    Words(HashMap<Box<str>, Met>, usize),
    /// Nothing is asked of it.
    Nothing,
}

/// The numbers of a column, without those that are missing.
#[derive(Debug)]
pub(super) struct Numbers {
    count: u64,
    sum: f64,
    sums: Sums,
    /// The range of a target.
    range: Option<Range>,
    is_target: bool,
}

/// A word of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// The examples that have it.
    pub count: u64,
    /// The first of them.
    pub first: u64,
}

impl Survey {
    /// One without rows. `measure` asks for the moments of all numbers.
    pub(super) fn new(table: &Table, measure: bool) -> Self {
        let found = |column: &Column| {
            let is_target = table.roles.targets.contains(&column.name);
            match column.values {
                Values::Words(..) => Found::Words(HashMap::new(), 0),
                Values::Numbers(_) if measure || is_target || column.missing == Missing::Mean => {
                    Found::Numbers(Numbers { count: 0, sum: 0.0, sums: Sums::of(1), range: None, is_target })
                }
                Values::Numbers(_) | Values::Text => Found::Nothing,
            }
        };
        Self { columns: table.columns.iter().map(found).collect(), examples: 0 }
    }

    /// Looks at rows of a table, which are the next examples. So many rows of the set lie before
    /// the table.
    ///
    /// # Errors
    /// The column that holds more words than a column may.
    pub(super) fn add(
        &mut self,
        table: &Table,
        before: u64,
        rows: impl Iterator<Item = u64>,
    ) -> Result<(), (String, NotTaken)> {
        let (mut numbers, mut words) = (Vec::new(), Vec::new());
        for (column, found) in table.columns.iter().zip(&mut self.columns) {
            match (&column.values, found) {
                (Values::Numbers(slot), Found::Numbers(found)) => numbers.push((*slot, found)),
                (Values::Words(slot, known), Found::Words(found, bytes)) => {
                    words.push((*slot, vec![None::<Met>; known.count()], &column.name, known, (found, bytes)));
                }
                _ => {}
            }
        }
        for row in rows {
            let example = self.examples;
            self.examples += 1;
            for (slot, found) in &mut numbers {
                found.add(table.number(row, *slot), before + row);
            }
            for (slot, met, ..) in &mut words {
                if let Some(met) = met.get_mut(table.word(row, *slot) as usize) {
                    met.get_or_insert(Met { count: 0, first: example }).count += 1;
                }
            }
        }
        for (_, met, name, known, (found, bytes)) in words {
            for (number, met) in (0..).zip(met) {
                let Some(met) = met else { continue };
                match found.entry(known.word(number).into()) {
                    Entry::Occupied(mut before) => before.get_mut().count += met.count,
                    Entry::Vacant(new) => {
                        *bytes += 2 * new.key().len();
                        new.insert(met);
                    }
                }
                if found.len() > words::MOST_SPELLINGS || *bytes > words::MOST_BYTES {
                    return Err((name.clone(), NotTaken::TooMany));
                }
            }
        }
        Ok(())
    }

    /// The words of a column.
    pub(super) fn words(&self, table: &Table, column: &str) -> Option<&HashMap<Box<str>, Met>> {
        match self.found(table, column)? {
            Found::Words(words, _) => Some(words),
            Found::Numbers(_) | Found::Nothing => None,
        }
    }

    /// The words of a column, sorted.
    pub(super) fn names(&self, table: &Table, column: &str) -> Vec<String> {
        let words = self.words(table, column).into_iter().flat_map(HashMap::keys);
        let mut names: Vec<String> = words.map(|word| word.to_string()).collect();
        words::sort(&mut names);
        names
    }

    /// The mean of the numbers of a column; None where there are none.
    pub(super) fn mean(&self, table: &Table, column: &str) -> Option<f64> {
        let found = self.numbers(table, column)?;
        (found.count > 0).then(|| found.sum / found.count as f64)
    }

    /// In how many examples a column of numbers has none, and how many examples there are. None
    /// where nothing was asked of it.
    pub(super) fn missing(&self, table: &Table, column: &str) -> Option<(u64, u64)> {
        Some((self.examples - self.numbers(table, column)?.count, self.examples))
    }

    /// The moments of a column, its missing values being that.
    pub(super) fn moments(&self, table: &Table, column: &str, missing: Option<f64>) -> Option<Moments> {
        let found = self.numbers(table, column)?;
        let mut sums = found.sums.clone();
        if let Some(value) = missing.filter(|_| found.count < self.examples) {
            sums.add_all(0, f64::from(value as f32), (self.examples - found.count) as f64);
        }
        // Of the rows of a sample none may have been read.
        Some(sums.moments(self.examples.max(1) as f64, 1.0))
    }

    /// The range of a target of numbers.
    pub(super) fn range(&self, table: &Table, column: &str) -> Option<Range> {
        self.numbers(table, column)?.range
    }

    fn numbers(&self, table: &Table, column: &str) -> Option<&Numbers> {
        match self.found(table, column)? {
            Found::Numbers(numbers) => Some(numbers),
            Found::Words(..) | Found::Nothing => None,
        }
    }

    fn found(&self, table: &Table, name: &str) -> Option<&Found> {
        self.columns.get(table.place(name)?)
    }
}

impl Numbers {
    fn add(&mut self, value: f32, row: u64) {
        if value.is_nan() {
            return;
        }
        self.count += 1;
        self.sum += f64::from(value);
        self.sums.add(0, value.into());
        if self.is_target {
            for bound in [value.floor(), value.ceil()] {
                self.range = Some(Range::with(self.range, bound as i64, row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Apart, Layout};
    use super::super::roles::{Roles, TargetType};
    use super::*;

    #[test]
    fn words_of_a_column_are_bounded_over_all_shards() {
        let names = ["k".to_owned(), "y".to_owned()];
        let roles = Roles { targets: vec!["y".into()], categorical: vec!["k".into()], ..Roles::default() };
        let shard = |first: u32| {
            let apart = Apart::default();
            let layout = Layout::of("".as_ref(), &names, &roles, TargetType::Numbers, &apart).unwrap();
            let mut table = Table::new("path", layout, names.to_vec(), roles.clone(), apart, "row");
            table.begin_rows(4);
            for row in 0..4 {
                let word = format!("{}{}", first + row, "a".repeat(words::MOST_BYTES / 20));
                let number = table.word_number(0, word.as_bytes()).unwrap();
                table.set_word(row as usize, 0, number);
            }
            table.keep_rows("".as_ref(), 0, &mut super::super::Batch { rows: 4, ..Default::default() });
            table
        };
        let mut survey = Survey::new(&shard(0), false);
        for first in [0, 4, 0] {
            survey.add(&shard(first), first.into(), 0..4).unwrap();
        }
        assert_eq!(survey.add(&shard(8), 8, 0..4), Err(("k".into(), NotTaken::TooMany)));
    }
}
