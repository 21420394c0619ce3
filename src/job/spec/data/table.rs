//! The files of a table and the roles of its columns, as the sections of all formats of tables name
//! them.

use std::collections::BTreeSet;

use super::read_path;
use crate::dataset::paths::Paths;
use crate::dataset::table::roles::{InputEncoding, InputRole, Missing, MissingRule, Roles, TargetType};
use crate::job::spec::section::Fields;
use crate::proto::v1::{self, dataset::Format as Kind};

/// The fields that the messages of tables have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RolesMessage {
    pub path: String,
    pub paths: Vec<String>,
    pub target: String,
    pub targets: Vec<String>,
    pub target_type: i32,
    pub features: Vec<String>,
    pub ignore: Vec<String>,
    pub categorical: Vec<String>,
    pub missing: Vec<v1::MissingValues>,
    pub inputs: Vec<v1::TableInput>,
}

/// Takes the common fields out of a message of a table, and the others that are named.
macro_rules! split_roles {
    ($message:expr, $kind:path { $($rest:ident),* }) => {{
        let $kind {
            path, paths, target, targets, target_type, features, ignore, categorical, missing, inputs, $($rest),*
        } = $message;
        let roles = $crate::job::spec::data::table::RolesMessage {
            path, paths, target, targets, target_type, features, ignore, categorical, missing, inputs,
        };
        (roles, ($($rest),*))
    }};
}
pub(super) use split_roles;

/// Puts the common fields into a message of a table.
macro_rules! with_roles {
    ($message:expr, $roles:expr) => {{
        let (mut message, roles) = ($message, $roles);
        $crate::job::spec::data::table::with_roles!(
            @ message, roles, path, paths, target, targets, target_type, features, ignore, categorical, missing, inputs
        );
        message
    }};
    (@ $message:ident, $roles:ident, $($field:ident),+) => { $($message.$field = $roles.$field;)+ };
}
pub(super) use with_roles;

/// Reads the names of the files.
pub(super) fn read_paths(message: &RolesMessage, fields: &mut Fields<'_>) -> Paths<String> {
    let RolesMessage { path, paths, .. } = message;
    if paths.is_empty() {
        return Paths::Path(vec![read_path("path", path, fields)]);
    }
    if !path.is_empty() {
        fields.wrong("path", "is set, and paths is as well; leave one of them out");
    }
    let paths = paths.iter().enumerate();
    Paths::Paths(paths.map(|(place, path)| read_path(&format!("paths[{place}]"), path, fields)).collect())
}

impl RolesMessage {
    /// The message of these files and roles.
    pub(super) fn of(paths: &Paths<String>, roles: &Roles) -> Self {
        let (path, paths) = match paths {
            Paths::Path(paths) => (paths.first().cloned().unwrap_or_default(), Vec::new()),
            Paths::Paths(paths) => (String::new(), paths.clone()),
        };
        let (target, targets) = match &roles.targets[..] {
            [target] => (target.clone(), Vec::new()),
            targets => (String::new(), targets.to_vec()),
        };
        let target_type = match roles.target_type {
            None => v1::TargetType::Unspecified,
            Some(TargetType::Numbers) => v1::TargetType::Numbers,
            Some(TargetType::Classes) => v1::TargetType::Classes,
        };
        Self {
            path,
            paths,
            target,
            targets,
            target_type: target_type.into(),
            features: roles.features.clone(),
            ignore: roles.ignore.clone(),
            categorical: roles.categorical.clone(),
            missing: roles.missing.iter().map(missing_to_proto).collect(),
            inputs: roles.inputs.iter().map(input_to_proto).collect(),
        }
    }

