"""Calls to a daemon, and about a job, that block: for scripts and notebooks."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from . import aio
from .blocking import blocking
from .connection import PATIENCE, open_connection
from .credentials import given
from .daemon import Daemon
from .errors import TorchdError
from .transport import Blocking, run


@blocking(aio.Job)
class Job:
    """A job. It goes on whatever becomes of this object: `client.job(name)` gives another one."""

    def __init__(self, core: aio.Job):
        self._core = core

    def _repr_html_(self) -> str:
        try:
            run(self._core.refresh())
        except TorchdError as error:
            return f"{self._core._repr_html_()}<p>as it was told last; {type(error).__name__} since then</p>"
        return self._core._repr_html_()

    def __repr__(self) -> str:
        return repr(self._core)


@blocking(aio.Client)
class Client:
    """A connection to one daemon."""

    def __init__(self, core: aio.Client):
        self._core = core

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        run(self._core.close())

    def __repr__(self) -> str:
        return f"<torchd client of {self._core.address}>"


def connect(address: str | None = None, *, token: str | None = None, ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None,
            patience: float = PATIENCE) -> Client:
    """A client of the daemon at `host:port`, `https://host:port` or `unix:PATH`.

    Without an address it is the one of TORCHD_SERVER, else the first that answers: at the Unix
    socket of the user, of the machine, or at 127.0.0.1:7080. `token`, else TORCHD_TOKEN or the
    content of TORCHD_TOKEN_FILE, goes with each call; a Unix socket needs none. With https:// the
    server's certificate has to be signed by one of `ca_file` (TORCHD_CA_FILE), else by one that
    gRPC knows; `cert_file` and `key_file` (TORCHD_CERT_FILE, TORCHD_KEY_FILE) are a client's own. What waits for a job waits `patience` seconds for a daemon that has gone away.
    """
    return Client(aio.Client(run(open_connection(Blocking, address, given(token, ca_file, cert_file, key_file), patience))))


@contextlib.contextmanager
def local(data_root: Any = None, *, state_dir: Any = None, patience: float = PATIENCE, settings: Mapping[str, Any] | None = None) -> Iterator[Client]:
    """Starts a daemon for this program alone, and ends it with the block, or with the program.

        with torchd.local(data_root="data") as client:
            job = client.submit("job.toml").wait()

    Jobs may read `data_root`, a folder or several. Jobs and results lie in `state_dir`, which
    stays, or else in a folder that is removed at the end. `settings` are those of the daemon, as
    {"uploads.quota_bytes": 1_000_000}.
    """
    daemon = Daemon(data_root, state_dir, settings)
    try:
        with connect(daemon.address, token=daemon.token, patience=patience) as client:
            yield client
    finally:
        daemon.stop()
