//! The memory of the host that a job needs at least, held against what the machine has.
//!
//! Only what is certain is counted: a job that is refused here could never have trained. What else
//! libtorch takes shows when the job runs.

use super::model::Set;
use super::optimizer::Share;
use super::{Demands, Optimizer, Weight};
use crate::dataset::{Facts, SHARE_OF_DATA};
use crate::job::Violations;

/// Memory that a runner has of its own at least when it trains the smallest of models: tables of
/// libtorch, above all. Measured with libtorch 2.11 on one thread, with one parameter and three
/// rows: 69.2 MB, so that 66 MiB do not suffice and 67 do.
pub const RUNNER_BYTES: u64 = 67 << 20;

/// Memory that jobs can have.
#[derive(Debug, Clone, Copy)]
pub struct HostMemory<'a> {
    /// How much, in bytes; 0 where it is not known.
    pub bytes: u64,
    /// Its owner, for example `this machine`.
    pub owner: &'a str,
    /// The ranks of the job, each of which has so much and takes its share of a batch.
    pub ranks: u64,
}

impl<'a> HostMemory<'a> {
    /// The memory of a job under a limit, in bytes: the runner itself takes some of it.
    pub fn within(limit: u64, owner: &'a str) -> Self {
        Self { bytes: limit.saturating_sub(RUNNER_BYTES), owner, ranks: 1 }
    }

    /// The part that the values of the data may take: what has more is read in shards, or row by
    /// row. None where the memory is not known.
    pub fn of_data(&self) -> Option<u64> {
        (self.bytes > 0).then_some(self.bytes / SHARE_OF_DATA)
    }
}

