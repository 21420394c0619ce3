//! A linear map of the last dimension.

use super::{Flow, Refusal, Rules, size};
use crate::job::spec::Weight;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Numbers that come out; None for as many as the target needs.
    pub out_features: Option<u32>,
    /// Whether it has a bias.
    pub bias: bool,
}

impl Section for Linear {
    type Message = v1::LinearLayer;
    const NAME: &str = "linear";

    fn read(message: &v1::LinearLayer, mut fields: Fields<'_>) -> Option<Self> {
        let v1::LinearLayer { out_features, bias } = *message;
        fields.at_least_one("out_features", out_features, 1);
        fields.done(Self { out_features, bias: bias.unwrap_or(true) })
    }

    fn to_proto(&self) -> v1::LinearLayer {
        v1::LinearLayer { out_features: self.out_features, bias: Some(self.bias) }
    }
}

impl Rules for Linear {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        let (_, rest) = input.of_numbers()?.split_last().ok_or_else(|| Refusal::takes("[..., features]"))?;
        let features = self.out_features.ok_or(Refusal::Unknown)?;
        Ok(Flow::numbers([rest, &[features.into()]].concat()))
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let features = input.shape.last().map_or(1, |features| size(*features));
        let both = Weight::layer("", &[self.out_features.map_or(1, i64::from), features]);
        both.into_iter().take(if self.bias { 2 } else { 1 }).collect()
    }
}
