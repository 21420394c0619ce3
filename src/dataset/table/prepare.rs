//! A table as the content of a set: what its training rows teach, and its rows as examples.

mod unlike;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::content::{Content, Preparation, Prepared};
use super::super::details::{self, ClassCount, ColumnFacts, ColumnValues, Details, MOST_CLASSES, Role};
use super::super::split::Part;
use super::super::{Dtype, Facts, Field, Moments, Problem, Range, Rows, Source};
use super::encode::{Codes, ColumnEncoding, Encoded, InputColumns, TableEncoding, Target};
use super::layout::{Column, Values, features, instead, target_field};
use super::roles::{InputEncoding, InputRole, Missing};
use super::shards::{Runs, Sharded, Shards, window_bytes};
use super::survey::Survey;
use super::words::MISSING;
use super::{Table, at};

/// The input of a spec that names none.
const INPUT: &str = "x";
/// The rows of tables: all of them in memory, or read again in shards.
pub(in crate::dataset) struct Tables {
    /// All rows, or none where they are read in shards.
    table: Arc<Table>,
    shards: Option<Arc<Shards>>,
    /// Bytes of examples that are shuffled together where they are read in shards, now or by a job.
    window_bytes: Option<u64>,
    /// Each set with its findings.
    surveys: Vec<(Rows, Survey)>,
}

impl Tables {
    /// A table with all rows. One that is judged, and that a job reads in shards, has the memory
    /// that its values take then.
    pub(in crate::dataset) fn whole(table: Table, of_shards: Option<u64>) -> Self {
        Self { table: Arc::new(table), shards: None, window_bytes: of_shards.map(window_bytes), surveys: Vec::new() }
    }

    /// The rows of files of these sizes, which are more than `memory_bytes`.
    ///
    /// # Errors
    /// All that is wrong with the files, as far as they are read.
    pub(in crate::dataset) fn in_shards(
        empty: Table,
        sizes: Vec<u64>,
        runs: Box<dyn Runs>,
        memory_bytes: u64,
    ) -> Result<Self, Vec<Problem>> {
        let (mut table, window) = (Table { sizes, ..empty }, window_bytes(memory_bytes));
        table.places.file(runs.place(0).0);
        let table = Arc::new(table);
        let shards = Arc::new(Shards::of(runs, table.clone(), window)?);
        Ok(Self { table, shards: Some(shards), window_bytes: Some(window), surveys: Vec::new() })
    }

    /// Goes over the rows, a table after the other, each with the number of rows before it.
    fn each(
        &self,
        columns: Option<&[usize]>,
        mut take: impl FnMut(u64, &Table) -> Result<(), Vec<Problem>>,
    ) -> Result<(), Vec<Problem>> {
        match &self.shards {
            Some(shards) => shards.each(columns, take),
            None => take(0, &self.table),
        }
    }

    /// The same for the words of one column.
    fn each_of(&self, name: &str, mut take: impl FnMut(u64, &Table) -> Result<(), Problem>) -> Result<(), Problem> {
        let column = self.table.place(name);
        self.each(Some(column.as_slice()), |first, table| take(first, table).map_err(|problem| vec![problem]))
            .map_err(|mut problems| problems.swap_remove(0))
    }

    /// The rows in memory.
    pub(in crate::dataset) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The encoding of targets alone.
    pub(in crate::dataset) fn of_targets(&self) -> TableEncoding {
        TableEncoding { inputs: Vec::new(), targets: self.table.roles.targets.clone() }
    }

    /// The findings of a set that was looked over.
    fn survey(&self, rows: &Rows) -> &Survey {
        let survey = self.surveys.iter().find(|(of, _)| of == rows);
        survey.map_or_else(|| unreachable!("sets are looked over first"), |(_, survey)| survey)
    }

    /// A row and column as messages begin with them.
    fn at(&self, row: u64, column: &str) -> String {
        match &self.shards {
            Some(shards) => {
                let (path, line) = shards.place(row);
                at(path, self.table.unit, line, column)
            }
            None => self.table.at(row, column),
        }
    }
}

impl Content for Tables {
    fn rows(&self) -> u64 {
        match &self.shards {
            Some(shards) => shards.count(),
            None => self.table.rows,
        }
    }

