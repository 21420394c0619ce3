//! Convolutions along a line and over an image.

use super::{Flow, Refusal, Rules, places, size};
use crate::job::spec::Weight;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings, the same in each of its dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution<const DIMENSIONS: usize> {
    /// Channels that come out.
    pub out_channels: u32,
    /// The size of its window.
    pub kernel_size: u32,
    /// The distance of the places of the window.
    pub stride: u32,
    /// Zeros at each edge.
    pub padding: u32,
    /// The distance of the values in the window.
    pub dilation: u32,
    /// Channels of a group see only those of theirs.
    pub groups: u32,
    /// Whether it has a bias.
    pub bias: bool,
}

impl<const DIMENSIONS: usize> Section for Convolution<DIMENSIONS> {
    type Message = v1::Convolution;
    const NAME: &str = if DIMENSIONS == 1 { "conv1d" } else { "conv2d" };

    fn read(message: &v1::Convolution, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Convolution { out_channels, kernel_size, stride, padding, dilation, groups, bias } = *message;
        let mut positive = |name: &str, found| fields.at_least_one(name, found, 1);
        let out_channels = positive("out_channels", Some(out_channels));
        let kernel_size = positive("kernel_size", Some(kernel_size));
        let (stride, dilation) = (positive("stride", stride), positive("dilation", dilation));
        let groups = positive("groups", groups);
        if out_channels.checked_rem(groups).is_some_and(|rest| rest > 0) {
            fields
                .wrong("groups", format!("is {groups}; a divisor of out_channels, which is {out_channels}, is needed"));
        }
        let bias = bias.unwrap_or(true);
        fields.done(Self { out_channels, kernel_size, stride, padding, dilation, groups, bias })
    }

    fn to_proto(&self) -> v1::Convolution {
        let Self { out_channels, kernel_size, padding, .. } = *self;
        let [stride, dilation, groups] = [self.stride, self.dilation, self.groups].map(Some);
        v1::Convolution { out_channels, kernel_size, stride, padding, dilation, groups, bias: Some(self.bias) }
    }
}

impl<const DIMENSIONS: usize> Rules for Convolution<DIMENSIONS> {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        let (channels, sizes) = input.of_channels::<DIMENSIONS>()?;
        if !channels.is_multiple_of(self.groups.into()) {
            return Err(Refusal::takes(format!("channels in {} groups", self.groups)));
        }
        let mut shape = vec![u64::from(self.out_channels)];
        for line in sizes {
            shape.push(places(line, self.kernel_size, self.stride, self.padding, self.dilation)?);
        }
        Ok(Flow::numbers(shape))
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let channels = input.shape.first().map_or(1, |channels| size(channels / u64::from(self.groups)));
        let window = [i64::from(self.kernel_size); DIMENSIONS];
        let both = Weight::layer("", &[&[self.out_channels.into(), channels], &window[..]].concat());
        both.into_iter().take(if self.bias { 2 } else { 1 }).collect()
    }
}
