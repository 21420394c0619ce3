//! How a table differs from the training set, where it is another one: columns, targets, classes,
//! categories and missing values.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::encode::{ColumnEncoding, TableEncoding};
use super::super::layout::{Values, features, instead, target_field};
use super::super::roles::Missing;
use super::super::survey::{Met, Survey};
use super::super::{MOST_PROBLEMS, Table};
use super::Tables;
use crate::dataset::content::Preparation;
use crate::dataset::{Problem, Rows};

/// Words that a message lists at most.
const MOST_LISTED: usize = 10;

impl Table {
    /// Tells the columns that differ from those of the training set.
    pub(super) fn other_columns(&self, encoding: &TableEncoding) -> Vec<Problem> {
        let learned = encoding.inputs.iter().flat_map(|input| &input.columns);
        let learned: BTreeMap<_, _> = learned.map(|column| (&*column.name, column.categories.is_some())).collect();
        let taken: HashMap<_, _> = self.columns.iter().map(|column| (&*column.name, &column.values)).collect();
        let lacking = learned.keys().filter(|name| !taken.contains_key(*name)).map(|name| {
            let has = instead(&self.names, name);
            self.problem(self.field, format!("has no column {name:?}, which the training set has; {has}"))
        });
        let features = features(&self.names, &self.roles, &self.apart);
        let more = features
            .iter()
            .filter(|name| !learned.contains_key(name.as_str()))
            .map(|name| self.problem(self.field, format!("has the column {name:?}, which the training set has not")));
        let of_other_kind = learned.iter().filter_map(|(name, was_category)| {
            let (has, had) = match (taken.get(name)?, was_category) {
                (Values::Numbers(_), true) => ("numbers", "categories"),
                (Values::Words(..), false) => ("categories", "numbers"),
                (Values::Numbers(_), false) | (Values::Words(..), true) | (Values::Text, _) => return None,
            };
            let what =
                format!("has {name:?} as {has}, and the training set has it as {had}; list it for both or neither");
            Some(self.problem("categorical", what))
        });
        lacking.chain(more).chain(of_other_kind).take(MOST_PROBLEMS).collect()
    }

    /// Tells targets that are not those of the training set.
    pub(super) fn other_targets(&self, encoding: &TableEncoding) -> Option<Problem> {
        let (has, had) = (&self.roles.targets, &encoding.targets);
        // Data to use a model on may lack them.
        if has.is_empty() || has.iter().collect::<BTreeSet<_>>() == had.iter().collect() {
            return None;
        }
        let role = if has.len() == 1 { "its target" } else { "its targets" };
        let what = format!("has {} as {role}, and the training set has {}; name the same", list(has), list(had));
        Some(self.problem(target_field(&self.roles), what))
    }

    /// Tells the columns whose missing values are to be means that the training set has not taught.
    pub(super) fn unlearned_means(&self, encoding: &TableEncoding, survey: &Survey) -> Vec<Problem> {
        let learned = encoding.inputs.iter().flat_map(|input| &input.columns);
        let asked = learned
            .filter(|column| column.missing.is_none() && column.categories.is_none())
            .filter(|column| self.column(&column.name).is_some_and(|column| column.missing == Missing::Mean));
        let problem = |column: &ColumnEncoding| {
            let name = &column.name;
            let (missing, of) = survey.missing(self, name).filter(|(missing, _)| *missing > 0)?;
            let what = format!(
                "has no value of {name:?} in {missing} of {of} rows, and the training set taught no mean of it; take a \
                 constant, drop the rows, or train with by = \"mean\" for this column"
            );
            Some(self.problem("missing", what))
        };
        asked.filter_map(problem).take(MOST_PROBLEMS).collect()
    }
}

impl Tables {
    /// Tells the targets of rows that are of no class of the training set.
    pub(super) fn other_classes(
        &self,
        encoding: &TableEncoding,
        preparation: &Preparation,
        rows: &Rows,
    ) -> Vec<Problem> {
        let (table, classes) = (&self.table, &preparation.classes);
        // In a sample a class may be missing that the whole has, or all of them.
        let is_sample = preparation.is_of_sample || table.estimate.is_some();
        let [name] = &encoding.targets[..] else { return Vec::new() };
        let field = target_field(&table.roles);
        if table.column(name).is_none() {
            // Data to use a model on may lack it.
            return Vec::new();
        }
        match (self.survey(rows).words(table, name), classes.is_empty()) {
            (None, true) => Vec::new(),
            (Some(_), true) if preparation.is_of_sample => Vec::new(),
            (None, false) | (Some(_), true) => {
                let (has, had) = if classes.is_empty() { ("words", "numbers") } else { ("numbers", "words") };
                let what = format!("has {has} in {name:?}, and the training set has {had}; set target_type");
                vec![table.problem(field, what)]
            }
            (Some(_), false) if is_sample => Vec::new(),
            (Some(words), false) => {
                let mut others = others(words, classes);
                let are_decimals = are_decimals(classes);
                others.truncate(if are_decimals { 1 } else { MOST_PROBLEMS });
                let way = match are_decimals {
                    true => "; decimals are numbers unless target_type says that they are classes: leave it out",
                    false => "",
                };
                let problem = |(found, Met { first, .. }): (&str, Met)| {
                    let at = self.at(rows.row(first), name);
                    let classes = list(classes);
                    let what = format!("{at}: {found:?} is no class of the training rows, which have {classes}{way}");
                    Problem { file: field.into(), what, unjudged: None }
                };
                others.into_iter().map(problem).collect()
            }
        }
    }

    /// Tells the categories that no training row has.
    pub(super) fn unknown_categories(&self, encoding: &TableEncoding, rows: &Rows) -> Vec<String> {
        let columns = encoding.inputs.iter().flat_map(|input| &input.columns);
        let note = |column: &ColumnEncoding| {
            let words = self.survey(rows).words(&self.table, &column.name)?;
            let others = others(words, column.categories.as_ref()?);
            let (_, Met { first, .. }) = others.first()?;
            let count: u64 = others.iter().map(|(_, met)| met.count).sum();
            let mut names: Vec<_> = others.iter().map(|(word, _)| (*word).to_owned()).collect();
            names.sort_unstable();
            let what = format!("the first of {count} values whose category no training row has ({})", list(&names));
            Some(format!("{}: {what}; they are taken as unknown ones", self.at(rows.row(*first), &column.name)))
        };
        columns.filter_map(note).collect()
    }
}

/// The words that are not among these names, in the order in which they were met.
fn others<'a>(words: &'a HashMap<Box<str>, Met>, names: &[String]) -> Vec<(&'a str, Met)> {
    let known: HashSet<_> = names.iter().map(String::as_str).collect();
    let words = words.iter().map(|(word, met)| (&**word, *met));
    let mut others: Vec<_> = words.filter(|(word, _)| !known.contains(word)).collect();
    others.sort_unstable_by_key(|(_, met)| met.first);
    others
}

/// Whether classes look like numbers to learn: all are numbers, and some have a fraction.
fn are_decimals(classes: &[String]) -> bool {
    let numbers = classes.iter().map(|class| class.parse::<f64>());
    let mut has_fraction = false;
    numbers.into_iter().all(|number| {
        number.is_ok_and(|number| {
            has_fraction |= number.fract() != 0.0;
            number.is_finite()
        })
    }) && has_fraction
}

/// Words in a message.
fn list(words: &[String]) -> String {
    let listed: Vec<_> = words.iter().take(MOST_LISTED).map(|word| format!("{word:?}")).collect();
    let more = words.len().saturating_sub(MOST_LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", listed.join(", "))
}
