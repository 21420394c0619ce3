//! A table as the content of a set: what its training rows teach, and its rows as examples.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::content::{Content, Preparation, Prepared};
use super::super::details::{self, ColumnFacts, ColumnValues, Details, Role};
use super::super::split::Part;
use super::super::{Dtype, Facts, Field, Problem, Range, Rows};
use super::encode::{ColumnEncoding, Encoded, Encoder, InputColumns, TableEncoding, Target, places};
use super::layout::{Column, Values, features, instead, target_field};
use super::roles::{InputEncoding, InputRole, Missing};
use super::words::{self, MISSING};
use super::{MOST_PROBLEMS, Table};

/// The input of a spec that names none.
const INPUT: &str = "x";
/// Words that a message lists at most.
const MOST_LISTED: usize = 10;

impl Content for Arc<Table> {
    fn rows(&self) -> u64 {
        self.estimate.unwrap_or(self.rows)
    }

    fn is_sample(&self) -> bool {
        self.estimate.is_some()
    }

    fn strata(&self) -> Result<Vec<u64>, String> {
        let [target] = &self.roles.targets[..] else {
            return Err("is set, and there are several targets; shares are kept of classes".into());
        };
        let Some((slot, _)) = self.words_of(target) else {
            return Err(format!("is set, and the target {target:?} is numbers; shares are kept of classes"));
        };
        Ok((0..self.rows).map(|row| self.word(row, slot).into()).collect())
    }

    fn parts_by(&self, column: &str) -> Result<Vec<Part>, String> {
        let Some((slot, words)) = self.words_of(column) else {
            return Err(format!("is {column:?}, which is no column of the data; {}", instead(&self.names, column)));
        };
        let named: Vec<_> = (0..words.count() as u32).map(|number| Part::named(words.word(number))).collect();
        let part = |row| {
            let number = self.word(row, slot);
            named.get(number as usize).copied().flatten().ok_or_else(|| {
                let found = words.word(number);
                format!(
                    "names a column that says {found:?}: {}; train, validation or test is right",
                    self.at(row, column)
                )
            })
        };
        (0..self.rows).map(part).collect()
    }

    fn weights(&self) -> Result<Option<Cow<'_, [f64]>>, String> {
        let name = self.apart.weights.as_deref().unwrap_or_default();
        match self.column(name).map(|column| &column.values) {
            Some(&Values::Numbers(slot)) => Ok(Some((0..self.rows).map(|row| self.number(row, slot).into()).collect())),
            Some(Values::Words(..)) => Err("that column holds words; numbers are needed".into()),
            None => Err(format!("there is no such column; {}", instead(&self.names, name))),
        }
    }

    fn learn(&self, rows: &Rows, measure: bool) -> Result<Preparation, Vec<Problem>> {
        let rows = self.present(rows);
        let inputs = if self.roles.inputs.is_empty() {
            let columns = features(&self.names, &self.roles, &self.apart);
            vec![InputRole { name: INPUT.into(), columns, encoding: InputEncoding::OneHot }]
        } else {
            self.roles.inputs.clone()
        };
        let mut wrong = Vec::new();
        let mut input = |input: InputRole| InputColumns {
            columns: input.columns.iter().map(|name| self.learn_column(name, &rows, &mut wrong)).collect(),
            name: input.name,
            encoding: input.encoding,
        };
        let inputs = inputs.into_iter().map(&mut input).collect();
        let encoding = TableEncoding { inputs, targets: self.roles.targets.clone() };
        let classes = match self.roles.targets.first().and_then(|target| self.words_of(target)) {
            Some((slot, _)) => self.met(slot, &self.roles.targets[0], &rows),
            None => Vec::new(),
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut preparation = Preparation { classes, ..Preparation::default() };
        if measure && let Some(encoder) = Encoder::of(self, &encoding, &preparation.classes) {
            let moments = encoding.inputs.iter().zip(encoder.moments(self, &rows));
            let moments = moments.filter_map(|(input, moments)| Some((input.name.clone(), moments?)));
            preparation.moments = moments.collect::<BTreeMap<_, _>>();
        }
        preparation.table = Some(encoding);
        Ok(preparation)
    }

    fn details(&self, rows: &Rows, preparation: &Preparation) -> Details {
        let rows = self.present(rows);
        let columns = self.columns.iter().map(|column| self.describe(column, &rows)).collect();
        let classes =
            match preparation.table.as_ref().and_then(|table| table.targets.first()).map(|name| self.words_of(name)) {
                Some(Some((slot, words))) => {
                    let places = places(words, &preparation.classes);
                    let class =
                        |row: &u64| places.get(self.word(*row, slot) as usize).filter(|place| **place != MISSING);
                    details::classes(rows.iter().filter_map(class).map(|place| i64::from(*place)), &preparation.classes)
                }
                Some(None) | None => Vec::new(),
            };
        Details { was_read: self.estimate.is_none(), classes, columns, left_out: self.dropped }
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let Some(encoding) = &preparation.table else {
            return Err(vec![self.problem("path", "was prepared before, and its columns were not kept".into())]);
        };
        let mut wrong = self.other_columns(encoding);
        let present = self.present(&rows);
        wrong.extend(self.other_classes(encoding, &preparation.classes, &present));
        let encoder = Encoder::of(self, encoding, &preparation.classes);
        let Some(encoder) = encoder.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let inputs = encoding.inputs.iter().map(|input| {
            let most = input.columns.iter().filter_map(|column| Some(column.categories.as_ref()?.len())).max();
            let range = most.map(|most| Range { lowest: 0, highest: most as i64, highest_at: 0 });
            Field {
                name: input.name.clone(),
                file: "path".into(),
                dtype: input.dtype(),
                shape: vec![input.width() as u64],
                range: range.filter(|_| input.dtype() == Dtype::I64),
            }
        });
        let target = self.target(encoding, encoder.target(), &present);
        let (examples, inputs, sizes) = (rows.count(), inputs.collect(), self.sizes.clone());
        let facts = Facts { examples, inputs, target, sizes, is_resident: true };
        let notes = self.unknown_categories(encoding, &present);
        let source = self.is_kept.then(|| {
            let table = Self::clone(self);
            Box::new(Encoded { facts: facts.clone(), rows, table, encoder }) as _
        });
        Ok(Prepared { facts, source, notes })
    }
}