    fn estimate(&self) -> Option<u64> {
        self.table.estimate
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(match self.window_bytes {
            // A window, and as much ahead of it, of each set.
            Some(window) => 2 * window * self.surveys.len().max(1) as u64,
            None => self.estimate().unwrap_or(self.rows()).saturating_mul(self.table.row_bytes()),
        })
    }

    fn is_in_shards(&self) -> bool {
        self.window_bytes.is_some()
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        let [target] = &self.table.roles.targets[..] else {
            return Err("is set, and there are several targets; shares are kept of classes".to_owned().into());
        };
        if self.table.words_of(target).is_none() {
            return Err(format!("is set, and the target {target:?} is numbers; shares are kept of classes").into());
        }
        let (mut strata, mut numbers) = (Vec::new(), HashMap::<Box<str>, u32>::new());
        self.each_of(target, |_, table| {
            let Some((slot, words)) = table.words_of(target) else { return Ok(()) };
            let number = |word: u32| {
                let next = numbers.len() as u32;
                *numbers.entry(words.word(word).into()).or_insert(next)
            };
            let numbers: Vec<_> = (0..words.count() as u32).map(number).collect();
            strata.extend(
                (0..table.rows).map(|row| numbers.get(table.word(row, slot) as usize).copied().unwrap_or(MISSING)),
            );
            Ok(())
        })?;
        Ok(strata)
    }

    fn parts_by(&self, column: &str) -> Result<Vec<Part>, Problem> {
        if self.table.words_of(column).is_none() {
            let instead = instead(&self.table.names, column);
            return Err(format!("is {column:?}, which is no column of the data; {instead}").into());
        }
        let mut parts = Vec::new();
        self.each_of(column, |first, table| {
            let Some((slot, words)) = table.words_of(column) else { return Ok(()) };
            let named: Vec<_> = (0..words.count() as u32).map(|number| Part::named(words.word(number))).collect();
            for row in 0..table.rows {
                let number = table.word(row, slot);
                let part = named.get(number as usize).copied().flatten().ok_or_else(|| {
                    let (found, at) = (words.word(number), self.at(first + row, column));
                    format!("names a column that says {found:?}: {at}; train, validation or test is right")
                })?;
                parts.push(part);
            }
            Ok(())
        })?;
        Ok(parts)
    }

