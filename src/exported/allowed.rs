//! The operators that a program may call. A program is somebody else's file: it must not open
//! files, and what PyTorch keeps to itself (a name that begins with `_`) is called only where
//! models need it.

use super::operators::{Operator, Operators, Type};

/// Operators of PyTorch's own that exported modules call: each computes tensors from tensors, or
/// asserts something of them.
const INTERNAL: [&str; 27] = [
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "_assert_async",
    "_assert_scalar",
    "_assert_tensor_metadata",
    "_cdist_forward",
    "_conj",
    "_convolution",
    "_embedding_bag",
    "_euclidean_dist",
    "_fft_c2c",
    "_fft_c2r",
    "_fft_r2c",
    "_log_softmax",
    "_pad_circular",
    "_pad_enum",
    "_reshape_alias",
    "_safe_softmax",
    "_shape_as_tensor",
    "_softmax",
    "_standard_gamma",
    "_to_copy",
    "_trilinear",
    "_unsafe_index",
    "_unsafe_view",
    "_upsample_bilinear2d_aa",
    "_weight_norm",
];

/// The operator that a target such as `torch.ops.aten.add.Tensor` names, with the parts of the
/// name: what the dispatcher is asked for.
///
/// # Errors
/// The reason for which it is not called, in a user's words.
pub(super) fn operator<'a>(target: &str, operators: &'a Operators) -> Result<(String, String, &'a Operator), String> {
    let path = target.strip_prefix("torch.ops.").unwrap_or_default();
    let mut parts = path.split('.');
    let (Some(space), Some(name), Some(overload), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is no operator; graphs of operators of aten are taken".into());
    };
    if space != "aten" {
        return Err(format!(
            "it is an operator of the library {space}; those of aten are called, so write it with functions of PyTorch"
        ));
    }
    if name.starts_with('_') && !name.starts_with("__") && !INTERNAL.contains(&name) {
        return Err("its name begins with _: such operators are PyTorch's own, and this one is not among those that \
                    models need"
            .into());
    }
    let full = format!("aten::{name}");
    let overload = if overload == "default" { "" } else { overload };
    let found = operators.find(&full, overload).ok_or_else(|| match operators.overloads(&full)[..] {
        [] => "this libtorch has no operator of the name".to_owned(),
        ref others => format!("this libtorch has other overloads of it: {}", others.join(", ")),
    })?;
    let is_file = |name: &str| ["file", "path"].iter().any(|word| name.contains(word));
    if found.parameters.iter().any(|parameter| parameter.kind == Type::Text && is_file(&parameter.name)) {
        return Err("it opens files, and a model must not".into());
    }
    Ok((full, overload.to_owned(), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_of_aten_are_called_and_no_others() {
        let all = Operators::new([
            "aten::add.Tensor(Tensor self) -> Tensor",
            "aten::__and__.Tensor(Tensor self) -> Tensor",
            "aten::_to_copy(Tensor self) -> Tensor",
            "aten::_cufft_clear_plan_cache(int device) -> ()",
            "aten::from_file(str filename, bool? shared=None) -> Tensor",
            "mine::add.Tensor(Tensor self) -> Tensor",
        ]);
        for target in ["aten.add.Tensor", "aten._to_copy.default", "aten.__and__.Tensor"] {
            assert!(operator(&format!("torch.ops.{target}"), &all).is_ok(), "{target}");
        }
        for (target, words) in [
            ("torch.ops.aten.from_file.default", "it opens files"),
            ("torch.ops.aten._cufft_clear_plan_cache.default", "begins with _"),
            ("torch.ops.mine.add.Tensor", "the library mine"),
            ("torch.ops.aten.add.default", "other overloads of it: aten::add.Tensor"),
            ("torch.ops.aten.none.default", "no operator of the name"),
            ("torch.ops.aten.add", "it is no operator"),
            ("posix.system", "it is no operator"),
        ] {
            let told = operator(target, &all).unwrap_err();
            assert!(told.contains(words), "{target}: {told}");
        }
    }
}
