//! A table in memory: the numbers and words of its rows, before they become inputs and targets.
//!
//! The numbers of a row lie side by side, and so do its words, so that an example is gathered from
//! two places. Values are encoded as they are asked for: a category costs four bytes a row, however
//! many there are.

mod encode;
pub(super) mod layout;
pub mod paths;
pub(super) mod places;
mod prepare;
pub mod roles;
pub(super) mod words;

use std::path::Path;

pub use encode::{ColumnEncoding, InputColumns, TableEncoding};

use self::layout::{Column, Layout, Values};
use self::places::Places;
use self::roles::{Missing, Roles};
use self::words::{MISSING, NotTaken};
use super::Problem;

/// Problems of rows that are told at once.
pub(super) const MOST_PROBLEMS: usize = 10;

/// The rows of the files of a set.
#[derive(Debug)]
pub(super) struct Table {
    /// The roles of its columns.
    roles: Roles,
    /// The column that divides it.
    split: Option<String>,
    /// All columns of the files, in their order.
    names: Vec<String>,
    /// Those that are taken.
    pub columns: Vec<Column>,
    /// Numbers in a row.
    width: usize,
    /// Words in a row.
    word_width: usize,
    /// Row by row; NaN for one that is missing.
    pub numbers: Vec<f32>,
    /// Row by row, by their numbers in the column; [`MISSING`] for one that is missing.
    pub words: Vec<u32>,
    /// Whole rows.
    pub rows: u64,
    /// Where they lie.
    pub places: Places,
    /// The lines or rows of the files, as messages call them.
    unit: &'static str,
    /// Bytes of the files.
    pub sizes: Vec<u64>,
    /// The rows of files that were read in part, as far as that tells.
    pub estimate: Option<u64>,
    /// Whether it is read to train.
    pub is_kept: bool,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(
        layout: Layout,
        names: Vec<String>,
        roles: &Roles,
        split: Option<&str>,
        unit: &'static str,
    ) -> Self {
        let Layout { columns, numbers, words, slots: _ } = layout;
        Self {
            roles: roles.clone(),
            split: split.map(str::to_owned),
            names,
            columns,
            width: numbers,
            word_width: words,
            numbers: Vec::new(),
            words: Vec::new(),
            rows: 0,
            places: Places::default(),
            unit,
            sizes: Vec::new(),
            estimate: None,
            is_kept: true,
        }
    }

    /// The columns of its files.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Begins a row, or begins it again: all of its values are missing.
    pub(super) fn begin_row(&mut self) {
        let (numbers, words) = (self.rows as usize * self.width, self.rows as usize * self.word_width);
        self.numbers.truncate(numbers);
        self.numbers.resize(numbers + self.width, f32::NAN);
        self.words.truncate(words);
        self.words.resize(words + self.word_width, MISSING);
    }

    /// Sets a number of the row that was begun.
    pub(super) fn set_number(&mut self, slot: usize, value: f32) {
        let place = self.rows as usize * self.width + slot;
        self.numbers[place] = value;
    }

    /// Sets a word of the row that was begun.
    pub(super) fn set_word(&mut self, slot: usize, number: u32) {
        let place = self.rows as usize * self.word_width + slot;
        self.words[place] = number;
    }

    /// The number of a word of one of the columns of words.
    pub(super) fn word_number(&mut self, column: usize, word: &[u8]) -> Result<u32, NotTaken> {
        match &mut self.columns[column].values {
            Values::Words(_, words) => words.number(word),
            Values::Numbers(_) => Ok(MISSING),
        }
    }

    /// Keeps the row that was begun, which lies at that line.
    pub(super) fn keep_row(&mut self, line: u64) {
        self.rows += 1;
        self.places.add(line);
    }

    /// Drops what was begun.
    pub(super) fn drop_row(&mut self) {
        self.numbers.truncate(self.rows as usize * self.width);
        self.words.truncate(self.rows as usize * self.word_width);
    }

    fn number(&self, row: u64, slot: usize) -> f32 {
        self.numbers[row as usize * self.width + slot]
    }

    fn word(&self, row: u64, slot: usize) -> u32 {
        self.words[row as usize * self.word_width + slot]
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The words of a column and their place in a row, where it has words.
    fn words_of(&self, name: &str) -> Option<(usize, &words::Words)> {
        match &self.column(name)?.values {
            Values::Words(slot, words) => Some((*slot, words)),
            Values::Numbers(_) => None,
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

/// A value that is missing where it must not be.
pub(super) fn missing_value(place: &str, missing: Missing) -> Option<Problem> {
    (missing == Missing::Refuse).then(|| {
        let what = format!(
            "{place}: the value is missing; `missing` of the data may say what to do: drop the row, or take the mean or \
             a constant"
        );
        Problem { file: "path", what, unjudged: None }
    })
}