impl Table {
    /// Those of some rows that were read.
    fn present(&self, rows: &Rows) -> Vec<u64> {
        rows.iter().take_while(|row| *row < self.rows).collect()
    }

    /// A column as some rows have it.
    fn describe(&self, column: &Column, rows: &[u64]) -> ColumnFacts {
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
        };
        ColumnFacts { name, role, missing: missing as u64, values }
    }

    fn problem(&self, file: &'static str, what: String) -> Problem {
        Problem { file: file.into(), what: format!("{} {what}", self.places.of(0).0.display()), unjudged: None }
    }

    fn learn_column(&self, name: &str, rows: &[u64], wrong: &mut Vec<Problem>) -> ColumnEncoding {
        let mut learned = ColumnEncoding { name: name.to_owned(), missing: None, categories: None };
        let Some(column) = self.column(name) else { return learned };
        match (&column.values, column.missing) {
            (Values::Words(slot, _), _) => learned.categories = Some(self.met(*slot, name, rows)),
            (_, Missing::Constant(value)) => learned.missing = Some(value),
            (&Values::Numbers(slot), Missing::Mean) => {
                let values = rows.iter().map(|row| self.number(*row, slot)).filter(|value| !value.is_nan());
                let (count, sum) = values.fold((0u64, 0.0), |(count, sum), value| (count + 1, sum + f64::from(value)));
                if count == 0 {
                    let what = format!("has no number in {name:?}, so that missing ones have no mean");
                    wrong.push(self.problem("missing", what));
                }
                learned.missing = Some(sum / count.max(1) as f64);
            }
            (Values::Numbers(_), Missing::Refuse | Missing::Drop) => {}
        }
        learned
    }

    /// The words of a column in some rows, sorted.
    fn met(&self, slot: usize, name: &str, rows: &[u64]) -> Vec<String> {
        let Some((_, words)) = self.words_of(name) else { return Vec::new() };
        let mut seen = vec![false; words.count()];
        for row in rows {
            if let Some(seen) = seen.get_mut(self.word(*row, slot) as usize) {
                *seen = true;
            }
        }
        let met = (0u32..).zip(seen).filter(|(_, seen)| *seen);
        let mut met: Vec<_> = met.map(|(number, _)| words.word(number).to_owned()).collect();
        words::sort(&mut met);
        met
    }

    /// Tells the columns that differ from those of the training set.
    fn other_columns(&self, encoding: &TableEncoding) -> Vec<Problem> {
        let learned = encoding.inputs.iter().flat_map(|input| &input.columns);
        let wanted: BTreeSet<_> = learned.map(|column| (&column.name, column.categories.is_some())).collect();
        let mut wrong = Vec::new();
        for (name, _) in wanted.iter().filter(|(name, _)| self.column(name).is_none()) {
            let has = instead(&self.names, name);
            wrong.push(self.problem("path", format!("has no column {name:?}, which the training set has; {has}")));
        }
        for name in features(&self.names, &self.roles, &self.apart) {
            if !wanted.iter().any(|(wanted, _)| **wanted == name) {
                wrong.push(self.problem("path", format!("has the column {name:?}, which the training set has not")));
            }
        }
        wrong.truncate(MOST_PROBLEMS);
        wrong
    }

    /// Tells the targets of rows that are of no class of the training set.
    fn other_classes(&self, encoding: &TableEncoding, classes: &[String], rows: &[u64]) -> Vec<Problem> {
        let [name] = &encoding.targets[..] else { return Vec::new() };
        let field = target_field(&self.roles);
        if self.column(name).is_none() {
            // Data to use a model on may lack it.
            return Vec::new();
        }
        match (self.words_of(name), classes.is_empty()) {
            (None, true) => Vec::new(),
            (None, false) | (Some(_), true) => {
                let (has, had) = if classes.is_empty() { ("words", "numbers") } else { ("numbers", "words") };
                let what = format!("has {has} in {name:?}, and the training set has {had}; set target_type");
                vec![self.problem(field, what)]
            }
            (Some((slot, words)), false) => {
                let known: BTreeSet<_> = classes.iter().map(String::as_str).collect();
                let is_known: Vec<_> =
                    (0..words.count() as u32).map(|number| known.contains(words.word(number))).collect();
                let is_other = |row: &&u64| is_known.get(self.word(**row, slot) as usize) != Some(&true);
                // In a sample a class may be missing that the whole has.
                let others = rows.iter().filter(|_| self.estimate.is_none()).filter(is_other);
                let mut told = BTreeSet::new();
                let first = others.filter(|row| told.insert(self.word(**row, slot))).take(MOST_PROBLEMS);
                let problem = |row: &u64| {
                    let (at, found) = (self.at(*row, name), words.word(self.word(*row, slot)));
                    let what =
                        format!("{at}: {found:?} is no class of the training rows, which have {}", list(classes));
                    Problem { file: field.into(), what, unjudged: None }
                };
                first.map(problem).collect()
            }
        }
    }

    /// Tells the categories that no training row has.
    fn unknown_categories(&self, encoding: &TableEncoding, rows: &[u64]) -> Vec<String> {
        let columns = encoding.inputs.iter().flat_map(|input| &input.columns);
        let mut notes = Vec::new();
        for column in columns {
            let (Some(categories), Some((slot, words))) = (&column.categories, self.words_of(&column.name)) else {
                continue;
            };
            let known: BTreeSet<_> = categories.iter().map(String::as_str).collect();
            let is_known: Vec<_> = (0..words.count() as u32).map(|number| known.contains(words.word(number))).collect();
            let (mut count, mut others) = (0u64, BTreeSet::new());
            let mut first = None;
            for row in rows {
                let word = self.word(*row, slot);
                if word != MISSING && is_known.get(word as usize) == Some(&false) {
                    count += 1;
                    first.get_or_insert(*row);
                    others.insert(words.word(word).to_owned());
                }
            }
            if let Some(first) = first {
                let others: Vec<_> = others.into_iter().collect();
                let what =
                    format!("the first of {count} values whose category no training row has ({})", list(&others));
                notes.push(format!("{}: {what}; they are taken as unknown ones", self.at(first, &column.name)));
            }
        }
        notes
    }

    fn target(&self, encoding: &TableEncoding, target: &Target, rows: &[u64]) -> Field {
        let file = target_field(&self.roles);
        let name = match &encoding.targets[..] {
            [name] => name.clone(),
            _ => "targets".to_owned(),
        };
        let examples = rows.iter().zip(0u64..);
        match target {
            Target::None => Field::no_target(&name, file),
            Target::Class(slot, places) => {
                let mut range = None;
                for (row, place) in examples {
                    let class = places.get(self.word(*row, *slot) as usize).copied().unwrap_or(0);
                    range = Some(Range::with(range, class.into(), place));
                }
                // A sample does not tell how many classes there are.
                let range = range.filter(|_| self.estimate.is_none());
                Field { name, file: file.into(), dtype: Dtype::I64, shape: vec![], range }
            }
            Target::Numbers(slots) => {
                let mut range = None;
                for (row, place) in examples {
                    for slot in slots {
                        let value = self.number(*row, *slot);
                        for bound in [value.floor(), value.ceil()] {
                            range = Some(Range::with(range, bound as i64, place));
                        }
                    }
                }
                let shape = if slots.len() == 1 { vec![] } else { vec![slots.len() as u64] };
                Field { name, file: file.into(), dtype: Dtype::F32, shape, range }
            }
        }
    }
}

/// Words in a message.
fn list(words: &[String]) -> String {
    let listed: Vec<_> = words.iter().take(MOST_LISTED).map(|word| format!("{word:?}")).collect();
    let more = words.len().saturating_sub(MOST_LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", listed.join(", "))
}