/// The memory of the host that a job takes at least, in bytes: the data, the metrics, and on the
/// CPU the model with the largest batch. The arguments are those of [`judge_memory`].
pub fn memory_bytes(
    demands: &Demands,
    learned_from: Option<&Facts>,
    sets: &[Set<'_>],
    data_bytes: u64,
    on_gpu: bool,
) -> u64 {
    let to_load = add(data_bytes, &kept_by_metrics(demands, learned_from, sets));
    let (Some(model), Some(train)) = (demands.model.as_ref().filter(|_| !on_gpu), learned_from) else { return to_load };
    let weights = demands.network(train).map(|network| network.weights).unwrap_or_default();
    let to_train = to_train(&weights, demands.optimizer.as_ref(), demands.recipe.ema_decay.is_some());
    let batch = u64::from(demands.batch_size.max(demands.validation_batch_size.unwrap_or(0)));
    batch.saturating_mul(model.bytes_per_example(train)).saturating_add(to_load).saturating_add(to_train)
}

/// Adds what needs more memory than there is. `sets` are the data sets that are known, and their
/// values take `data_bytes`; the last of several is that to judge by. `learned_from` is the set
/// that the model learns, or has learned, from.
pub fn judge_memory(
    demands: &Demands,
    learned_from: Option<&Facts>,
    sets: &[Set<'_>],
    data_bytes: u64,
    on_gpu: bool,
    memory: HostMemory<'_>,
    wrong: &mut Violations,
) {
    let HostMemory { bytes: most, owner, ranks } = memory;
    if most == 0 {
        return;
    }
    let to_load = data_bytes;
    let largest = sets.iter().max_by_key(|set| set.facts.memory_bytes());
    if let Some(set) = largest.filter(|_| to_load > most) {
        let need = format!(
            "to load the data takes {} of memory at least, and {owner} has {}",
            in_words(to_load),
            in_words(most)
        );
        let largest = set.facts.inputs.iter().max_by_key(|field| field.bytes());
        let field = largest.map_or(&set.facts.target, |input| input);
        let found = format!("holds {} examples of {:?} {}", set.facts.examples, field.shape, field.dtype.name());
        return wrong.add(set.file(field), format!("{found}; {need}"));
    }
    // Metrics keep what they keep on the host, also where a GPU computes.
    let kept = kept_by_metrics(demands, learned_from, sets);
    if let Some((name, bytes)) = kept.iter().max_by_key(|(_, bytes)| *bytes).filter(|_| add(to_load, &kept) > most) {
        let need = format!("takes {bytes} bytes of memory at least for the validation set");
        return wrong.add("metrics", format!("have {name}, which {need}, the data {to_load}, and {owner} has {most}"));
    }
    let to_load = add(to_load, &kept);
    let (Some(model), Some(train)) = (demands.model.as_ref().filter(|_| !on_gpu), learned_from) else { return };
    let weights = demands.network(train).map(|network| network.weights).unwrap_or_default();
    let to_train = to_train(&weights, demands.optimizer.as_ref(), demands.recipe.ema_decay.is_some());
    let need = to_load.saturating_add(to_train);
    if need > most {
        let count = weights.iter().filter(|weight| weight.is_learned()).map(|weight| weight.bytes() / 4);
        let count = count.fold(0, u64::saturating_add);
        let need = in_words(need);
        let need = match demands.optimizer {
            Some(_) => format!("they, their gradients, what the optimizer keeps of them and the data take {need}"),
            None => format!("they and the data take {need}"),
        };
        let what = format!("has {count} parameters; {need} of memory at least, and {owner} has {}", in_words(most));
        return wrong.add(format!("model.{}", model.name()), what);
    }
    for (field, batch) in [
        ("training.batch_size", Some(demands.batch_size)),
        ("training.validation_batch_size", demands.validation_batch_size),
    ] {
        let Some(batch) = batch else { continue };
        let each = model.bytes_per_example(train);
        let share = u64::from(batch).div_ceil(ranks);
        let need = share.saturating_mul(each).saturating_add(to_load).saturating_add(to_train);
        if need > most {
            let (need, most) = (in_words(need), in_words(most));
            let what =
                format!("a batch, the model and the data take {need} of memory at least, and {owner} has {most}");
            wrong.add(field, format!("is {batch}; {what}"));
        }
    }
}

/// The metrics that keep something of each target of the validation set, with their bytes.
fn kept_by_metrics(demands: &Demands, learned_from: Option<&Facts>, sets: &[Set<'_>]) -> Vec<(String, u64)> {
    let judged_by = sets.last().filter(|_| sets.len() > 1 || demands.mode.applies());
    let (Some(train), Some(judged_by)) = (learned_from, judged_by) else { return Vec::new() };
    let metrics = demands.aim(train).map(|aim| aim.metrics).unwrap_or_default();
    let kept = metrics.iter().map(|metric| (metric.name(), metric.bytes(judged_by.facts.targets())));
    kept.filter(|(_, bytes)| *bytes > 0).collect()
}

/// Bytes and those of metrics.
fn add(bytes: u64, kept: &[(String, u64)]) -> u64 {
    kept.iter().fold(bytes, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

/// Bytes of a model in training: each tensor once, for each parameter its gradient and what the
/// optimizer keeps of it, and the average of all where there is one. Without an optimizer nothing
/// is trained.
fn to_train(weights: &[Weight], optimizer: Option<&Optimizer>, has_average: bool) -> u64 {
    let slots = optimizer.map_or(0, |optimizer| optimizer.slots().len() as u64);
    let is_trained = |weight: &Weight| {
        let share = optimizer.map_or(Share::Frozen, |optimizer| optimizer.groups.share(&weight.name));
        weight.is_learned() && share != Share::Frozen
    };
    let own = weights.iter().filter(|weight| weight.same_as.is_none());
    let bytes = own.map(|weight| {
        weight.bytes().saturating_mul(if is_trained(weight) { 2 + slots } else { 1 } + u64::from(has_average))
    });
    bytes.fold(0, u64::saturating_add)
}

/// A size to the byte, and where that is hard to read in GB too.
fn in_words(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        gigabytes if gigabytes >= 1.0 => format!("{bytes} bytes ({gigabytes:.1} GB)"),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::read::tests::good;
    use super::*;
    use crate::dataset::{Dtype, Field};
    use crate::proto::v1;

    fn facts(examples: u64) -> Facts {
        let field = |name: &'static str, dtype, shape| Field {
            name: name.into(),
            file: name.into(),
            dtype,
            shape,
            range: None,
        };
        Facts {
            examples,
            inputs: vec![field("images", Dtype::Pixel, vec![1, 28, 28])],
            target: field("labels", Dtype::I64, vec![]),
            sizes: vec![],
            is_resident: true,
            may_widen: false,
        }
    }

    fn judge(examples: u64, batch_size: u32, on_gpu: bool, bytes: u64) -> Vec<String> {
        let demands = Demands { batch_size, ..read(&good()).model.unwrap().demands };
        let (train, validation) = (facts(examples), facts(10));
        let set = |path: &str, facts| Set { path: path.into(), facts };
        let sets = [set("data.train.idx", &train), set("data.validation.idx", &validation)];
        let mut wrong = Violations::default();
        let data = sets.iter().map(|set| set.facts.memory_bytes()).fold(0, u64::saturating_add);
        judge_memory(
            &demands,
            Some(&train),
            &sets,
            data,
            on_gpu,
            HostMemory { bytes, owner: "this machine", ranks: 1 },
            &mut wrong,
        );
        wrong.0.into_iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect()
    }

    #[test]
    fn data_and_batches_that_no_memory_can_hold_are_named_with_both_figures() {
        let gib = 1 << 30;
        assert!(judge(60_000, 64, false, gib).is_empty());
        // 100 GB of pixels, and 8 bytes a label.
        let told = judge(127_551_020, 64, false, 24 * gib);
        let bytes = (784 + 8) * 127_551_030u64;
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("data.train.idx.images: holds 127551020 examples of [1, 28, 28] pixels; "),
            "{told:?}"
        );
        assert!(told[0].contains(&format!("takes {bytes} bytes")) && told[0].contains("this machine has 25769803776"));
        assert!(told[0].contains("bytes (101.0 GB) of memory") && told[0].ends_with("(25.8 GB)"), "{told:?}");
        let told = judge(2_000_000, 2_000_000, false, 24 * gib);
        assert!(
            told[0].starts_with("training.batch_size: is 2000000; a batch, the model and the data take"),
            "{told:?}"
        );
        let told = {
            let (demands, mut train) = (read(&good()).model.unwrap().demands, facts(127_551_020));
            train.is_resident = false;
            let sets = [Set { path: "data.train.image_folder".into(), facts: &train }];
            let mut wrong = Violations::default();
            judge_memory(
                &demands,
                Some(&train),
                &sets,
                train.memory_bytes(),
                true,
                HostMemory { bytes: gib, owner: "this machine", ranks: 1 },
                &mut wrong,
            );
            wrong
        };
        assert!(told.0.is_empty(), "images are read when they are asked for: {told}");
        // The GPU's memory is another matter.
        assert!(judge(2_000_000, 2_000_000, true, 24 * gib).is_empty());
        assert!(judge(u64::MAX, 64, false, u64::MAX).is_empty() && judge(u64::MAX, 64, false, 0).is_empty());
    }

    #[test]
    fn scores_that_a_metric_keeps_count_as_memory_and_have_a_limit() {
        let two = v1::Mlp { hidden: vec![4], outputs: Some(2), ..v1::Mlp::default() };
        let model = Some(v1::Model { family: Some(v1::model::Family::Mlp(two)) });
        let request = v1::JobSpec { model, metrics: vec!["accuracy".into(), "auc".into()], ..good() };
        let demands = read(&request).model.unwrap().demands;
        let judge = |examples: u64, bytes: u64| {
            let (train, validation) = (facts(100), facts(examples));
            let set = |path: &str, facts| Set { path: path.into(), facts };
            let sets = [set("data.train.idx", &train), set("data.validation.idx", &validation)];
            let mut wrong = Violations::default();
            let data = sets.iter().map(|set| set.facts.memory_bytes()).fold(0, u64::saturating_add);
            judge_memory(
                &demands,
                Some(&train),
                &sets,
                data,
                true,
                HostMemory { bytes, owner: "this machine", ranks: 1 },
                &mut wrong,
            );
            demands.judge(Some(&sets[0]), Some(&sets[1]), &mut wrong);
            wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect::<Vec<_>>()
        };
        // 792 bytes of data and 24 of a score each: 8.16 GB together.
        let (gb, data) = (1_000_000_000, 792 * 10_000_100u64);
        assert_eq!(judge(10_000_000, 9 * gb), [""; 0]);
        let need = "metrics: have auc, which takes 240000000 bytes of memory at least for the validation set";
        let told = judge(10_000_000, 8 * gb);
        assert_eq!(told, [format!("{need}, the data {data}, and this machine has 8000000000")]);
        let told = judge(100_000_001, u64::MAX);
        let most = "takes 100000000 targets at most, and the validation set has 100000001";
        assert_eq!(told, [format!(r#"metrics[1]: is "auc", which {most}"#)]);
    }
}
