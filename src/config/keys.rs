//! Reads values out of the merged sources one by one, and keeps every mistake.

use std::collections::BTreeSet;

use config::{Map, Source, Value, ValueKind};

/// From this likeness on, of 1 for the same, one name may be meant by another.
const LIKE: f64 = 0.7;

/// A mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, for example `grpc.listen`.
    pub key: String,
    /// Where the value came from; empty where nobody set it.
    pub origin: String,
    /// The mistake, and what would be right.
    pub what: String,
}

/// The merged values, read key by key.
pub(super) struct Keys {
    table: Map<String, Value>,
    known: BTreeSet<&'static str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Keys {
    pub(super) fn new(merged: &config::Config) -> Result<Self, config::ConfigError> {
        Ok(Self { table: merged.collect()?, known: BTreeSet::new(), mistakes: Vec::new() })
    }

    /// The value of a key, read by `parse`; None where it is not set or wrong. `parse` says what
    /// would be right.
    pub(super) fn take<T>(&mut self, key: &'static str, parse: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        self.known.insert(key);
        let value = self.find(key)?.clone();
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.add(key, what);
                None
            }
        }
    }

    /// Adds a mistake about a key.
    pub(super) fn add(&mut self, key: &str, what: String) {
        let origin = self.find(key).and_then(Value::origin).unwrap_or_default().to_owned();
        self.mistakes.push(Mistake { key: key.into(), origin, what });
    }

    fn find(&self, key: &str) -> Option<&Value> {
        let (section, rest) = key.split_once('.').map_or((key, None), |(section, rest)| (section, Some(rest)));
        let value = self.table.get(section)?;
        match (rest, &value.kind) {
            (None, _) => Some(value),
            (Some(rest), ValueKind::Table(table)) => table.get(rest),
            (Some(_), _) => None,
        }
    }

    /// The known settings of a section, without its name.
    fn of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'static str> + 'a {
        self.known.iter().filter_map(move |key| key.strip_prefix(section)?.strip_prefix('.'))
    }

    /// The setting that is likely to be meant, or else those that there are.
    fn instead_of(&self, key: &str) -> String {
        let likeness = |known: &&&str| strsim::normalized_damerau_levenshtein(key, known);
        let nearest = self.known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        if let Some(nearest) = nearest.filter(|nearest| likeness(nearest) > LIKE) {
            return format!("the nearest is {nearest}");
        }
        let section = key.split('.').next().unwrap_or(key);
        let own: Vec<_> = self.of(section).collect();
        if own.is_empty() {
            let sections: BTreeSet<_> = self.known.iter().map(|key| key.split('.').next().unwrap_or(key)).collect();
            return format!("there are {}", sections.into_iter().collect::<Vec<_>>().join(", "));
        }
        format!("{section} has {}", own.join(", "))
    }

    /// Adds a mistake for every key that nobody took, with the one that may be meant.
    pub(super) fn finish(mut self) -> Vec<Mistake> {
        let mut unknown = Vec::new();
        for (section, value) in &self.table {
            match &value.kind {
                ValueKind::Table(table) if table.is_empty() && self.of(section).next().is_none() => {
                    unknown.push((section.clone(), value));
                }
                ValueKind::Table(table) => {
                    for (name, value) in table {
                        unknown.push((format!("{section}.{name}"), value));
                    }
                }
                _ => unknown.push((section.clone(), value)),
            }
        }
        unknown.retain(|(key, _)| !self.known.contains(key.as_str()));
        unknown.sort_by(|one, other| one.0.cmp(&other.0));
        let mistakes: Vec<_> = unknown
            .into_iter()
            .map(|(key, value)| {
                let what = format!("no such setting; {}", self.instead_of(&key));
                Mistake { key, origin: value.origin().unwrap_or_default().to_owned(), what }
            })
            .collect();
        self.mistakes.extend(mistakes);
        self.mistakes
    }
}

/// A value as text, for messages and for values that are written as text.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        other => Err(format!("is {other}; text is needed")),
    }
}

/// A value that a type reads from text; `right` says what would be right. Numbers and booleans
/// count as their text, since the environment has nothing else.
pub(super) fn parsed<T: std::str::FromStr>(right: &'static str) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let text = match &value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => {
                return Err(format!("is no single value; {right}"));
            }
            _ => value.clone().into_string().map_err(|error| error.to_string())?,
        };
        text.trim().parse().map_err(|_| format!("is {text:?}; {right}"))
    }
}
