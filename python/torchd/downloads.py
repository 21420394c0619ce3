"""Fetches files of jobs: each is whole or absent, and has the checksum that the daemon tells."""

import contextlib
import os
import secrets
from pathlib import Path, PurePosixPath
from typing import Any

from .connection import Connection
from .errors import TorchdError
from .protocol import NAMES
from .uploads import checksum


async def fetch(connection: Connection, name: str, path: Path) -> Path:
    """Fetches one file. What had arrived when the connection was lost is not fetched again. A file
    that cannot be fetched leaves nothing behind, and one that is there already stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two programs may fetch the same file: neither writes into what the other one has checked.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        await _fetch_into(connection, name, aside)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    return path


async def _fetch_into(connection: Connection, name: str, aside: Path) -> None:
    request = NAMES["DownloadArtifactRequest"](name=name)
    told: Any = None
    with aside.open("xb") as file:
        def advance(answer: Any, _is_first: bool) -> None:
            request.offset_bytes += len(answer.data)

        async with contextlib.aclosing(connection.follow("DownloadArtifact", request, advance)) as answers:
            async for answer in answers:
                if answer.HasField("artifact"):
                    told = answer.artifact
                else:
                    file.write(answer.data)
    if told is None:
        raise TorchdError(f"torchd has sent nothing for {name}, not even its checksum; fetch it again")
    found = await connection.transport.work(checksum, aside)
    if found != told.sha256:
        raise TorchdError(f"{name} has come with another checksum than torchd tells: {found} and not {told.sha256}; fetch it again")


def below(folder: Path, name: str, job: str) -> Path:
    """Where a file of a job goes: below the folder, whatever its name says."""
    parts = PurePosixPath(name.removeprefix(f"{job}/")).parts
    if not parts or any(part in ("..", "/", ".") for part in parts):
        raise TorchdError(f"torchd names a file {name!r}, which would lie outside of {folder}")
    return folder.joinpath(*parts)
