//! A table in memory: the numbers and words of its rows, before they become inputs and targets.
//!
//! The numbers of a row lie side by side, and so do its words, so that an example is gathered from
//! two places. Values are encoded as they are asked for: a category costs four bytes a row, however
//! many there are.

mod encode;
pub(super) mod layout;
pub(super) mod places;
mod prepare;
pub mod roles;
pub(super) mod shards;
mod survey;
mod texts;
pub(super) mod words;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use encode::{ColumnEncoding, InputColumns, TableEncoding};
pub(super) use prepare::Tables;

use self::layout::{Apart, Column, Layout, Values};
use self::places::Places;
use self::roles::{Missing, Roles};
use self::texts::Texts;
use self::words::{MISSING, NotTaken};
use super::split::scaled;
use super::{Depth, Problem, Reading};

/// Problems that are told at once; those of a column that are alike are one.
const MOST_PROBLEMS: usize = 10;
/// Wrong values that are counted: no more are read.
const MOST_COUNTED: u64 = 1000;

/// The rows of the files of a set.
#[derive(Debug)]
pub(super) struct Table {
    /// The field of its files: `path` or `paths`.
    field: &'static str,
    /// The roles of its columns.
    roles: Roles,
    /// Its columns with other roles.
    apart: Apart,
    /// All columns of the files, in their order.
    names: Vec<String>,
    /// Those that are taken ...
    columns: Vec<Column>,
    /// ... and the place of each by its name.
    by_name: Arc<HashMap<String, usize>>,
    /// Numbers in a row.
    width: usize,
    /// Words in a row.
    word_width: usize,
    /// Row by row; NaN for one that is missing.
    numbers: Vec<f32>,
    /// Row by row, by their numbers in the column; [`MISSING`] for one that is missing.
    words: Vec<u32>,
    /// Those of the column that names files, where there is one: a text a row.
    texts: Texts,
    /// Whole rows.
    pub rows: u64,
    /// Rows that are left out, since values are missing.
    dropped: u64,
    /// Where they lie.
    pub places: Places,
    /// The lines or rows of the files, as messages call them.
    unit: &'static str,
    /// Bytes of the files.
    sizes: Vec<u64>,
    /// The rows of files that were read in part, as far as that tells, without those that are dropped.
    estimate: Option<u64>,
    /// Whether it is read to train.
    is_kept: bool,
    /// The first mistakes of rows.
    problems: Vec<Problem>,
    /// Those of columns, with the values that are like each.
    repeated: Vec<Repeated>,
    /// Wrong values of columns.
    counted: u64,
}

/// A problem of a column that many values may have.
#[derive(Debug)]
struct Repeated {
    /// Its place among the problems.
    problem: usize,
    column: usize,
    /// The remedy, by which values are alike: the words behind the last semicolon.
    remedy: String,
    /// The file of the first value.
    path: PathBuf,
    /// Values like the first one.
    more: u64,
    /// The lines of the first of them in the same file.
    lines: Vec<u64>,
}

