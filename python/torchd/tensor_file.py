"""Named arrays in a safetensors file: what is sent as data, and what comes back as weights.

Layout: the length of the header in 8 bytes, little-endian; the header, a JSON object from name to
dtype, shape and place; the bytes. Source: the README of huggingface/safetensors, "Format".
"""

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ALIGNMENT = 8
LONGEST_HEADER = 100 << 20


class Array(NamedTuple):
    """An array as bytes, in C's order, little-endian."""

    name: str
    dtype: str
    """As safetensors calls it, such as F32."""
    shape: tuple[int, ...]
    content: Any
    """A buffer."""


def write(path: Path, arrays: Iterable[Array]) -> None:
    """Writes a file."""
    header: dict[str, Any] = {}
    arrays = list(arrays)
    place = 0
    for array in arrays:
        size = memoryview(array.content).nbytes
        header[array.name] = {"dtype": array.dtype, "shape": list(array.shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays:
            file.write(array.content)


def read(path: Path) -> list[Array]:
    """The arrays of a file, whose bytes stay in it until they are read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= LONGEST_HEADER:
            raise ValueError(f"{path} is no safetensors file: its header would have {length} bytes")
        header = json.loads(file.read(length))
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))[8 + length:]
    header.pop("__metadata__", None)
    return [Array(name, entry["dtype"], tuple(entry["shape"]), content[slice(*entry["data_offsets"])]) for name, entry in header.items()]
