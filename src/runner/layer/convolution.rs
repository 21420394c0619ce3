//! Convolutions along a line and over an image.

use tch::Tensor;
use torchd::job::spec::layer::Convolution;

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl<const DIMENSIONS: usize> Forward for Convolution<DIMENSIONS> {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let [stride, padding, dilation] =
            [self.stride, self.padding, self.dilation].map(|number| [i64::from(number); DIMENSIONS]);
        let (weight, bias, groups) = (&tensors[0], tensors.get(1), i64::from(self.groups));
        Ok(match DIMENSIONS {
            1 => input.f_conv1d(weight, bias, stride, padding, dilation, groups)?,
            _ => input.f_conv2d(weight, bias, stride, padding, dilation, groups)?,
        })
    }
}
