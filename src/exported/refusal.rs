//! Reasons why a program cannot be trained, in a user's words: with the node, the schema of its
//! operator and the line of the user's Python.

use std::fmt;

use super::plan::Origin;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The node; None where the program as a whole is meant.
    pub origin: Option<Origin>,
    /// The operator's schema in this libtorch; empty where that says nothing.
    pub schema: String,
    /// The finding, and the remedy.
    pub what: String,
}

impl Refusal {
    /// A reason that lies in no single node.
    pub(super) fn whole(what: impl Into<String>) -> Self {
        Self { origin: None, schema: String::new(), what: what.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.what)?;
        if self.schema.is_empty() { Ok(()) } else { write!(f, "; the operator is {}", self.schema) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.node, self.target)?;
        match &self.trace {
            Some(trace) => write!(f, " of {trace}"),
            None => Ok(()),
        }
    }
}
