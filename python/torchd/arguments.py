"""The arguments of a module's forward, by which arrays get their names."""

import inspect
from typing import Any

_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Arguments:
    """The arguments of forward."""

    def __init__(self, module: Any, example: Any):
        self.told = f"{type(module).__name__}.forward"
        self.example = example
        """Inputs that somebody gave, or None."""
        parameters = inspect.signature(module.forward).parameters.values()
        named = [parameter for parameter in parameters if parameter.kind in _KINDS]
        self._names = [parameter.name for parameter in named]
        self._required = [parameter.name for parameter in named if parameter.default is inspect.Parameter.empty]
        self._is_open = any(parameter.kind not in _KINDS for parameter in parameters)

    @property
    def count(self) -> int | None:
        """How many it needs; None where it takes any number."""
        return None if self._is_open else len(self._required)

    def name(self, place: int) -> str:
        """The name of the argument at a place."""
        return self._names[place] if place < len(self._names) else f"input_{place}"

    def takes(self, name: str) -> bool:
        """Whether it has an argument of this name."""
        return name in self._names
