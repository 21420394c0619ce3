//! What a model's saved tensors are called, how they are shaped, and whether a file has exactly
//! those.
//!
//! The one table of a family's parameters: the runner builds from it, and requests are judged by
//! it.

use super::Model;
use crate::tensor_file::{Dtype, Tensor};

/// A tensor that a model learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// As in PyTorch's `state_dict`.
    pub name: &'static str,
    /// Its sizes, outermost first.
    pub shape: &'static [i64],
    /// Inputs of one output, which set the range of the initial values.
    pub fan_in: i64,
}

const fn parameter(name: &'static str, shape: &'static [i64], fan_in: i64) -> Parameter {
    Parameter { name, shape, fan_in }
}

const MNIST_CNN: [Parameter; 8] = [
    parameter("conv1.weight", &[10, 1, 5, 5], 25),
    parameter("conv1.bias", &[10], 25),
    parameter("conv2.weight", &[20, 10, 5, 5], 250),
    parameter("conv2.bias", &[20], 250),
    parameter("fc1.weight", &[50, 320], 320),
    parameter("fc1.bias", &[50], 320),
    parameter("fc2.weight", &[10, 50], 50),
    parameter("fc2.bias", &[10], 50),
];

/// The sum of losses behind the next scalar, in the state of a checkpoint.
pub const SUM_LOSS: &str = "sums.loss";
/// The sum of examples that were recognised, in the state of a checkpoint.
pub const SUM_CORRECT: &str = "sums.correct";

/// The optimizer's velocity of a parameter, in the state of a checkpoint.
pub fn velocity_name(parameter: &str) -> String {
    format!("velocity.{parameter}")
}

/// Prefixes that PyTorch's wrappers put before the names of the module in them.
const WRAPPERS: [(&str, &str); 2] = [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];
/// A message lists so many names.
const MOST_NAMES: usize = 12;
/// A message shows so many characters of a name.
const MOST_CHARACTERS: usize = 64;

impl Model {
    /// Its parameters, in the order of PyTorch's `state_dict`. All are 32-bit floats.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::MnistCnn { .. } => &MNIST_CNN,
        }
    }
}

/// A tensor that a file should have.
struct Needed {
    name: String,
    dtype: Dtype,
    shape: &'static [i64],
}

/// Whether a file with these tensors holds the weights of that model, and nothing else.
pub fn judge_weights(model: Model, found: &[Tensor]) -> Result<(), String> {
    let needed = model.parameters().iter();
    let needed: Vec<_> =
        needed.map(|told| Needed { name: told.name.into(), dtype: Dtype::F32, shape: told.shape }).collect();
    compare(&needed, found)
}

/// Whether a file with these tensors holds what training needs besides the weights: the sums behind
/// the next scalars, and velocities for all parameters or for none.
pub fn judge_state(model: Model, found: &[Tensor]) -> Result<(), String> {
    let sums = [SUM_CORRECT, SUM_LOSS].map(|name| Needed { name: name.into(), dtype: Dtype::F64, shape: &[] });
    let parameters = model.parameters().iter();
    let has_velocities = parameters.clone().any(|told| found.iter().any(|has| has.name == velocity_name(told.name)));
    let velocities = parameters.filter(|_| has_velocities);
    let velocities =
        velocities.map(|told| Needed { name: velocity_name(told.name), dtype: Dtype::F32, shape: told.shape });
    compare(&sums.into_iter().chain(velocities).collect::<Vec<_>>(), found)
}

/// All differences at once, with the names that are there and those that are needed where names
/// differ.
fn compare(needed: &[Needed], found: &[Tensor]) -> Result<(), String> {
    let absent = needed.iter().filter(|needed| found.iter().all(|has| has.name != needed.name)).count();
    let extra: Vec<_> = found.iter().filter(|has| needed.iter().all(|needed| needed.name != has.name)).collect();
    if absent == 0 && extra.is_empty() {
        let differ = |needed: &Needed| {
            let has = found.iter().find(|has| has.name == needed.name)?;
            let is_right = has.dtype == needed.dtype
                && has.shape.iter().map(|&size| i64::try_from(size).ok()).eq(needed.shape.iter().copied().map(Some));
            let wanted = format!("{} {:?} is needed", needed.dtype.name(), needed.shape);
            (!is_right).then(|| format!("{} is {} {:?}, {wanted}", needed.name, has.dtype.name(), has.shape))
        };
        let differences: Vec<_> = needed.iter().filter_map(differ).collect();
        return if differences.is_empty() {
            Ok(())
        } else {
            Err(format!("holds other tensors: {}", differences.join("; ")))
        };
    }
    let has = list(found.iter().map(|has| has.name.as_str()));
    let needs = list(needed.iter().map(|needed| needed.name.as_str()));
    let only_extra = if absent == 0 {
        format!(", too many are {}", list(extra.iter().map(|has| has.name.as_str())))
    } else {
        String::new()
    };
    let prefix = prefix(needed, found).map_or_else(String::new, |prefix| {
        let who = WRAPPERS.iter().find(|(known, _)| *known == prefix);
        let who = who.map_or_else(String::new, |(_, wrapper)| format!(", which {wrapper} puts there"));
        format!("; all have the prefix {:?}{who}: save them without it", cut(&prefix))
    });
    Err(format!("has the tensors {has}; needed are {needs}{only_extra}{prefix}"))
}

