"""Apache Spark as an engine: the ranks of a launch are a stage of barrier tasks in a session of the user's.

    with torchd.spark.attach(spark):
        client.submit({..., "scale": {"engine": "spark", "world_size": 4}}).wait()

Each task starts `torchd --rank` on its executor, and ends with it. Executors need the program torchd
and a libtorch, and no Python package but pyspark. Nothing of the session is changed.
"""

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import messages
from .address import Address, parse
from .client import Client
from .errors import TorchdError
from .launcher import MOST_SLOTS, NO_ROUTE, EngineGone, Launcher, Run

CANCEL_EVERY = 0.5
"""A job of Spark is cancelled so often, in seconds, until it has ended: it may not have begun yet."""
RETURN_SHARE = 0.9
"""Executors that were lost are waited for so much of the time that ranks have to join."""
FIRST_EXECUTOR = 60.0
"""A session that begins has its first executor after so many seconds at most."""
LOOK_EVERY = 0.5
LAST_LINES = 40
"""Lines of a rank's words that are told where it fails."""

GONE = "the session of Spark has ended"

LOG = logging.getLogger("torchd")


def attach(spark: Any, client: Client | None = None, slots: int | None = None, *, name: str | None = None, program: str | None = None,
           rank_server: str | None = None, ca_file: str | None = None, folder: str | None = None) -> Launcher:
    """Offers the slots of a session of Spark for jobs with `scale = {"engine": "spark"}`, until `stop` or the end of this program.

    spark         a `SparkSession` or `SparkContext`, with executors; not one of Spark Connect.
    client        one of `torchd.connect()`, which is called otherwise.
    slots         ranks that there is room for at once; by default as many as the session has room for tasks, and more as executors join it.
    name          of the launcher. One that attaches by the same name takes its place.
    program       the path of torchd on executors; by default TORCHD_PROGRAM there, else beside their Python, else on their PATH.
    rank_server   the daemon's address as executors reach it, where it is not that of the client; "none" where they have no route to it: for jobs with
                  `scale.storage`.
    ca_file       certificates that sign the daemon's, or TORCHD_CA_FILE: executors are sent them.
    folder        for the files of ranks on executors, in place of the system's for temporary ones.
    """
    context = _context(spark)
    engine = Spark(context, program, folder)
    count = slots or min(engine.first_slots(), MOST_SLOTS)
    grown = None if slots else engine.told_slots
    made = Launcher(engine, client, slots=count, grown=grown, name=name, rank_server=rank_server, ca_file=ca_file)
    if rank_server != NO_ROUTE:
        _judge(context, made.environment["TORCHD_SERVER"])
    return made.start()


def _context(spark: Any) -> Any:
    """The SparkContext of a session, which Spark Connect keeps to itself."""
    try:
        context = getattr(spark, "sparkContext", spark)
        if hasattr(context, "parallelize"):
            return context
    except Exception as error:
        LOG.debug("%r has no context: %s", spark, error)
    raise TorchdError(f"{spark!r} is no session of Spark with the RDD API, as those of Spark Connect are not: barrier tasks need it. On Databricks "
                      "clusters with dedicated access have it")


def _judge(context: Any, server: str) -> None:
    """Refuses an address that executors on other machines cannot reach."""
    master = str(context.master)
    if not master.startswith("local") and not is_reachable(parse(server)):
        raise TorchdError(f"executors of {master} cannot reach torchd at {server}: rank_server=\"https://HOST:PORT\" names an address that they reach, "
                          "and rank_server=\"none\" is for jobs with scale.storage")


def is_reachable(address: Address) -> bool:
    """Whether other machines can reach an address at all."""
    return address.socket is None and address.loopback_port is None


class Spark:
    """A session of Spark."""

    number = messages.ENGINE_SPARK
    gpus: int | None = None

    def __init__(self, context: Any, program: str | None = None, folder: str | None = None):
        self._context = context
        self._program = program
        self._folder = folder
        self._numbers = itertools.count(1)
        self._most = 0

    def slots(self) -> int:
        """How many tasks the session has room for at once, busy or not; about so many, where Spark does not tell."""
        try:
            return self.told_slots()
        except EngineGone:
            raise
        except Exception as error:
            LOG.debug("the slots of Spark are not told: %s", error)
        found = int(self._context.defaultParallelism)
        self._most = max(self._most, found)
        return found

    def told_slots(self) -> int:
        """The same, as Spark tells it."""
        if self._is_gone():
            raise EngineGone(GONE)
        java = self._context._jsc.sc()
        # The scheduler itself holds a barrier stage against this, 40 times with 15 seconds between.
        found = int(java.maxNumConcurrentTasks(java.resourceProfileManager().defaultResourceProfile()))
        self._most = max(self._most, found)
        return found

    def first_slots(self) -> int:
        """The same, as soon as there is one: executors register after the session has begun."""
        limit = time.monotonic() + FIRST_EXECUTOR
        while not (found := self.slots()):
            if time.monotonic() > limit:
                raise TorchdError(f"this session of Spark has had no executor for {FIRST_EXECUTOR:.0f} s; "
                                  "attach(spark, slots=N) tells how many ranks it will have room for")
            time.sleep(LOOK_EVERY)
        return found

    def run(self, run: Run) -> str:
        self._find_room(run)
        environment = dict(run.environment)
        if self._folder is not None:
            environment["TORCHD_RANK_DIR"] = self._folder
        authorities = environment.pop("TORCHD_CA_FILE", None)
        rank = rank_task(self._program, environment, Path(authorities).read_bytes() if authorities else None, LAST_LINES)
        group = f"torchd-{run.job.removeprefix('jobs/')}-{run.attempt}-{next(self._numbers)}"

        def stage() -> None:
            # Of this thread alone.
            self._context.setJobGroup(group, f"torchd: {run}", interruptOnCancel=True)
            count = run.world_size
            self._context.parallelize(range(count), count).barrier().mapPartitions(rank).collect()

        def cancel() -> None:
            while not run.ended.wait(CANCEL_EVERY) and not self._is_gone():
                self._context.cancelJobGroup(group)

        run.on_stop(lambda: threading.Thread(target=cancel, daemon=True).start())
        try:
            stage()
        except Exception as error:
            if self._is_gone():
                raise EngineGone(GONE) from None
            return "" if run.is_stopping else words_of(error)
        return ""

    def _find_room(self, run: Run) -> None:
        """Refuses a launch for which the session is too small: Spark itself would look for room for ten minutes. Executors that were lost are waited for."""
        limit = time.monotonic() + RETURN_SHARE * run.join_timeout
        while (slots := self.slots()) < run.world_size and not run.is_stopping:
            if self._most < run.world_size or time.monotonic() > limit:
                raise TorchdError(f"the session of Spark has room for {slots} tasks at once, and {run.world_size} ranks are to be started")
            time.sleep(LOOK_EVERY)

    def _is_gone(self) -> bool:
        try:
            return self._context._jsc is None or bool(self._context._jsc.sc().isStopped())
        except Exception:
            return True


