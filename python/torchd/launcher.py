"""A launcher: offers the slots of an engine to a daemon, and has the engine start the ranks of its launches.

Here is what is the same for all engines; `torchd.spark` and `torchd.torchrun` have one each. A
launcher keeps attached until it is stopped, its place is taken, or the daemon refuses it. It tells
the daemon nothing about ranks but that the engine has ended a launch: ranks speak for themselves.
"""

import getpass
import logging
import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import grpc

from . import messages
from .address import Address
from .client import Client, connect
from .connection import FIRST_ANSWER, FIRST_PAUSE, LONGEST_PAUSE
from .errors import TorchdError, WrongVersion
from .protocol import METHODS
from .refusal import exception
from .transport import Blocking, run as result_of
from .version import __version__

ENDS_ITSELF = 5.0
"""An engine has so many seconds to end a launch whose ranks are over before it is asked to."""
TELL_LIMIT = 10.0
"""A launcher that is being stopped tries for so many seconds to tell the ends of its launches."""
GROWS_EVERY = 2.0
"""Seconds between two looks whether an engine has room for more."""
MOST_SLOTS = 4096
"""The daemon takes no more of a launcher."""
MOST_WORDS = 60_000
"""Bytes of an engine's words that are told."""
LONGEST_NAME = 128
NO_ROUTE = "none"
"""The address of the daemon for ranks that have no route to it."""

CLOSED = "its client has been closed; a launcher is stopped before that"

LOG = logging.getLogger("torchd")


class LauncherReplaced(TorchdError):
    """Another launcher of the same owner has attached by this name, and has its place."""


class EngineGone(TorchdError):
    """The engine can start nothing any more, as a session of Spark that was stopped."""


class Run:
    """A launch that an engine is to start."""

    def __init__(self, launch: messages.Launch, environment: Mapping[str, str]):
        self.job = launch.job
        """The job, `jobs/{id}`."""
        self.attempt = launch.attempt
        self.world_size = launch.world_size
        """How many ranks are to be started."""
        self.join_timeout = launch.join_timeout.seconds + launch.join_timeout.nanos / 1e9
        """The daemon gives the launch up whose ranks have not joined after so many seconds."""
        self.gpu = launch.gpu
        """Each rank takes a GPU of its machine."""
        way = {"TORCHD_RANK_MAILBOX": launch.mailbox} if launch.mailbox else environment
        self.environment = dict(way, TORCHD_TOKEN=launch.token, OMP_NUM_THREADS=str(max(launch.cpu_threads, 1)))
        """What each rank finds in its environment, besides the contract of torchrun. The token is for
        no command line."""
        self.ended = threading.Event()
        """The engine has ended it."""
        self._lock = threading.Lock()
        self._is_stopping = False
        self._asks: list[Callable[[], None]] = []

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.job, self.attempt

    @property
    def is_stopping(self) -> bool:
        """The engine has been asked to end it."""
        return self._is_stopping

    def on_stop(self, ask: Callable[[], None]) -> None:
        """Has `ask` called, which must not wait, when it is to end; at once where it is already."""
        with self._lock:
            if not self._is_stopping:
                self._asks.append(ask)
                return
        ask()

    def stop(self) -> None:
        """Asks the engine to end it."""
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
        for ask in self._asks:
            ask()

    def __str__(self) -> str:
        return f"attempt {self.attempt} of {self.job}"


class Engine(Protocol):
    """Starts ranks."""

    number: int
    """Its value of `messages.Engine`."""
    gpus: int | None
    """GPUs that ranks can have at once; None where it cannot tell."""

    def run(self, run: Run) -> str:
        """Has `torchd --rank` started once a rank, and waits until the engine has ended the launch; what it says of a failure, or nothing.
        It is called in a thread for each launch. An exception fails the launch with its words."""


