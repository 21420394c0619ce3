"""Specs as people have them: a dictionary, a file of TOML or JSON, or a message."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import Mistake
from .fill import fill
from .protocol import NAMES
from .refusal import invalid_spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def to_message(spec: Any, changes: Mapping[str, Any] | None = None) -> Any:
    """The message that a spec means, with changes by path, as {"training.epochs": 3}. Every mistake
    is told at once."""
    message = NAMES["JobSpec"]()
    mistakes: list[Mistake] = []
    if getattr(getattr(spec, "DESCRIPTOR", None), "full_name", "") == message.DESCRIPTOR.full_name:
        message.MergeFromString(spec.SerializeToString())
    else:
        fill(message, spec if isinstance(spec, Mapping) else read(spec), "", mistakes)
    for path, value in (changes or {}).items():
        *groups, name = path.split(".")
        table: dict[str, Any] = {name: value}
        for group in reversed(groups):
            table = {group: table}
        fill(message, table, "", mistakes, replaces=True)
    if mistakes:
        raise invalid_spec(mistakes)
    return message


def read(path: Any) -> Mapping[str, Any]:
    """The content of a spec file."""
    try:
        path = Path(path)
    except TypeError:
        raise TypeError(f"a spec is a dictionary, the path of a TOML or JSON file, or a torchd.messages.JobSpec, and not {type(path).__name__}") from None
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise invalid_spec([Mistake(str(path), f"is no {'JSON' if path.suffix.lower() == '.json' else 'TOML'}: {error}")]) from None
    if not isinstance(content, dict):
        raise invalid_spec([Mistake(str(path), "holds no object of fields")])
    return content


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries over one another, the later ones on top; groups are merged field by field."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            below = whole.get(name)
            whole[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return whole