    fn look_over(&mut self, sets: &[&Rows], measure: bool) -> Result<(), Vec<Problem>> {
        let mut surveys: Vec<_> = sets.iter().map(|_| Survey::new(&self.table, measure)).collect();
        self.each(None, |first, table| {
            for (rows, survey) in sets.iter().zip(&mut surveys) {
                let rows = rows.within(first..first + table.rows).map(|row| row - first);
                survey.add(table, first, rows).map_err(|(name, wrong)| {
                    vec![table.problem(table.field, format!("column {name:?}: {}", wrong.told(&[])))]
                })?;
            }
            Ok(())
        })?;
        self.surveys = sets.iter().map(|rows| (*rows).clone()).zip(surveys).collect();
        Ok(())
    }

    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        let table = &self.table;
        let name = table.apart.weights.as_deref().unwrap_or_default();
        match table.column(name).map(|column| &column.values) {
            Some(&Values::Numbers(slot)) => {
                Ok(Some((0..table.rows).map(|row| table.number(row, slot).into()).collect()))
            }
            Some(Values::Words(..)) => Err("that column holds words; numbers are needed".into()),
            Some(Values::Text) => Err("that column names files; numbers are needed".into()),
            None => Err(format!("there is no such column; {}", instead(&table.names, name))),
        }
    }

    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>> {
        let (table, survey) = (&self.table, self.survey(rows));
        let inputs = if table.roles.inputs.is_empty() {
            let columns = features(&table.names, &table.roles, &table.apart);
            vec![InputRole { name: INPUT.into(), columns, encoding: InputEncoding::OneHot }]
        } else {
            table.roles.inputs.clone()
        };
        let mut wrong = Vec::new();
        let mut input = |input: InputRole| InputColumns {
            columns: input.columns.iter().map(|name| table.learn_column(name, survey, &mut wrong)).collect(),
            name: input.name,
            encoding: input.encoding,
        };
        let inputs = inputs.into_iter().map(&mut input).collect();
        let encoding = TableEncoding { inputs, targets: table.roles.targets.clone() };
        let classes = table.roles.targets.first().map(|target| survey.names(table, target)).unwrap_or_default();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut preparation = Preparation { classes, ..Preparation::default() };
        if measure {
            let inputs = encoding.inputs.iter();
            let moments = inputs.filter_map(|input| Some((input.name.clone(), input.moments(table, survey)?)));
            preparation.moments = moments.collect::<BTreeMap<_, _>>();
        }
        preparation.table = Some(encoding);
        Ok(preparation)
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let (table, classes) = (&self.table, &preparation.classes);
        let present: Vec<_> = rows.within(0..table.rows).collect();
        let columns = table.columns.iter().filter_map(|column| table.describe(column, &present));
        let columns = columns.take(details::MOST_COLUMNS).collect();
        let target = preparation.table.as_ref().and_then(|table| table.targets.first());
        let words =
            target.and_then(|name| self.survey(rows).words(table, name)).filter(|_| classes.len() <= MOST_CLASSES);
        let class = |(number, name): (i64, &String)| {
            let met = words?.get(name.as_str())?;
            Some(ClassCount { number, name: name.clone(), examples: met.count })
        };
        let classes = (0..).zip(classes).filter_map(class).collect();
        Details {
            was_read: table.estimate.is_none(),
            classes,
            columns,
            column_count: table.columns.iter().filter(|column| !matches!(column.values, Values::Text)).count() as u64,
            left_out: table.dropped,
        }
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let table = &self.table;
        let Some(encoding) = &preparation.table else {
            return Err(vec![table.problem(table.field, "was prepared before, and its columns were not kept".into())]);
        };
        let mut wrong = table.other_columns(encoding);
        wrong.extend(table.other_targets(encoding));
        wrong.extend(self.other_classes(encoding, preparation, &rows));
        wrong.extend(table.unlearned_means(encoding, self.survey(&rows)));
        let codes = Codes::of(encoding, &preparation.classes);
        let encoder = codes.encoder(table);
        let Some(encoder) = encoder.filter(|_| wrong.is_empty()) else {
            if wrong.is_empty() {
                wrong.push(table.problem(table.field, "has other columns than the training set".into()));
            }
            return Err(wrong);
        };
        let inputs = encoding.inputs.iter().map(|input| {
            let most = input.columns.iter().filter_map(|column| Some(column.categories.as_ref()?.len())).max();
            let range = most.map(|most| Range { lowest: 0, highest: most as i64, highest_at: 0 });
            Field {
                name: input.name.clone(),
                file: table.field.into(),
                dtype: input.dtype(),
                shape: vec![input.width() as u64],
                range: range.filter(|_| input.dtype() == Dtype::I64),
            }
        });
        let target = self.target(encoding, encoder.target(), preparation, self.survey(&rows));
        let (examples, inputs, sizes) = (rows.count(), inputs.collect(), table.sizes.clone());
        let is_one_hot = |input: &InputColumns| {
            input.encoding == InputEncoding::OneHot && input.columns.iter().any(|column| column.categories.is_some())
        };
        let may_widen = preparation.is_of_sample && encoding.inputs.iter().any(is_one_hot);
        let facts = Facts { examples, inputs, target, sizes, is_resident: self.window_bytes.is_none(), may_widen };
        let notes = if preparation.is_of_sample { Vec::new() } else { self.unknown_categories(encoding, &rows) };
        let source = table.is_kept.then(|| -> Box<dyn Source> {
            match &self.shards {
                Some(shards) => Box::new(Sharded::new(facts.clone(), rows, shards.clone(), codes)),
                None => Box::new(Encoded { facts: facts.clone(), rows, table: table.clone(), encoder }),
            }
        });
        Ok(Prepared { facts, source, notes })
    }
}

impl InputColumns {
    /// The moments of its numbers; those of categories stay as they are. None of an input of whole
    /// numbers.
    fn moments(&self, table: &Table, survey: &Survey) -> Option<Moments> {
        if self.encoding == InputEncoding::Index {
            return None;
        }
        let mut all = Moments { mean: Vec::new(), std: Vec::new() };
        for column in &self.columns {
            let (mean, std) = match &column.categories {
                Some(categories) => (vec![0.0; categories.len()], vec![1.0; categories.len()]),
                None => {
                    let Moments { mean, std } = survey.moments(table, &column.name, column.missing)?;
                    (mean, std)
                }
            };
            all.mean.extend(mean);
            all.std.extend(std);
        }
        Some(all)
    }
}

