"""A module and its data as a model, files and sections of a spec."""

import contextlib
import dataclasses
import difflib
import logging
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import data as sets
from .arguments import Arguments
from .errors import InvalidData, Mistake
from .protocol import NAMES
from .refusal import invalid_spec
from .spec import merged

OPTIMIZER = {"adamw": {"learning_rate": 0.001}}
_EXPORTS = threading.Lock()
"""torch.export keeps its state in the process: one at a time."""
ARGUMENTS = ("epochs", "batch_size", "optimizer", "loss", "validation", "target", "example_inputs")
"""The arguments of `train` beside the fields of a spec."""
DEFAULT_LOSSES = {"torch.int64": "cross_entropy", "torch.float32": "mse"}


@dataclasses.dataclass
class Plan:
    """The files that are sent before a job is asked for."""

    folder: tempfile.TemporaryDirectory
    model: Path
    train: sets.Prepared | None
    validation: sets.Prepared | None
    sections: dict[str, Any]
    """The sections that need no file."""


def judge(loss: Any, optimizer: Any = None, more: Iterable[str] = ()) -> None:
    """Refuses what people bring from a loop of their own, and names of `train` that are misspelt."""
    mistakes = []
    if not isinstance(loss, (str, Mapping, type(None))):
        told = getattr(loss, "__name__", type(loss).__name__)
        mistakes.append(Mistake("loss", f"is {told}; a name such as \"cross_entropy\" or \"mse\", or a section of a spec is needed. "
                                        "For a loss of your own let forward take the target and give back the loss"))
    if not isinstance(optimizer, (str, Mapping, type(None))):
        told = getattr(optimizer, "__name__", type(optimizer).__name__)
        mistakes.append(Mistake("optimizer", f"is {told}; a name, or a section of a spec such as {{\"sgd\": {{\"learning_rate\": 0.1}}}} is needed"))
    fields = NAMES["JobSpec"].DESCRIPTOR.fields_by_name
    for name in more:
        near = difflib.get_close_matches(name, (*ARGUMENTS, *fields), 1)
        if near and name not in fields:
            mistakes.append(Mistake(name, f"no such argument; did you mean {near[0]}?"))
    if mistakes:
        raise invalid_spec(mistakes)


def prepare(module: Any, example: Any, data: Any, validation: Any, target: str | None, loss: Any, dynamic: Any, room: int) -> Plan:
    """Writes the files, and exports the module."""
    folder = tempfile.TemporaryDirectory(prefix="torchd-")
    try:
        return _prepare(folder, module, example, data, validation, target, loss, dynamic, room)
    except BaseException:
        folder.cleanup()
        raise


def _prepare(folder: tempfile.TemporaryDirectory, module: Any, example: Any, data: Any, validation: Any, target: str | None, loss: Any, dynamic: Any,
             room: int) -> Plan:
    from .export import LOSSES, export

    judge(loss)
    arguments = Arguments(module, example)
    loss_name = next(iter(loss)) if isinstance(loss, Mapping) else loss
    place = Path(folder.name)
    sections: dict[str, Any] = {} if loss is None else {"loss": {loss: {}} if isinstance(loss, str) else dict(loss)}
    train = held = None
    if data is not None:
        train = sets.prepare(data, arguments, target, loss_name, place / "train", room)
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        sections["data"] = {"split": {"fraction": float(validation)}}
    elif validation is not None:
        held = sets.prepare(validation, arguments, target, loss_name, place / "validation", room)
    inputs = example if example is not None else train.inputs if train else None
    if not inputs if isinstance(inputs, dict) else inputs is None:
        raise InvalidData("the data do not tell what the module gets: give example_inputs=, the inputs of one batch")
    model = place / f"{type(module).__name__}.pt2"
    seeded = {}
    if train is not None and train.target is not None and not _returns_loss(inputs, train, arguments):
        name = loss_name or DEFAULT_LOSSES.get(str(train.target.dtype))
        if name in LOSSES and example is None:
            seeded = {"loss": name, "target": train.target}
    with _EXPORTS, _without_advice():
        export(module, inputs, model, dynamic=dynamic, **seeded)
    return Plan(folder, model, train, held, sections)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps PyTorch from telling, at its first export, that Triton is missing, which nothing here
    needs."""
    logger = logging.getLogger("torch.utils.flop_counter")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _returns_loss(inputs: Any, train: sets.Prepared, arguments: Arguments) -> bool:
    """Whether forward takes the target, as one that returns its loss does."""
    section = train.section.get("safetensors", {})
    return isinstance(inputs, dict) and section.get("target") in inputs and arguments.takes(section["target"])


def request(module: Any, sections: Mapping[str, Any], epochs: int | None, batch_size: int, optimizer: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a job that trains a module."""
    optimizer = OPTIMIZER if optimizer is None else {optimizer: {}} if isinstance(optimizer, str) else optimizer
    length = {} if epochs is None else {"epochs": epochs}
    base = {"display_name": type(module).__name__, "training": {**length, "batch_size": batch_size}, "optimizer": optimizer}
    return merged(base, sections, more)
