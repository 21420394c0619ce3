//! A table that is larger than its share of the memory: its rows are read again, run by run, when
//! they are asked for.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::paths::told;
use super::super::{Access, Facts, HostBatch, Problem, Rows, Source};
use super::encode::Codes;
use super::roles::Missing;
use super::{Table, wrong_with};
use crate::shortage::Unjudged;

/// Examples that are shuffled together take one part in so many of the memory of all values. As
/// much is read ahead of them, for each of two sets.
const WINDOW_SHARE: u64 = 8;
/// They take no more than this.
const MOST_WINDOW_BYTES: u64 = 64 << 20;
/// The shards of a window: the more, the better the examples are mixed.
const SHARDS_OF_WINDOW: u64 = 4;

/// Files whose rows can be read again. The rows of all files are counted from 0.
pub(in crate::dataset) trait Runs: Send + Sync {
    /// The rows up to the end of each group of rows that lie together.
    fn groups(&self) -> &[u64];

    /// Adds rows of one group to a table that has none: the columns at these places among those
    /// that are taken, or all.
    ///
    /// # Errors
    /// The file that cannot be read.
    fn read(&self, rows: Range<u64>, columns: Option<&[usize]>, into: &mut Table) -> Result<(), Vec<Problem>>;

    /// The file of a row, and its line or row there.
    fn place(&self, row: u64) -> (&Path, u64);
}

/// The rows of such files.
pub(super) struct Shards {
    runs: Box<dyn Runs>,
    /// A table of these columns, without rows.
    empty: Arc<Table>,
    /// The rows that are taken, by their numbers in the files.
    taken: Rows,
    window_bytes: u64,
}

/// Bytes of the examples that are shuffled together, where the values may take so many.
pub(in crate::dataset) fn window_bytes(memory_bytes: u64) -> u64 {
    (memory_bytes / WINDOW_SHARE).clamp(1, MOST_WINDOW_BYTES)
}

impl Shards {
    /// Those of files with these columns. Goes over the columns for which rows are dropped.
    ///
    /// # Errors
    /// All that is wrong with the files, as far as they are read.
    pub(super) fn of(runs: Box<dyn Runs>, empty: Arc<Table>, window_bytes: u64) -> Result<Self, Vec<Problem>> {
        let all = runs.groups().last().copied().unwrap_or(0);
        let mut shards = Self { runs, empty, taken: Rows::All(all), window_bytes };
        if !shards.dropping().is_empty() {
            let mut wrong = Vec::new();
            let runs = shards.cut(shards.empty.row_bytes()).into_iter();
            let rows = runs.map_while(|run| {
                let table = shards.table(run.clone(), Some(&[])).map_err(|problems| wrong = problems).ok()?;
                let (_, first) = shards.runs.place(run.start);
                Some((0..table.rows).map(move |row| table.places.of(row).1 - first + run.start))
            });
            let taken = Rows::chosen(rows.flatten());
            if !wrong.is_empty() {
                return Err(wrong);
            }
            shards.taken = taken;
        }
        match shards.taken.count() {
            0 => Err(vec![wrong_with(shards.runs.place(0).0, "has no rows that can be taken".into())]),
            _ => Ok(shards),
        }
    }

    /// How many rows are taken.
    pub(super) fn count(&self) -> u64 {
        self.taken.count()
    }

    /// The file of a row that is taken, and its line or row there.
    pub(super) fn place(&self, row: u64) -> (&Path, u64) {
        self.runs.place(self.taken.row(row))
    }

    /// Goes over the rows, a table after the other, each with the number of rows before it. Only
    /// the columns at these places are read, or all.
    ///
    /// # Errors
    /// All that is wrong with the first rows that are wrong, and those of `take`.
    pub(super) fn each(
        &self,
        columns: Option<&[usize]>,
        mut take: impl FnMut(u64, &Table) -> Result<(), Vec<Problem>>,
    ) -> Result<(), Vec<Problem>> {
        for run in self.cut(self.empty.row_bytes()) {
            take(self.taken.before(run.start), &self.table(run, columns)?)?;
        }
        Ok(())
    }

    /// The columns for which rows are dropped.
    fn dropping(&self) -> Vec<usize> {
        let columns = self.empty.columns.iter().enumerate();
        columns.filter(|(_, column)| column.missing == Missing::Drop).map(|(place, _)| place).collect()
    }

    /// Cuts the groups of rows into runs that a window has several of, where a row takes so many
    /// bytes.
    fn cut(&self, row_bytes: u64) -> Vec<Range<u64>> {
        let most = (self.window_bytes / SHARDS_OF_WINDOW / row_bytes.max(1)).max(1);
        let ends = self.runs.groups();
        let groups = [0].into_iter().chain(ends.iter().copied()).zip(ends.iter().copied());
        let runs = groups.flat_map(|(begin, end)| {
            let (rows, count) = (end - begin, (end - begin).div_ceil(most));
            let at = move |run: u64| begin + (u128::from(rows) * u128::from(run) / u128::from(count)) as u64;
            (0..count).map(move |run| at(run)..at(run + 1))
        });
        runs.collect()
    }

    /// The rows of a run that are taken.
    fn table(&self, run: Range<u64>, columns: Option<&[usize]>) -> Result<Table, Vec<Problem>> {
        let columns = columns.map(|columns| [columns, &self.dropping()].concat());
        let mut table = self.empty.like();
        let told = |problems| told(self.empty.field, problems);
        self.runs.read(run, columns.as_deref(), &mut table).map_err(told)?;
        if table.problems.is_empty() { Ok(table) } else { Err(table.problems) }
    }
}

/// Examples of such a table.
pub(super) struct Sharded {
    facts: Facts,
    rows: Rows,
    shards: Arc<Shards>,
    codes: Codes,
    /// The rows in the files of each shard, and the examples up to its end.
    runs: Vec<Range<u64>>,
    ends: Vec<u64>,
}

impl Sharded {
    pub(super) fn new(facts: Facts, rows: Rows, shards: Arc<Shards>, codes: Codes) -> Self {
        let row_bytes = facts.example_bytes().max(shards.empty.row_bytes());
        let (mut runs, mut ends) = (Vec::new(), Vec::new());
        for run in shards.cut(row_bytes) {
            let end = rows.before(shards.taken.before(run.end));
            if end > ends.last().copied().unwrap_or(0) {
                runs.push(run);
                ends.push(end);
            }
        }
        Self { facts, rows, shards, codes, runs, ends }
    }
}

impl Source for Sharded {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        Access::Shards { ends: &self.ends, window_bytes: self.shards.window_bytes }
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        let shard = places.first().map_or(0, |first| self.ends.partition_point(|end| end <= first));
        let Self { rows, shards, codes, .. } = self;
        let run = self.runs[shard].clone();
        let taken = shards.taken.before(run.start)..shards.taken.before(run.end);
        let first = |problems: Vec<Problem>| problems.into_iter().next();
        let table = shards.table(run.clone(), None).map_err(first);
        let changed = || {
            let what = "has changed since it was read first".into();
            let problem = wrong_with(shards.runs.place(run.start).0, what).at(shards.empty.field);
            Problem { unjudged: Some(Unjudged::Changed), ..problem }
        };
        let table = table.map_err(|problem| problem.unwrap_or_else(changed))?;
        let encoder = codes.encoder(&table).filter(|_| table.rows == taken.end - taken.start).ok_or_else(changed)?;
        encoder.encode(&self.facts, &table, places.iter().map(|place| rows.row(*place) - taken.start), into);
        Ok(())
    }
}
