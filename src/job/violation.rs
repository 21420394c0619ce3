//! Mistakes in a request: each names its field by its path, as google.rpc.BadRequest does.

use std::fmt;

use crate::shortage::Unjudged;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `optimizer.sgd.learning_rate`.
    pub field: String,
    /// The mistake, the value found, and what would be right.
    pub description: String,
    /// It is no mistake: why this could not be looked at now.
    pub unjudged: Option<Unjudged>,
}

/// All mistakes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.add_found(field, description, None);
    }

    /// Adds one, or something that could not be judged. One that is there already, since two sets
    /// of data show it, is told once.
    pub fn add_found(&mut self, field: impl Into<String>, description: impl Into<String>, unjudged: Option<Unjudged>) {
        let violation = Violation { field: field.into(), description: description.into(), unjudged };
        if !self.0.contains(&violation) {
            self.0.push(violation);
        }
    }

    /// `value` if there are none, else all of them.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Violation { field, description, .. }) in self.0.iter().enumerate() {
            write!(f, "{}{field}: {description}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}
