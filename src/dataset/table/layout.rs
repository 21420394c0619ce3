//! The columns of a file that a table takes, by the names in its header and the roles of a spec.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::super::split::COLUMN;
use super::super::{Problem, Reading};
use super::roles::{Missing, Roles, TargetType};
use super::words::Words;
use super::{MOST_PROBLEMS, wrong_with};

/// Names that a message lists at most.
const MOST_LISTED: usize = 12;
/// The role of the column that names files, as problems name it.
pub(in crate::dataset) const FILES: &str = "files";
/// Names that are less alike than this are not taken for each other.
const ALIKE: f64 = 0.7;

/// The place of each column of a file in a table.
#[derive(Debug)]
pub(in crate::dataset) struct Layout {
    /// By the columns of the file.
    pub slots: Vec<Slot>,
    /// The columns that are taken, in the order of the file.
    pub columns: Vec<Column>,
    /// The place of each among them, by its name.
    pub by_name: Arc<HashMap<String, usize>>,
    /// The columns of numbers.
    pub numbers: usize,
    /// The columns of words.
    pub words: usize,
}

/// The place of the values of a column in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataset) enum Slot {
    /// It is not read.
    Skip,
    /// It is this one of the taken columns, and has this place in the numbers of each row.
    Numbers {
        /// Among the taken columns.
        column: usize,
        /// Among the numbers of a row.
        slot: usize,
    },
    /// The same of words.
    Words {
        /// Among the taken columns.
        column: usize,
        /// Among the words of a row.
        slot: usize,
    },
    /// It is this one of the taken columns, and its texts are kept as they are.
    Text {
        /// Among the taken columns.
        column: usize,
    },
}

impl Slot {
    /// The column among those that are taken.
    pub(in crate::dataset) fn column(self) -> Option<usize> {
        match self {
            Self::Skip => None,
            Self::Numbers { column, .. } | Self::Words { column, .. } | Self::Text { column } => Some(column),
        }
    }
}

/// A column of a table.
#[derive(Debug)]
pub(in crate::dataset) struct Column {
    /// Its name.
    pub name: String,
    /// The treatment of its missing values.
    pub missing: Missing,
    /// Where its values lie.
    pub values: Values,
}

/// Where the values of a column lie.
#[derive(Debug)]
pub(in crate::dataset) enum Values {
    /// At this place in the numbers of each row.
    Numbers(usize),
    /// At this place in the words of each row.
    Words(usize, Words),
    /// Among the texts, one a row. A table has one such column at most.
    Text,
}

/// Columns with a role that a spec gives outside of the section of the set. They are no features by
/// default.
#[derive(Debug, Clone, Default)]
pub(in crate::dataset) struct Apart {
    /// The column that divides the rows.
    pub split: Option<String>,
    /// The column that weighs the rows.
    pub weights: Option<String>,
    /// Whether the values of that are read.
    pub is_weighed: bool,
    /// The column that names the file of each row, which is its only input: no column is a feature.
    pub files: Option<String>,
}

impl Apart {
    /// Those of a reading.
    pub(in crate::dataset) fn of(reading: &Reading<'_>) -> Self {
        let [split, weights] = [reading.split_column, reading.weights].map(|name| name.map(str::to_owned));
        Self { split, weights, is_weighed: reading.is_weighed, files: None }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        [&self.split, &self.weights].into_iter().flatten().any(|role| role == name)
    }
}