/// What stands before each of the needed names, where that is the only difference.
fn prefix(needed: &[Needed], found: &[Tensor]) -> Option<String> {
    let first = needed.first()?;
    let prefix = found.iter().find_map(|has| has.name.strip_suffix(first.name.as_str()))?;
    let is_there =
        |needed: &Needed| found.iter().any(|has| has.name.strip_prefix(prefix).is_some_and(|rest| rest == needed.name));
    (!prefix.is_empty() && needed.iter().all(is_there)).then(|| prefix.to_owned())
}

/// The first of these names, sorted, and how many more there are.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.collect();
    if names.is_empty() {
        return "(none)".into();
    }
    names.sort_unstable();
    let shown: Vec<_> = names.iter().take(MOST_NAMES).map(|name| cut(name)).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

/// A name of somebody else's file, fit for a message: no control characters, and not long.
fn cut(name: &str) -> String {
    let shown: String = name.chars().take(MOST_CHARACTERS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST_CHARACTERS).is_some() { format!("{shown}...") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_file::Place;

    const MODEL: Model = Model::MnistCnn { dropout: 0.5 };

    fn tensor(name: &str, dtype: Dtype, shape: &[i64]) -> Tensor {
        let shape: Vec<_> = shape.iter().map(|&size| size as u64).collect();
        let place = Place { offset: 0, storage_bytes: 0, first: 0, strides: vec![0; shape.len()] };
        Tensor { name: name.into(), dtype, shape, place }
    }

    fn weights() -> Vec<Tensor> {
        MODEL.parameters().iter().map(|told| tensor(told.name, Dtype::F32, told.shape)).collect()
    }

    #[test]
    fn weights_that_differ_are_named_with_what_is_there_and_what_is_needed() {
        assert_eq!(judge_weights(MODEL, &weights()), Ok(()));
        let renamed = |prefix: &str| -> Vec<_> {
            weights().into_iter().map(|has| Tensor { name: format!("{prefix}{}", has.name), ..has }).collect()
        };
        let more = [weights(), vec![tensor("fc3.\u{1b}[2J", Dtype::F32, &[2])]].concat();
        let many = (0..100).map(|index| tensor(&format!("layer.{index:03}"), Dtype::F32, &[1])).collect::<Vec<_>>();
        let changed = |name: &str, dtype: Dtype, shape: &[i64]| {
            let mut all = weights();
            *all.iter_mut().find(|has| has.name == name).unwrap() = tensor(name, dtype, shape);
            all
        };
        for (found, words) in [
            (
                renamed("module."),
                &["module.conv1.bias", "needed are conv1.bias", r#""module.", which DataParallel"#][..],
            ),
            (renamed("_orig_mod."), &[r#""_orig_mod.", which torch.compile"#]),
            (renamed("net."), &[r#"the prefix "net.": save"#]),
            (
                weights()[1..].to_vec(),
                &["has the tensors conv1.bias, conv2.bias", "needed are conv1.bias, conv1.weight"],
            ),
            (more, &[r"too many are fc3.\u{1b}[2J"]),
            (many, &["layer.011 and 88 more"]),
            (vec![], &["has the tensors (none)"]),
            (changed("fc2.weight", Dtype::F32, &[50, 10]), &["fc2.weight is F32 [50, 10], F32 [10, 50] is needed"]),
            (changed("fc2.bias", Dtype::F16, &[10]), &["fc2.bias is F16 [10], F32 [10] is needed"]),
        ] {
            let told = judge_weights(MODEL, &found).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        }
    }

    #[test]
    fn a_state_has_its_sums_and_velocities_for_all_parameters_or_for_none() {
        let sums = vec![tensor(SUM_LOSS, Dtype::F64, &[]), tensor(SUM_CORRECT, Dtype::F64, &[])];
        let velocities = weights().into_iter().map(|has| Tensor { name: velocity_name(&has.name), ..has });
        let whole: Vec<_> = sums.iter().cloned().chain(velocities).collect();
        assert_eq!((judge_state(MODEL, &sums), judge_state(MODEL, &whole)), (Ok(()), Ok(())));
        assert!(judge_state(MODEL, &whole[1..]).unwrap_err().contains("needed are sums.correct, sums.loss"));
        assert!(judge_state(MODEL, &whole[..9]).unwrap_err().contains("velocity.fc2.bias"));
        assert!(judge_state(MODEL, &[tensor(SUM_LOSS, Dtype::F32, &[])]).is_err());
    }
}
