//! Finds the state dict among the values of a pickle, and names its tensors.

use super::pickle::{Object, Pickle, StoredTensor, Value};

/// Keys under which people save a state dict beside other things, such as an optimizer's state.
const USUAL_KEYS: [&str; 9] =
    ["state_dict", "model_state_dict", "model", "model_state", "module", "network", "net", "weights", "params"];

/// Values that lie deeper are refused.
const MAX_DEPTH: usize = 64;
/// More values are refused: a dict may hold the same one twice, and that one others twice.
const MAX_VALUES: usize = 1 << 22;
/// Longer names are refused together.
const MAX_NAMES_BYTES: usize = 32 << 20;

/// Files with more tensors are refused.
pub(super) const MAX_TENSORS: usize = 100_000;

/// Tensors with their names.
pub(super) type Named<'p> = Vec<(String, &'p StoredTensor)>;

/// The tensors of a pickle.
pub(super) struct Found<'p> {
    /// In the order in which they were saved.
    pub(super) tensors: Named<'p>,
    /// The usual keys that hold a state dict. The tensors are those under it where it is one key.
    pub(super) keys: Vec<String>,
    /// How many tensors the pickle has besides.
    pub(super) left_out: u64,
}

/// Finds them.
///
/// # Errors
/// Why they cannot be named, in words that follow the file's path.
pub(super) fn find<'p>(pickle: &'p Pickle<'_>) -> Result<Found<'p>, String> {
    let mut walk = Walk::new(pickle);
    let mut root = pickle.root;
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..MAX_DEPTH {
        let under = walk.usual(root)?;
        match under.as_slice() {
            [] => break,
            [(key, inner)] => {
                let path = keys.pop().map_or_else(String::new, |outer| outer + ".");
                keys.push(path + key);
                root = *inner;
            }
            // It is not for us to say which of them is meant.
            several => {
                let path = keys.pop().map_or_else(String::new, |outer| outer + ".");
                keys.extend(several.iter().map(|(key, _)| format!("{path}{key}")));
                break;
            }
        }
    }
    if keys.len() > 1 {
        root = pickle.root;
    }
    let all = walk.tensors(pickle.root)?.len();
    let tensors = walk.tensors(root)?;
    Ok(Found { left_out: (all - tensors.len()) as u64, tensors, keys })
}

/// A walk through the values, which ends whatever refers to whatever.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    seen: usize,
    names_bytes: usize,
}

impl<'p, 'a> Walk<'p, 'a> {
    fn new(pickle: &'p Pickle<'a>) -> Self {
        Self { pickle, seen: 0, names_bytes: 0 }
    }

    /// The entries of a dict under usual keys that are dicts which hold tensors.
    fn usual(&mut self, of: Value) -> Result<Vec<(&'a str, Value)>, String> {
        let Some(Object::Dict(entries)) = self.pickle.object(of) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for &(key, value) in entries {
            let Value::Text(key) = key else { continue };
            let key = self.pickle.text(key);
            let is_dict = matches!(self.pickle.object(value), Some(Object::Dict(_)));
            if is_dict && USUAL_KEYS.contains(&key) && !self.tensors(value)?.is_empty() {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// All tensors below a value, with the keys that lead to them as names.
    fn tensors(&mut self, below: Value) -> Result<Named<'p>, String> {
        let mut tensors = Vec::new();
        self.collect(below, &mut String::new(), 0, &mut tensors)?;
        Ok(tensors)
    }

    fn collect(&mut self, value: Value, name: &mut String, depth: usize, into: &mut Named<'p>) -> Result<(), String> {
        self.seen += 1;
        if self.seen > MAX_VALUES || depth > MAX_DEPTH {
            return Err(format!("holds values that are deeper than {MAX_DEPTH}, or more than {MAX_VALUES}"));
        }
        let pickle = self.pickle;
        match pickle.object(value) {
            Some(Object::Tensor(tensor)) => {
                self.names_bytes += name.len();
                if self.names_bytes > MAX_NAMES_BYTES {
                    return Err(format!("has names of more than {MAX_NAMES_BYTES} bytes together"));
                }
                if into.len() >= MAX_TENSORS {
                    return Err(format!("holds more than {MAX_TENSORS} tensors"));
                }
                into.push((name.clone(), tensor));
                Ok(())
            }
            Some(Object::Dict(entries)) => {
                for &(key, value) in entries {
                    let key = match key {
                        Value::Text(text) => pickle.text(text).to_owned(),
                        Value::Int(number) => number.to_string(),
                        _ => "?".to_owned(),
                    };
                    self.collect_under(&key, value, name, depth, into)?;
                }
                Ok(())
            }
            Some(Object::List(values) | Object::Tuple(values)) => {
                for (index, &value) in values.iter().enumerate() {
                    self.collect_under(&index.to_string(), value, name, depth, into)?;
                }
                Ok(())
            }
            Some(Object::Storage(_)) | None => Ok(()),
        }
    }

    fn collect_under(
        &mut self,
        key: &str,
        value: Value,
        name: &mut String,
        depth: usize,
        into: &mut Named<'p>,
    ) -> Result<(), String> {
        let length = name.len();
        if depth > 0 {
            name.push('.');
        }
        name.push_str(key);
        let done = self.collect(value, name, depth + 1, into);
        name.truncate(length);
        done
    }
}
