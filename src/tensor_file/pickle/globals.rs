//! The classes and functions that a pickle of `torch.save` may name, and what any other means to
//! the person who saved it.

use super::super::Dtype;

/// A class or function that is known. None is ever called: the reader makes plain values in their
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`, which names the type.
    TensorOfType,
    /// `torch._utils._rebuild_parameter`, with attributes or without.
    Parameter,
    /// A class of storages, with the type of its values; None for `UntypedStorage`.
    Storage(Option<Dtype>),
    /// A type of values.
    Dtype(Dtype),
    /// A plain class or function of values that stand beside tensors; they are not kept.
    Plain,
}

/// Names that `torch.load(weights_only=True)` takes besides tensors, those of protocol 2.
const PLAIN: [(&str, &str); 10] = [
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("collections", "Counter"),
    ("_codecs", "encode"),
    ("__builtin__", "set"),
    ("__builtin__", "bytearray"),
    ("__builtin__", "complex"),
    ("builtins", "set"),
    ("builtins", "bytearray"),
];

/// Modules whose functions act on the machine: nobody saves them by mistake.
const CODE: [&str; 12] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "runpy",
    "importlib",
    "builtins",
    "__builtin__",
    "commands",
];

impl Global {
    /// The class or function with that name.
    ///
    /// # Errors
    /// Why it is not read, in words that follow the file's path.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, String> {
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::TensorOfType),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Self::Parameter),
            ("torch" | "torch.storage", "UntypedStorage") => Some(Self::Storage(None)),
            ("torch", name) => {
                let storage = Dtype::of_storage_class(name).map(|dtype| Self::Storage(Some(dtype)));
                storage.or_else(|| Dtype::of_torch(name).map(Self::Dtype))
            }
            _ => None,
        };
        let plain = || PLAIN.contains(&(module, name)).then_some(Self::Plain);
        known.or_else(plain).ok_or_else(|| refusal(module, name))
    }
}

/// The reason why a pickle that names this is refused, and the way out.
fn refusal(module: &str, name: &str) -> String {
    let full = format!("{module}.{name}");
    let full = full.escape_debug();
    let package = module.split('.').next().unwrap_or_default();
    let is_class_of_torch = module.starts_with("torch.nn") || module.starts_with("torch.optim");
    let what = match (package, name) {
        ("torch", name) if name.contains("sparse") => "a sparse tensor: save it with .to_dense()",
        ("torch", name) if name.contains("qtensor") || name.starts_with('Q') => {
            "a quantized tensor: save it with .dequantize()"
        }
        ("torch", name) if name.ends_with("Storage") || module == "torch" => {
            "a type of tensor that is not read: convert the tensor before it is saved"
        }
        ("torch", name) if name.starts_with("_rebuild") => {
            "a subclass of Tensor, or a tensor of another device or layout: save .detach().cpu() of it"
        }
        ("torch", _) if !is_class_of_torch => "an object of PyTorch besides tensors: save module.state_dict() alone",
        ("torch" | "__main__" | "torchvision" | "timm" | "transformers" | "pytorch_lightning" | "lightning", _) => {
            "a whole object with its code instead of its weights: save module.state_dict()"
        }
        ("numpy", _) => "a value of NumPy: convert it with float(), int() or torch.from_numpy() before it is saved",
        ("argparse" | "pathlib" | "omegaconf" | "collections" | "datetime", _) => {
            "an object of that class: save module.state_dict() alone, or plain numbers, texts, lists and dicts"
        }
        (package, _) if CODE.contains(&package) => {
            return format!(
                "names {full}, which runs code where the file is loaded by Python. It was not run. Nobody saves that \
                 by mistake: do not load this file"
            );
        }
        _ => "an object of that class or function: save module.state_dict() alone",
    };
    format!("names {full}, which stands for {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_with_what_it_means() {
        for (module, name, words) in [
            ("posix", "system", "names posix.system, which runs code"),
            ("builtins", "eval", "which runs code"),
            ("subprocess", "Popen", "which runs code"),
            ("__main__", "Net", "a whole object with its code"),
            ("torch.nn.modules.linear", "Linear", "save module.state_dict()"),
            ("numpy.core.multiarray", "scalar", "a value of NumPy"),
            ("torch._utils", "_rebuild_sparse_tensor", "a sparse tensor"),
            ("torch._utils", "_rebuild_qtensor", "a quantized tensor"),
            ("torch", "ComplexDoubleStorage", "a type of tensor that is not read"),
            ("torch", "complex32", "a type of tensor that is not read"),
            ("argparse", "Namespace", "plain numbers"),
            ("my\u{1b}", "Thing", r"names my\u{1b}.Thing"),
        ] {
            let told = Global::find(module, name).unwrap_err();
            assert!(told.contains(words), "{module}.{name}: {told}");
        }
        assert_eq!(Global::find("torch", "FloatStorage"), Ok(Global::Storage(Some(Dtype::F32))));
        assert_eq!(Global::find("torch", "bfloat16"), Ok(Global::Dtype(Dtype::Bf16)));
    }
}
