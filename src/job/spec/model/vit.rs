//! A Vision Transformer, as torchvision has it: "An Image is Worth 16x16 Words" (arXiv 2010.11929).

use super::{Family, Initial, Set, Task, Weight, demand_numbers, demand_one_input, outputs_of};
use crate::job::Violations;
use crate::job::spec::layer::{affine, attention};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vit {
    /// Height and width of a patch.
    pub patch: u32,
    /// Encoder layers.
    pub layers: u32,
    /// Heads of attention.
    pub heads: u32,
    /// Numbers for each patch.
    pub width: u32,
    /// Numbers in the middle of the perceptron of a layer.
    pub mlp_width: u32,
    /// Probability of each dropout.
    pub dropout: f64,
    /// Outputs; None for those of the target.
    pub outputs: Option<u32>,
}

/// Layers of a transformer, at most.
pub(super) const MOST_LAYERS: u32 = 256;

/// Reads the fields `layers`, `heads` and `width` of a transformer.
pub(super) fn read_sizes(layers: u32, heads: u32, width: u32, fields: &mut Fields<'_>) {
    fields.demand_given("layers", (1..=MOST_LAYERS).contains(&layers), layers, "1 to 256");
    fields.demand_given("heads", heads > 0, heads, "at least 1");
    fields.demand_given("width", width > 0, width, "at least 1");
    if width.checked_rem(heads).is_some_and(|rest| rest > 0) {
        fields.wrong("heads", format!("is {heads}; a divisor of the width, which is {width}, is needed"));
    }
}

impl Section for Vit {
    type Message = v1::VisionTransformer;
    const NAME: &str = "vit";

    fn read(message: &v1::VisionTransformer, mut fields: Fields<'_>) -> Option<Self> {
        let v1::VisionTransformer { patch, layers, heads, width, mlp_width, dropout, outputs } = *message;
        fields.at_least_one("patch", Some(patch), 1);
        read_sizes(layers, heads, width, &mut fields);
        let mlp_width = fields.at_least_one("mlp_width", mlp_width, width.saturating_mul(4));
        let dropout = fields.probability("dropout", dropout);
        fields.at_least_one("outputs", outputs, 1);
        fields.done(Self { patch, layers, heads, width, mlp_width, dropout, outputs })
    }

    fn to_proto(&self) -> v1::VisionTransformer {
        let Self { patch, layers, heads, width, mlp_width, dropout, outputs } = *self;
        v1::VisionTransformer { patch, layers, heads, width, mlp_width: Some(mlp_width), dropout, outputs }
    }
}

impl Family for Vit {
    fn judge(&self, set: &Set<'_>, _: Option<&Task<'_>>, wrong: &mut Violations) {
        if !demand_numbers(set, Self::NAME, wrong) | !demand_one_input(set, Self::NAME, wrong) {
            return;
        }
        let image = &set.facts.inputs[0];
        let patch = u64::from(self.patch);
        match image.shape[..] {
            [_, height, width] if height == width && height >= patch && height.is_multiple_of(patch) => {}
            [_, height, width] if height == width => {
                let needed = "a divisor of their size is needed";
                wrong.add("model.vit.patch", format!("is {patch}, and images are {height}x{width}; {needed}"));
            }
            _ => {
                let found = format!("has {:?} as {:?}", image.name, image.shape);
                wrong.add(set.file(image), format!("{found}; vit takes images as [channels, size, size]"));
            }
        }
    }

    fn gives(&self, task: &Task<'_>) -> Option<Vec<u64>> {
        Some(vec![outputs_of(self.outputs, task.outputs)?.into()])
    }

    fn weights(&self, task: &Task<'_>) -> Vec<Weight> {
        let size = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let image = task.train.inputs.first().map_or(&[][..], |image| &image.shape);
        let (&[channels, height, _], Some(outputs)) = (image, outputs_of(self.outputs, task.outputs)) else {
            return Vec::new();
        };
        let (patch, width) = (i64::from(self.patch), i64::from(self.width));
        let line = height / u64::from(self.patch);
        let fan_in = channels as f64 * (patch as f64).powi(2);
        let (zeros, projected) = (Initial::Constant(0.0), Initial::TruncatedNormal((1.0 / fan_in).sqrt()));
        let places = size(line.saturating_mul(line).saturating_add(1));
        let mut weights = vec![
            Weight::learned("class_token", &[1, 1, width], zeros),
            Weight::learned("conv_proj.weight", &[width, size(channels), patch, patch], projected),
            Weight::learned("conv_proj.bias", &[width], zeros),
            Weight::learned("encoder.pos_embedding", &[1, places, width], Initial::Normal(0.02)),
        ];
        for layer in 0..self.layers {
            weights.extend(self.layer().into_iter().map(|weight| weight.within(&Self::layer_name(layer))));
        }
        weights.extend(affine("encoder.ln", self.width.into()));
        weights.push(Weight::learned("heads.head.weight", &[outputs.into(), width], zeros));
        weights.push(Weight::learned("heads.head.bias", &[outputs.into()], zeros));
        weights
    }
}

impl Vit {
    /// The number that torchvision adds to the variances of a normalisation.
    pub const EPS: f64 = 1e-6;

    /// The name of an encoder layer.
    pub fn layer_name(layer: u32) -> String {
        format!("encoder.layers.encoder_layer_{layer}")
    }

    /// The tensors of an encoder layer.
    fn layer(&self) -> Vec<Weight> {
        let (width, inner) = (i64::from(self.width), i64::from(self.mlp_width));
        // Xavier's distribution: uniform within sqrt(6 / (inputs + outputs)).
        let bound = (6.0 / (width + inner) as f64).sqrt();
        let perceptron =
            [("mlp.0", [inner, width]), ("mlp.3", [width, inner])].into_iter().flat_map(|(name, shape)| {
                let weight = Weight::learned("weight", &shape, Initial::Uniform(bound));
                [weight, Weight::learned("bias", &shape[..1], Initial::Normal(1e-6))].map(|weight| weight.within(name))
            });
        let norm = |name| affine(name, self.width.into());
        let attention = attention("self_attention", self.width.into());
        norm("ln_1").into_iter().chain(attention).chain(norm("ln_2")).chain(perceptron).collect()
    }
}
