//! Finds the state dict among the values of a pickle, and names its tensors.

use super::pickle::{Object, Pickle, StoredTensor, Value};
use super::tensor::MAX_DIMENSIONS;

/// Keys under which people save a state dict beside other things, such as an optimizer's state.
const USUAL_KEYS: [&str; 9] =
    ["state_dict", "model_state_dict", "model", "model_state", "module", "network", "net", "weights", "params"];

/// Values that lie deeper are refused.
const MAX_DEPTH: usize = 64;
/// Files with more tensors are refused.
const MAX_TENSORS: usize = 100_000;

/// Tensors with their names.
type Named<'p> = Vec<(String, &'p StoredTensor)>;

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
    let usual = usual(pickle);
    let all = tensors(pickle, pickle.root)?;
    let keys = usual.iter().map(|(key, _)| (*key).to_owned()).collect();
    match usual.as_slice() {
        [(_, state_dict)] => {
            let tensors = tensors(pickle, *state_dict)?;
            Ok(Found { left_out: (all.len() - tensors.len()) as u64, tensors, keys })
        }
        // Which of several is meant only the person knows who has saved them.
        _ => Ok(Found { tensors: all, keys, left_out: 0 }),
    }
}

/// The state dicts under usual keys.
fn usual<'a>(pickle: &Pickle<'a>) -> Vec<(&'a str, Value)> {
    let Some(Object::Dict(entries)) = pickle.object(pickle.root) else { return Vec::new() };
    let is_tensor = |&(_, value): &(Value, Value)| matches!(pickle.object(value), Some(Object::Tensor(_)));
    let is_state_dict = |value| match pickle.object(value) {
        Some(Object::Dict(entries)) => entries.iter().any(is_tensor),
        _ => false,
    };
    let under = entries.iter().filter_map(|&(key, value)| match key {
        Value::Text(key) => Some((pickle.text(key), value)),
        _ => None,
    });
    under.filter(|&(key, value)| USUAL_KEYS.contains(&key) && is_state_dict(value)).collect()
}

/// All tensors below a value, with the keys that lead to them as names.
fn tensors<'p>(pickle: &'p Pickle<'_>, below: Value) -> Result<Named<'p>, String> {
    let mut walk = Walk { pickle, tensors: Vec::new(), left: 16 * pickle.size_bytes() + (1 << 16) };
    walk.enter(below, &mut String::new(), 0)?;
    Ok(walk.tensors)
}

/// A walk through the values. It ends whatever refers to whatever: a dict may hold another one
/// twice, and that one others twice, or itself.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    tensors: Named<'p>,
    /// Values that may still be visited, and characters and sizes that may still be kept. Without
    /// such references a pickle takes at least a byte for each.
    left: usize,
}

impl<'p> Walk<'p, '_> {
    fn enter(&mut self, value: Value, name: &mut String, depth: usize) -> Result<(), String> {
        let pickle = self.pickle;
        self.spend(1)?;
        if depth > MAX_DEPTH {
            return Err(format!("holds values that are deeper than {MAX_DEPTH}"));
        }
        match pickle.object(value) {
            Some(Object::Tensor(tensor)) => {
                self.spend(name.len() + MAX_DIMENSIONS)?;
                if self.tensors.len() >= MAX_TENSORS {
                    return Err(format!("holds more than {MAX_TENSORS} tensors"));
                }
                self.tensors.push((name.clone(), tensor));
            }
            Some(Object::Dict(entries)) => {
                for &(key, value) in entries {
                    match key {
                        Value::Text(key) => self.enter_under(pickle.text(key), value, name, depth)?,
                        Value::Int(key) => self.enter_under(&key.to_string(), value, name, depth)?,
                        _ => self.enter_under("?", value, name, depth)?,
                    }
                }
            }
            Some(Object::List(values) | Object::Tuple(values)) => {
                for (index, &value) in values.iter().enumerate() {
                    self.enter_under(&index.to_string(), value, name, depth)?;
                }
            }
            Some(Object::Storage(_)) | None => {}
        }
        Ok(())
    }

    fn enter_under(&mut self, key: &str, value: Value, name: &mut String, depth: usize) -> Result<(), String> {
        self.spend(key.len())?;
        let length = name.len();
        if depth > 0 {
            name.push('.');
        }
        name.push_str(key);
        let done = self.enter(value, name, depth + 1);
        name.truncate(length);
        done
    }

    fn spend(&mut self, count: usize) -> Result<(), String> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or("refers to the same values over and over")?;
        Ok(())
    }
}
