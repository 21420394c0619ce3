//! Sizes of inputs and outputs behind the batch, and their values for data whose sizes are known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::program::{Program, Size};

/// A size behind the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// The same for all data.
    Fixed(u64),
    /// That of the data.
    Open {
        /// Sizes with the same symbol are equal.
        symbol: String,
        /// The least that is taken.
        least: u64,
        /// The largest; None where that is open.
        most: Option<u64>,
    },
    /// Computed from others, in PyTorch's words.
    Computed(String),
}

/// Symbols with their sizes in the data.
pub type Known<'a> = BTreeMap<&'a str, u64>;

impl Extent {
    /// The extent of a size of a program.
    pub(super) fn of(size: &Size, program: &Program) -> Self {
        let unsigned = |bound: i64| u64::try_from(bound).unwrap_or(0);
        match size {
            Size::Fixed(size) => Self::Fixed(unsigned(*size)),
            Size::Symbol(symbol) => {
                let bounds = program.symbols.get(symbol);
                Self::Open {
                    symbol: symbol.clone(),
                    least: bounds.and_then(|bounds| bounds.least).map_or(0, unsigned),
                    most: bounds.and_then(|bounds| bounds.most).map(unsigned),
                }
            }
            Size::Expression(text) => Self::Computed(text.clone()),
        }
    }

    /// Its value for data with these sizes; None where they do not tell.
    pub fn value(&self, known: &Known<'_>) -> Option<u64> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Open { symbol, .. } => known.get(symbol.as_str()).copied(),
            Self::Computed(text) => evaluate(text, known),
        }
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Open { symbol: text, .. } | Self::Computed(text) => f.write_str(text),
        }
    }
}

/// Parentheses may be nested so deep.
const MOST_DEPTH: usize = 64;

/// The value of an expression of whole numbers, symbols, `+`, `-`, `*` and `//`; None for any
/// other, and where it is negative or too large.
fn evaluate(text: &str, known: &Known<'_>) -> Option<u64> {
    let mut rest = Rest { text, known, depth: 0 };
    let value = rest.sum()?;
    rest.text.trim_start().is_empty().then(|| u64::try_from(value).ok())?
}

struct Rest<'a> {
    text: &'a str,
    known: &'a Known<'a>,
    depth: usize,
}

impl Rest<'_> {
    fn take(&mut self, token: &str) -> bool {
        let text = self.text.trim_start();
        let found = text.strip_prefix(token);
        self.text = found.unwrap_or(text);
        found.is_some()
    }

    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.checked_add(self.product()?)?;
            } else if self.take("-") {
                value = value.checked_sub(self.product()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<i64> {
        let mut value = self.factor()?;
        loop {
            if self.take("//") {
                let by = self.factor().filter(|by| *by > 0)?;
                value = value.div_euclid(by);
            } else if self.take("**") {
                return None;
            } else if self.take("*") {
                value = value.checked_mul(self.factor()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn factor(&mut self) -> Option<i64> {
        if self.take("-") {
            return self.nested(|rest| rest.factor()?.checked_neg());
        }
        if self.take("(") {
            return self.nested(|rest| rest.sum().filter(|_| rest.take(")")));
        }
        let end = self.text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        match word.bytes().next()? {
            b'0'..=b'9' => word.parse().ok(),
            _ => self.known.get(word).and_then(|size| i64::try_from(*size).ok()),
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Option<i64>) -> Option<i64> {
        self.depth += 1;
        let value = if self.depth > MOST_DEPTH { None } else { inner(self) };
        self.depth -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_sizes_are_computed_and_others_are_not_guessed() {
        let known = Known::from([("s34", 9), ("s7", 2)]);
        for (text, value) in [
            ("s34", Some(9)),
            ("2*s34 + 1", Some(19)),
            ("((s34 - 1)//2) + 1", Some(5)),
            ("-s7 + s34*s7", Some(16)),
            ("s34 - 10", None),
            ("s34//0", None),
            ("s34**2", None),
            ("Mod(s34, 2)", None),
            ("s99", None),
            ("s34 s7", None),
            ("", None),
            ("9223372036854775807*s34", None),
        ] {
            assert_eq!(Extent::Computed(text.into()).value(&known), value, "{text}");
        }
        let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(evaluate(&deep, &known), None);
        assert_eq!(evaluate(&"-".repeat(100_000), &known), None);
    }
}
