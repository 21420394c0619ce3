"""The protocol `torchd.v1`: its message classes and methods, made of descriptors at import.

There is no generated code: code of a newer protobuf does not run on an older one, and descriptors
are read by all of them.
"""

import dataclasses
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

PACKAGE = "torchd.v1"
DESCRIPTORS = "descriptors.bin"


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of a service, as a channel needs it."""

    name: str
    path: str
    request: Any
    """The class of its requests."""
    response: Any
    """The class of its answers."""


def _descriptors() -> descriptor_pb2.FileDescriptorSet:
    path = Path(__file__).with_name(DESCRIPTORS)
    try:
        return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    except FileNotFoundError:
        raise ImportError(f"{path} is missing: the build makes it. In the sources of torchd, run `scripts/python-package`") from None


def _load() -> tuple[dict[str, Any], dict[str, Method]]:
    # A pool of its own: other packages may have brought files of the same names.
    pool = DescriptorPool()
    names: dict[str, Any] = {}
    methods: dict[str, Method] = {}
    files = _descriptors().file
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    for file in files:
        if file.package != PACKAGE:
            continue
        for message in file.message_type:
            names[message.name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}"))
        for enum in file.enum_type:
            names[enum.name] = EnumTypeWrapper(pool.FindEnumTypeByName(f"{PACKAGE}.{enum.name}"))
            names.update((value.name, value.number) for value in enum.value)
    for file in files:
        for service in file.service:
            for method in service.method:
                request, response = (names[kind.rpartition(".")[2]] if kind.startswith(f".{PACKAGE}.")
                                     else message_factory.GetMessageClass(pool.FindMessageTypeByName(kind[1:]))
                                     for kind in (method.input_type, method.output_type))
                path = f"/{file.package}.{service.name}/{method.name}"
                methods[method.name] = Method(method.name, path, request, response)
    return names, methods


NAMES, METHODS = _load()
"""Messages, enums and their values by name; methods by name, each of which is there once."""