impl Table {
    /// A column as some rows have it; None where that tells nothing.
    fn describe(&self, column: &Column, rows: &[u64]) -> Option<ColumnFacts> {
        let name = column.name.clone();
        let role = match &name {
            name if self.roles.targets.contains(name) => Role::Target,
            name if self.apart.split.as_ref() == Some(name) => Role::Split,
            name if self.apart.weights.as_ref() == Some(name) => Role::Weight,
            _ => Role::Feature,
        };
        let (missing, values) = match &column.values {
            &Values::Numbers(slot) => {
                let numbers = || rows.iter().map(|row| self.number(*row, slot));
                let missing = numbers().filter(|number| number.is_nan()).count();
                (missing, ColumnValues::Numbers(details::range(numbers())))
            }
            Values::Words(slot, _) => {
                let words = || rows.iter().map(|row| self.word(*row, *slot));
                let different: BTreeSet<_> = words().filter(|word| *word != MISSING).collect();
                (words().filter(|word| *word == MISSING).count(), ColumnValues::Words(different.len() as u64))
            }
            Values::Text => return None,
        };
        Some(ColumnFacts { name, role, missing: missing as u64, values })
    }

    fn problem(&self, file: &'static str, what: String) -> Problem {
        Problem { file: file.into(), what: format!("{} {what}", self.places.of(0).0.display()), unjudged: None }
    }

    fn learn_column(&self, name: &str, survey: &Survey, wrong: &mut Vec<Problem>) -> ColumnEncoding {
        let mut learned = ColumnEncoding { name: name.to_owned(), missing: None, categories: None };
        let Some(column) = self.column(name) else { return learned };
        match (&column.values, column.missing) {
            (Values::Words(..), _) => learned.categories = Some(survey.names(self, name)),
            (_, Missing::Constant(value)) => learned.missing = Some(value),
            (Values::Numbers(_), Missing::Mean) => {
                let mean = survey.mean(self, name);
                // The part of a file that was not read may have some.
                if mean.is_none() && self.estimate.is_none() {
                    let what = format!("has no number in {name:?}, so that missing ones have no mean");
                    wrong.push(self.problem("missing", what));
                }
                learned.missing = Some(mean.unwrap_or(0.0));
            }
            (Values::Numbers(_), Missing::Refuse | Missing::Drop) | (Values::Text, _) => {}
        }
        learned
    }
}

impl Tables {
    fn target(&self, encoding: &TableEncoding, target: &Target, preparation: &Preparation, survey: &Survey) -> Field {
        let table = &self.table;
        let file = target_field(&table.roles);
        let name = match &encoding.targets[..] {
            [name] => name.clone(),
            _ => "targets".to_owned(),
        };
        match target {
            Target::None => Field::no_target(&name, file),
            Target::Class(..) => {
                let words = survey.words(table, &name);
                let first = |class: &String| words?.get(class.as_str()).map(|met| met.first);
                let met = (0..).zip(&preparation.classes).filter_map(|(class, name)| Some((class, first(name)?)));
                let range = met.fold(None, |range, (class, first)| Some(Range::with(range, class, first)));
                // A sample does not tell how many classes there are.
                let range = range.filter(|_| table.estimate.is_none() && !preparation.is_of_sample);
                Field { name, file: file.into(), dtype: Dtype::I64, shape: vec![], range }
            }
            Target::Numbers(slots) => {
                let ranges = encoding.targets.iter().filter_map(|target| survey.range(table, target));
                let range = ranges.reduce(|one, other| {
                    let (highest, Reverse(highest_at)) =
                        (one.highest, Reverse(one.highest_at)).max((other.highest, Reverse(other.highest_at)));
                    Range { lowest: one.lowest.min(other.lowest), highest, highest_at }
                });
                let shape = if slots.len() == 1 { vec![] } else { vec![slots.len() as u64] };
                Field { name, file: file.into(), dtype: Dtype::F32, shape, range }
            }
        }
    }
}
