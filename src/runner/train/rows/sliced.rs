//! Steps in shards beside steps of whole batches.

use super::*;

/// A network with everything whose numbers depend on the batch that it sees.
const NORMALISED: &str = r#""model": {"sequential": {"layers": [
    {"batch_norm1d": {"momentum": 0.5}}, {"linear": {"out_features": 8}}, {"relu": {}}, {"dropout": {"p": 0.25}}, {"linear": {}}
]}}, SGD, "metrics": ["accuracy"], "data": {"augment": [{"noise": {"std": 0.5}}]}, "training": {SHARDS REST}"#;

/// A network whose gradients are sums over examples.
const PLAIN: &str = r#""model": {"mlp": {"hidden": [8, 5]}}, SGD, "training": {SHARDS REST}"#;

/// Training of that spec in so many shards, or of whole batches.
fn in_shards(spec: &str, shards: Option<u32>, folder: &Path) -> Training {
    let told = shards.map_or_else(String::new, |shards| format!("\"shards\": {shards}, "));
    let spec: &'static str = spec.replace("SHARDS ", &told).leak();
    new(&Row { section: "training", name: "shards", spec, data: Data::Classes }, folder, None)
}

#[test]
fn one_shard_is_the_whole_batch_bit_for_bit() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let [whole, sliced] = [None, Some(1)].map(|shards| {
        let mut training = in_shards(NORMALISED, shards, &place);
        (0..STEPS).for_each(|_| step(&mut training));
        saved(&training)
    });
    assert_eq!((whole.weights, whole.state), (sliced.weights, sliced.state));
}

#[test]
fn slices_give_the_gradients_of_the_whole_batch_up_to_rounding() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    // The last batch has 8 examples: slices of one and of none are among them.
    let [whole, three, sixteen] = [None, Some(3), Some(16)].map(|shards| {
        let mut training = in_shards(PLAIN, shards, &place);
        (0..STEPS).for_each(|_| step(&mut training));
        (weights(&training), training.sums.mean_loss().unwrap(), format!("{:?}", training.sums.metrics().unwrap()))
    });
    for sliced in [three, sixteen] {
        for (name, tensor) in &whole.0 {
            let apart = (tensor - &sliced.0[name]).abs().max().double_value(&[]);
            assert!(apart < 1e-5, "{name} is {apart} apart");
        }
        assert!((whole.1 - sliced.1).abs() < 1e-6, "{} and {}", whole.1, sliced.1);
        assert_eq!(whole.2, sliced.2);
    }
}

#[test]
fn running_statistics_are_means_over_slices_that_begin_with_those_before_the_step() {
    let _alone = generator();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let mut training = in_shards(NORMALISED, Some(3), &place);
    let batch = training.next_batch(&mut |_| Ok(true)).unwrap().unwrap();
    let sizes: Vec<_> = batch.slices.iter().map(|slice| slice.as_ref().unwrap().size).collect();
    assert_eq!(sizes, [5, 5, 6]);
    let inputs = |slice: &Option<Batch>| slice.as_ref().unwrap().inputs[0].to_kind(tch::Kind::Double);
    let variances: Vec<_> = batch.slices.iter().map(|slice| inputs(slice).var_dim(0, true, false)).collect();
    // From a variance of 1, at a momentum of 0.5.
    let expected = Tensor::stack(&variances, 0).mean_dim(0, false, None) * 0.5 + 0.5;
    training.train_step(&batch, false).unwrap();
    let found = weights(&training);
    let apart = (&found["0.running_var"].to_kind(tch::Kind::Double) - expected).abs().max().double_value(&[]);
    assert!(apart < 1e-6, "{apart}");
    assert_eq!(i64::try_from(&found["0.num_batches_tracked"]).unwrap(), 1, "a step is one batch");
}
