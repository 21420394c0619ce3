//! A decoder-only transformer for tokens.

use tch::{Kind, Tensor};
use torchd::job::spec::model::Gpt as Settings;

use super::{Forward, Held, Mode};
use crate::failure::Result;
use crate::feed::Batch;
use crate::layer::{heads_of, layer_norm};

/// The network.
pub(super) struct Gpt {
    settings: Settings,
    /// The rows of tokens, which score them as well.
    tokens: Tensor,
    positions: Tensor,
    norm: Vec<Tensor>,
    layers: Vec<Vec<Tensor>>,
}

impl Gpt {
    pub(super) fn new(settings: Settings, held: &Held) -> Result<Self> {
        Ok(Self {
            settings,
            tokens: held.at("transformer.wte.weight")?,
            positions: held.at("transformer.wpe.weight")?,
            norm: held.of("transformer.ln_f"),
            layers: (0..settings.layers).map(|layer| held.of(&Settings::layer_name(layer))).collect(),
        })
    }

    /// A layer.
    fn layer(&self, tensors: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor> {
        let dropout = if mode == Mode::Train { self.settings.dropout } else { 0.0 };
        let drop = |values: Tensor| values.f_dropout(self.settings.dropout, mode == Mode::Train);
        let linear = |values: &Tensor, at: usize| values.f_linear(&tensors[at], Some(&tensors[at + 1]));
        let (width, heads) = (i64::from(self.settings.width), i64::from(self.settings.heads));
        let all = linear(&layer_norm(input, tensors, Settings::EPS)?, 2)?.f_split(width, 2)?;
        let [query, key, value] = [0, 1, 2].map(|part| heads_of(&all[part], heads));
        let (none, is_causal) = (None::<&Tensor>, true);
        let seen =
            Tensor::f_scaled_dot_product_attention(&query?, &key?, &value?, none, dropout, is_causal, None, false)?;
        let seen = seen.f_transpose(1, 2)?.f_contiguous()?.f_view_as(input)?;
        let values = input.f_add(&drop(linear(&seen, 4)?)?)?;
        let hidden = linear(&layer_norm(&values, &tensors[6..], Settings::EPS)?, 8)?.f_gelu("none")?;
        Ok(values.f_add(&drop(linear(&hidden, 10)?)?)?)
    }
}

impl Forward for Gpt {
    /// Scores `[size, tokens, vocabulary]` of tokens `[size, tokens]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        let tokens = &batch.inputs[0];
        let embedding = |weight, places| Tensor::f_embedding(weight, places, -1, false, false);
        let (_, length) = tokens.size2()?;
        let places = Tensor::f_arange(length, (Kind::Int64, tokens.device()))?;
        let placed = embedding(&self.tokens, tokens)?.f_add(&embedding(&self.positions, &places)?)?;
        let mut values = placed.f_dropout(self.settings.dropout, mode == Mode::Train)?;
        for tensors in &self.layers {
            values = self.layer(tensors, &values, mode)?;
        }
        Ok(layer_norm(&values, &self.norm, Settings::EPS)?.f_linear(&self.tokens, None::<&Tensor>)?)
    }
}
