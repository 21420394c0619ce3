//! The mean of squared differences.

use super::{Misfit, Objective};
use crate::dataset::{Dtype, Field};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mse;

impl Section for Mse {
    type Message = v1::Mse;
    const NAME: &str = "mse";

    fn read(_: &v1::Mse, fields: Fields<'_>) -> Option<Self> {
        fields.done(Self)
    }

    fn to_proto(&self) -> v1::Mse {
        v1::Mse {}
    }
}

impl Objective for Mse {
    fn fits(&self, output: &[u64], target: &Field, _: &str) -> Result<(), Misfit> {
        if target.dtype == Dtype::I64 {
            return Err(Misfit::Loss(format!(
                "needs numbers, and {:?} has classes; cross_entropy and nll take those, and mse 32-bit floats",
                target.name
            )));
        }
        // `[n]` and `[n, 1]` are the same numbers. Shapes that PyTorch would broadcast are refused.
        let (has, wanted): (u64, u64) = (output.iter().product(), target.values());
        if has != wanted {
            let name = &target.name;
            return Err(Misfit::Output(format!(
                "gives {output:?} for an example, and the loss is mse, which needs {wanted} for the target {name:?}, since \
                 that holds 32-bit floats; where they are classes, save them as 64-bit integers, {name}.long()"
            )));
        }
        Ok(())
    }
}
