"""Tensors and arrays as the arrays of a safetensors file."""

import ctypes
import math
from typing import Any

from ..errors import InvalidData
from ..tensor_file import Array

PIXEL_DIMENSIONS = (3, 4)
"""Bytes of [count, height, width] or [count, channels, height, width] are pixels."""
EXAMPLES = 8
"""Rows of the example by which a module is exported."""


def tensor(name: str, value: Any) -> Any:
    """A tensor on the CPU, in one of the types that batches have: float32, int64, pixels."""
    import torch

    try:
        made = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidData(f"{name} is {type(value).__name__}, which is no array of numbers: {error}") from None
    if made.layout is not torch.strided or made.is_complex():
        raise InvalidData(f"{name} is {made.dtype}, {made.layout}; ordinary real numbers are needed")
    if made.dim() == 0:
        raise InvalidData(f"{name} is a single number; an array with a row for each example is needed")
    if made.is_floating_point():
        return made.to(torch.float32).contiguous()
    if made.dtype is torch.uint8 and made.dim() in PIXEL_DIMENSIONS:
        return made.contiguous()
    return made.to(torch.int64).contiguous()


def array(name: str, value: Any) -> Array:
    """A tensor of `tensor` as bytes."""
    import torch

    dtype = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}[value.dtype]
    size = value.numel() * value.element_size()
    if not size:
        return Array(name, dtype, tuple(value.shape), b"")
    content: Any = (ctypes.c_char * size).from_address(value.data_ptr())
    # The memory lives as long as the tensor, and so does the tensor as long as this.
    content.owner = value
    return Array(name, dtype, tuple(value.shape), content)


def as_input(value: Any) -> Any:
    """The first rows of an input as a batch has them: pixels become numbers from 0 to 1, and get a
    dimension of channels."""
    import torch

    rows = value[:EXAMPLES].clone()
    if rows.dtype is not torch.uint8:
        return rows
    rows = rows.float() / 255
    return rows.unsqueeze(1) if rows.dim() == 3 else rows


def bytes_of(value: Any) -> int:
    """The size of a tensor."""
    return math.prod(value.shape) * value.element_size()


def same_length(named: dict[str, Any]) -> None:
    """Refuses arrays that do not have as many rows each."""
    counts = {name: value.shape[0] for name, value in named.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count} rows ({list(named[name].shape)})" for name, count in counts.items())
        raise InvalidData(f"the arrays of a set have a row for each example, as many each; {told}")
    if 0 in counts.values():
        raise InvalidData(f"{next(iter(counts))} has no rows: there is nothing to learn from")
