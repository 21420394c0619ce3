"""The changes that a resume makes."""

import json
from typing import Any

from .errors import Mistake
from .fill import fill
from .protocol import NAMES
from .refusal import invalid_spec


def resume_request(name: str, edits: dict[str, Any]) -> dict[str, Any]:
    """The fields of the request. `set` has fields of the spec by their paths."""
    message = NAMES["JobEdits"]()
    mistakes: list[Mistake] = []
    fields = dict(edits)
    changes = fields.pop("set", None) or {}
    fill(message, fields, "", mistakes)
    for path, value in changes.items():
        try:
            message.set.add(path=path, value=json.dumps(value))
        except TypeError:
            mistakes.append(Mistake(path, f"is {value!r}; what JSON can hold is needed"))
    if mistakes:
        raise invalid_spec(mistakes)
    return {"name": name, "edits": message}
