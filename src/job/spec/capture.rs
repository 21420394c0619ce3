//! Whether a training step can be captured as a CUDA graph (`training.cuda_graphs`), as far as the
//! spec tells. A graph repeats the work that was recorded on the GPU, and asks the host nothing
//! meanwhile: it cannot be a step in which a number of the GPU decides on the host, or in which the
//! host gives a number of its own.
//!
//! What the files and the machine tell besides is the runner's: `exported/waits.rs` and
//! `runner/capture/`. This is the one list of the rest.

use super::data::Augment;
use super::optimizer::Method;
use super::{Data, Metric, Model, OnDivergence, Optimizer, Precision, Recipe};
use crate::job::Violations;

/// Adds each part of a spec that keeps its steps from being captured, where that is wanted.
pub(super) fn judge(
    recipe: &Recipe,
    model: Option<&Model>,
    optimizer: Option<&Optimizer>,
    metrics: &[Metric],
    data: Option<&Data>,
    wrong: &mut Violations,
) {
    if !recipe.cuda_graphs {
        return;
    }
    let mut refuse = |what: String| wrong.add("training.cuda_graphs", format!("is set, and {what}; or leave it out"));
    if recipe.precision == Precision::Float16 {
        let why = "whose scaling of the loss decides on the host after each step";
        refuse(format!("training.precision is float16, {why}; take bfloat16"));
    }
    if recipe.shards.is_some() {
        refuse("training.shards is set, whose slices have random numbers and sizes of their own".into());
    }
    if recipe.on_divergence == OnDivergence::SkipStep {
        let why = "which decides on the host after each step";
        refuse(format!("training.on_divergence is skip_step, {why}; take fail or restore_best"));
    }
    if let Some(optimizer) = optimizer {
        match optimizer.method {
            Method::Sgd(_) | Method::Adam(_) | Method::Adamw(_) => {}
            Method::Rmsprop(_) | Method::Adagrad(_) | Method::Lion(_) => {
                let why = "whose learning rate is a number of the host in each step";
                refuse(format!("optimizer.{} is set, {why}; take sgd, adam or adamw", optimizer.name()));
            }
        }
    }
    if let Some(Model::Torchscript(_)) = model {
        let why = "whose code may ask the host anything";
        refuse(format!("model.torchscript is set, {why}; export it as model.exported"));
    }
    if metrics.iter().any(|metric| matches!(metric, Metric::Auc(_))) {
        refuse("metrics has auc, whose scores go to the host in each step; take another metric".into());
    }
    let augment = data.map(|data| &data.augment[..]).unwrap_or_default();
    for (place, change) in augment.iter().enumerate() {
        if let Augment::MixUp(_) | Augment::CutMix(_) = change {
            let name = change.name();
            let why = "whose share of each batch is a number of the host";
            refuse(format!("data.augment[{place}] is {name}, {why}; take another change"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::job::spec::read::{read, tests::good};
    use crate::proto::json;
    use crate::proto::v1;

    /// The mistakes of a request that wants its steps captured, with these sections in JSON.
    fn mistakes(sections: &str) -> Vec<String> {
        let mut request = v1::JobSpec { optimizer: None, ..good() };
        let told: v1::JobSpec = json::from_str(&format!("{{{sections}}}")).unwrap();
        let v1::JobSpec { model, training, optimizer, metrics, data, .. } = told;
        request.model = model.or(request.model);
        request.metrics = metrics;
        request.data.as_mut().unwrap().augment = data.map(|data| data.augment).unwrap_or_default();
        request.optimizer = optimizer.or(good().optimizer);
        request.training = Some(v1::Training { cuda_graphs: true, ..training.or(good().training).unwrap() });
        request.training.as_mut().unwrap().length = good().training.unwrap().length;
        let mistakes = read(&request).mistakes.0.into_iter();
        mistakes.map(|mistake| format!("{}: {}", mistake.field, mistake.description)).collect()
    }

    #[test]
    fn each_part_that_decides_on_the_host_is_told_with_what_would_be_right() {
        for (sections, told) in [
            (r#""optimizer": {"adamw": {"learningRate": 0.1}}"#, &[][..]),
            (r#""training": {"precision": "PRECISION_BFLOAT16", "accumulateSteps": 2, "emaDecay": 0.9}"#, &[]),
            (r#""training": {"onDivergence": "ON_DIVERGENCE_RESTORE_BEST"}, "metrics": ["accuracy"]"#, &[]),
            (r#""data": {"augment": [{"flip": {}}]}"#, &[]),
            (
                r#""training": {"precision": "PRECISION_FLOAT16", "onDivergence": "ON_DIVERGENCE_SKIP_STEP"}"#,
                &[
                    "training.precision is float16, whose scaling of the loss decides on the host after each step; \
                     take bfloat16; or leave it out",
                    "training.on_divergence is skip_step, which decides on the host after each step; take fail or \
                     restore_best; or leave it out",
                ],
            ),
            (
                r#""optimizer": {"lion": {"learningRate": 0.1}}, "metrics": ["auc"]"#,
                &[
                    "optimizer.lion is set, whose learning rate is a number of the host in each step; take sgd, adam \
                     or adamw; or leave it out",
                    "metrics has auc, whose scores go to the host in each step; take another metric; or leave it out",
                ],
            ),
            (
                r#""model": {"torchscript": {"path": "p"}}"#,
                &["model.torchscript is set, whose code may ask the host anything; export it as model.exported; or \
                   leave it out"],
            ),
            (
                r#""data": {"augment": [{"flip": {}}, {"mixUp": {}}]}"#,
                &["data.augment[1] is mix_up, whose share of each batch is a number of the host; take another \
                   change; or leave it out"],
            ),
        ] {
            let right: Vec<_> = told.iter().map(|told| format!("training.cuda_graphs: is set, and {told}")).collect();
            assert_eq!(mistakes(sections), right, "{sections}");
        }
    }
}
