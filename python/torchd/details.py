"""The details of a status, `google.rpc`, which the daemon sends with each error.

Their messages are declared here as far as they are read, so that the package needs no other one.
Sources: google/rpc/status.proto, google/rpc/error_details.proto.
"""

from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

PACKAGE = "google.rpc"
HEADER = "grpc-status-details-bin"

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"string": _FIELD.TYPE_STRING, "bytes": _FIELD.TYPE_BYTES, "int32": _FIELD.TYPE_INT32, "int64": _FIELD.TYPE_INT64}
_MESSAGES = {
    # On the wire as google.protobuf.Any and Duration.
    "Detail": [("type_url", 1, "string"), ("value", 2, "bytes")],
    "Delay": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
    "Status": [("code", 1, "int32"), ("message", 2, "string"), ("details", 3, "*Detail")],
    "ErrorInfo": [("reason", 1, "string"), ("domain", 2, "string")],
    "FieldViolation": [("field", 1, "string"), ("description", 2, "string")],
    "BadRequest": [("field_violations", 1, "*FieldViolation")],
    "RetryInfo": [("retry_delay", 1, "Delay")],
    "Condition": [("type", 1, "string"), ("subject", 2, "string"), ("description", 3, "string")],
    "PreconditionFailure": [("violations", 1, "*Condition")],
    "QuotaViolation": [("subject", 1, "string"), ("description", 2, "string")],
    "QuotaFailure": [("violations", 1, "*QuotaViolation")],
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="torchd/details.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
            kind = kind.lstrip("*")
            entry = message.field.add(name=field, number=number, label=label, type=_KINDS.get(kind, _FIELD.TYPE_MESSAGE))
            if kind not in _KINDS:
                entry.type_name = f".{PACKAGE}.{kind}"
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES}


CLASSES = _classes()


def details(metadata: Any) -> dict[str, Any]:
    """The details in the trailing metadata of a call, by the names of their messages."""
    found: dict[str, Any] = {}
    for key, value in metadata or ():
        if key != HEADER:
            continue
        for detail in CLASSES["Status"].FromString(value).details:
            name = detail.type_url.rpartition(f"/{PACKAGE}.")[2]
            if name in CLASSES:
                found[name] = CLASSES[name].FromString(detail.value)
    return found
