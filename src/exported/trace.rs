//! The line of the user's Python file behind a node: PyTorch writes the stack of calls beside each.

use std::fmt;

use super::problem::shown;

/// A line of a Python file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The file, as Python named it on the machine of the export.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// The text of the line; empty where the file tells none.
    pub source: String,
}

impl Trace {
    /// The innermost call of a stack that is not PyTorch's own. The stack has the outermost call
    /// first, in the form of Python's traceback.
    pub(super) fn read(stack: &str) -> Option<Self> {
        let mut found = None;
        let mut lines = stack.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((file, number)) = frame(line) else { continue };
            let source = lines.next_if(|next| frame(next).is_none()).unwrap_or_default();
            if !is_pytorch(file) {
                found = Some(Self { file: shown(file), line: number, source: shown(source.trim()) });
            }
        }
        found
    }
}

/// `  File "net.py", line 7, in forward`
fn frame(line: &str) -> Option<(&str, u32)> {
    let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some((file, rest[..digits].parse().ok()?))
}

/// PyTorch's own modules, wherever it is installed; of its passes the stack has a relative path.
fn is_pytorch(file: &str) -> bool {
    file.contains("-packages/torch/") || file.starts_with("torch/")
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)?;
        if self.source.is_empty() { Ok(()) } else { write!(f, ": {}", self.source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_line_that_is_not_pytorchs_is_told() {
        let stack = "File \"/home/ann/train.py\", line 21, in forward\n    o = self.net(x)\n  \
                     File \"/home/ann/net.py\", line 11, in forward\n    y = F.relu(self.conv(x))\n  \
                     File \"/usr/lib/python3/dist-packages/torch/nn/modules/conv.py\", line 553, in forward\n    \
                     return self._conv_forward(input)";
        let told = Trace::read(stack).unwrap().to_string();
        assert_eq!(told, "/home/ann/net.py, line 11: y = F.relu(self.conv(x))");
        assert_eq!(Trace::read("File \"a.py\", line 3, in f").unwrap().to_string(), "a.py, line 3");
    }

    #[test]
    fn stacks_of_pytorch_alone_and_other_texts_tell_no_line() {
        assert_eq!(Trace::read("File \"torch/fx/passes/runtime_assert.py\", line 24, in insert"), None);
        for text in ["", "File \"a.py\"", "File \"a.py\", line x", "File \"a.py\", line 99999999999, in f", "\n\n"] {
            assert_eq!(Trace::read(text), None, "{text}");
        }
    }
}
