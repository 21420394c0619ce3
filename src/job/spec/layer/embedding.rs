//! Numbers for tokens.

use super::{Flow, Refusal, Rules, Values};
use crate::job::spec::Weight;
use crate::job::spec::model::Initial;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedding {
    /// Tokens that are told apart.
    pub num_embeddings: u32,
    /// Numbers for each.
    pub embedding_dim: u32,
}

impl Section for Embedding {
    type Message = v1::Embedding;
    const NAME: &str = "embedding";

    fn read(message: &v1::Embedding, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Embedding { num_embeddings, embedding_dim } = *message;
        fields.at_least_one("num_embeddings", Some(num_embeddings), 1);
        fields.at_least_one("embedding_dim", Some(embedding_dim), 1);
        fields.done(Self { num_embeddings, embedding_dim })
    }

    fn to_proto(&self) -> v1::Embedding {
        let Self { num_embeddings, embedding_dim } = *self;
        v1::Embedding { num_embeddings, embedding_dim }
    }
}

impl Rules for Embedding {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        let Values::Tokens(range) = input.values else {
            return Err(Refusal::takes("tokens, as 64-bit integers"));
        };
        let last = i64::from(self.num_embeddings) - 1;
        if let Some(range) = range.filter(|range| range.lowest < 0 || range.highest > last) {
            let found = if range.highest > last { range.highest } else { range.lowest };
            return Err(Refusal::takes(format!("tokens from 0 to {last}, and {found} is among them")));
        }
        Ok(Flow::numbers([&input.shape[..], &[self.embedding_dim.into()]].concat()))
    }

    fn weights(&self, _: &Flow) -> Vec<Weight> {
        let shape = [self.num_embeddings, self.embedding_dim].map(i64::from);
        vec![Weight::learned("weight", &shape, Initial::Normal(1.0))]
    }
}
