//! Attention of tokens to each other, as torch.nn.MultiheadAttention computes it for one input.

use tch::Tensor;

use crate::failure::Result;
use crate::model::Mode;

/// Attention with the tensors of a torch.nn.MultiheadAttention.
pub(crate) struct Attention<'a> {
    /// Weight and bias of the projection to queries, keys and values, and of that of the result.
    pub(crate) tensors: &'a [Tensor],
    pub(crate) heads: i64,
    /// Probability of the dropout of weights.
    pub(crate) dropout: f64,
}

impl Attention<'_> {
    /// `[size, tokens, width]` of the same. The order of dimensions in between is PyTorch's, on
    /// which the rounding depends.
    pub(crate) fn forward(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        let input = input.f_transpose(0, 1)?;
        let (tokens, size, width) = input.size3()?;
        let [in_weight, in_bias, out_weight, out_bias] = [0, 1, 2, 3].map(|place| &self.tensors[place]);
        let all = input.f_linear(in_weight, Some(in_bias))?.f_unflatten(-1, [3, width])?;
        let all = all.f_unsqueeze(0)?.f_transpose(0, -2)?.f_squeeze_dim(-2)?.f_contiguous()?;
        let head = |place: i64| {
            let part = all.f_select(0, place)?.f_view([tokens, size * self.heads, width / self.heads])?;
            part.f_transpose(0, 1)?.f_view([size, self.heads, tokens, width / self.heads])
        };
        let dropout = if mode == Mode::Train { self.dropout } else { 0.0 };
        let none = None::<&Tensor>;
        let seen =
            Tensor::f_scaled_dot_product_attention(&head(0)?, &head(1)?, &head(2)?, none, dropout, false, None, false)?;
        let seen = seen.f_permute([2, 0, 1, 3])?.f_contiguous()?.f_view([tokens * size, width])?;
        let given = seen.f_linear(out_weight, Some(out_bias))?.f_view([tokens, size, width])?;
        Ok(given.f_transpose(1, 0)?)
    }
}

/// `[size, tokens, width]` as `[size, heads, tokens, width / heads]`.
pub(crate) fn heads_of(values: &Tensor, heads: i64) -> Result<Tensor> {
    let (size, tokens, width) = values.size3()?;
    Ok(values.f_view([size, tokens, heads, width / heads])?.f_transpose(1, 2)?)
}
