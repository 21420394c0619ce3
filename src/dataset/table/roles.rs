//! The parts that the columns of a table play, as a spec gives them.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::super::Reading;

/// The roles of the columns of a table, by their names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// The columns to answer: one, or several numbers.
    pub targets: Vec<String>,
    /// The kind of answer; None to tell it by the first value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<TargetType>,
    /// The columns to learn from, in their order; empty for all that have no other role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Columns that are not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Columns of words or numbers that name a category.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// The treatment of missing values. A rule that names a column goes before one for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingRule>,
    /// The inputs of a network that takes several; empty for one of all features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRole>,
}

/// The kind of answer that a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetType {
    /// Numbers.
    Numbers,
    /// Classes by name.
    Classes,
}

/// The treatment of the missing values of some columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRule {
    /// The columns; empty for all that no other rule names.
    pub columns: Vec<String>,
    /// The treatment.
    pub by: Missing,
}

/// The treatment of a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It is a mistake.
    Refuse,
    /// Its row is left out.
    Drop,
    /// It is the mean of the column in the training rows.
    Mean,
    /// It is this number.
    Constant(f64),
}

/// An input of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRole {
    /// Its name.
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<String>,
    /// How its columns become values.
    pub encoding: InputEncoding,
}

/// How the columns of an input become its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputEncoding {
    /// 32-bit floats: numbers as they are, and for each category one number that is 1 or 0.
    OneHot,
    /// 64-bit integers: the number of the category, from 1 on; 0 for one that is not known.
    Index,
}

impl Roles {
    /// The roles in files with these columns. Data to use a trained model on may lack targets and
    /// have columns that the model never saw.
    pub(in crate::dataset) fn in_files(&self, names: &[String], reading: &Reading<'_>) -> Self {
        let mut roles = self.clone();
        if reading.may_lack_target && !roles.targets.iter().any(|target| names.contains(target)) {
            roles.targets.clear();
        }
        let known = reading.known.and_then(|known| known.table.as_ref());
        if let Some(known) = known {
            let columns: Vec<_> = known.inputs.iter().flat_map(|input| &input.columns).collect();
            let categorical = columns.iter().filter(|column| column.categories.is_some());
            let categorical = categorical.map(|column| column.name.clone());
            if roles.features.is_empty() && roles.inputs.is_empty() {
                roles.categorical = categorical.collect();
                roles.features = columns.into_iter().map(|column| column.name.clone()).collect();
                roles.ignore.clear();
            } else if roles.categorical.is_empty() {
                let in_inputs = roles.inputs.iter().flat_map(|input| &input.columns);
                let taken: HashSet<_> = roles.features.iter().chain(in_inputs).collect();
                roles.categorical = categorical.filter(|name| taken.contains(name)).collect();
            }
            let has_any = |rule: &MissingRule| rule.columns.iter().any(|name| names.contains(name));
            roles.missing.retain(|rule| rule.columns.is_empty() || has_any(rule));
            for rule in &mut roles.missing {
                rule.columns.retain(|name| names.contains(name));
            }
        }
        roles
    }

    /// The treatments of missing values.
    pub(super) fn treatments(&self) -> Treatments<'_> {
        let mut treatments = Treatments { by_name: HashMap::new(), others: None };
        for rule in &self.missing {
            if rule.columns.is_empty() {
                treatments.others.get_or_insert(rule.by);
            }
            for name in &rule.columns {
                treatments.by_name.entry(name).or_insert(rule.by);
            }
        }
        treatments
    }

    /// The remedy for words in a column of numbers.
    pub(in crate::dataset) fn remedy_for_words(&self, column: &str) -> &'static str {
        match &self.targets[..] {
            [target] if target == column => "a target of words needs target_type = \"classes\"",
            several if several.iter().any(|target| target == column) => "several targets are numbers, such as 1 or 0",
            _ => "a column of words has to be listed in `categorical` or `ignore`",
        }
    }

    /// The features whose values are categories.
    pub(super) fn categories(&self) -> HashSet<&str> {
        let indexed = self.inputs.iter().filter(|input| input.encoding == InputEncoding::Index);
        self.categorical.iter().chain(indexed.flat_map(|input| &input.columns)).map(String::as_str).collect()
    }
}

/// The treatments of missing values by column. The first rule that names a column holds for it.
pub(super) struct Treatments<'a> {
    by_name: HashMap<&'a str, Missing>,
    others: Option<Missing>,
}

impl Treatments<'_> {
    /// That of a column.
    pub(super) fn of(&self, column: &str) -> Missing {
        self.by_name.get(column).copied().or(self.others).unwrap_or(Missing::Refuse)
    }
}
