//! ATen's operators over lists of tensors (`torch._foreach_*`), each with the numbers of the plain
//! operator on one tensor after the other.

use tch::{TchError, Tensor};
use torchd::exported::arithmetic::Number;

use crate::dispatcher::{Argument, Call, Handle, Output};

/// The operators that optimizers need.
pub(super) struct Lists {
    copy: Call,
    scale: Call,
    scaled: Call,
    add: Call,
    add_number: Call,
    add_product: Call,
    with_product: Call,
    add_quotient: Call,
    mix: Call,
    roots: Call,
    signs: Call,
}

type Result<T> = std::result::Result<T, TchError>;

impl Lists {
    pub(super) fn new() -> Result<Self> {
        let call = |name: &str, overload: &str, arguments: usize| {
            Call::prepare(&format!("aten::_foreach_{name}"), overload, &vec![Argument::None; arguments])
        };
        Ok(Self {
            copy: call("copy_", "", 3)?,
            scale: call("mul_", "Scalar", 2)?,
            scaled: call("mul", "Scalar", 2)?,
            add: call("add_", "List", 3)?,
            add_number: call("add_", "Scalar", 2)?,
            add_product: call("addcmul_", "Scalar", 4)?,
            with_product: call("addcmul", "Scalar", 4)?,
            add_quotient: call("addcdiv_", "Scalar", 4)?,
            mix: call("lerp_", "Scalar", 3)?,
            roots: call("sqrt", "", 1)?,
            signs: call("sign_", "", 1)?,
        })
    }

    /// to = from
    pub(super) fn copy(&self, to: &[Handle<'_>], from: &[Handle<'_>]) -> Result<()> {
        let is_async = Argument::Number(Number::Bool(false));
        done(&self.copy, &[Argument::Tensors(to), Argument::Tensors(from), is_async])
    }

    /// to = to * factor
    pub(super) fn scale(&self, to: &[Handle<'_>], factor: f64) -> Result<()> {
        done(&self.scale, &[Argument::Tensors(to), number(factor)])
    }

    /// of * factor
    pub(super) fn scaled(&self, of: &[Handle<'_>], factor: f64) -> Result<Vec<Tensor>> {
        made(&self.scaled, &[Argument::Tensors(of), number(factor)])
    }

    /// to = to + other * factor
    pub(super) fn add(&self, to: &[Handle<'_>], other: &[Handle<'_>], factor: f64) -> Result<()> {
        done(&self.add, &[Argument::Tensors(to), Argument::Tensors(other), number(factor)])
    }

    /// to = to + other
    pub(super) fn add_number(&self, to: &[Handle<'_>], other: f64) -> Result<()> {
        done(&self.add_number, &[Argument::Tensors(to), number(other)])
    }

    /// to = to + of^2 * factor
    pub(super) fn add_square(&self, to: &[Handle<'_>], of: &[Handle<'_>], factor: f64) -> Result<()> {
        done(&self.add_product, &[Argument::Tensors(to), Argument::Tensors(of), Argument::Tensors(of), number(factor)])
    }

    /// to + of^2 * factor
    pub(super) fn with_square(&self, to: &[Handle<'_>], of: &[Handle<'_>], factor: f64) -> Result<Vec<Tensor>> {
        made(&self.with_product, &[Argument::Tensors(to), Argument::Tensors(of), Argument::Tensors(of), number(factor)])
    }

    /// to = to + dividend / divisor * factor
    pub(super) fn add_quotient(
        &self,
        to: &[Handle<'_>],
        dividend: &[Handle<'_>],
        divisor: &[Handle<'_>],
        factor: f64,
    ) -> Result<()> {
        let lists = [to, dividend, divisor].map(Argument::Tensors);
        done(&self.add_quotient, &[lists[0], lists[1], lists[2], number(factor)])
    }

    /// to = to + (other - to) * share
    pub(super) fn mix(&self, to: &[Handle<'_>], other: &[Handle<'_>], share: f64) -> Result<()> {
        done(&self.mix, &[Argument::Tensors(to), Argument::Tensors(other), number(share)])
    }

    /// The square roots.
    pub(super) fn roots(&self, of: &[Handle<'_>]) -> Result<Vec<Tensor>> {
        made(&self.roots, &[Argument::Tensors(of)])
    }

    /// to = -1, 0 or 1 by its sign
    pub(super) fn signs(&self, to: &[Handle<'_>]) -> Result<()> {
        done(&self.signs, &[Argument::Tensors(to)])
    }
}

/// Tensors as the operators take a list of them.
pub(super) fn handles(tensors: &[Tensor]) -> Vec<Handle<'_>> {
    tensors.iter().map(Handle::from).collect()
}

fn number(number: f64) -> Argument<'static> {
    Argument::Number(Number::Float(number))
}

/// Calls an operator that changes its first list.
fn done(call: &Call, arguments: &[Argument<'_>]) -> Result<()> {
    call.run(&[0, 1, 2, 3][..arguments.len()], arguments).map(drop)
}

/// Calls an operator that makes a list.
fn made(call: &Call, arguments: &[Argument<'_>]) -> Result<Vec<Tensor>> {
    match call.run(&[0, 1, 2, 3][..arguments.len()], arguments)?.next() {
        Some(Output::Tensors(tensors)) => Ok(tensors),
        other => Err(TchError::Torch(format!("an operator over lists gave {other:?}"))),
    }
}
