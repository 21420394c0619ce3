"""The messages of the protocol, as `torchd.messages.JobSpec`, with its enums and their values.

They are classes of protobuf. `proto/torchd/v1` says what each field means, and so do the type
stubs beside this file.
"""

from . import protocol as _protocol

__all__ = sorted(_protocol.NAMES)

globals().update(_protocol.NAMES)
