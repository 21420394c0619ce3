"""Weights of a job in a module of PyTorch."""

import math
from pathlib import Path
from typing import Any

from . import tensor_file
from .errors import WeightsDiffer

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
           "U8": "uint8", "BOOL": "bool"}
SOME = 5


def tensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, by name."""
    import torch

    found = {}
    for array in tensor_file.read(path):
        dtype = getattr(torch, _DTYPES[array.dtype])
        flat = torch.frombuffer(array.content, dtype=dtype) if math.prod(array.shape) else torch.empty(0, dtype=dtype)
        found[array.name] = flat.reshape(array.shape)
    return found


def load(module: Any, path: Path, whose: str) -> None:
    """Puts weights into a module, all of them or none; what differs is told by name."""
    have, want = tensors(path), module.state_dict()
    missing, unexpected = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
    shapes = [f"{name}: {list(have[name].shape)} there, {list(want[name].shape)} in the module"
              for name in sorted(have.keys() & want.keys()) if have[name].shape != want[name].shape]
    differences = (("the module alone has", missing), ("the job alone has", unexpected), ("shapes differ", shapes))
    told = [f"{words}: {_some(names)}" for words, names in differences if names]
    if told:
        raise WeightsDiffer(f"the weights of {whose} do not go into {type(module).__name__}; " + "; ".join(told), missing, unexpected, shapes)
    module.load_state_dict(have)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SOME]) + (f" and {len(names) - SOME} more" if len(names) > SOME else "")
