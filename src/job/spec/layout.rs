//! Whether the weights of a model can have their channels last in memory (`training.channels_last`).

use super::layer::Layer;
use super::{Model, Recipe};
use crate::job::Violations;

/// Adds why not, where that is wanted.
pub(super) fn judge(recipe: &Recipe, model: Option<&Model>, wrong: &mut Violations) {
    let Some(model) = model.filter(|_| recipe.channels_last) else { return };
    let why = match model {
        Model::MnistCnn(_) | Model::Resnet(_) => return,
        Model::Sequential(row) if row.layers.iter().any(|layer| matches!(layer, Layer::Conv2d(_))) => return,
        Model::Sequential(_) => "model.sequential has no conv2d; leave it out",
        Model::Exported(_) | Model::Torchscript(_) => {
            "the file of the model says how its weights lie in memory; leave it out"
        }
        Model::Mlp(_) | Model::Linear(_) | Model::Vit(_) | Model::Gpt(_) => {
            let what = format!("is set, and {} has no layers that gain by it; leave it out", model.name());
            return wrong.add("training.channels_last", what);
        }
    };
    wrong.add("training.channels_last", format!("is set, and {why}"));
}

#[cfg(test)]
mod tests {
    use crate::job::spec::read::{read, tests::good};
    use crate::proto::json;
    use crate::proto::v1;

    #[test]
    fn models_whose_convolutions_are_torchds_own_are_taken() {
        for (model, told) in [
            (r#"{"mnistCnn": {}}"#, None),
            (r#"{"resnet": {"depth": 50}}"#, None),
            (r#"{"sequential": {"layers": [{"conv2d": {"outChannels": 2, "kernelSize": 3}}, {"flatten": {}}]}}"#, None),
            (
                r#"{"sequential": {"layers": [{"flatten": {}}, {"linear": {}}]}}"#,
                Some("is set, and model.sequential has no conv2d; leave it out"),
            ),
            (
                r#"{"exported": {"path": "p"}}"#,
                Some("is set, and the file of the model says how its weights lie in memory; leave it out"),
            ),
            (r#"{"linear": {}}"#, Some("is set, and linear has no layers that gain by it; leave it out")),
        ] {
            let training = v1::Training { channels_last: true, ..good().training.unwrap() };
            let model = Some(json::from_str(model).unwrap());
            let mistakes = read(&v1::JobSpec { model, training: Some(training), ..good() }).mistakes.0;
            let found: Vec<_> =
                mistakes.iter().map(|mistake| (mistake.field.as_str(), mistake.description.as_str())).collect();
            assert_eq!(found, told.map(|told| ("training.channels_last", told)).into_iter().collect::<Vec<_>>());
        }
    }
}
