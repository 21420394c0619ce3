//! Reads JSON into types, and says where in the document it stopped.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::{Problem, Result, shown};

/// Reads a document; `entry` names it in the refusal, which tells the place as a path such as
/// `graph_module.graph.nodes[3].inputs[0].arg`.
pub(super) fn read<T: DeserializeOwned>(json: &[u8], entry: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        let path = path(json, offset(json, error.line(), error.column()));
        let place = if path.is_empty() { shown(entry) } else { format!("{} at {}", shown(entry), shown(&path)) };
        let text = error.to_string();
        // The path says more than the position that serde_json appends.
        let what = shown(text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words));
        match error.classify() {
            Category::Data => Problem::unsupported(place, what),
            Category::Syntax | Category::Eof | Category::Io => Problem::damaged(place, what),
        }
    })
}

/// The place of a line and column, which serde_json counts from 1, in bytes.
fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match json[start..].iter().position(|&byte| byte == b'\n') {
            Some(length) => start += length + 1,
            None => break,
        }
    }
    (start + column).min(json.len())
}

/// An object or array that is open.
enum Open<'a> {
    /// Its newest key, in its quotation marks.
    Object(&'a [u8]),
    Array(usize),
}

/// The path to what stands before `end`, for documents that are well-formed up to there.
fn path(json: &[u8], end: usize) -> String {
    let mut open = Vec::new();
    let mut at = 0;
    let mut is_key = false;
    while at < end {
        match json[at] {
            b'{' => {
                open.push(Open::Object(&[]));
                is_key = true;
            }
            b'[' => open.push(Open::Array(0)),
            b'}' | b']' => {
                open.pop();
                is_key = false;
            }
            b':' => is_key = false,
            b',' => match open.last_mut() {
                Some(Open::Array(index)) => *index += 1,
                Some(Open::Object(_)) => is_key = true,
                None => {}
            },
            b'"' => {
                let start = at;
                at += 1;
                while at < end && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                if let (true, Some(Open::Object(key))) = (is_key, open.last_mut()) {
                    *key = &json[start + 1..at.min(json.len())];
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in &open {
        match step {
            Open::Object([]) => {}
            Open::Object(key) => {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(&String::from_utf8_lossy(key));
            }
            Open::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::exported::schema::{Argument, NamedArgument};

    fn refusal<T: DeserializeOwned>(json: &str) -> String {
        read::<T>(json.as_bytes(), "models/model.json").err().unwrap().to_string()
    }

    #[derive(Debug, Deserialize)]
    struct Document {
        #[serde(rename = "nodes")]
        _nodes: Vec<Vec<NamedArgument>>,
    }

    #[test]
    fn a_refusal_tells_the_path_and_what_stands_there() {
        let good = r#"{"name": "a, [", "arg": {"as_ints": [1, 2]}}"#;
        for (bad, place, what) in [
            (
                r#"{"name": "x", "arg": {"as_tensorz": {}}}"#,
                "nodes[1][1].arg.as_tensorz",
                "unknown variant `as_tensorz`",
            ),
            (r#"{"name": "x", "arg": {"as_int": "3"}}"#, "nodes[1][1].arg.as_int", "invalid type: string \"3\""),
            (r#"{"name": "x", "arg": {"as_int": 3}, "more": 1}"#, "nodes[1][1].more", "unknown field `more`"),
            (r#"{"name": "x"}"#, "nodes[1]", "missing field `arg`"),
            (r#"{"name": "x", "arg": {"as_int": 3, "as_bool": true}}"#, "nodes[1][1].arg", "expected"),
        ] {
            let told = refusal::<Document>(&format!("{{\"nodes\": [[], [{good},\n {bad}]]}}"));
            assert!(told.contains(&format!("models/model.json at {place}")) && told.contains(what), "{told}");
        }
        assert!(refusal::<Document>(r#"{"nodes": [[], "#).starts_with("is damaged: models/model.json at nodes"));
        assert!(refusal::<Document>("").starts_with("is damaged: models/model.json: EOF"));
    }

    #[test]
    fn infinities_come_as_strings_and_other_strings_are_no_numbers() {
        let float = |text: &str| match read(format!(r#"{{"as_float": {text}}}"#).as_bytes(), "x").unwrap() {
            Argument::AsFloat(found) => found.0,
            other => panic!("{other:?}"),
        };
        assert_eq!((float("\"-Infinity\""), float("1e-5"), float("2")), (f64::NEG_INFINITY, 1e-5, 2.0));
        assert!(float("\"NaN\"").is_nan());
        assert!(refusal::<Argument>(r#"{"as_float": "ten"}"#).contains("Infinity"));
    }

    #[test]
    fn deep_documents_are_refused() {
        let deep = format!("{}{}", r#"{"as_nested_tensors": "#, "[".repeat(10_000));
        assert!(refusal::<Argument>(&deep).contains("invalid type"));
    }
}
