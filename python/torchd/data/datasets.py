"""A Dataset of PyTorch that fits in memory, as arrays."""

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidData, TooLargeToSend
from ..refusal import elsewhere
from .arrays import bytes_of, tensor


def is_dataset(value: Any) -> bool:
    """Whether it has examples by number, and is neither a sequence of arrays nor a mapping."""
    return hasattr(value, "__getitem__") and hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__") and not isinstance(
        value, (list, tuple, Mapping, str, bytes)) and not hasattr(value, "shape")


def parts(dataset: Any, room: int) -> tuple[Any, ...] | dict[str, Any]:
    """The parts of all examples, each stacked; `room` is how many bytes the daemon takes at most."""
    import torch

    if isinstance(dataset, torch.utils.data.TensorDataset):
        return dataset.tensors
    count = len(dataset)
    if count == 0:
        raise InvalidData("the dataset has no examples: there is nothing to learn from")
    first = _fields(dataset[0], 0)
    size = sum(bytes_of(value) for value in first.values()) * count
    if size > room:
        raise TooLargeToSend(f"the dataset has {count} examples of {size // count} bytes, {size} bytes in all, and the daemon takes {room}. {elsewhere()}")
    columns: dict[Any, Any] = {name: torch.empty((count, *value.shape), dtype=value.dtype) for name, value in first.items()}
    for number in range(count):
        for name, value in _fields(dataset[number], number, first).items():
            if value.shape != first[name].shape:
                raise InvalidData(f"part {name} of example {number} has the shape {list(value.shape)}, and of example 0 {list(first[name].shape)}; "
                                  "all examples need one shape: pad or resize them")
            columns[name][number] = value
    return columns if isinstance(dataset[0], Mapping) else tuple(columns.values())


def _fields(example: Any, number: int, like: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """The parts of an example, without the dimension of the batch."""
    named = example if isinstance(example, Mapping) else dict(enumerate(example)) if isinstance(example, (tuple, list)) else None
    if named is None:
        raise InvalidData(f"example {number} of the dataset is {type(example).__name__}; a tuple of inputs and target is needed, or a dictionary")
    if like is not None and named.keys() != like.keys():
        raise InvalidData(f"example {number} of the dataset has the parts {list(named)}, and example 0 {list(like)}")
    return {name: tensor(f"part {name} of example {number}", [value] if not hasattr(value, "shape") else value[None])[0] for name, value in named.items()}
