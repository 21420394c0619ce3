"""A client of torchd: trains models of PyTorch on a machine that runs the daemon.

    client = torchd.connect()
    job = client.train(module, (x, y), epochs=5)
    job.wait().load_into(module)

A program that torchd runs as a job reports with `torchd.report`, `should_stop`, `checkpoint_dir`,
`resume_from` and `finished`.

`torchd.aio` has the same for asyncio, `torchd.messages` the messages of the protocol,
`torchd.export` the export of modules. This package imports PyTorch, NumPy or pandas only where
something of theirs is asked for.
"""

import os
from typing import Any

# Else gRPC ends some of the programs that a caller starts beside an open connection, as Spark
# starts its JVM, before they are executed. It reads this when it begins.
# (github.com/grpc/grpc/issues/43055)
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from .client import Client, Job, connect, local
from .errors import (AlreadyThere, Busy, InvalidData, InvalidRequest, InvalidSpec, JobEnded, JobFailed, JobPaused, Mistake, NoServer, NotAllowed, NotFound,
                     QueueFull, Refused, ServerLost, TooLargeToSend, TorchdError, WeightsDiffer, WrongVersion)
from .program import checkpoint_dir, finished, report, resume_from, should_stop
from .version import __version__

__all__ = [
    "AlreadyThere", "Busy", "Client", "ExportError", "InvalidData", "InvalidRequest", "InvalidSpec", "Job", "JobEnded", "JobFailed", "JobPaused", "Mistake",
    "NoServer", "NotAllowed", "NotFound", "QueueFull", "Refused", "ServerLost", "TooLargeToSend", "TorchdError", "WeightsDiffer", "WrongVersion",
    "__version__", "checkpoint_dir", "connect", "finished", "local", "report", "resume_from", "should_stop",
]


def __getattr__(name: str) -> Any:
    # It needs PyTorch, which a client otherwise does not.
    if name == "ExportError":
        from .export import ExportError
        return ExportError
    # It needs Spark, where somebody attaches a session.
    if name == "spark":
        import importlib
        return importlib.import_module(".spark", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
