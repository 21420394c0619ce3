"""The stub of `torchd.messages`: the messages of the protocol with their comments."""

import textwrap

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

PACKAGE = "torchd.v1"
HEAD = '''# Made by scripts/python-package of proto/torchd/v1.

from collections.abc import Iterable, Mapping, MutableMapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
'''
SCALARS = {
    Field.TYPE_DOUBLE: "float", Field.TYPE_FLOAT: "float", Field.TYPE_BOOL: "bool", Field.TYPE_STRING: "str", Field.TYPE_BYTES: "bytes",
    Field.TYPE_INT32: "int", Field.TYPE_INT64: "int", Field.TYPE_UINT32: "int", Field.TYPE_UINT64: "int", Field.TYPE_SINT32: "int",
    Field.TYPE_SINT64: "int", Field.TYPE_FIXED64: "int", Field.TYPE_ENUM: "int",
}
WIDTH = 100


def stub(found):
    """The stub for a set of descriptors with comments."""
    parts = [HEAD]
    for file in sorted((file for file in found.file if file.package == PACKAGE), key=lambda file: file.name):
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for number, enum in enumerate(file.enum_type):
            parts.append(an_enum(enum, (5, number), comments))
        for number, message in enumerate(file.message_type):
            parts.append(a_message(message, (4, number), comments))
    return "\n".join(parts)


def an_enum(enum, path, comments):
    """An enum, and its values beside it."""
    lines = [f"{enum.name}: EnumTypeWrapper", doc(comments.get(path, ""))]
    for number, value in enumerate(enum.value):
        lines += [f"{value.name}: int", doc(comments.get((*path, 2, number), ""))]
    return "\n".join(line for line in lines if line) + "\n"


def a_message(message, path, comments):
    """A message with its fields."""
    entries = {f".{PACKAGE}.{message.name}.{inner.name}": inner for inner in message.nested_type}
    lines = [f"class {message.name}(Message):", doc(comments.get(path, ""), 4)]
    arguments = []
    for number, field in enumerate(message.field):
        have, given = types(field, entries)
        # Parts are changed, not set.
        is_part = field.type == Field.TYPE_MESSAGE or field.label == Field.LABEL_REPEATED
        text = doc(comments.get((*path, 2, number), ""), 8 if is_part else 4)
        if is_part:
            lines += ["    @property", f"    def {field.name}(self) -> {have}:", text or "        ..."]
        else:
            lines += [f"    {field.name}: {have}", text]
        arguments.append(f"{field.name}: {given} | None = ...")
    star = ["*"] if arguments else []
    lines.append(f"    def __init__({', '.join(['self', *star, *arguments])}) -> None: ...")
    return "\n".join(line for line in lines if line) + "\n"


def types(field, entries):
    """What a field has, and what it can be given."""
    if field.type_name in entries:
        key, value = entries[field.type_name].field
        key, (have, given) = SCALARS[key.type], types(value, {})
        return f"MutableMapping[{key}, {have}]", f"Mapping[{key}, {given}]"
    if field.type == Field.TYPE_MESSAGE:
        name = field.type_name.rpartition(".")[2]
        if field.label == Field.LABEL_REPEATED:
            return f"RepeatedCompositeFieldContainer[{name}]", f"Iterable[{name}]"
        return name, f"{name} | Mapping[str, object]"
    scalar = SCALARS[field.type]
    if field.label == Field.LABEL_REPEATED:
        return f"RepeatedScalarFieldContainer[{scalar}]", f"Iterable[{scalar}]"
    return scalar, f"{scalar} | str" if field.type == Field.TYPE_ENUM else scalar


def doc(comment, indent=0):
    """A comment as documentation."""
    if not comment:
        return ""
    text = " ".join(line.strip() for line in comment.splitlines()).replace("\\", "\\\\").replace('"""', "'''")
    if text.endswith('"'):
        text += " "
    margin = " " * indent
    return textwrap.fill(f'"""{text}"""', WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
