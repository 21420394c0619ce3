//! The nesting of the values that a module returns: PyTorch flattens them into a list, and stores
//! the nesting beside it. (PyTorch, torch/utils/_pytree.py, treespec_dumps)

use serde::Deserialize;

use super::json;
use super::problem::{Problem, Result, shown};

/// The form in which PyTorch writes the nesting has a number.
const PROTOCOL: i64 = 1;

/// A value, or values in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// One value.
    Leaf,
    /// A tuple or a list.
    Sequence(Vec<Tree>),
    /// A dictionary, with its keys.
    Dict(Vec<(String, Tree)>),
    /// A container of another type, such as a data class.
    Other(String, Vec<Tree>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    r#type: Option<String>,
    context: Option<String>,
    children_spec: Vec<Node>,
}

impl Tree {
    /// Reads a nesting in PyTorch's form; `place` names it in a refusal.
    pub(super) fn read(text: &str, place: &str) -> Result<Self> {
        let (protocol, node): (i64, Node) = json::read(text.as_bytes(), place)?;
        if protocol != PROTOCOL {
            let what = format!("a nesting in the form {protocol}; {PROTOCOL} is understood");
            return Err(Problem::unsupported(place, what));
        }
        node.tree(place)
    }

    /// Values in it, with those in containers.
    pub fn leaves(&self) -> usize {
        match self {
            Self::Leaf => 1,
            Self::Sequence(items) | Self::Other(_, items) => items.iter().map(Self::leaves).sum(),
            Self::Dict(items) => items.iter().map(|(_, item)| item.leaves()).sum(),
        }
    }
}

impl Node {
    // Nested no deeper than serde_json reads.
    fn tree(self, place: &str) -> Result<Tree> {
        let Some(kind) = self.r#type else { return Ok(Tree::Leaf) };
        let children = self.children_spec.into_iter().map(|child| child.tree(place)).collect::<Result<Vec<_>>>()?;
        match kind.as_str() {
            "builtins.tuple" | "builtins.list" => Ok(Tree::Sequence(children)),
            "builtins.dict" => {
                let context = self.context.unwrap_or_default();
                let keys: Vec<serde_json::Value> = json::read(context.as_bytes(), place)?;
                if keys.len() != children.len() {
                    let what = format!("a dictionary of {} keys and {} values", keys.len(), children.len());
                    return Err(Problem::damaged(place, what));
                }
                let named = |(key, child)| match key {
                    serde_json::Value::String(key) => (key, child),
                    other => (other.to_string(), child),
                };
                Ok(Tree::Dict(keys.into_iter().zip(children).map(named).collect()))
            }
            _ => Ok(Tree::Other(shown(&kind), children)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pytorch_wrote_is_read() {
        let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
        let text = format!(
            r#"[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{leaf},
            {{"type": "builtins.dict", "context": "[\"accuracy\", 3]", "children_spec": [{leaf}, {leaf}]}}]}}]"#
        );
        let tree = Tree::read(&text, "out_spec").unwrap();
        let metrics = Tree::Dict(vec![("accuracy".into(), Tree::Leaf), ("3".into(), Tree::Leaf)]);
        assert_eq!((tree.leaves(), &tree), (3, &Tree::Sequence(vec![Tree::Leaf, metrics])));
        let refusal = |text: &str| Tree::read(text, "out_spec").unwrap_err().to_string();
        assert!(refusal(&text.replacen('1', "2", 1)).contains("in the form 2; 1 is understood"));
        assert!(refusal(&text.replace(", 3]", "]")).contains("a dictionary of 1 keys and 2 values"));
        let other = text.replace("builtins.tuple", "collections.deque");
        assert!(matches!(Tree::read(&other, "out_spec").unwrap(), Tree::Other(name, _) if name == "collections.deque"));
    }
}
