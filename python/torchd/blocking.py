"""Classes that block, made of those for asyncio: each public method of one is there in the other,
with the same name, arguments and documentation, and without `await`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .transport import iterate, run

_BLOCKING: dict[type, type] = {}
"""The class that blocks, by the one for asyncio."""


def blocking(core: type) -> Callable[[type], type]:
    """Gives a class the public members of `core`, one of which it has as `_core`."""
    def complete(made: type) -> type:
        for name, member in vars(core).items():
            if not name.startswith("_") and name not in vars(made):
                setattr(made, name, _member(name, member))
        _BLOCKING[core] = made
        return made
    return complete


def _member(name: str, member: Any) -> Any:
    if isinstance(member, property):
        return property(lambda self: _wrapped(self, getattr(self._core, name)), doc=member.__doc__)
    if inspect.isasyncgenfunction(member):
        @functools.wraps(member)
        def method(self, *args, **kwargs):
            for value in iterate(getattr(self._core, name)(*args, **kwargs)):
                yield _wrapped(self, value)
    elif inspect.iscoroutinefunction(member):
        @functools.wraps(member)
        def method(self, *args, **kwargs):
            return _wrapped(self, run(getattr(self._core, name)(*args, **kwargs)))
    else:
        @functools.wraps(member)
        def method(self, *args, **kwargs):
            return _wrapped(self, getattr(self._core, name)(*args, **kwargs))
    return method


def _wrapped(owner: Any, value: Any) -> Any:
    """A value of the one class as that of the other; `owner` where it is its own core."""
    if value is owner._core:
        return owner
    if type(value) in _BLOCKING:
        return _BLOCKING[type(value)](value)
    if type(value) is list:
        return [_wrapped(owner, entry) for entry in value]
    return value
