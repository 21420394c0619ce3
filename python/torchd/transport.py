"""The two ways to make calls: one blocks, one is for asyncio. All else is written once, above.

What is written above are coroutines. With `Blocking` they never wait for a loop, since what they
await has been done by the time that it is awaited; so `run` gets the result of one in one step.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from .credentials import Sender
from .protocol import Method

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # A try takes so long at most, also on a machine that is busy.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # While calls are open, also such as a launcher's that wait for long, the other side is asked so
    # often whether it is there, and answers within this time: a network that went away tells
    # nobody.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # Channels to one address share connections otherwise: one that is left would get the token that
    # was found for another listener.
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy of the environment is for the web, and not for this machine or the one beside it.
    ("grpc.enable_http_proxy", 0),
]
UNIX_OPTIONS = [("grpc.default_authority", "localhost")]
"""The path of a socket, which gRPC would tell as the authority, is none to the daemon."""

LOG = logging.getLogger("torchd")


def options(target: str) -> list[tuple[str, Any]]:
    """The options of a channel."""
    return OPTIONS + UNIX_OPTIONS if target.startswith("unix:") else OPTIONS


class Transport(Protocol):
    """Makes calls to one daemon."""

    async def unary(self, method: Method, request: Any, timeout: float | None) -> Any:
        """The answer to one message."""

    def stream(self, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        """All answers to one message."""

    async def send(self, method: Method, requests: Iterable[Any]) -> Any:
        """The answer to several messages."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def work(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Does what takes long without a call."""

    async def close(self) -> None:
        """Ends the connection."""


def _reader(method: Method) -> Callable[[bytes], Any]:
    """Makes messages of answers. It logs why one cannot be read: gRPC keeps that to itself."""

    def read(answer: bytes) -> Any:
        try:
            return method.response.FromString(answer)
        except Exception as error:
            LOG.error("an answer of %s, %d bytes, cannot be read: %r", method.name, len(answer), error)
            raise

    return read


class _Callables:
    """The callables of a channel, each of which is made once."""

    def __init__(self, opener: Callable[[], Any], sender: Sender):
        self._opener = opener
        self._sender = sender
        self._mark, self.metadata = sender()
        self.channel = opener()
        self._made: dict[str, Any] = {}

    def of(self, method: Method, kind: str) -> Any:
        """The callable of a method. `metadata` are those for its channel from here on."""
        mark, self.metadata = self._sender()
        if mark != self._mark:
            # Streams that are under way keep the channel before.
            self._mark, self.channel = mark, self._opener()
            self._made.clear()
        made = self._made.get(method.path)
        if made is None:
            made = getattr(self.channel, kind)(method.path, request_serializer=method.request.SerializeToString,
                                               response_deserializer=_reader(method))
            self._made[method.path] = made
        return made


class Blocking(_Callables):
    """Calls that block the thread."""

    def __init__(self, target: str, sender: Sender, tls: grpc.ChannelCredentials | None = None):
        def opener() -> Any:
            return grpc.secure_channel(target, tls, options(target)) if tls else grpc.insecure_channel(target, options(target))

        super().__init__(opener, sender)

    async def unary(self, method: Method, request: Any, timeout: float | None) -> Any:
        return self.of(method, "unary_unary")(request, timeout=timeout, metadata=self.metadata)

    async def stream(self, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        call = self.of(method, "unary_stream")(request, metadata=self.metadata)
        try:
            for answer in call:
                yield answer
        finally:
            call.cancel()

    async def send(self, method: Method, requests: Iterable[Any]) -> Any:
        return self.of(method, "stream_unary")(iter(requests), metadata=self.metadata)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def work(self, task: Callable[..., Any], *arguments: Any) -> Any:
        return task(*arguments)

    async def close(self) -> None:
        self.channel.close()


class Asyncio(_Callables):
    """Calls on the loop that runs."""

    def __init__(self, target: str, sender: Sender, tls: grpc.ChannelCredentials | None = None):
        def opener() -> Any:
            return grpc.aio.secure_channel(target, tls, options(target)) if tls else grpc.aio.insecure_channel(target, options(target))

        super().__init__(opener, sender)

    async def unary(self, method: Method, request: Any, timeout: float | None) -> Any:
        return await self.of(method, "unary_unary")(request, timeout=timeout, metadata=self.metadata)

    async def stream(self, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        call = self.of(method, "unary_stream")(request, metadata=self.metadata)
        try:
            async for answer in call:
                yield answer
        finally:
            call.cancel()

    async def send(self, method: Method, requests: Iterable[Any]) -> Any:
        return await self.of(method, "stream_unary")(iter(requests), metadata=self.metadata)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def work(self, task: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(task, *arguments)

    async def close(self) -> None:
        await self.channel.close()


def run(coroutine: Awaitable[Any]) -> Any:
    """The result of a coroutine over `Blocking`."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return done.value
    raise RuntimeError("a coroutine over the blocking transport waits for a loop")


def iterate(stream: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    """The values of an asynchronous generator over `Blocking`."""
    try:
        while True:
            try:
                value = run(stream.__anext__())
            except StopAsyncIteration:
                return
            yield value
    finally:
        run(stream.aclose())