impl Layout {
    /// The layout for a file with these columns.
    ///
    /// # Errors
    /// All that is wrong with the columns.
    pub(in crate::dataset) fn of(
        path: &Path,
        names: &[String],
        roles: &Roles,
        target: TargetType,
        apart: &Apart,
    ) -> Result<Self, Vec<Problem>> {
        let mut wrong = Vec::new();
        let problem = |(file, what)| match file {
            COLUMN => Problem::of_field(file, what),
            _ => Problem { file: file.into(), ..wrong_with(path, what) },
        };
        let mut first = HashMap::new();
        for (place, name) in (1..).zip(names) {
            if name.is_empty() {
                let what = format!("has no name for column {place}; pandas writes its index so without index=False");
                wrong.push(("path", what));
            } else if let Some(before) = first.insert(name.as_str(), place) {
                wrong.push(("path", format!("has {name:?} as column {before} and as column {place}")));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.into_iter().take(MOST_PROBLEMS).map(problem).collect());
        }
        let inputs = roles.inputs.iter().flat_map(|input| &input.columns);
        let rules = roles.missing.iter().flat_map(|rule| &rule.columns);
        for (field, named) in [
            (target_field(roles), roles.targets.iter().collect::<Vec<_>>()),
            ("features", roles.features.iter().collect()),
            ("ignore", roles.ignore.iter().collect()),
            ("categorical", roles.categorical.iter().collect()),
            ("missing", rules.collect()),
            ("inputs", inputs.collect()),
        ] {
            let absent = named.into_iter().filter(|name| !first.contains_key(name.as_str()));
            for name in absent.take(MOST_PROBLEMS) {
                wrong.push((field, format!("has no column {name:?}; {}", instead(names, name))));
            }
        }
        let split = apart.split.as_deref();
        if let Some(split) = split.filter(|split| !first.contains_key(split)) {
            wrong.push((COLUMN, format!("is {split:?}, which is no column of the data; {}", instead(names, split))));
        }
        let files = apart.files.as_ref();
        if let Some(files) = files.filter(|files| !first.contains_key(files.as_str())) {
            wrong.push((FILES, format!("has no column {files:?}; {}", instead(names, files))));
        }
        if let Some(split) = split.filter(|split| files.is_some_and(|files| files == split)) {
            wrong.push((COLUMN, format!("is {split:?}, the column that names the files")));
        }
        let features = features(names, roles, apart);
        if features.is_empty() && files.is_none() {
            let targets = roles.targets.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            wrong.push(("path", format!("has no column to learn from besides {targets}")));
        }
        let [targets, features] =
            [&roles.targets, &features].map(|names| names.iter().map(String::as_str).collect::<HashSet<_>>());
        let (categories, treatments) = (roles.categories(), roles.treatments());
        let mut layout = Self {
            slots: Vec::with_capacity(names.len()),
            columns: Vec::new(),
            by_name: Arc::default(),
            numbers: 0,
            words: 0,
        };
        for name in names {
            let is_target = targets.contains(name.as_str());
            if files == Some(name) {
                layout.slots.push(Slot::Text { column: layout.columns.len() });
                layout.columns.push(Column { name: name.clone(), missing: Missing::Refuse, values: Values::Text });
                continue;
            }
            let has_words = if is_target {
                target == TargetType::Classes
            } else if features.contains(name.as_str()) {
                categories.contains(name.as_str())
            } else if split == Some(name) {
                true
            } else if apart.is_weighed && apart.weights.as_ref() == Some(name) {
                false
            } else {
                layout.slots.push(Slot::Skip);
                continue;
            };
            let missing = match treatments.of(name) {
                Missing::Mean | Missing::Constant(_) if is_target || apart.has(name) => Missing::Refuse,
                other => other,
            };
            layout.slots.push(layout.next(has_words));
            let values = if has_words {
                layout.words += 1;
                Values::Words(layout.words - 1, Words::default())
            } else {
                layout.numbers += 1;
                Values::Numbers(layout.numbers - 1)
            };
            layout.columns.push(Column { name: name.clone(), missing, values });
        }
        layout.by_name = Arc::new(layout.columns.iter().map(|column| column.name.clone()).zip(0..).collect());
        if wrong.is_empty() { Ok(layout) } else { Err(wrong.into_iter().map(problem).collect()) }
    }

    fn next(&self, has_words: bool) -> Slot {
        let column = self.columns.len();
        if has_words { Slot::Words { column, slot: self.words } } else { Slot::Numbers { column, slot: self.numbers } }
    }
}

/// Demands that a file has the columns of the first one, each with its path.
pub(in crate::dataset) fn same_columns(
    (first, had): (&Path, &[String]),
    (path, has): (&Path, &[String]),
) -> Result<(), Vec<Problem>> {
    let differs = (1..).zip(had.iter().zip(has)).find(|(_, (one, other))| one != other);
    let what = match differs {
        Some((place, (one, other))) => format!("has {other:?} as column {place}, which is {one:?}"),
        None if had.len() == has.len() => return Ok(()),
        None => format!("has {} columns, and there are {}", has.len(), had.len()),
    };
    Err(vec![wrong_with(path, format!("{what} in {}; all files need the same columns", first.display()))])
}

/// The field that names the targets.
pub(in crate::dataset) fn target_field(roles: &Roles) -> &'static str {
    if roles.targets.len() == 1 { "target" } else { "targets" }
}

/// The columns to learn from, in their order.
pub(super) fn features(names: &[String], roles: &Roles, apart: &Apart) -> Vec<String> {
    if apart.files.is_some() {
        return Vec::new();
    }
    if !roles.inputs.is_empty() {
        return roles.inputs.iter().flat_map(|input| input.columns.clone()).collect();
    }
    if !roles.features.is_empty() {
        return roles.features.clone();
    }
    let others: HashSet<_> = roles.targets.iter().chain(&roles.ignore).collect();
    names.iter().filter(|name| !others.contains(name) && !apart.has(name)).cloned().collect()
}

/// The columns that might have been meant in place of one that is not there.
pub(in crate::dataset) fn instead(names: &[String], wanted: &str) -> String {
    let in_lowercase = wanted.to_lowercase();
    let likeness = |name: &String| strsim::jaro_winkler(&name.to_lowercase(), &in_lowercase);
    let best = names.iter().map(|name| (likeness(name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    if let Some((_, best)) = best.filter(|(likeness, _)| *likeness > ALIKE) {
        return format!("did you mean {best:?}?");
    }
    let listed: Vec<_> = names.iter().take(MOST_LISTED).map(|name| format!("{name:?}")).collect();
    let more =
        if names.len() > MOST_LISTED { format!(" and {} more", names.len() - MOST_LISTED) } else { String::new() };
    format!("it has {}{more}", listed.join(", "))
}
