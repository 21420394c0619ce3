"""A connection to one daemon: calls by name, and streams that go on where they were lost."""

import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import grpc

from . import errors, version
from .address import Address, parse, usual
from .credentials import Credentials
from .protocol import METHODS
from .refusal import exception
from .transport import Transport

FIRST_ANSWER = 10.0
"""A daemon answers its first call within so many seconds."""
PATIENCE = 300.0
"""A daemon that was lost is waited for so many seconds: longer than one takes to start that has
ten thousand jobs."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

LOG = logging.getLogger("torchd")


class Connection:
    """Makes calls, and turns their errors into exceptions."""

    def __init__(self, transport: Transport, address: Address, patience: float):
        self.transport = transport
        self.address = address
        self.patience = patience

    async def call(self, name: str, /, *, timeout: float | None = None, **fields: Any) -> Any:
        """The answer of a method to a request with these fields."""
        return await self.ask(name, METHODS[name].request(**fields), timeout)

    async def ask(self, name: str, request: Any, timeout: float | None = None) -> Any:
        """The answer of a method to a request."""
        method = METHODS[name]
        try:
            return await self.transport.unary(method, request, timeout)
        except grpc.RpcError as error:
            raise exception(error, method, self.address.told) from None

    async def send(self, name: str, requests: Iterable[Any]) -> Any:
        """The answer of a method to several messages."""
        method = METHODS[name]
        try:
            return await self.transport.send(method, requests)
        except grpc.RpcError as error:
            raise exception(error, method, self.address.told) from None

    async def stream(self, name: str, request: Any) -> AsyncGenerator[Any, None]:
        """The answers of a method, one after the other."""
        method = METHODS[name]
        try:
            async with contextlib.aclosing(self.transport.stream(method, request)) as answers:
                async for answer in answers:
                    yield answer
        except grpc.RpcError as error:
            raise exception(error, method, self.address.told) from None

    async def follow(self, name: str, request: Any, advance: Callable[[Any, bool], None]) -> AsyncGenerator[Any, None]:
        """The answers of a stream that is asked for again where it was lost.

        `advance` gets each answer, and whether it is the first of its stream; it changes `request`
        so that the next one goes on behind that answer.
        """
        waits: Waits | None = None
        while True:
            is_first = True
            try:
                async with contextlib.aclosing(self.stream(name, request)) as answers:
                    async for answer in answers:
                        waits = None
                        advance(answer, is_first)
                        is_first = False
                        yield answer
                return
            except errors.TorchdError as error:
                if not error.is_passing:
                    raise
                if waits is None:
                    waits = Waits(self)
                    LOG.warning("%s; it is tried again for %d seconds", error, self.patience)
                await waits.pause(error)


class Waits:
    """Waits for a daemon that was lost, longer each time, and not for ever."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.ends = time.monotonic() + connection.patience
        self.next = FIRST_PAUSE

    async def pause(self, error: errors.TorchdError) -> None:
        """Waits for the next try, or raises what has gone wrong."""
        if time.monotonic() >= self.ends:
            raise error
        asked = error.retry_after if isinstance(error, errors.Busy) else 0.0
        await self.connection.transport.sleep(max(self.next, asked))
        self.next = min(2 * self.next, LONGEST_PAUSE)


async def open_connection(make: Callable[..., Transport], address: str | None, credentials: Credentials, patience: float) -> Connection:
    """Connects to an address, or to the first of the usual ones at which a daemon answers."""
    tried = []
    is_named = bool(address or os.environ.get("TORCHD_SERVER"))
    for place in [parse(address)] if address else usual():
        why = place.why_not()
        if why is None:
            connection = Connection(make(place.target, credentials.sender(place, is_named), credentials.channel(place)), place, patience)
            try:
                told = await connection.call("GetVersion", timeout=FIRST_ANSWER)
                version.check(told.torchd_version, place.told)
                return connection
            except errors.TorchdError as error:
                await connection.transport.close()
                if not error.is_passing:
                    raise
                why = error.why if isinstance(error, errors.ServerLost) else str(error)
        tried.append(f"{place.told}: {why}")
    raise errors.NoServer("no torchd answers:\n" + "\n".join(f"  {line}" for line in tried)
                          + "\n`torchd --data-root DIR` starts one, `torchd.local(data_root=DIR)` one for this program alone; "
                          "another address is given as connect(\"host:port\") or in TORCHD_SERVER")
