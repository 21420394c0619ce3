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
