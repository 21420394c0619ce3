//! Pools: the largest numbers, or the means, of windows.

use tch::Tensor;
use torchd::job::spec::layer::{AdaptiveAvgPool, AvgPool, MaxPool};

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl<const DIMENSIONS: usize> Forward for MaxPool<DIMENSIONS> {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let [kernel, stride, padding, dilation] =
            [self.kernel_size, self.stride, self.padding, self.dilation].map(|number| [i64::from(number); DIMENSIONS]);
        Ok(match DIMENSIONS {
            1 => input.f_max_pool1d(kernel, stride, padding, dilation, false)?,
            _ => input.f_max_pool2d(kernel, stride, padding, dilation, false)?,
        })
    }
}

impl Forward for AvgPool {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let [kernel, stride, padding] =
            [self.kernel_size, self.stride, self.padding].map(|number| [i64::from(number); 2]);
        Ok(input.f_avg_pool2d(kernel, stride, padding, false, self.count_include_pad, None)?)
    }
}

impl Forward for AdaptiveAvgPool {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_adaptive_avg_pool2d([i64::from(self.output_size); 2])?)
    }
}
