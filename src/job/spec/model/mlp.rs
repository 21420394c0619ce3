//! A multilayer perceptron: linear layers with an activation and dropout behind all but the last.

use super::{Family, Set, Weight, demand_numbers};
use crate::dataset::Facts;
use crate::job::Violations;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// Outputs of the hidden layers.
    pub hidden: Vec<u32>,
    /// The function behind each of them.
    pub activation: Activation,
    /// Probability of the dropout behind it.
    pub dropout: f64,
    /// Outputs of the last layer; None for those of the target.
    pub outputs: Option<u32>,
}

/// A function of each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// The Gaussian error linear unit.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Section for Mlp {
    type Message = v1::Mlp;
    const NAME: &str = "mlp";

    fn read(message: &v1::Mlp, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Mlp { hidden, activation, dropout, outputs } = message;
        for (place, &size) in hidden.iter().enumerate() {
            fields.at_least_one(&format!("hidden[{place}]"), Some(size), 1);
        }
        let activation = match v1::Activation::try_from(*activation) {
            Ok(v1::Activation::Unspecified | v1::Activation::Relu) => Activation::Relu,
            Ok(v1::Activation::Gelu) => Activation::Gelu,
            Ok(v1::Activation::Tanh) => Activation::Tanh,
            Err(_) => {
                fields.wrong("activation", format!("is {activation}; relu, gelu or tanh is needed"));
                Activation::Relu
            }
        };
        let dropout = fields.probability("dropout", *dropout);
        fields.at_least_one("outputs", *outputs, 1);
        fields.done(Self { hidden: hidden.clone(), activation, dropout, outputs: *outputs })
    }

    fn to_proto(&self) -> v1::Mlp {
        let activation = match self.activation {
            Activation::Relu => v1::Activation::Relu,
            Activation::Gelu => v1::Activation::Gelu,
            Activation::Tanh => v1::Activation::Tanh,
        };
        let Self { hidden, activation: _, dropout, outputs } = self.clone();
        v1::Mlp { hidden, activation: activation.into(), dropout, outputs }
    }
}

impl Family for Mlp {
    fn judge(&self, set: &Set<'_>, wrong: &mut Violations) {
        demand_numbers(set, Self::NAME, wrong);
        if set.facts.inputs.len() > 1 {
            let names: Vec<_> = set.facts.inputs.iter().map(|input| input.name.as_str()).collect();
            wrong.add(&set.path, format!("has the inputs {}; mlp takes one", names.join(", ")));
        }
    }

    fn gives(&self, _: &Facts, outputs: Option<u64>) -> Option<Vec<u64>> {
        self.outputs.map(u64::from).or(outputs).map(|outputs| vec![outputs])
    }

    fn weights(&self, train: &Facts, output: &[u64]) -> Vec<Weight> {
        let size = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let inputs = train.inputs.first().map_or(1, |input| size(input.values()));
        let outputs = size(output.iter().product());
        let widths = self.hidden.iter().map(|&width| i64::from(width)).chain([outputs]);
        let mut before = inputs;
        let layers = widths.enumerate().map(|(layer, width)| {
            let parameters = Weight::layer(&self.layer_name(layer), &[width, before]);
            before = width;
            parameters
        });
        layers.flatten().collect()
    }
}

impl Mlp {
    /// The name of a linear layer in a torch.nn.Sequential of linear, activation, dropout and so
    /// on.
    pub fn layer_name(&self, layer: usize) -> String {
        (layer * 3).to_string()
    }
}
