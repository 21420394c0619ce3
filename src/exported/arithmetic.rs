//! Python's arithmetic on sizes, which an exported program does outside of tensors: functions of
//! its module `operator`. (<https://docs.python.org/3/library/operator.html>)

/// A number in a program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
}

/// A function of one or two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a // b`
    FloorDiv,
    /// `a / b`
    TrueDiv,
    /// `a % b`
    Mod,
    /// `-a`
    Neg,
    /// `a == b`
    Eq,
    /// `a != b`
    Ne,
    /// `a >= b`
    Ge,
    /// `a > b`
    Gt,
    /// `a <= b`
    Le,
    /// `a < b`
    Lt,
    /// `a & b` of two truths
    And,
    /// `a | b` of two truths
    Or,
}

const FUNCTIONS: [(&str, Arithmetic); 15] = [
    ("add", Arithmetic::Add),
    ("sub", Arithmetic::Sub),
    ("mul", Arithmetic::Mul),
    ("floordiv", Arithmetic::FloorDiv),
    ("truediv", Arithmetic::TrueDiv),
    ("mod", Arithmetic::Mod),
    ("neg", Arithmetic::Neg),
    ("eq", Arithmetic::Eq),
    ("ne", Arithmetic::Ne),
    ("ge", Arithmetic::Ge),
    ("gt", Arithmetic::Gt),
    ("le", Arithmetic::Le),
    ("lt", Arithmetic::Lt),
    ("and_", Arithmetic::And),
    ("or_", Arithmetic::Or),
];

impl Arithmetic {
    /// The function that a target names, such as `_operator.mul`; None for another target.
    pub(super) fn named(target: &str) -> Option<Self> {
        let name = target.strip_prefix("_operator.")?;
        FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// The names of all functions.
    pub(super) fn names() -> String {
        FUNCTIONS.map(|(name, _)| name).join(", ")
    }

    /// Numbers that it takes.
    pub fn arity(self) -> usize {
        if self == Self::Neg { 1 } else { 2 }
    }

    /// Computes it; `b` is ignored by functions of one number.
    ///
    /// # Errors
    /// A division by zero, or a whole number beyond 64 bits.
    pub fn of(self, a: Number, b: Number) -> Result<Number, String> {
        if let (Number::Bool(a), Number::Bool(b)) = (a, b)
            && let Some(is) = match self {
                Self::And => Some(a && b),
                Self::Or => Some(a || b),
                _ => None,
            }
        {
            return Ok(Number::Bool(is));
        }
        match (a.whole(), b.whole()) {
            (Some(a), Some(b)) => self.of_ints(a, b),
            _ => self.of_floats(a.float(), b.float()),
        }
    }

    fn of_ints(self, a: i64, b: i64) -> Result<Number, String> {
        let whole = match self {
            Self::Add => a.checked_add(b),
            Self::Sub => a.checked_sub(b),
            Self::Mul => a.checked_mul(b),
            Self::Neg => a.checked_neg(),
            Self::FloorDiv | Self::Mod | Self::TrueDiv if b == 0 => return Err(format!("{a} is divided by 0")),
            // Towards minus infinity, and a rest with the sign of the divisor.
            Self::FloorDiv => a.checked_div(b).map(|quotient| quotient - i64::from(a % b != 0 && (a < 0) != (b < 0))),
            Self::Mod => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
            // Sizes are far below 2^53, where this is exact.
            Self::TrueDiv => return Ok(Number::Float(a as f64 / b as f64)),
            Self::And => Some(a & b),
            Self::Or => Some(a | b),
            Self::Eq => return Ok(Number::Bool(a == b)),
            Self::Ne => return Ok(Number::Bool(a != b)),
            Self::Ge => return Ok(Number::Bool(a >= b)),
            Self::Gt => return Ok(Number::Bool(a > b)),
            Self::Le => return Ok(Number::Bool(a <= b)),
            Self::Lt => return Ok(Number::Bool(a < b)),
        };
        whole.map(Number::Int).ok_or_else(|| format!("{self:?} of {a} and {b} has more than 64 bits"))
    }

    fn of_floats(self, a: f64, b: f64) -> Result<Number, String> {
        Ok(match self {
            Self::Add => Number::Float(a + b),
            Self::Sub => Number::Float(a - b),
            Self::Mul => Number::Float(a * b),
            Self::Neg => Number::Float(-a),
            Self::FloorDiv | Self::Mod | Self::TrueDiv if b == 0.0 => return Err(format!("{a} is divided by 0")),
            Self::TrueDiv => Number::Float(a / b),
            Self::FloorDiv => Number::Float((a / b).floor()),
            Self::Mod => Number::Float(if a % b != 0.0 && (a < 0.0) != (b < 0.0) { a % b + b } else { a % b }),
            Self::And | Self::Or => return Err(format!("{self:?} is not defined of {a} and {b}")),
            Self::Eq => Number::Bool(a == b),
            Self::Ne => Number::Bool(a != b),
            Self::Ge => Number::Bool(a >= b),
            Self::Gt => Number::Bool(a > b),
            Self::Le => Number::Bool(a <= b),
            Self::Lt => Number::Bool(a < b),
        })
    }
}

impl Number {
    /// As Python counts: True is 1.
    fn whole(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Bool(is) => Some(i64::from(is)),
            Self::Float(_) => None,
        }
    }

    /// The number, as a float.
    pub fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Bool(is) => f64::from(u8::from(is)),
            Self::Float(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_divided_as_python_does() {
        let of = |function: Arithmetic, a, b| function.of(Number::Int(a), Number::Int(b));
        // Python: [(a // b, a % b) for a in (7, -7, 6) for b in (2, -2)]
        for (a, b, quotient, rest) in
            [(7, 2, 3, 1), (7, -2, -4, -1), (-7, 2, -4, 1), (-7, -2, 3, -1), (6, 2, 3, 0), (6, -2, -3, 0)]
        {
            assert_eq!(of(Arithmetic::FloorDiv, a, b), Ok(Number::Int(quotient)), "{a} // {b}");
            assert_eq!(of(Arithmetic::Mod, a, b), Ok(Number::Int(rest)), "{a} % {b}");
        }
        assert_eq!(of(Arithmetic::TrueDiv, 7, 2), Ok(Number::Float(3.5)));
        for (function, a, b) in [
            (Arithmetic::Mod, 1, 0),
            (Arithmetic::FloorDiv, 1, 0),
            (Arithmetic::FloorDiv, i64::MIN, -1),
            (Arithmetic::Mod, i64::MIN, -1),
            (Arithmetic::Mul, i64::MAX, 2),
            (Arithmetic::Neg, i64::MIN, 0),
        ] {
            assert!(of(function, a, b).is_err(), "{function:?} {a} {b}");
        }
    }

    #[test]
    fn floats_and_truths_mix_as_in_python() {
        let of = |function: Arithmetic, a, b| function.of(a, b).unwrap();
        assert_eq!(of(Arithmetic::Mul, Number::Int(3), Number::Float(0.5)), Number::Float(1.5));
        assert_eq!(of(Arithmetic::Mod, Number::Float(-1.0), Number::Int(3)), Number::Float(2.0));
        assert_eq!(of(Arithmetic::Add, Number::Bool(true), Number::Int(1)), Number::Int(2));
        assert_eq!(of(Arithmetic::And, Number::Bool(true), Number::Bool(false)), Number::Bool(false));
        assert!(Arithmetic::named("_operator.mul").is_some() && Arithmetic::named("_operator.getitem").is_none());
        assert!(FUNCTIONS.iter().all(|(_, function)| function.arity() <= 2));
    }
}
