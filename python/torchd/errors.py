"""Failures, as exceptions with content.

All are `TorchdError`s. `code` is the code of gRPC and `reason` the word for programs, where the
daemon has answered.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A field that is wrong: its path, such as `training.batch_size`, and what is wrong with it."""

    path: str
    text: str


class TorchdError(Exception):
    """An error of torchd, or on the way to it."""

    code: str = ""
    reason: str = ""
    is_passing: bool = False
    """The same may be asked again: the connection broke, or the daemon had no room for now."""


class NoServer(TorchdError, ConnectionError):
    """No daemon answers."""

    is_passing = True


class ServerLost(TorchdError, ConnectionError):
    """The daemon answered before, and does not any more; `why` is what the connection says."""

    is_passing = True

    def __init__(self, address: str, why: str):
        super().__init__(f"the connection to torchd at {address} is lost: {why}")
        self.why = why


class WrongVersion(TorchdError):
    """Daemon and package are of versions that do not go together."""


class NotAllowed(TorchdError, PermissionError):
    """The daemon wants a token, or another one."""


class InvalidRequest(TorchdError, ValueError):
    """A request that the daemon refuses; `fields` has every mistake."""

    def __init__(self, message: str, fields: list[Mistake]):
        super().__init__(message)
        self.fields = fields


class InvalidSpec(InvalidRequest):
    """A spec with mistakes, as this package or the daemon has found them: all are in `fields`."""


class InvalidData(TorchdError, ValueError):
    """Data that cannot be sent, or that do not go with the module."""


class TooLargeToSend(InvalidData):
    """Data for which the daemon has no room."""


class NotFound(TorchdError, LookupError):
    """A job, a file or something else that is not there."""


class AlreadyThere(TorchdError):
    """A name that is taken."""


class Refused(TorchdError):
    """Something that cannot be done now, such as resuming a job that runs. `conditions` says why:
    what it is about, and words."""

    def __init__(self, message: str, conditions: list[Mistake] | None = None):
        super().__init__(message)
        self.conditions = conditions or []


class Busy(TorchdError):
    """The daemon has no room for now; `retry_after` is in seconds."""

    is_passing = True

    def __init__(self, message: str, retry_after: float = 0.0):
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Busy):
    """As many jobs wait as may."""

    is_passing = False


class JobEnded(TorchdError):
    """A job that did not succeed. `job` is its name."""

    def __init__(self, message: str, job: str):
        super().__init__(message)
        self.job = job


class JobFailed(JobEnded):
    """A job that failed or was cancelled: `reason` is a word such as `bad_data`, `message` is for
    people, and `log` has the last lines of its log."""

    def __init__(self, job: str, reason: str, message: str, log: list[str]):
        told = f"{job} has ended as {reason}: {message}"
        super().__init__("\n".join([told, *(f"  {line}" for line in log)]), job)
        self.reason = reason
        self.message = message
        self.log = log


class JobPaused(JobEnded):
    """A job that is paused, so that waiting for it would not end. `job.resume()` lets it go on."""


class WeightsDiffer(TorchdError, ValueError):
    """Weights that do not go into a module: `missing` are in the module alone, `unexpected` in
    the file alone, and `shapes` differ."""

    def __init__(self, message: str, missing: list[str], unexpected: list[str], shapes: list[str]):
        super().__init__(message)
        self.missing = missing
        self.unexpected = unexpected
        self.shapes = shapes