def words_of(error: Exception) -> str:
    """What Spark says, without the calls of its own code."""
    java = getattr(error, "java_exception", None)
    text = str(java.getMessage()) if java is not None else str(error)
    text = re.sub(r"(org\.apache\.spark\.api\.python\.PythonException: )?Traceback \(most recent call last\):\n([ \t].*\n)+", "", text)
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith(("\tat ", "Driver stacktrace")))


def rank_task(program: str | None, given: Mapping[str, str], authorities: bytes | None, lines: int) -> Callable[[Iterable[int]], Iterable[int]]:
    """The function that executors run. It goes there by value, with its imports: they need not have this package."""

    def rank(_):
        import contextlib
        import ctypes
        import os
        import shutil
        import signal
        import socket
        import subprocess
        import sys
        import sysconfig
        import tempfile

        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        number = context.partitionId()
        hosts = [info.address.rpartition(":")[0].strip("[]") for info in context.getTaskInfos()]
        place = hosts[number]

        found = program or os.environ.get("TORCHD_PROGRAM") or os.path.join(sysconfig.get_path("scripts"), "torchd")
        if not os.access(found, os.X_OK):
            found = None if program else shutil.which("torchd")
        with contextlib.ExitStack() as kept:
            port = ""
            if number == 0:
                family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
                bound = kept.enter_context(socket.socket(family))
                bound.bind((hosts[0], 0))
                port = str(bound.getsockname()[1])
            ports = context.allGather(port)
        # After the others know: they would wait for this one.
        if found is None:
            looked_for = program or "TORCHD_PROGRAM, beside the Python of the executor, and on its PATH"
            raise RuntimeError(f"there is no program torchd on {place}: {looked_for}. Install the wheel of torchd there, or name it as "
                               "attach(spark, program=PATH)")

        environment = {**os.environ, **given}
        # They are of this machine, and not for ranks.
        for name in ("TORCHD_TOKEN_FILE", "TORCHD_CERT_FILE", "TORCHD_KEY_FILE", "TORCHD_RANK_MAILBOX", "TORCHELASTIC_ERROR_FILE"):
            if name not in given:
                environment.pop(name, None)
        environment.update(RANK=str(number), WORLD_SIZE=str(len(hosts)), MASTER_ADDR=hosts[0], MASTER_PORT=ports[0],
                           LOCAL_RANK=str(hosts[:number].count(place)), TORCHELASTIC_USE_AGENT_STORE="False")
        gpus = context.resources().get("gpu")
        if gpus:
            environment["LOCAL_RANK"] = "0"
            shown = environment.get("CUDA_VISIBLE_DEVICES")
            # Where as many are shown, those are the task's: addresses may be numbers among them.
            if shown is None or len(shown.split(",")) != len(gpus.addresses):
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus.addresses)
                # Scripts by which Spark finds GPUs have the driver's numbers.
                environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        libc, worker = ctypes.CDLL(None), os.getpid()

        def die_with_worker():
            # Spark kills the worker alone.
            libc.prctl(1, int(signal.SIGTERM))
            if os.getppid() != worker:
                os._exit(1)

        with contextlib.ExitStack() as kept:
            if authorities is not None:
                file = kept.enter_context(tempfile.NamedTemporaryFile(suffix=".pem"))
                file.write(authorities)
                file.flush()
                environment["TORCHD_CA_FILE"] = file.name
            # No pipe: the rank goes on to save where this worker is killed.
            log = kept.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            child = subprocess.Popen([found, "--rank"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                     preexec_fn=die_with_worker)
            code = child.wait()
            log.seek(0)
            told = log.read()
        sys.stderr.write(told)
        if code != 0:
            last = "\n".join(told.splitlines()[-lines:])
            raise RuntimeError(f"rank {number} on {place} has ended with {code}:\n{last}")
        return []

    return rank
