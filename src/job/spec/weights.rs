//! Whether a file holds the tensors that a job needs: the weights of its network, or the state of
//! its optimizer and its sums.

use super::metric::{Sum, own_sums};
use super::optimizer::slot_name;
use super::schedule::Standing;
use super::{EarlyStopping, LrRange, Metric, Mode, ModelWork, Network, OnDivergence, Precision, Weight};
use crate::exported::summary::Role;
use crate::tensor_file::matching::{Mistake, Needed, Rules, fit};
use crate::tensor_file::{Dtype, TensorFile, Values};

/// The sum of losses behind the next scalar, in the state of a checkpoint.
pub const SUM_LOSS: &str = "sums.loss";

const HIDDEN: &str = "hidden.";
const AVERAGE: &str = "average.";

/// The name of a buffer that `state_dict()` does not have, in the state of a checkpoint.
pub fn hidden_name(buffer: &str) -> String {
    format!("{HIDDEN}{buffer}")
}

/// Whether a tensor in the state of a checkpoint may hold infinities, as far as its name tells: a
/// mask that is no weight, or the average of one that is. Training knows which of them are masks.
pub fn may_hold_infinities(name: &str) -> bool {
    [HIDDEN, AVERAGE].iter().any(|prefix| name.starts_with(prefix))
}

/// The name of the moving average of a weight, in the state of a checkpoint.
pub fn average_name(weight: &str) -> String {
    format!("{AVERAGE}{weight}")
}

/// The name of a sum of a metric over the slices of a shard, counted from 0, in the state of a
/// checkpoint. The first has the name of the sum itself.
pub fn lane_name(sum: &str, shard: usize) -> String {
    if shard == 0 { sum.to_owned() } else { format!("shard-{shard}.{sum}") }
}

/// The names of the numbers that a scaled loss goes on with, in the state of a checkpoint: the
/// factor, and steps since it changed.
pub const SCALER_NUMBERS: [&str; 2] = ["scaler.scale", "scaler.good_steps"];
/// The name of the count of checkpoints that came back after a divergence.
pub const RESTORES: &str = "divergence.restores";
/// The names of the counts of steps that changed nothing: in a row, and since the last scalars.
pub const SKIPS: [&str; 2] = ["skips.in_a_row", "skips.since_scalars"];

/// The tensors of a file that are taken for others: their places in its list, with the values that
/// they may hold.
pub type TakenFrom = Vec<(usize, Values)>;

/// The tensors of a file that become those weights, as far as the rules want them.
///
/// # Errors
/// All that does not fit. Values are not read.
pub fn judge_weights(weights: &[Weight], found: &TensorFile, rules: &Rules) -> Result<TakenFrom, Vec<Mistake>> {
    let kept = weights.iter().filter(|told| told.role != Role::Hidden);
    let needed: Vec<_> = kept.map(|told| need(&told.name, told, weights)).collect();
    taken(&needed, found, rules)
}

