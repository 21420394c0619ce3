//! A Vision Transformer.

use tch::Tensor;
use torchd::job::spec::model::Vit as Settings;

use super::{Forward, Held, Mode};
use crate::failure::Result;
use crate::feed::Batch;
use crate::layer::{Attention, layer_norm};

/// The network.
pub(super) struct Vit {
    settings: Settings,
    class_token: Tensor,
    positions: Tensor,
    /// Weight and bias of the projection of patches, of the last normalisation, and of the head.
    projection: Vec<Tensor>,
    norm: Vec<Tensor>,
    head: Vec<Tensor>,
    layers: Vec<Vec<Tensor>>,
}

impl Vit {
    pub(super) fn new(settings: Settings, held: &Held) -> Result<Self> {
        Ok(Self {
            settings,
            class_token: held.at("class_token")?,
            positions: held.at("encoder.pos_embedding")?,
            projection: held.of("conv_proj"),
            norm: held.of("encoder.ln"),
            head: held.of("heads"),
            layers: (0..settings.layers).map(|layer| held.of(&Settings::layer_name(layer))).collect(),
        })
    }

    /// An encoder layer.
    fn layer(&self, tensors: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor> {
        let drop = |values: Tensor| values.f_dropout(self.settings.dropout, mode == Mode::Train);
        let linear = |values: &Tensor, at: usize| values.f_linear(&tensors[at], Some(&tensors[at + 1]));
        let attention = Attention { tensors: &tensors[2..6], heads: self.settings.heads.into(), dropout: 0.0 };
        let attended = attention.forward(&layer_norm(input, tensors, Settings::EPS)?, mode)?;
        let values = drop(attended)?.f_add(input)?;
        let hidden = drop(linear(&layer_norm(&values, &tensors[6..], Settings::EPS)?, 8)?.f_gelu("none")?)?;
        Ok(values.f_add(&drop(linear(&hidden, 10)?)?)?)
    }
}

impl Forward for Vit {
    /// `[size, outputs]` of images `[size, channels, height, width]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        let (patch, width) = (i64::from(self.settings.patch), i64::from(self.settings.width));
        let [weight, bias] = [&self.projection[0], &self.projection[1]];
        let patches = batch.inputs[0].f_conv2d(weight, Some(bias), [patch; 2], [0; 2], [1; 2], 1)?;
        let patches = patches.f_reshape([batch.size, width, -1])?.f_permute([0, 2, 1])?;
        let class_token = self.class_token.f_expand([batch.size, -1, -1], false)?;
        let placed = Tensor::f_cat(&[class_token, patches], 1)?.f_add(&self.positions)?;
        let mut values = placed.f_dropout(self.settings.dropout, mode == Mode::Train)?;
        for tensors in &self.layers {
            values = self.layer(tensors, &values, mode)?;
        }
        let first = layer_norm(&values, &self.norm, Settings::EPS)?.f_select(1, 0)?;
        Ok(first.f_linear(&self.head[0], Some(&self.head[1]))?)
    }
}
