//! The operators of a libtorch, by the schemas that it prints: `aten::add.Tensor(Tensor self,
//! Tensor other, *, Scalar alpha=1) -> Tensor`. (PyTorch, aten/src/ATen/native/README.md)

use std::collections::HashMap;

/// Operators by name and overload, such as `aten::add.Tensor`.
#[derive(Debug, Clone, Default)]
pub struct Operators(HashMap<String, Operator>);

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// As libtorch prints it.
    pub schema: String,
    /// Its arguments, in their order.
    pub parameters: Vec<Parameter>,
    /// The types of its results.
    pub returns: Vec<Type>,
}

/// An argument of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// Whether it can be left out.
    pub has_default: bool,
}

/// A type in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A tensor.
    Tensor,
    /// A whole number, fixed or computed from sizes.
    Int,
    /// A number with a fraction.
    Float,
    /// True or false.
    Bool,
    /// Any of these numbers.
    Scalar,
    /// A text.
    Text,
    /// A type of numbers.
    Dtype,
    /// A layout.
    Layout,
    /// A memory format.
    MemoryFormat,
    /// A device.
    Device,
    /// None, or that.
    Optional(Box<Type>),
    /// A list; with a length, one value stands for so many.
    List(Box<Type>, Option<usize>),
    /// A type that no exported program can give, such as a generator or a storage.
    Other,
}

impl Operators {
    /// The operators with these schemas. A text that is no schema is passed over: no program
    /// can call that operator then.
    pub fn new<'a>(schemas: impl IntoIterator<Item = &'a str>) -> Self {
        Self(schemas.into_iter().filter_map(Operator::read).collect())
    }

    /// An operator by its name and its overload, which is empty for the default one.
    pub fn find(&self, name: &str, overload: &str) -> Option<&Operator> {
        match overload {
            "" => self.0.get(name),
            _ => self.0.get(&format!("{name}.{overload}")),
        }
    }

    /// The overloads that there are of a name, sorted.
    pub fn overloads(&self, name: &str) -> Vec<&str> {
        let of = |full: &'_ str| full == name || full.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let mut found: Vec<_> = self.0.keys().map(String::as_str).filter(|full| of(full)).collect();
        found.sort_unstable();
        found
    }

    /// The number of operators.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Operator {
    /// Its full name and what it takes; None for a text that is no schema.
    pub fn read(schema: &str) -> Option<(String, Self)> {
        let (name, rest) = schema.split_once('(')?;
        let end = closing(rest)?;
        let returns = rest[end + 1..].trim_start().strip_prefix("->")?.trim();
        let arguments = pieces(&rest[..end]).into_iter().filter(|piece| *piece != "*");
        let parameters = arguments.map(Parameter::read).collect::<Option<_>>()?;
        let returns = match returns.strip_prefix('(').and_then(|inner| Some(&inner[..closing(inner)?])) {
            Some(several) => pieces(several).into_iter().map(returned).collect(),
            None => vec![returned(returns)],
        };
        Some((name.trim().to_owned(), Self { schema: schema.to_owned(), parameters, returns }))
    }

    /// The place of an argument by its name.
    pub fn parameter(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|parameter| parameter.name == name)
    }
}

impl Parameter {
    fn read(text: &str) -> Option<Self> {
        let (text, has_default) = match text.split_once('=') {
            Some((before, _)) => (before, true),
            None => (text, false),
        };
        // An alias in parentheses can hold blanks, a name cannot.
        let (kind, name) = text.trim().rsplit_once(' ')?;
        Some(Self { name: name.into(), kind: Type::read(kind), has_default })
    }
}

/// A type that is returned can have a name behind it.
fn returned(text: &str) -> Type {
    let is_name =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    match text.rsplit_once(' ') {
        Some((kind, name)) if is_name(name) => Type::read(kind),
        _ => Type::read(text),
    }
}