class Launcher:
    """A launcher, which works in threads of its own until `stop`. `with` stops it too."""

    def __init__(self, engine: Engine, client: Client | None = None, *, slots: int, grown: Callable[[], int] | None = None, name: str | None = None,
                 rank_server: str | None = None, ca_file: str | None = None):
        """`grown` tells how many slots the engine has now: the launcher offers more as soon as there are more. It never offers fewer: an engine
        whose machines come back has room again. `rank_server` is the daemon's address for ranks, where they need another one than this client;
        "none" where they have no route to it: the launcher is given jobs with `scale.storage` alone.
        `ca_file`, or TORCHD_CA_FILE, has the certificates that sign the daemon's."""
        self.name = name or usual_name()
        self.slots = slots
        """Ranks that there is room for at once."""
        self._grown = grown
        self._engine = engine
        self._own = None if client else connect(ca_file=ca_file)
        self._connection = _connection(client or self._own)
        self.environment = rank_environment(self._connection.address, rank_server, ca_file)
        """What each rank that calls the daemon finds in its environment, but the token."""
        self._session = 1 + secrets.randbelow(2**64 - 1)
        self._state = threading.Condition()
        # All that follows is changed under it.
        self._runs: dict[tuple[str, int], Run] = {}
        self._call: Any = None
        self._is_attached = False
        self._has_grown = False
        self._is_over = True
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._tells_until = math.inf

    def start(self) -> "Launcher":
        """Attaches, and returns when the daemon has taken it."""
        self._is_over = False
        self._thread(self._attend)
        with self._state:
            self._state.wait_for(lambda: self._is_attached or self._is_over)
        if self._error is not None:
            self._close()
            raise self._error
        if self._grown is not None:
            self._thread(self._grow, self._grown)
        return self

    @property
    def launches(self) -> list[str]:
        """The jobs whose launches the engine has not ended."""
        with self._state:
            return [job for job, _ in self._runs]

    def wait(self) -> None:
        """Waits until it is stopped, or raises why it has ended; and until the engine has ended its launches."""
        with self._state:
            self._state.wait_for(lambda: self._is_over and not self._runs)
            if self._error is not None:
                raise self._error

    def stop(self) -> None:
        """Leaves the daemon, asks the engine to end the launches, and waits until it has: ranks save a checkpoint."""
        self._tells_until = time.monotonic() + TELL_LIMIT
        self._stopping.set()
        with self._state:
            if self._call is not None:
                self._call.cancel()
            runs = list(self._runs.values())
        for one in runs:
            one.stop()
        with self._state:
            self._state.wait_for(lambda: self._is_over and not self._runs)
        self._close()

    def _close(self) -> None:
        if self._own is not None:
            self._own.__exit__(None, None, None)

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<torchd launcher {self.name} at {self._connection.address.told}>"

    def _attend(self) -> None:
        error: BaseException | None = None
        try:
            self._follow()
        except Exception as failed:
            error = failed
            # Else `start` tells it.
            if self._is_attached:
                LOG.error("launcher %s has ended: %s", self.name, failed)
        self._over(error)

    def _over(self, error: BaseException | None) -> None:
        with self._state:
            self._error = self._error or error
            self._is_over = True
            self._state.notify_all()

    def _grow(self, grown: Callable[[], int]) -> None:
        """Attaches again whenever the engine has room for more."""
        is_told = False
        while not self._stopping.wait(GROWS_EVERY):
            try:
                slots = min(grown(), MOST_SLOTS)
            except EngineGone as gone:
                LOG.error("launcher %s has ended: %s", self.name, gone)
                return self._leave(gone)
            except Exception as error:
                # Once, until it is told again.
                LOG.log(logging.DEBUG if is_told else logging.WARNING, "the slots of launcher %s are not told now; it asks again: %s: %s",
                        self.name, type(error).__name__, error)
                is_told = True
                continue
            is_told = False
            if slots > self.slots:
                with self._state:
                    self.slots = slots
                    # Without a call the next one offers them anyway.
                    if self._call is not None:
                        self._has_grown = True
                        self._call.cancel()
                    self._state.notify_all()

    def _takes_growth(self) -> bool:
        """Whether the stream was ended because there are more slots to offer."""
        with self._state:
            has_grown, self._has_grown = self._has_grown, False
            return has_grown

    def _follow(self) -> None:
        """Takes orders, and attaches again where the stream is lost."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            why: object = "the daemon has ended the stream"
            try:
                for order in self._orders():
                    pause = FIRST_PAUSE
                    self._take(order)
            except TorchdError as error:
                if self._stopping.is_set():
                    return
                if error.reason == "LAUNCHER_REPLACED":
                    raise LauncherReplaced(f"another launcher has attached as {self.name}, and has its place; name=... gives another name") from None
                if error.code == "CANCELLED" and self._takes_growth():
                    continue
                # A daemon that starts or ends has its own words for that.
                if not error.is_passing and error.code != "UNAVAILABLE":
                    raise
                why = error
            if pause == FIRST_PAUSE and not self._stopping.is_set():
                LOG.warning("launcher %s is detached: %s; it tries again", self.name, why)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _orders(self) -> Iterator[messages.LauncherOrder]:
        method, transport = METHODS["AttachLauncher"], self._connection.transport
        with self._state:
            running = [messages.LaunchName(job=job, attempt=attempt) for job, attempt in self._runs]
            request = method.request(launcher=self.name, engine=self._engine.number, slots=self.slots, running=running,
                                     session=self._session, gpus=self._engine.gpus, no_route=not self.environment)
            self._has_grown = False
            # Not by Connection.stream: another thread has to be able to end it.
            try:
                call = self._call = transport.of(method, "unary_stream")(request, metadata=transport.metadata)
            except ValueError:
                # gRPC's word for a closed channel.
                raise TorchdError(CLOSED) from None
        if self._stopping.is_set():
            call.cancel()
        try:
            yield from call
        except grpc.RpcError as error:
            raise exception(error, method, self._connection.address.told) from None
        finally:
            call.cancel()
            with self._state:
                self._call = None

    def _take(self, order: messages.LauncherOrder) -> None:
        kind = order.WhichOneof("order")
        if kind == "attached":
            self._check(order.attached.version)
            with self._state:
                self._is_attached = True
                self._state.notify_all()
            LOG.info("launcher %s is attached to %s with %d slots", self.name, self._connection.address.told, self.slots)
        elif kind == "launch":
            self._begin(Run(order.launch, self.environment))
        elif kind == "stop":
            self._thread(self._end, order.stop.job, order.stop.attempt)

    def _check(self, version: str) -> None:
        if version != __version__:
            raise WrongVersion(f"torchd at {self._connection.address.told} is {version}, and this package, which starts its ranks, is {__version__}: "
                               f"both have to be the same. pip install 'torchd=={version}' installs the package that goes with it")

    def _begin(self, run: Run) -> None:
        with self._state:
            if run.key in self._runs:
                return
            self._runs[run.key] = run
        if self._stopping.is_set():
            run.stop()
        self._thread(self._serve, run)

    def _serve(self, run: Run) -> None:
        """Has the engine run a launch, and tells when it has ended it."""
        LOG.info("%s begins with %d ranks", run, run.world_size)
        try:
            words = "its launcher is being stopped" if run.is_stopping else self._engine.run(run)
        except EngineGone as gone:
            words = str(gone)
            self._leave(gone)
        except Exception as error:
            words = str(error) if isinstance(error, TorchdError) else f"{type(error).__name__}: {error}"
            LOG.error("%s: %s", run, words)
        run.ended.set()
        LOG.info("%s: the engine has ended it", run)
        try:
            self._tell_end(*run.key, words)
        finally:
            with self._state:
                del self._runs[run.key]
                self._state.notify_all()

    def _end(self, job: str, attempt: int) -> None:
        """Ends what is left of a launch whose ranks are over."""
        with self._state:
            run = self._runs.get((job, attempt))
        if run is None:
            # Of a launcher before this one, of the same name: its slots are free.
            self._tell_end(job, attempt, "")
        elif not run.ended.wait(ENDS_ITSELF):
            run.stop()

    def _leave(self, error: BaseException) -> None:
        """Detaches for good."""
        self._over(error)
        self._stopping.set()
        with self._state:
            if self._call is not None:
                self._call.cancel()

    def _tell_end(self, job: str, attempt: int, words: str) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                result_of(self._connection.call("EndLaunch", launcher=self.name, job=job, attempt=attempt, message=last_bytes(words), timeout=FIRST_ANSWER))
                return
            except TorchdError as error:
                is_passing = error.is_passing or error.code == "UNAVAILABLE"
                if not is_passing or time.monotonic() > self._tells_until:
                    LOG.error("the end of attempt %d of %s cannot be told: %s", attempt, job, error)
                    return
            except ValueError:
                LOG.error("the end of attempt %d of %s cannot be told: %s", attempt, job, CLOSED)
                return
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _thread(self, task: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=task, args=arguments, name=f"torchd launcher {self.name}", daemon=True).start()


def _connection(client: Any) -> Any:
    """The connection of a client that blocks."""
    connection = getattr(getattr(client, "_core", None), "_connection", None)
    if connection is None or not isinstance(connection.transport, Blocking):
        raise TypeError(f"client is {client!r}; one of torchd.connect() is right")
    return connection


def rank_environment(address: Address, server: str | None, ca_file: str | None) -> dict[str, str]:
    """How a rank finds the daemon; nothing where it has no route to it."""
    if server == NO_ROUTE:
        return {}
    found = {"TORCHD_SERVER": server or (address.target if address.socket else address.told)}
    if path := ca_file or os.environ.get("TORCHD_CA_FILE"):
        found["TORCHD_CA_FILE"] = str(Path(path).expanduser().absolute())
    return found


def usual_name() -> str:
    """The name of a launcher of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return re.sub(r"[^A-Za-z0-9._@:+-]", "-", f"{user}@{socket.gethostname()}")[:LONGEST_NAME - 12] + f":{os.getpid()}"


def last_bytes(words: str, limit: int = MOST_WORDS) -> str:
    """The end of a text, which tells most."""
    return words.encode(errors="replace")[-limit:].decode(errors="ignore")
