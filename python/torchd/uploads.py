"""Sends files, and goes on with those that were interrupted."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .connection import Connection, Waits
from .errors import InvalidData, NotFound, TorchdError
from .protocol import NAMES

PIECE_BYTES = 256 << 10


class _Pieces:
    """The messages of an upload. A file that cannot be read ends them, and `failed` says why: a
    stream of requests ends without a word."""

    def __init__(self, path: Path, begin: Any):
        self.path, self.begin = path, begin
        self.failed: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        request = NAMES["UploadFileRequest"]
        yield request(begin=self.begin)
        left = self.begin.size_bytes - self.begin.offset_bytes
        try:
            with self.path.open("rb") as file:
                file.seek(self.begin.offset_bytes)
                while left:
                    data = file.read(min(left, PIECE_BYTES))
                    if not data:
                        raise InvalidData(f"{self.path} has become shorter while it was sent")
                    left -= len(data)
                    yield request(data=data)
        except (OSError, InvalidData) as error:
            self.failed = error


def checksum(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


async def send(connection: Connection, path: Path, name: str | None, folder: str | None = None, *, overwrite: bool = False) -> Any:
    """Sends a file as `name`, or below `folder` by its checksum and its own name, so that the same
    file is sent once. One that is there is not sent again, and where the connection is lost, the
    rest is sent once there is another."""
    sha256 = await connection.transport.work(checksum, path)
    size = path.stat().st_size
    if name is None:
        name = f"{folder}/{sha256[:16]}/{path.name}" if folder else path.name
    waits = None
    while True:
        try:
            there = await _there(connection, name)
            if there.HasField("size_bytes") and (there.size_bytes, there.sha256) == (size, sha256):
                return there
            partial = there.partial
            offset = partial.received_bytes if (partial.size_bytes, partial.sha256) == (size, sha256) else 0
            begin = NAMES["UploadBegin"](name=name, size_bytes=size, sha256=sha256, offset_bytes=offset, overwrite=overwrite)
            return await _send_rest(connection, path, begin)
        except TorchdError as error:
            if not error.is_passing:
                raise
            waits = waits or Waits(connection)
            await waits.pause(error)


async def _there(connection: Connection, name: str) -> Any:
    try:
        return await connection.call("StatFile", name=name)
    except NotFound:
        return NAMES["UploadedFile"]()


async def _send_rest(connection: Connection, path: Path, begin: Any) -> Any:
    pieces = _Pieces(path, begin)
    try:
        answer = await connection.send("UploadFile", pieces)
    finally:
        if pieces.failed is not None:
            raise pieces.failed
    if answer.HasField("partial"):
        raise TorchdError(f"torchd has {answer.partial.received_bytes} of {begin.size_bytes} bytes of {begin.name}; the same call goes on from there")
    return answer