/// The tensors of a file that has what training needs besides the weights, and nothing else: the
/// sums behind the next scalars, buffers that are no weights, where the schedule stands, and the
/// state of the optimizer, for all parameters or, before its first step, for none. `own_metrics`
/// are those that the model gives.
///
/// # Errors
/// All that does not fit. Values are not read.
pub fn judge_state(
    network: &Network,
    work: &ModelWork,
    metrics: &[Metric],
    own_metrics: &[String],
    found: &TensorFile,
) -> Result<TakenFrom, Vec<Mistake>> {
    let (weights, ModelWork { optimizer, schedule, recipe, mode, .. }) = (&network.weights, work);
    let mut needed = vec![number(SUM_LOSS, Dtype::F64, false)];
    for lane in 0..recipe.shards.unwrap_or(1) as usize {
        let sums = |answer| metrics.iter().flat_map(move |metric| metric.sums(answer));
        needed.extend(network.answer.into_iter().flat_map(sums).map(|Sum { name, count, can_be_absent }| Needed {
            shape: count.into_iter().collect(),
            ..number(&lane_name(&name, lane), Dtype::F64, can_be_absent && lane == 0)
        }));
        let own_sums = own_metrics.iter().flat_map(|metric| own_sums(metric));
        needed.extend(own_sums.map(|sum| number(&lane_name(&sum, lane), Dtype::F64, false)));
    }
    let hidden = weights.iter().filter(|told| told.role == Role::Hidden && told.same_as.is_none());
    needed.extend(hidden.map(|told| need(&hidden_name(&told.name), told, weights)));
    let standing = schedule.plateau().map_or(&[][..], |_| &Standing::NAMES);
    needed.extend(standing.iter().map(|name| number(name, Dtype::F64, false)));
    let trained: Vec<_> = optimizer.groups.trained(weights).collect();
    let slots = optimizer.slots().iter().flat_map(|slot| trained.iter().map(move |told| (slot, *told)));
    let has_slots = slots.clone().any(|(slot, told)| found.tensor(&slot_name(slot, &told.name)).is_some());
    if has_slots {
        needed.extend(slots.map(|(slot, told)| need(&slot_name(slot, &told.name), told, weights)));
    }
    needed.extend(optimizer.counter().map(|counter| number(counter, Dtype::F32, !has_slots)));
    let averaged = weights.iter().filter(|told| {
        let is_kept = told.role != Role::Hidden && told.same_as.is_none();
        recipe.ema_decay.is_some() && is_kept && told.dtype.is_float()
    });
    let averaged: Vec<_> = averaged.map(|told| (average_name(&told.name), told)).collect();
    if averaged.iter().any(|(name, _)| found.tensor(name).is_some()) {
        needed.extend(averaged.iter().map(|(name, told)| need(name, told, weights)));
    }
    let numbers = recipe.early_stopping.iter().flat_map(|_| EarlyStopping::NUMBERS);
    let numbers =
        numbers.chain((recipe.precision == Precision::Float16).then_some(SCALER_NUMBERS).into_iter().flatten());
    let numbers = numbers.chain((recipe.on_divergence == OnDivergence::RestoreBest).then_some(RESTORES));
    let numbers = numbers.chain(recipe.may_skip_steps().then_some(SKIPS).into_iter().flatten());
    needed.extend(numbers.map(|name| number(name, Dtype::F64, false)));
    if let Mode::LrRange(range) = mode {
        needed.push(Needed { shape: vec![range.steps.into()], ..number(LrRange::LOSSES, Dtype::F64, false) });
    }
    taken(&needed, found, &Rules::default())
}

fn taken(needed: &[Needed], found: &TensorFile, rules: &Rules) -> Result<TakenFrom, Vec<Mistake>> {
    let places = fit(needed, found, rules)?;
    Ok(places.into_iter().zip(needed).filter_map(|(place, needed)| Some((place?, needed.values))).collect())
}

/// The type and the shape of one of these weights. Checkpoints hold a tied one under its first name
/// alone.
fn need(name: &str, told: &Weight, weights: &[Weight]) -> Needed {
    let shape = told.shape.iter().map(|size| size.unsigned_abs()).collect();
    let can_be_absent = told.same_as.is_some();
    Needed { name: name.into(), dtype: told.dtype, shape, can_be_absent, values: values(told, weights) }
}

/// The values that one of these weights may hold, by its role: which buffers are masks, only the
/// runner knows, which has their first values.
fn values(told: &Weight, weights: &[Weight]) -> Values {
    let first = told.same_as.as_ref().and_then(|first| weights.iter().find(|other| other.name == *first));
    match first.unwrap_or(told).role {
        Role::Learned => Values::Finite,
        Role::Kept | Role::Hidden => Values::Infinite,
    }
}

fn number(name: &str, dtype: Dtype, can_be_absent: bool) -> Needed {
    Needed { name: name.into(), dtype, shape: vec![], can_be_absent, values: Values::Finite }
}

#[cfg(test)]
mod tests {
    use super::super::loss::Answer;
    use super::super::metric::Accuracy;
    use super::super::optimizer::Method;
    use super::*;
    use crate::tensor_file::{Format, Layout, Tensor};