/// Rows that a table has begun, as far as they are not like most.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How many there are.
    pub rows: usize,
    /// The row and the column of each value that is missing.
    pub missing: Vec<(usize, usize)>,
    /// The row and the column of each value that is wrong, and what is wrong with it.
    pub mistakes: Vec<(usize, usize, String)>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(
        field: &'static str,
        layout: Layout,
        names: Vec<String>,
        roles: Roles,
        apart: Apart,
        unit: &'static str,
    ) -> Self {
        let Layout { columns, by_name, numbers, words, slots: _ } = layout;
        Self {
            field,
            roles,
            apart,
            names,
            columns,
            by_name,
            width: numbers,
            word_width: words,
            numbers: Vec::new(),
            words: Vec::new(),
            texts: Texts::default(),
            rows: 0,
            dropped: 0,
            places: Places::default(),
            unit,
            sizes: Vec::new(),
            estimate: None,
            is_kept: true,
            problems: Vec::new(),
            repeated: Vec::new(),
            counted: 0,
        }
    }

    /// A table with the same columns, without rows.
    fn like(&self) -> Self {
        let column = |column: &Column| {
            let values = match column.values {
                Values::Numbers(slot) => Values::Numbers(slot),
                Values::Words(slot, _) => Values::Words(slot, words::Words::default()),
                Values::Text => Values::Text,
            };
            Column { name: column.name.clone(), missing: column.missing, values }
        };
        let (columns, words) = (self.columns.iter().map(column).collect(), self.word_width);
        let by_name = self.by_name.clone();
        let layout = Layout { slots: Vec::new(), columns, by_name, numbers: self.width, words };
        Self::new(self.field, layout, self.names.clone(), self.roles.clone(), self.apart.clone(), self.unit)
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> u64 {
        4 * (self.width + self.word_width) as u64 + self.texts.bytes().div_ceil(self.rows.max(1))
    }

    /// The remedy for words in one of the columns of numbers.
    pub(super) fn remedy_for_words(&self, column: usize) -> &'static str {
        self.roles.remedy_for_words(&self.columns[column].name)
    }

    /// The columns of its files.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Begins so many rows, or begins them again: all of their values are missing.
    pub(super) fn begin_rows(&mut self, count: usize) {
        let (numbers, words) = (self.rows as usize * self.width, self.rows as usize * self.word_width);
        self.numbers.truncate(numbers);
        self.numbers.resize(numbers + count * self.width, f32::NAN);
        self.words.truncate(words);
        self.words.resize(words + count * self.word_width, MISSING);
        self.texts.truncate(self.rows as usize);
    }

    /// Sets a number of one of the rows that were begun.
    pub(super) fn set_number(&mut self, row: usize, slot: usize, value: f32) {
        let place = (self.rows as usize + row) * self.width + slot;
        self.numbers[place] = value;
    }

    /// Sets a number of all rows that were begun, of the first one first.
    pub(super) fn set_numbers(&mut self, slot: usize, values: impl Iterator<Item = f32>) {
        let rows = self.numbers[self.rows as usize * self.width..].chunks_exact_mut(self.width.max(1));
        rows.zip(values).for_each(|(row, value)| row[slot] = value);
    }

    /// Sets a word of one of the rows that were begun.
    pub(super) fn set_word(&mut self, row: usize, slot: usize, number: u32) {
        let place = (self.rows as usize + row) * self.word_width + slot;
        self.words[place] = number;
    }

    /// The number of a word of one of the columns of words.
    pub(super) fn word_number(&mut self, column: usize, word: &[u8]) -> Result<u32, NotTaken> {
        match &mut self.columns[column].values {
            Values::Words(_, words) => words.number(word),
            Values::Numbers(_) | Values::Text => Ok(MISSING),
        }
    }

    /// Sets the text of the row that was begun; there is one.
    pub(super) fn set_text(&mut self, text: &[u8]) -> Result<(), NotTaken> {
        self.texts.push(str::from_utf8(text).map_err(|_| NotTaken::Encoding)?);
        Ok(())
    }

    /// The file that a row names.
    pub(super) fn file(&self, row: u64) -> &str {
        self.texts.text(row as usize)
    }

    /// The place of the name of that file, as messages begin with it.
    pub(super) fn at_file(&self, row: u64) -> String {
        self.at(row, self.apart.files.as_deref().unwrap_or_default())
    }

    /// Keeps the rows that were begun, but for those that are dropped. The first lies at that line
    /// of the file, and the others at the next ones. Mistakes are told.
    pub(super) fn keep_rows(&mut self, path: &Path, line: u64, batch: &mut Batch) {
        if batch.missing.is_empty() && batch.mistakes.is_empty() {
            self.rows += batch.rows as u64;
            return self.places.add_all(line, batch.rows as u64);
        }
        let mut odd = BTreeMap::<usize, (Vec<usize>, Vec<(usize, String)>)>::new();
        for (row, column) in batch.missing.drain(..) {
            odd.entry(row).or_default().0.push(column);
        }
        for (row, column, what) in batch.mistakes.drain(..) {
            odd.entry(row).or_default().1.push((column, what));
        }
        let mut kept = 0;
        for row in 0..batch.rows {
            let (place, is_kept) =
                (line + row as u64, odd.get(&row).is_none_or(|odd| self.takes(path, line, row, odd)));
            if is_kept {
                let moved = |width: usize| (self.rows as usize + row) * width..(self.rows as usize + row + 1) * width;
                self.numbers.copy_within(moved(self.width), (self.rows as usize + kept) * self.width);
                self.words.copy_within(moved(self.word_width), (self.rows as usize + kept) * self.word_width);
                self.places.add(place);
                kept += 1;
            }
        }
        self.rows += kept as u64;
        self.begin_rows(0);
    }

    /// Whether a row is kept that has missing values or mistakes; these are told.
    fn takes(&mut self, path: &Path, line: u64, row: usize, odd: &(Vec<usize>, Vec<(usize, String)>)) -> bool {
        let (missing, mistakes) = odd;
        let line = line + row as u64;
        for (column, what) in mistakes {
            self.tell_of_column(path, line, *column, what);
        }
        let columns = &self.columns;
        let treated = |by| missing.iter().copied().filter(move |column| columns[*column].missing == by);
        if treated(Missing::Drop).next().is_some() {
            self.dropped += 1;
            return false;
        }
        let refused: Vec<_> = treated(Missing::Refuse).collect();
        for column in &refused {
            let remedy = self.remedy_for_missing(*column);
            self.tell_of_column(path, line, *column, &format!("the value is missing; {remedy}"));
        }
        mistakes.is_empty() && refused.is_empty()
    }

    /// The remedy for a missing value in one of the columns that are taken.
    fn remedy_for_missing(&self, column: usize) -> &'static str {
        let name = &self.columns[column].name;
        if self.roles.targets.contains(name) {
            "no value stands in for a target: `missing` may drop the row, and data for mode = predict leave the column out"
        } else if self.apart.has(name) || self.apart.files.as_ref() == Some(name) {
            "no value stands in for it: `missing` may drop the row"
        } else {
            "`missing` says what to do: drop the row, or take the mean or a constant"
        }
    }

    /// Tells the first wrong value of a column, and counts those that follow.
    fn tell_of_column(&mut self, path: &Path, line: u64, column: usize, what: &str) {
        if self.is_full() {
            return;
        }
        self.counted += 1;
        let remedy = what.rsplit_once("; ").map_or(what, |(_, remedy)| remedy);
        let is_alike = |told: &&mut Repeated| told.column == column && told.remedy == remedy;
        if let Some(told) = self.repeated.iter_mut().find(is_alike) {
            told.more += 1;
            if told.lines.len() + 1 < MOST_PROBLEMS && told.path == path {
                told.lines.push(line);
            }
            return;
        }
        let (problem, path) = (self.problems.len(), path.to_owned());
        let place = at(&path, self.unit, line, &self.columns[column].name);
        self.repeated.push(Repeated { problem, column, remedy: remedy.into(), path, more: 0, lines: Vec::new() });
        self.tell(format!("{place}: {what}"));
    }

    /// Adds to the problems of columns how many values are like the first one.
    fn tell_counts(&mut self) {
        let at_least = if self.counted >= MOST_COUNTED { "at least " } else { "" };
        for Repeated { problem, more, lines, .. } in self.repeated.drain(..).filter(|told| told.more > 0) {
            let rows = if more == 1 { "row" } else { "rows" };
            let mut what = format!(" (and {at_least}{more} more {rows} of this column");
            let lines: Vec<_> = lines.iter().map(u64::to_string).collect();
            if !lines.is_empty() {
                let first = if lines.len() as u64 == more { "" } else { "the next " };
                let units = if lines.len() == 1 { self.unit.to_owned() } else { format!("{}s", self.unit) };
                what += &format!(": {first}{units} {}", lines.join(", "));
            }
            self.problems[problem].what += &format!("{what})");
        }
    }

    /// Tells a mistake, one of the first.
    pub(super) fn tell(&mut self, what: String) {
        if !self.is_full() {
            self.problems.push(Problem { file: self.field.into(), what, unjudged: None });
        }
    }

    /// Whether as many mistakes are known as are told, or counted.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS || self.counted >= MOST_COUNTED
    }

    /// The rows that were read: those that are kept and those that are dropped.
    pub(super) fn met(&self) -> u64 {
        self.rows + self.dropped
    }

    /// Ends reading files of these sizes, which have about `all` rows where they were read in part.
    ///
    /// # Errors
    /// The mistakes that were found.
    pub(super) fn finish(
        &mut self,
        sizes: Vec<u64>,
        all: Option<u64>,
        reading: &Reading<'_>,
    ) -> Result<(), Vec<Problem>> {
        // Where all rows that were read are dropped, nothing tells how many of the others are.
        self.estimate = all.map(|all| if self.rows == 0 { all } else { scaled(all, self.rows, self.met()) });
        if self.problems.is_empty() && self.rows == 0 && self.estimate.is_none_or(|all| all == 0) {
            let first = self.places.first_file();
            self.problems.push(wrong_with(first, "has no rows that can be taken".into()));
        }
        self.tell_counts();
        if self.problems.len() >= MOST_PROBLEMS
            && let Some(last) = self.problems.last_mut()
        {
            last.what.push_str(&format!(" (no more than {MOST_PROBLEMS} mistakes are told: there may be others)"));
        }
        self.sizes = sizes;
        self.is_kept = reading.depth == Depth::Train;
        if self.problems.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.problems)) }
    }

    fn number(&self, row: u64, slot: usize) -> f32 {
        self.numbers[row as usize * self.width + slot]
    }

    /// So many numbers of a row that lie side by side.
    fn numbers(&self, row: u64, slot: usize, count: usize) -> &[f32] {
        let begin = row as usize * self.width + slot;
        &self.numbers[begin..begin + count]
    }

    fn word(&self, row: u64, slot: usize) -> u32 {
        self.words[row as usize * self.word_width + slot]
    }

    /// The place of a column among those that are taken.
    fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(self.place(name)?)
    }

    /// The words of a column and their place in a row, where it has words.
    fn words_of(&self, name: &str) -> Option<(usize, &words::Words)> {
        match &self.column(name)?.values {
            Values::Words(slot, words) => Some((*slot, words)),
            Values::Numbers(_) | Values::Text => None,
        }
    }

    /// A row and column as messages begin with them.
    fn at(&self, row: u64, column: &str) -> String {
        let (path, line) = self.places.of(row);
        at(path, self.unit, line, column)
    }
}

/// A place in a file, as messages begin with it.
pub(super) fn at(path: &Path, unit: &str, line: u64, column: &str) -> String {
    format!("{} {unit} {line}, column {column:?}", path.display())
}

/// A mistake of a file.
pub(super) fn wrong_with(path: &Path, what: String) -> Problem {
    Problem::of_file("path", path, what)
}

/// The error of a file that cannot be read, or could not now.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::unreadable("path", path, error)
}

#[cfg(test)]
mod tests;
