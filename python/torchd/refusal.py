"""The one map from a status of gRPC to an exception."""

import grpc

from . import errors
from .details import details
from .errors import Mistake
from .protocol import Method

_OF_SPECS = ("CreateJob", "ValidateJob", "ResumeJob")
"""Methods whose mistakes are those of a spec, by paths that begin with `spec.`."""
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Codes that a connection has ended with where the daemon gave no details, which it always does."""


def exception(error: grpc.RpcError, method: Method, address: str) -> errors.TorchdError:
    """The exception for what a call has ended with."""
    code, told, found = error.code(), error.details() or "", details(error.trailing_metadata())
    made = _made(code, told, found, method, address)
    made.code = code.name
    if "ErrorInfo" in found:
        made.reason = found["ErrorInfo"].reason
    return made


def _made(code: grpc.StatusCode, told: str, found: dict, method: Method, address: str) -> errors.TorchdError:
    if "ErrorInfo" not in found and code in _LOST:
        return errors.ServerLost(address, told)
    reason = found["ErrorInfo"].reason if "ErrorInfo" in found else ""
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.WrongVersion(f"torchd at {address} has no {method.name}: it is older than this package. "
                                   "Upgrade it, or install the package of its version")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return _mistakes(told, found, method)
    if code is grpc.StatusCode.NOT_FOUND:
        return errors.NotFound(told)
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return errors.AlreadyThere(told)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        conditions = found["PreconditionFailure"].violations if "PreconditionFailure" in found else ()
        return errors.Refused(told, [Mistake(entry.subject, entry.description) for entry in conditions])
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return errors.NotAllowed(f"torchd at {address} refuses: {told}. A token is given as connect(token=...), or in TORCHD_TOKEN")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return errors.NotAllowed(f"torchd at {address} refuses: {told}")
    if reason == "UPLOAD_QUOTA":
        return errors.TooLargeToSend(f"{told}. {elsewhere()}")
    if "RetryInfo" in found:
        delay = found["RetryInfo"].retry_delay
        kind = errors.QueueFull if reason == "QUEUE_FULL" else errors.Busy
        return kind(told, delay.seconds + delay.nanos / 1e9)
    return errors.TorchdError(f"torchd has answered {method.name} with {code.name}: {told}")


def _mistakes(told: str, found: dict, method: Method) -> errors.InvalidRequest:
    fields = [Mistake(entry.field.removeprefix("spec."), entry.description)
              for entry in (found["BadRequest"].field_violations if "BadRequest" in found else ())]
    if method.name not in _OF_SPECS or not fields:
        return errors.InvalidRequest(told, fields)
    return invalid_spec(fields)


def invalid_spec(fields: list[Mistake]) -> errors.InvalidSpec:
    """All mistakes of a spec, one a line."""
    return errors.InvalidSpec(_listed("spec", fields), fields)


def invalid_request(fields: list[Mistake]) -> errors.InvalidRequest:
    """All mistakes of another request."""
    return errors.InvalidRequest(_listed("request", fields), fields)


def _listed(what: str, fields: list[Mistake]) -> str:
    count = "a mistake" if len(fields) == 1 else f"{len(fields)} mistakes"
    return "\n".join([f"the {what} has {count}:", *(f"  {path}: {text}" for path, text in fields)])


def elsewhere() -> str:
    """What to do with data that are too large to be sent."""
    return ("Large data stay where they are: put the files below a folder that the daemon reads (`torchd --data-root DIR`), and name them "
            "in place of the data, as data={\"safetensors\": {\"path\": \"train.safetensors\"}}. `client.files()` lists what was sent before; "
            "the limit is uploads.quota_bytes of the daemon's settings")
