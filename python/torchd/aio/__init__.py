"""The same for asyncio: `await torchd.aio.connect()` gives a client whose calls are awaited and
whose streams are read by `async for`.

All that a client and a job can do is written here, once; `torchd.Client` and `torchd.Job` are made
of it (`torchd.blocking`).
"""

from .client import Client, connect, local
from .job import Job, Result

__all__ = ["Client", "Job", "Result", "connect", "local"]
