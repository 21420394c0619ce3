//! Functions of each number.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::layer::{Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Tanh};
use torchd::proto::v1::JobEndReason;

use super::Forward;
use crate::dispatcher::{Argument, Call, Output};
use crate::failure::{Failure, Result};
use crate::model::Mode;

impl Forward for Relu {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_relu()?)
    }
}

impl Forward for LeakyRelu {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let slope = Argument::Number(Number::Float(self.negative_slope));
        one("aten::leaky_relu", &[Argument::Tensor(input), slope])
    }
}

impl Forward for Elu {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let alpha = Argument::Number(Number::Float(self.alpha));
        one("aten::elu", &[Argument::Tensor(input), alpha, Argument::Default, Argument::Default])
    }
}

impl Forward for Gelu {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_gelu(self.method())?)
    }
}

impl Forward for Silu {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_silu()?)
    }
}

impl Forward for Tanh {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_tanh()?)
    }
}

impl Forward for Sigmoid {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_sigmoid()?)
    }
}

/// The result of an operator that tch binds without its settings.
fn one(operator: &str, arguments: &[Argument<'_>]) -> Result<Tensor> {
    match Call::prepare(operator, "", arguments)?.run(&[], &[])?.next() {
        Some(Output::Tensor(tensor)) => Ok(tensor),
        other => Err(Failure::new(JobEndReason::Internal, format!("{operator} returned {other:?}"))),
    }
}
