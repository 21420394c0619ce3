"""Values of Python as fields of a message, with every mistake by its path.

The JSON mapping of protobuf, and what people write besides: values of enums in lower case without
their prefix, times as `datetime.timedelta` or seconds.
"""

import datetime
import difflib
import numbers
import operator
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from .errors import Mistake

_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1), FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1), FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_DURATION = "google.protobuf.Duration"


class _Wrong(Exception):
    """What is wrong with a value."""


def fill(message: Any, fields: Mapping[str, Any], path: str, mistakes: list[Mistake], *, replaces: bool = False) -> None:
    """Sets fields of a message. `replaces` lets one field of a choice take the place of another."""
    known = {field.name: field for field in message.DESCRIPTOR.fields}
    known |= {field.json_name: field for field in message.DESCRIPTOR.fields}
    for name, value in fields.items():
        place = f"{path}.{name}" if path else str(name)
        if name not in known:
            mistakes.append(Mistake(place, _unknown(name, message.DESCRIPTOR)))
        elif value is not None:
            _choose(message, known[name], place, mistakes, replaces)
            try:
                _set(message, known[name], value, place, mistakes, replaces)
            except _Wrong as wrong:
                mistakes.append(Mistake(place, str(wrong)))


def _unknown(name: Any, descriptor: Any) -> str:
    names = [field.name for field in descriptor.fields]
    near = difflib.get_close_matches(str(name), names, 1)
    return "no such field" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}" if names else "; it has none")


def _choose(message: Any, field: Any, place: str, mistakes: list[Mistake], replaces: bool) -> None:
    """Tells of a second field of a choice."""
    choice = field.containing_oneof
    taken = choice and len(choice.fields) > 1 and message.WhichOneof(choice.name)
    if taken and taken != field.name and not replaces:
        mistakes.append(Mistake(place, f"{place.rpartition('.')[0] or 'the spec'} has {taken} already; one of both is right"))


def _set(message: Any, field: Any, value: Any, place: str, mistakes: list[Mistake], replaces: bool) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entries = _as(Mapping, value, "a dictionary")
        for key, entry in entries.items():
            getattr(message, field.name)[_scalar(inner.fields_by_name["key"], key)] = _scalar(inner.fields_by_name["value"], entry)
    elif is_repeated(field):
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
            raise _Wrong(f"is {value!r}; a list is needed")
        message.ClearField(field.name)
        items = getattr(message, field.name)
        for number, item in enumerate(value):
            if inner is None:
                items.append(_scalar(field, item))
            else:
                fill(items.add(), _as(Mapping, item, "a list of dictionaries"), f"{place}[{number}]", mistakes, replaces=replaces)
    elif inner is not None and inner.full_name == _DURATION:
        _set_duration(getattr(message, field.name), value)
    elif inner is not None:
        part = getattr(message, field.name)
        part.SetInParent()
        fill(part, _as(Mapping, value, "a dictionary"), place, mistakes, replaces=replaces)
    else:
        setattr(message, field.name, _scalar(field, value))


def is_repeated(field: Any) -> bool:
    """Newer versions of protobuf have a word for it, older ones a label."""
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED


def _as(kind: type, value: Any, needed: str) -> Any:
    if not isinstance(value, kind):
        raise _Wrong(f"is {value!r}; {needed} is needed")
    return value


def _set_duration(duration: Any, value: Any) -> None:
    if isinstance(value, datetime.timedelta):
        duration.FromTimedelta(value)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        duration.FromNanoseconds(round(float(value) * 1e9))
    else:
        try:
            duration.FromJsonString(value)
        except (ValueError, AttributeError, TypeError):
            raise _Wrong(f"is {value!r}; seconds are needed, as 90, \"90s\" or a timedelta") from None


def _scalar(field: Any, value: Any) -> Any:
    kind = field.cpp_type
    if kind in _WHOLE:
        return _whole(value, *_WHOLE[kind])
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
            return float(value)
        # Tensors and arrays of one number are numbers too.
        if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
            raise _Wrong(f"is {value!r}; a number is needed")
        return float(value)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(field.enum_type, value)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _as(bool, value, "True or False")
    return str(value) if hasattr(value, "__fspath__") else _as(str, value, "a text")


def _whole(value: Any, lowest: int, highest: int) -> int:
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or not lowest <= number <= highest:
        raise _Wrong(f"is {value!r}; a whole number from {lowest} to {highest} is needed")
    return number


def _enum(enum: Any, value: Any) -> int:
    """A value by its number, its name, or its name without the prefix."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    if isinstance(value, str):
        name = value.upper()
        for found in enum.values:
            if name in (found.name, found.name.removeprefix(prefix)):
                return found.number
    elif isinstance(value, int) and not isinstance(value, bool) and value in enum.values_by_number:
        return value
    names = [found.name.removeprefix(prefix).lower() for found in enum.values[1:]]
    raise _Wrong(f"is {value!r}; {' or '.join(names)} is needed")
