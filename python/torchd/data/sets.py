"""What people give as data: which files are made of it, and what the spec says of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import tensor_file
from ..arguments import Arguments
from ..errors import InvalidData, TooLargeToSend
from ..protocol import NAMES
from ..refusal import elsewhere
from . import arrays, datasets, frames

TARGET_NAMES = ("y", "target", "targets", "label", "labels")


@dataclasses.dataclass
class Prepared:
    """A set of examples."""

    section: dict[str, Any]
    """Its dataset in a spec; the path is that of `file`, until it has been sent."""
    file: Path | None = None
    """What has to be sent."""
    format: str = ""
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The first rows of its inputs, by the names of forward's arguments."""
    target: Any = None
    """The first rows of the target."""

    def named(self, name: str) -> dict[str, Any]:
        """The section once the file has a name in the daemon."""
        if self.file is None:
            return self.section
        return {self.format: {**self.section[self.format], "path": name}}


def is_section(value: Any) -> bool:
    """Whether it is a part of a spec."""
    if not isinstance(value, Mapping) or not value:
        return False
    known = {field.name for name in ("Data", "Dataset") for field in NAMES[name].DESCRIPTOR.fields}
    return all(name in known for name in value) and all(not hasattr(part, "shape") for part in value.values())


def prepare(value: Any, arguments: Arguments, target: str | None, loss: str | None, stem: Path, room: int) -> Prepared:
    """Writes the files of a set below `stem`."""
    if frames.is_frame(value):
        return _frame(value, target, loss, stem, arguments)
    if is_section(value):
        return Prepared(dict(value))
    if datasets.is_dataset(value):
        value = datasets.parts(value, room)
    named, answer = _named(value, arguments, target)
    tensors = {name: arrays.tensor(name, part) for name, part in named.items()}
    arrays.same_length(tensors)
    size = sum(arrays.bytes_of(part) for part in tensors.values())
    if size > room:
        raise TooLargeToSend(f"the data are {size} bytes, and the daemon takes {room}. {elsewhere()}")
    path = stem.with_suffix(".safetensors")
    tensor_file.write(path, [arrays.array(name, part) for name, part in tensors.items()])
    inputs = {name: arrays.as_input(part) for name, part in tensors.items() if name != answer or arguments.takes(answer)}
    section = {"safetensors": {"path": path.name, "inputs": [name for name in tensors if name != answer], "target": answer}}
    return Prepared(section, path, "safetensors", inputs, tensors[answer][:arrays.EXAMPLES])


def _frame(frame: Any, target: str | None, loss: str | None, stem: Path, arguments: Arguments) -> Prepared:
    answer = frames.check(frame, target)
    path, kind = frames.write(frame, stem)
    example = frames.example(frame, answer) if arguments.example is None else None
    inputs = {} if example is None else {arguments.name(0): example}
    return Prepared({kind: frames.section(frame, path.name, answer, loss)}, path, kind, inputs)


def _named(value: Any, arguments: Arguments, target: str | None) -> tuple[dict[str, Any], str]:
    """The arrays by name, and the name of the target."""
    if isinstance(value, Mapping):
        return dict(value), _target_of(list(value), arguments, target)
    if not isinstance(value, (tuple, list)) or len(value) < 2:
        raise InvalidData(f"the data are {type(value).__name__}; a tuple of inputs and target, a dictionary of arrays, a frame with target=, a Dataset, "
                          "or a section of a spec is needed")
    *inputs, answers = value
    if arguments.count == len(value):
        # forward takes the target as well, and returns its loss.
        names = [arguments.name(place) for place in range(len(value))]
        return dict(zip(names, value)), names[-1]
    if arguments.count is not None and arguments.count != len(inputs):
        raise InvalidData(f"the data have {len(value)} arrays, inputs and a target, and {arguments.told} takes {arguments.count} inputs")
    names = [arguments.name(place) for place in range(len(inputs))]
    answer = target or next(name for name in TARGET_NAMES if name not in names)
    return {**dict(zip(names, inputs)), answer: answers}, answer


def _target_of(names: list[str], arguments: Arguments, target: str | None) -> str:
    if target is not None:
        if target not in names:
            raise InvalidData(f"the data have no array {target!r}; they have {', '.join(names)}")
        return target
    others = [name for name in names if not arguments.takes(name)]
    usual = [name for name in TARGET_NAMES if name in names]
    found = others if len(others) == 1 else usual
    if len(found) != 1:
        raise InvalidData(f"which of the arrays {', '.join(names)} is the target? target= names it")
    return found[0]