    /// Reads the roles.
    pub(super) fn read(self, fields: &mut Fields<'_>) -> Roles {
        let Self { target, targets, target_type, features, ignore, categorical, missing, inputs, .. } = self;
        let target_type = match v1::TargetType::try_from(target_type) {
            Ok(v1::TargetType::Unspecified) => None,
            Ok(v1::TargetType::Numbers) => Some(TargetType::Numbers),
            Ok(v1::TargetType::Classes) => Some(TargetType::Classes),
            Err(_) => {
                fields.wrong("target_type", format!("is {target_type}; numbers or classes is needed"));
                None
            }
        };
        match (target.is_empty(), targets.is_empty()) {
            (true, true) if fields.may_lack_target() => {}
            (true, true) => fields.wrong("target", "is missing; name the column to answer"),
            (false, false) => fields.wrong("target", "is set, and targets is as well; leave one of them out"),
            (false, true) | (true, false) => {}
        }
        if targets.len() > 1 && target_type == Some(TargetType::Classes) {
            fields.wrong("target_type", "is classes, and there are several targets; these are numbers, such as 1 or 0");
        }
        let is_one = !target.is_empty();
        let named_target = if is_one { "target" } else { "targets" };
        let targets = if is_one { vec![target] } else { targets };
        let missing: Vec<_> =
            missing.iter().enumerate().filter_map(|(place, rule)| read_missing(place, rule, fields)).collect();
        let inputs: Vec<_> =
            inputs.iter().enumerate().filter_map(|(place, input)| read_input(place, input, fields)).collect();
        if !inputs.is_empty() && !features.is_empty() {
            fields.wrong("features", "are set, and inputs are as well; leave one of them out");
        }
        let names: Vec<_> = inputs.iter().map(|input| input.name.clone()).collect();
        distinct("inputs", &names, fields);
        for (field, columns) in
            [("targets", &targets), ("features", &features), ("ignore", &ignore), ("categorical", &categorical)]
        {
            distinct(field, columns, fields);
        }
        let in_inputs: Vec<_> = inputs.iter().flat_map(|input| input.columns.clone()).collect();
        let roles = [(named_target, &targets), ("ignore", &ignore), ("features", &features), ("inputs", &in_inputs)];
        for (place, (field, columns)) in roles.iter().enumerate() {
            for (other, others) in &roles[..place] {
                if let Some(column) = columns.iter().find(|column| others.contains(column)) {
                    fields.wrong(field, format!("holds {column:?}, which is in {other} as well"));
                }
            }
        }
        let given = if inputs.is_empty() { &features } else { &in_inputs };
        for column in &categorical {
            if targets.contains(column) {
                let what = format!("holds {column:?}, which is a target; target_type says that it is classes");
                fields.wrong("categorical", what);
            } else if !given.is_empty() && !given.contains(column) || ignore.contains(column) {
                fields.wrong("categorical", format!("holds {column:?}, which is none of the features"));
            }
        }
        Roles { targets, target_type, features, ignore, categorical, missing, inputs }
    }
}

/// Gives a table to use a model on the roles of the table that the model was trained on, each where
/// it names none itself. Its features come with the preparation of the training set.
pub(in crate::job::spec) fn take_over(test: &mut v1::Dataset, trained: &v1::Dataset) {
    let Some(RolesMessage { target, targets, target_type, mut missing, .. }) = roles(trained) else { return };
    // Every row gets an answer, so that none is dropped without being asked for. A rule that goes
    // is refused in its place: another rule would take its columns over, of which nothing was
    // learned.
    for rule in missing.iter_mut().filter(|rule| rule.by() == v1::MissingBy::Drop) {
        rule.by = v1::MissingBy::Refuse.into();
    }
    let Some(own) = roles(test).filter(|_| lists_images(test) == lists_images(trained)) else { return };
    let mut roles = own;
    if roles.target.is_empty() && roles.targets.is_empty() {
        (roles.target, roles.targets) = (target.clone(), targets.clone());
    }
    let is_same_target = (&roles.target, &roles.targets) == (&target, &targets);
    if is_same_target && roles.target_type == i32::from(v1::TargetType::Unspecified) {
        roles.target_type = target_type;
    }
    if roles.missing.is_empty() {
        roles.missing = missing;
    }
    match &mut test.format {
        Some(Kind::Csv(csv)) => *csv = with_roles!(csv.clone(), roles),
        Some(Kind::Parquet(parquet)) => *parquet = with_roles!(parquet.clone(), roles),
        Some(Kind::ImageFolder(v1::ImageFolderDataset { table: Some(table), .. })) => {
            *table = with_roles!(table.clone(), roles);
        }
        _ => {}
    }
}

/// Whether a set is a table whose missing values are means.
pub(in crate::job::spec) fn takes_means(set: &v1::Dataset) -> bool {
    roles(set).is_some_and(|roles| roles.missing.iter().any(|rule| rule.by() == v1::MissingBy::Mean))
}