impl Type {
    fn read(text: &str) -> Self {
        let text = text.trim();
        if let Some(inner) = text.strip_suffix('?') {
            return Self::Optional(Box::new(Self::read(inner)));
        }
        if let Some((inner, length)) = text.strip_suffix(']').and_then(|list| list.rsplit_once('['))
            && let Ok(length) = if length.is_empty() { Ok(None) } else { length.parse().map(Some) }
        {
            return Self::List(Box::new(Self::read(inner)), length);
        }
        // Tensor(a!) is a tensor that is written to.
        match text.split_once('(').map_or(text, |(base, _)| base) {
            "Tensor" => Self::Tensor,
            "int" | "SymInt" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "Scalar" => Self::Scalar,
            "str" => Self::Text,
            "ScalarType" => Self::Dtype,
            "Layout" => Self::Layout,
            "MemoryFormat" => Self::MemoryFormat,
            "Device" => Self::Device,
            _ => Self::Other,
        }
    }
}

/// The place of the parenthesis that closes what was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    scan(text, |place, byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' if depth == 0 => return Some(place),
            b')' | b']' => depth -= 1,
            _ => {}
        }
        None
    })
}

/// Splits a text at the commas outside of parentheses, brackets and quotation marks.
fn pieces(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    scan::<()>(text, |place, byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b',' if depth == 0 => {
                found.push(text[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
        None
    });
    let last = text[start..].trim();
    if !last.is_empty() {
        found.push(last);
    }
    found
}

/// Goes through the bytes outside of quotation marks until `visit` gives something back.
fn scan<T>(text: &str, mut visit: impl FnMut(usize, u8) -> Option<T>) -> Option<T> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            _ => {
                if let Some(found) = visit(place, byte) {
                    return Some(found);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(inner: Type, length: Option<usize>) -> Type {
        Type::List(Box::new(inner), length)
    }

    fn optional(inner: Type) -> Type {
        Type::Optional(Box::new(inner))
    }

    #[test]
    fn schemas_are_read_as_libtorch_prints_them() {
        let (name, found) = Operator::read(
            "aten::odd.over(Tensor(a!) self, Tensor(a -> *)[] other, Tensor?[] at, SymInt[2] size=[1, -1], \
             str mode=\"a, (\\\"b\", *, int[1]? dim=None, Generator? generator=None, float p=1e-05) -> (Tensor(a!) values, Tensor[])",
        )
        .unwrap();
        let told: Vec<_> = found.parameters.iter().map(|p| (p.name.as_str(), p.kind.clone(), p.has_default)).collect();
        let expected = [
            ("self", Type::Tensor, false),
            ("other", list(Type::Tensor, None), false),
            ("at", list(optional(Type::Tensor), None), false),
            ("size", list(Type::Int, Some(2)), true),
            ("mode", Type::Text, true),
            ("dim", optional(list(Type::Int, Some(1))), true),
            ("generator", optional(Type::Other), true),
            ("p", Type::Float, true),
        ];
        assert_eq!((name.as_str(), told), ("aten::odd.over", expected.to_vec()));
        assert_eq!(found.returns, [Type::Tensor, list(Type::Tensor, None)]);
        assert_eq!(Operator::read("aten::_assert_scalar(Scalar self, str assert_msg) -> ()").unwrap().1.returns, []);
        assert_eq!(Operator::read("aten::item(Tensor self) -> Scalar").unwrap().1.returns, [Type::Scalar]);
        for text in ["", "aten::x", "aten::x(", "aten::x(Tensor) -> Tensor", "aten::x(Tensor a)"] {
            assert_eq!(Operator::read(text), None, "{text}");
        }
    }

    #[test]
    fn overloads_are_told_by_name() {
        let all = Operators::new([
            "aten::add.Tensor(Tensor a) -> Tensor",
            "aten::add(Tensor a) -> Tensor",
            "aten::addmm(Tensor a) -> Tensor",
        ]);
        assert_eq!(all.overloads("aten::add"), ["aten::add", "aten::add.Tensor"]);
        assert!(all.find("aten::add", "").is_some() && all.find("aten::add", "Scalar").is_none());
    }
}
