//! Whether a file holds exactly the tensors that a job needs: the weights of its network, or the
//! state of its optimizer and its sums.

use super::optimizer::slot_name;
use super::{Metric, Optimizer, Parameter};
use crate::dataset::safetensors::TensorInfo;

/// The sum of losses behind the next scalar, in the state of a checkpoint.
pub const SUM_LOSS: &str = "sums.loss";

/// Prefixes that PyTorch's wrappers put before the names of the module in them.
const WRAPPERS: [(&str, &str); 2] = [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];
/// A message lists so many names.
const MOST_NAMES: usize = 12;
/// A message shows so many characters of a name.
const MOST_CHARACTERS: usize = 64;

/// A tensor that a file should have.
struct Needed {
    name: String,
    dtype: &'static str,
    shape: Vec<i64>,
    /// Whether a file is right without it.
    can_be_absent: bool,
}

/// Whether a file with these tensors holds those parameters, and nothing else.
pub fn judge_weights(parameters: &[Parameter], found: &[TensorInfo]) -> Result<(), String> {
    let needed = |told: &Parameter| Needed {
        name: told.name.clone(),
        dtype: "F32",
        shape: told.shape.clone(),
        can_be_absent: false,
    };
    compare(&parameters.iter().map(needed).collect::<Vec<_>>(), found)
}

/// Whether a file with these tensors holds what training needs besides the weights: the sums behind
/// the next scalars, and the state of the optimizer, for all parameters or, before its first step,
/// for none.
pub fn judge_state(
    parameters: &[Parameter],
    optimizer: &Optimizer,
    metrics: &[Metric],
    found: &[TensorInfo],
) -> Result<(), String> {
    let number = |name: &str, dtype, can_be_absent| Needed { name: name.into(), dtype, shape: vec![], can_be_absent };
    let mut needed = vec![number(SUM_LOSS, "F64", false)];
    // Checkpoints of earlier versions count examples alone.
    let sums = metrics.iter().flat_map(|metric| metric.sums().iter().enumerate());
    needed.extend(sums.map(|(place, sum)| number(sum, "F64", place > 0)));
    let slots = optimizer.slots().iter().flat_map(|slot| parameters.iter().map(move |told| (slot, told)));
    let has_slots = slots.clone().any(|(slot, told)| found.iter().any(|has| has.name == slot_name(slot, &told.name)));
    if has_slots {
        needed.extend(slots.map(|(slot, told)| Needed {
            name: slot_name(slot, &told.name),
            dtype: "F32",
            shape: told.shape.clone(),
            can_be_absent: false,
        }));
    }
    needed.extend(optimizer.counters().iter().map(|counter| number(counter, "F32", !has_slots)));
    compare(&needed, found)
}

/// All differences at once, with the names that are there and those that are needed where names
/// differ.
fn compare(needed: &[Needed], found: &[TensorInfo]) -> Result<(), String> {
    let absent =
        needed.iter().filter(|needed| !needed.can_be_absent && found.iter().all(|has| has.name != needed.name)).count();
    let extra: Vec<_> = found.iter().filter(|has| needed.iter().all(|needed| needed.name != has.name)).collect();
    if absent == 0 && extra.is_empty() {
        let differ = |needed: &Needed| {
            let has = found.iter().find(|has| has.name == needed.name)?;
            let is_right = has.dtype == needed.dtype
                && has.shape.iter().map(|&size| i64::try_from(size).ok()).eq(needed.shape.iter().copied().map(Some));
            let wanted = format!("{} {:?} is needed", needed.dtype, needed.shape);
            (!is_right).then(|| format!("{} is {} {:?}, {wanted}", needed.name, cut(&has.dtype), has.shape))
        };
        let differences: Vec<_> = needed.iter().filter_map(differ).collect();
        return if differences.is_empty() {
            Ok(())
        } else {
            Err(format!("holds other tensors: {}", differences.join("; ")))
        };
    }
    let has = list(found.iter().map(|has| has.name.as_str()));
    let needs = list(needed.iter().filter(|needed| !needed.can_be_absent).map(|needed| needed.name.as_str()));
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
fn prefix(needed: &[Needed], found: &[TensorInfo]) -> Option<String> {
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

    fn parameters() -> Vec<Parameter> {
        let layers: [(&str, &[i64]); 4] =
            [("conv1", &[10, 1, 5, 5]), ("conv2", &[20, 10, 5, 5]), ("fc1", &[50, 320]), ("fc2", &[10, 50])];
        layers.into_iter().flat_map(|(name, weight)| Parameter::layer(name, weight)).collect()
    }

    fn tensor(name: &str, dtype: &str, shape: &[i64]) -> TensorInfo {
        let shape = shape.iter().map(|&size| size as u64).collect();
        TensorInfo { name: name.into(), dtype: dtype.into(), shape, size_bytes: 0 }
    }

    fn weights() -> Vec<TensorInfo> {
        parameters().iter().map(|told| tensor(&told.name, "F32", &told.shape)).collect()
    }

    #[test]
    fn weights_that_differ_are_named_with_what_is_there_and_what_is_needed() {
        assert_eq!(judge_weights(&parameters(), &weights()), Ok(()));
        let renamed = |prefix: &str| -> Vec<_> {
            weights().into_iter().map(|has| TensorInfo { name: format!("{prefix}{}", has.name), ..has }).collect()
        };
        let more = [weights(), vec![tensor("fc3.\u{1b}[2J", "F32", &[2])]].concat();
        let many = (0..100).map(|index| tensor(&format!("layer.{index:03}"), "F32", &[1])).collect::<Vec<_>>();
        let changed = |name: &str, dtype: &str, shape: &[i64]| {
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
            (changed("fc2.weight", "F32", &[50, 10]), &["fc2.weight is F32 [50, 10], F32 [10, 50] is needed"]),
            (changed("fc2.bias", "F16", &[10]), &["fc2.bias is F16 [10], F32 [10] is needed"]),
        ] {
            let told = judge_weights(&parameters(), &found).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        }
    }

    #[test]
    fn a_state_has_its_sums_and_what_the_optimizer_keeps_for_all_parameters_or_for_none() {
        let sums = vec![tensor("sums.loss", "F64", &[]), tensor("sums.correct", "F64", &[])];
        let kept = |slot: &str| {
            weights().into_iter().map(|has| TensorInfo { name: slot_name(slot, &has.name), ..has }).collect::<Vec<_>>()
        };
        let sgd = Optimizer::Sgd(super::super::optimizer::Sgd {
            learning_rate: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        });
        let judge = |found: &[TensorInfo]| judge_state(&parameters(), &sgd, &[Metric::Accuracy], found);
        let whole = [sums.clone(), kept("velocity")].concat();
        assert_eq!((judge(&sums), judge(&whole)), (Ok(()), Ok(())));
        assert_eq!(judge(&[whole.clone(), vec![tensor("sums.labels", "F64", &[])]].concat()), Ok(()));
        assert!(judge(&whole[1..]).unwrap_err().contains("needed are sums.correct"));
        assert!(judge(&whole[..9]).unwrap_err().contains("velocity.fc2.bias"));
        assert!(judge(&[tensor("sums.loss", "F32", &[])]).is_err());
        let other = [sums, kept("exp_avg")].concat();
        assert!(judge(&other).unwrap_err().contains("too many are exp_avg.conv1.bias"));
    }
}