/// The roles in a set that is a table.
fn roles(set: &v1::Dataset) -> Option<RolesMessage> {
    match &set.format {
        Some(Kind::Csv(csv)) => Some(split_roles!(csv.clone(), v1::CsvDataset { delimiter, header, quote, comment }).0),
        Some(Kind::Parquet(parquet)) => Some(split_roles!(parquet.clone(), v1::ParquetDataset {}).0),
        Some(Kind::ImageFolder(v1::ImageFolderDataset { table: Some(table), .. })) => {
            Some(split_roles!(table.clone(), v1::CsvDataset { delimiter, header, quote, comment }).0)
        }
        _ => None,
    }
}

fn lists_images(set: &v1::Dataset) -> bool {
    matches!(set.format, Some(Kind::ImageFolder(_)))
}

fn distinct(field: &str, names: &[String], fields: &mut Fields<'_>) {
    let mut met = BTreeSet::new();
    for (place, name) in names.iter().enumerate() {
        if name.is_empty() {
            fields.wrong(&format!("{field}[{place}]"), "is empty; a name is needed");
        } else if !met.insert(name) {
            fields.wrong(&format!("{field}[{place}]"), format!("is {name:?}, which stands there twice"));
        }
    }
}

fn read_missing(place: usize, message: &v1::MissingValues, fields: &mut Fields<'_>) -> Option<MissingRule> {
    let v1::MissingValues { columns, by, value } = message.clone();
    let mut fields = fields.within(&format!("missing[{place}]"));
    distinct("columns", &columns, &mut fields);
    let by = match v1::MissingBy::try_from(by) {
        Ok(v1::MissingBy::Refuse) => Missing::Refuse,
        Ok(v1::MissingBy::Drop) => Missing::Drop,
        Ok(v1::MissingBy::Mean) => Missing::Mean,
        Ok(v1::MissingBy::Constant) => {
            let finite = value.filter(|value| (*value as f32).is_finite());
            if finite.is_none() {
                let found = value.map_or("is missing".to_owned(), |value| format!("is {value}"));
                fields.wrong("value", format!("{found}; a finite 32-bit number is needed"));
            }
            Missing::Constant(finite.unwrap_or(0.0))
        }
        Ok(v1::MissingBy::Unspecified) | Err(_) => {
            fields.wrong("by", "is missing or unknown; refuse, drop, mean or constant is needed");
            return None;
        }
    };
    if value.is_some() && !matches!(by, Missing::Constant(_)) {
        fields.wrong("value", "is set, and goes with by = constant");
    }
    fields.done(MissingRule { columns, by })
}

fn missing_to_proto(rule: &MissingRule) -> v1::MissingValues {
    let (by, value) = match rule.by {
        Missing::Refuse => (v1::MissingBy::Refuse, None),
        Missing::Drop => (v1::MissingBy::Drop, None),
        Missing::Mean => (v1::MissingBy::Mean, None),
        Missing::Constant(value) => (v1::MissingBy::Constant, Some(value)),
    };
    v1::MissingValues { columns: rule.columns.clone(), by: by.into(), value }
}

fn read_input(place: usize, message: &v1::TableInput, fields: &mut Fields<'_>) -> Option<InputRole> {
    let v1::TableInput { name, columns, encoding } = message.clone();
    let mut fields = fields.within(&format!("inputs[{place}]"));
    if columns.is_empty() {
        fields.wrong("columns", "is missing; name the columns of the input");
    }
    distinct("columns", &columns, &mut fields);
    let encoding = match v1::InputEncoding::try_from(encoding) {
        Ok(v1::InputEncoding::Unspecified | v1::InputEncoding::OneHot) => InputEncoding::OneHot,
        Ok(v1::InputEncoding::Index) => InputEncoding::Index,
        Err(_) => {
            fields.wrong("encoding", format!("is {encoding}; one_hot or index is needed"));
            return None;
        }
    };
    fields.done(InputRole { name, columns, encoding })
}

fn input_to_proto(input: &InputRole) -> v1::TableInput {
    let encoding = match input.encoding {
        InputEncoding::OneHot => v1::InputEncoding::OneHot,
        InputEncoding::Index => v1::InputEncoding::Index,
    };
    v1::TableInput { name: input.name.clone(), columns: input.columns.clone(), encoding: encoding.into() }
}
