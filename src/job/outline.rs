//! The outline of a model, for people: its parameters by layer, and whether it brings its loss.

use serde::{Deserialize, Serialize};

use super::spec::Weight;
use super::spec::model::OwnLoss;
use crate::exported::summary::Role;
use crate::proto::v1;

/// Layers of an outline, at most: those of a larger model are taken together.
const MOST_LAYERS: usize = 200;

/// The outline of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// Its layers, in their order.
    pub layers: Vec<Layer>,
    /// The names of the metrics that it gives besides its own loss; None where the job has the
    /// loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_metrics: Option<Vec<String>>,
}

/// The parameters with one beginning of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The beginning, such as `encoder.layers.0.linear1`; empty for parameters of the module
    /// itself.
    pub name: String,
    /// Numbers that are learned.
    pub parameters: u64,
    /// Numbers that are kept besides: buffers, and parameters that do not learn.
    pub kept: u64,
}

impl Outline {
    /// The outline of a model with these tensors.
    pub fn of(weights: &[Weight], own_loss: Option<OwnLoss<'_>>) -> Self {
        let deepest = weights.iter().map(|weight| parts(&weight.name).count()).max().unwrap_or(0);
        let layers = (0..=deepest).rev().map(|depth| layers(weights, depth));
        let mut layers = layers.skip_while(|layers| layers.len() > MOST_LAYERS);
        let own_metrics = own_loss.map(|own| own.metrics.to_vec());
        Self { layers: layers.next().unwrap_or_default(), own_metrics }
    }

    /// The message that clients get.
    pub fn to_proto(&self) -> v1::ModelOutline {
        let layers = self.layers.iter().map(|Layer { name, parameters, kept }| v1::ModelLayer {
            name: name.clone(),
            parameter_count: *parameters,
            kept_count: *kept,
        });
        v1::ModelOutline {
            parameter_count: self.layers.iter().map(|layer| layer.parameters).fold(0, u64::saturating_add),
            layers: layers.collect(),
            has_own_loss: self.own_metrics.is_some(),
            own_metrics: self.own_metrics.clone().unwrap_or_default(),
        }
    }
}

/// The parts of a name without the last, which is that of a tensor in its layer.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.rsplit_once('.').map(|(layer, _)| layer.split('.')).into_iter().flatten()
}

/// The layers by that number of parts of their names.
fn layers(weights: &[Weight], depth: usize) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for weight in weights.iter().filter(|weight| weight.same_as.is_none()) {
        let name = parts(&weight.name).take(depth).collect::<Vec<_>>().join(".");
        let place = *places.entry(name.clone()).or_insert_with(|| {
            layers.push(Layer { name, parameters: 0, kept: 0 });
            layers.len() - 1
        });
        let layer = &mut layers[place];
        let count = match weight.role {
            Role::Learned => &mut layer.parameters,
            Role::Kept | Role::Hidden => &mut layer.kept,
        };
        *count = count.saturating_add(weight.values());
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(outline: &Outline) -> Vec<(&str, u64)> {
        outline.layers.iter().map(|layer| (layer.name.as_str(), layer.parameters)).collect()
    }

    #[test]
    fn parameters_are_counted_by_layer_and_tied_ones_once() {
        let mut weights: Vec<_> =
            ["conv1", "head.1"].into_iter().flat_map(|name| Weight::layer(name, &[2, 3])).collect();
        let tied = Weight { name: "tail.weight".into(), same_as: Some("conv1.weight".into()), ..weights[0].clone() };
        weights.push(tied);
        weights[1].role = Role::Kept;
        let outline = Outline::of(&weights, None);
        assert_eq!(names(&outline), [("conv1", 6), ("head.1", 8)]);
        assert_eq!((outline.layers[0].kept, outline.to_proto().parameter_count), (2, 14));
    }

    #[test]
    fn the_layers_of_a_large_model_are_taken_together() {
        let names_of = |block: usize| (0..150).map(move |layer| format!("blocks.{block}.{layer}"));
        let weights: Vec<_> = (0..4).flat_map(names_of).flat_map(|name| Weight::layer(&name, &[1, 1])).collect();
        let expected: Vec<_> = (0..4).map(|block| (format!("blocks.{block}"), 300)).collect();
        let outline = Outline::of(&weights, None);
        assert_eq!(names(&outline), expected.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>());
    }
}
