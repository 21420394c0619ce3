//! A multilayer perceptron: linear layers with an activation and dropout behind all but the last.

use super::{Family, Set, Task, demand_numbers, demand_one_input, outputs_of};
use crate::job::Violations;
use crate::job::spec::layer::{Dropout, Flatten, Gelu, Layer, Linear, Relu, Tanh};
use crate::job::spec::module::Module;
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
        let activation = Activation::read(*activation, &mut fields);
        let dropout = fields.probability("dropout", *dropout);
        fields.at_least_one("outputs", *outputs, 1);
        fields.done(Self { hidden: hidden.clone(), activation, dropout, outputs: *outputs })
    }

    fn to_proto(&self) -> v1::Mlp {
        let Self { hidden, activation, dropout, outputs } = self.clone();
        v1::Mlp { hidden, activation: activation.to_proto().into(), dropout, outputs }
    }
}

impl Family for Mlp {
    fn judge(&self, set: &Set<'_>, _: Option<&Task<'_>>, wrong: &mut Violations) {
        demand_numbers(set, Self::NAME, wrong);
        demand_one_input(set, Self::NAME, wrong);
    }

    fn modules(&self, outputs: Option<u64>) -> Option<Module> {
        let outputs = outputs_of(self.outputs, outputs)?;
        let linear = |outputs| Layer::Linear(Linear { out_features: Some(outputs), bias: true });
        let hidden = self
            .hidden
            .iter()
            .flat_map(|&width| [linear(width), self.activation.layer(), Layer::Dropout(Dropout { p: self.dropout })]);
        let numbered = hidden.chain([linear(outputs)]).enumerate();
        let flat = ("flatten".to_owned(), Layer::Flatten(Flatten::default()));
        let layers = [flat].into_iter().chain(numbered.map(|(place, layer)| (place.to_string(), layer)));
        Some(Module::row(layers.map(|(name, layer)| (name, layer.into()))))
    }
}

impl Activation {
    /// Reads the field `activation`.
    pub(in crate::job::spec) fn read(message: i32, fields: &mut Fields<'_>) -> Self {
        match v1::Activation::try_from(message) {
            Ok(v1::Activation::Unspecified | v1::Activation::Relu) => Self::Relu,
            Ok(v1::Activation::Gelu) => Self::Gelu,
            Ok(v1::Activation::Tanh) => Self::Tanh,
            Err(_) => {
                fields.wrong("activation", format!("is {message}; relu, gelu or tanh is needed"));
                Self::Relu
            }
        }
    }

    /// The message that it was read from.
    pub(in crate::job::spec) fn to_proto(self) -> v1::Activation {
        match self {
            Self::Relu => v1::Activation::Relu,
            Self::Gelu => v1::Activation::Gelu,
            Self::Tanh => v1::Activation::Tanh,
        }
    }

    /// It as a layer.
    fn layer(self) -> Layer {
        match self {
            Self::Relu => Layer::Relu(Relu),
            Self::Gelu => Layer::Gelu(Gelu { approximate: false }),
            Self::Tanh => Layer::Tanh(Tanh),
        }
    }
}
