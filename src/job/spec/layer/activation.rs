//! Functions of each number.

use super::{Flow, Refusal, Rules};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Makes layers without settings.
macro_rules! plain {
    ($($(#[$about:meta])* $name:ident: $text:literal),+ $(,)?) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $name;

            impl Section for $name {
                type Message = v1::NoSettings;
                const NAME: &str = $text;

                fn read(_: &v1::NoSettings, fields: Fields<'_>) -> Option<Self> {
                    fields.done(Self)
                }

                fn to_proto(&self) -> v1::NoSettings {
                    v1::NoSettings {}
                }
            }
        )+
    };
}

plain! {
    /// max(x, 0).
    Relu: "relu",
    /// x times its logistic function.
    Silu: "silu",
    /// The hyperbolic tangent.
    Tanh: "tanh",
    /// The logistic function.
    Sigmoid: "sigmoid",
}

/// max(x, 0), and a share of what is below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyRelu {
    /// That share.
    pub negative_slope: f64,
}

/// x above 0, and alpha * (exp(x) - 1) below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elu {
    /// The negative of its lowest value.
    pub alpha: f64,
}

/// The Gaussian error linear unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gelu {
    /// By way of the hyperbolic tangent, and not exact.
    pub approximate: bool,
}

impl Section for LeakyRelu {
    type Message = v1::LeakyRelu;
    const NAME: &str = "leaky_relu";

    fn read(message: &v1::LeakyRelu, mut fields: Fields<'_>) -> Option<Self> {
        let negative_slope = fields.not_negative("negative_slope", message.negative_slope.unwrap_or(0.01));
        fields.done(Self { negative_slope })
    }

    fn to_proto(&self) -> v1::LeakyRelu {
        v1::LeakyRelu { negative_slope: Some(self.negative_slope) }
    }
}

impl Section for Elu {
    type Message = v1::Elu;
    const NAME: &str = "elu";

    fn read(message: &v1::Elu, mut fields: Fields<'_>) -> Option<Self> {
        let alpha = fields.not_negative("alpha", message.alpha.unwrap_or(1.0));
        fields.done(Self { alpha })
    }

    fn to_proto(&self) -> v1::Elu {
        v1::Elu { alpha: Some(self.alpha) }
    }
}

impl Section for Gelu {
    type Message = v1::Gelu;
    const NAME: &str = "gelu";

    fn read(message: &v1::Gelu, mut fields: Fields<'_>) -> Option<Self> {
        let approximate = match message.approximate.as_str() {
            "" | "none" => false,
            "tanh" => true,
            other => {
                fields.wrong("approximate", format!("is {other:?}; none or tanh is needed"));
                false
            }
        };
        fields.done(Self { approximate })
    }

    fn to_proto(&self) -> v1::Gelu {
        v1::Gelu { approximate: self.method().into() }
    }
}

impl Gelu {
    /// The way of computing it, as PyTorch calls it.
    pub fn method(&self) -> &'static str {
        if self.approximate { "tanh" } else { "none" }
    }
}

/// They all take numbers of any shape.
macro_rules! of_each_number {
    ($($name:ident),+) => {
        $(
            impl Rules for $name {
                fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
                    input.of_numbers().map(Flow::numbers)
                }
            }
        )+
    };
}
of_each_number!(Relu, LeakyRelu, Elu, Gelu, Silu, Tanh, Sigmoid);