    fn network() -> Vec<Weight> {
        let layers: [(&str, &[i64]); 4] =
            [("conv1", &[10, 1, 5, 5]), ("conv2", &[20, 10, 5, 5]), ("fc1", &[50, 320]), ("fc2", &[10, 50])];
        layers.into_iter().flat_map(|(name, weight)| Weight::layer(name, weight)).collect()
    }

    fn tensor(name: &str, dtype: Dtype, shape: &[i64]) -> Tensor {
        let shape: Vec<_> = shape.iter().map(|&size| size as u64).collect();
        let layout = Layout { offset: 0, storage_bytes: 0, first: 0, strides: vec![0; shape.len()] };
        Tensor { name: name.into(), dtype, shape, layout }
    }

    fn file(tensors: &[Tensor]) -> TensorFile {
        let tensors = tensors.to_vec();
        TensorFile { format: Format::Safetensors, tensors, state_dicts: Vec::new(), left_out: 0 }
    }

    fn told(judged: Result<TakenFrom, Vec<Mistake>>) -> Result<(), String> {
        judged.map(drop).map_err(|wrong| wrong.iter().map(Mistake::with_way_out).collect::<Vec<_>>().join("\n"))
    }

    fn judge(found: &[Tensor]) -> Result<(), String> {
        told(judge_weights(&network(), &file(found), &Rules::default()))
    }

    fn weights() -> Vec<Tensor> {
        network().iter().map(|told| tensor(&told.name, Dtype::F32, &told.shape)).collect()
    }

    #[test]
    fn weights_that_differ_are_named_with_what_is_there_and_what_is_needed() {
        assert_eq!(judge(&weights()), Ok(()));
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
            let told = judge(&found).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        }
    }

    #[test]
    fn a_state_has_its_sums_and_what_the_optimizer_keeps_for_all_parameters_or_for_none() {
        let sums = vec![tensor("sums.loss", Dtype::F64, &[]), tensor("sums.correct", Dtype::F64, &[])];
        let kept = |slot: &str| {
            weights().into_iter().map(|has| Tensor { name: slot_name(slot, &has.name), ..has }).collect::<Vec<_>>()
        };
        let sgd = crate::job::spec::Optimizer::from(Method::Sgd(super::super::optimizer::Sgd {
            learning_rate: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }));
        let network = Network { output: vec![10], weights: network(), answer: Some(Answer::Class(10)), modules: None };
        let metrics = [Metric::Accuracy(Accuracy)];
        let work = ModelWork { optimizer: sgd, ..super::super::example_work() };
        let judge = |found: &[Tensor]| told(judge_state(&network, &work, &metrics, &[], &file(found)));
        let whole = [sums.clone(), kept("velocity")].concat();
        assert_eq!((judge(&sums), judge(&whole)), (Ok(()), Ok(())));
        assert_eq!(judge(&[whole.clone(), vec![tensor("sums.labels", Dtype::F64, &[])]].concat()), Ok(()));
        assert!(judge(&whole[1..]).unwrap_err().contains("needed are sums.correct"));
        assert!(judge(&whole[..9]).unwrap_err().contains("velocity.fc2.bias"));
        assert!(judge(&[tensor("sums.loss", Dtype::F32, &[])]).is_err());
        let more = ["f1_macro", "auc", "confusion_matrix"].map(|name| Metric::parse(name).unwrap());
        let judge_more = |found: &[Tensor]| told(judge_state(&network, &work, &more, &[], &file(found)));
        let row = |name: &str| tensor(&format!("sums.f1_macro.{name}"), Dtype::F64, &[10]);
        let rows = [vec![sums[0].clone()], ["right", "answers", "targets"].map(row).to_vec()].concat();
        assert_eq!(judge_more(&rows), Ok(()), "metrics of validation alone have no sums");
        assert!(judge_more(&rows[..3]).unwrap_err().contains("sums.f1_macro.targets"));
        let other = [sums, kept("exp_avg")].concat();
        assert!(judge(&other).unwrap_err().contains("too many are exp_avg.conv1.bias"));
    }
}
