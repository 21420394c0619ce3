//! Pools: the largest numbers, or the means, of windows.

use super::{Flow, Refusal, Rules, places};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Settings of a pool of the largest numbers, along a line or over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool<const DIMENSIONS: usize> {
    /// The size of its window.
    pub kernel_size: u32,
    /// The distance of the places of the window.
    pub stride: u32,
    /// Places beyond each edge.
    pub padding: u32,
    /// The distance of the values in the window.
    pub dilation: u32,
}

/// Settings of a pool of means over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool {
    /// The size of its window.
    pub kernel_size: u32,
    /// The distance of the places of the window.
    pub stride: u32,
    /// Zeros at each edge.
    pub padding: u32,
    /// Whether these count.
    pub count_include_pad: bool,
}

/// Settings of a pool of means that gives an image of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool {
    /// Height and width.
    pub output_size: u32,
}

/// The kernel's size, the stride and the padding.
fn read_window(fields: &mut Fields<'_>, kernel_size: u32, stride: Option<u32>, padding: u32) -> (u32, u32) {
    fields.at_least_one("kernel_size", Some(kernel_size), 1);
    let stride = fields.at_least_one("stride", stride, kernel_size);
    let most = kernel_size / 2;
    if padding > most {
        fields.wrong("padding", format!("is {padding}; at most {most}, half of the kernel's size, is needed"));
    }
    (kernel_size, stride)
}

fn pooled<const DIMENSIONS: usize>(
    input: &Flow,
    kernel_size: u32,
    stride: u32,
    padding: u32,
    dilation: u32,
) -> Result<Flow, Refusal> {
    let (channels, sizes) = input.of_channels::<DIMENSIONS>()?;
    let mut shape = vec![channels];
    for line in sizes {
        shape.push(places(line, kernel_size, stride, padding, dilation)?);
    }
    Ok(Flow::numbers(shape))
}

impl<const DIMENSIONS: usize> Section for MaxPool<DIMENSIONS> {
    type Message = v1::MaxPool;
    const NAME: &str = if DIMENSIONS == 1 { "max_pool1d" } else { "max_pool2d" };

    fn read(message: &v1::MaxPool, mut fields: Fields<'_>) -> Option<Self> {
        let v1::MaxPool { kernel_size, stride, padding, dilation } = *message;
        let (kernel_size, stride) = read_window(&mut fields, kernel_size, stride, padding);
        let dilation = fields.at_least_one("dilation", dilation, 1);
        fields.done(Self { kernel_size, stride, padding, dilation })
    }

    fn to_proto(&self) -> v1::MaxPool {
        let Self { kernel_size, stride, padding, dilation } = *self;
        v1::MaxPool { kernel_size, stride: Some(stride), padding, dilation: Some(dilation) }
    }
}

impl<const DIMENSIONS: usize> Rules for MaxPool<DIMENSIONS> {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        pooled::<DIMENSIONS>(input, self.kernel_size, self.stride, self.padding, self.dilation)
    }
}

impl Section for AvgPool {
    type Message = v1::AvgPool;
    const NAME: &str = "avg_pool2d";

    fn read(message: &v1::AvgPool, mut fields: Fields<'_>) -> Option<Self> {
        let v1::AvgPool { kernel_size, stride, padding, count_include_pad } = *message;
        let (kernel_size, stride) = read_window(&mut fields, kernel_size, stride, padding);
        fields.done(Self { kernel_size, stride, padding, count_include_pad: count_include_pad.unwrap_or(true) })
    }

    fn to_proto(&self) -> v1::AvgPool {
        let Self { kernel_size, stride, padding, count_include_pad } = *self;
        v1::AvgPool { kernel_size, stride: Some(stride), padding, count_include_pad: Some(count_include_pad) }
    }
}

impl Rules for AvgPool {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        pooled::<2>(input, self.kernel_size, self.stride, self.padding, 1)
    }
}

impl Section for AdaptiveAvgPool {
    type Message = v1::AdaptiveAvgPool;
    const NAME: &str = "adaptive_avg_pool2d";

    fn read(message: &v1::AdaptiveAvgPool, mut fields: Fields<'_>) -> Option<Self> {
        let output_size = fields.at_least_one("output_size", message.output_size, 1);
        fields.done(Self { output_size })
    }

    fn to_proto(&self) -> v1::AdaptiveAvgPool {
        v1::AdaptiveAvgPool { output_size: Some(self.output_size) }
    }
}

impl Rules for AdaptiveAvgPool {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        let (channels, [_, _]) = input.of_channels::<2>()?;
        let size = u64::from(self.output_size);
        Ok(Flow::numbers([channels, size, size]))
    }
}
