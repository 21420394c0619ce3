//! Layers in a row, as in torch.nn.Sequential.

use super::{Family, Set, Task, demand_one_input, judge_modules, outputs_of};
use crate::job::Violations;
use crate::job::spec::layer::Layer;
use crate::job::spec::module::Module;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequential {
    /// The layers, in their order.
    pub layers: Vec<Layer>,
}

impl Section for Sequential {
    type Message = v1::Sequential;
    const NAME: &str = "sequential";

    fn read(message: &v1::Sequential, mut fields: Fields<'_>) -> Option<Self> {
        if message.layers.is_empty() {
            fields.wrong("layers", "is empty; name one layer at least, such as {linear = {}}");
        }
        let read = |(place, layer)| Layer::read(layer, fields.within(&field(place)));
        let layers: Vec<_> = message.layers.iter().enumerate().map(read).collect();
        let open =
            |layer: &Option<Layer>| matches!(layer, Some(Layer::Linear(linear)) if linear.out_features.is_none());
        let last = layers.iter().rposition(|layer| matches!(layer, Some(Layer::Linear(_))));
        for (place, _) in layers.iter().enumerate().filter(|(place, layer)| Some(*place) != last && open(layer)) {
            let what = "is missing; the last linear layer alone may leave it out";
            fields.wrong(&format!("{}.linear.out_features", field(place)), what);
        }
        let layers = layers.into_iter().flatten().collect();
        fields.done(Self { layers })
    }

    fn to_proto(&self) -> v1::Sequential {
        v1::Sequential { layers: self.layers.iter().map(Layer::to_proto).collect() }
    }
}

impl Family for Sequential {
    fn judge(&self, set: &Set<'_>, task: Option<&Task<'_>>, wrong: &mut Violations) {
        if demand_one_input(set, Self::NAME, wrong)
            && let Some(modules) = self.modules(task.and_then(|task| task.outputs))
        {
            let of_layer = |place: &str, kind: &str| Some(format!("model.{}.layers[{place}].{kind}", Self::NAME));
            judge_modules(&modules, set, of_layer, wrong);
        }
    }

    fn modules(&self, outputs: Option<u64>) -> Option<Module> {
        let layer = |layer: &Layer| match layer {
            // That is the last one.
            Layer::Linear(linear) => {
                let mut linear = *linear;
                linear.out_features = outputs_of(linear.out_features, outputs);
                Layer::Linear(linear)
            }
            other => other.clone(),
        };
        let layers = self.layers.iter().enumerate();
        Some(Module::row(layers.map(|(place, kind)| (place.to_string(), layer(kind).into()))))
    }
}

/// The field of the layer at a place, within the section.
fn field(place: usize) -> String {
    format!("layers[{place}]")
}
