"""The two sides of a comparison: a job of torchd, and a loop in PyTorch. Each turn of either is a
process of its own, from its start to its end."""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from . import processes
from .marks import lasts, pace, steady
from .workloads import ON_GPU, TOP, Workload

LOOK_EVERY = 0.5
LOSS = "loss/train"
PEER = pathlib.Path(__file__).with_name("peer.py")
PROGRAMS = pathlib.Path(os.environ.get("TORCHD_BIN") or pathlib.Path(os.environ.get("TORCHD_PROGRAM") or TOP / "target" / "release" / "torchd").parent)


@dataclasses.dataclass
class Turn:
    """Figures of one turn."""

    speed: float
    """Examples a second in the steady state."""
    memory: int
    """Resident bytes at most."""
    anonymous: int
    """Those of them that no file stands behind."""
    first_step: float
    """Seconds from the start to the first loss."""


# PyTorch.


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a loop is written, and what surrounds it."""

    loader: str
    optimizer: str
    setting: str = "default"
    """A name of `SETTINGS`."""
    compiled: bool = False

    def __str__(self):
        setting = "" if self.setting == "default" else f", {self.setting}"
        return f"{self.loader}, {'torch.compile, ' if self.compiled else ''}{self.optimizer}{setting}"


SETTINGS = {"default": {}, "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"}, "one thread": {"OMP_NUM_THREADS": "1"}, "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"}}
"""Variables by which users set PyTorch's threads."""


@contextlib.contextmanager
def start_peer(settings, role, name, *arguments):
    """A peer that runs, and has ended behind the block."""
    command = [sys.executable, "-W", "ignore", PEER, role, name, *map(str, arguments)]
    # In a session of its own, as a runner is: the kernel shares the cores out among sessions.
    with subprocess.Popen(command, env=processes.environment(settings), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def ask_peer(settings, role, name, *arguments):
    """The only answer of a peer."""
    with start_peer(settings, role, name, *arguments) as process:
        answer = process.stdout.read()
    if process.returncode != 0:
        raise RuntimeError(f"{role} of {name} in PyTorch has ended with {process.returncode}")
    return json.loads(answer)


def pytorch(name, workload: Workload, folder, variant: Variant, seconds, cache=None):
    """A turn of the loop, of so many seconds in the steady state. `cache` is the folder of what torch.compile makes."""
    begun = time.perf_counter()
    settings = SETTINGS[variant.setting] | ({"TORCHINDUCTOR_CACHE_DIR": str(cache)} if cache else {})
    with start_peer(settings, "train", name, folder, variant.loader, variant.optimizer, seconds, *(["compile"] if variant.compiled else [])) as process:
        memory = processes.Memory(process.pid)
        first = process.stdout.readline()
        first_step = time.perf_counter() - begun
        rest = process.stdout.readline()
        memory.stop()
    if not rest:
        raise RuntimeError(f"{name} in PyTorch ({variant}) has ended with {process.returncode}, after {first!r}")
    return Turn(workload.batch * pace(json.loads(rest)["marks"]), memory.peak, memory.anonymous, first_step)


# torchd.


def libtorch():
    """The setting that names the libtorch of the peer on a GPU: that of the build is one for the CPU."""
    found = importlib.util.find_spec("torch") if ON_GPU else None
    return {"runner.libtorch_dir": str(pathlib.Path(found.origin).resolve().parent / "lib")} if found else {}


@contextlib.contextmanager
def daemon(folder, settings=None, variables=None):
    """A client of a daemon of its own, which reads `folder`. `variables` are those of its
    environment."""
    sys.path.insert(0, str(TOP / "python"))
    import torchd

    logging.getLogger("grpc").setLevel(logging.ERROR)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(processes.environment({"TORCHD_PROGRAM": str(PROGRAMS / "torchd")} | (variables or {})))
    started = torchd.local(folder, settings={"jobs.orphan_timeout": "20s"} | libtorch() | (settings or {}))
    try:
        client = started.__enter__()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield client
    finally:
        started.__exit__(None, None, None)


def first_step(client, spec):
    """Seconds from CreateJob until the client has the first loss."""
    begun = time.perf_counter()
    job = client.submit(spec)
    with contextlib.closing(job.watch()) as events:
        next(event for event in events if event.HasField("record") and event.record.HasField("scalars"))
        seconds = time.perf_counter() - begun
    job.wait(progress=False)
    job.delete()
    return seconds


class Training:
    """A job that trains until it is ended."""

    def __init__(self, client, spec):
        self.job = client.submit(spec)

    def runner(self):
        """Its process, once that has begun."""
        with contextlib.closing(self.job.watch()) as events:
            for event in events:
                if event.HasField("record") and event.record.HasField("started"):
                    return event.record.started.pid
        raise RuntimeError(f"{self.job.name} has ended before it began: {self.job.message.end.message}")

    def marks(self):
        """The steps at which its loss was told, and when."""
        from torchd.errors import NotFound

        try:
            points = self.job.scalars(LOSS)[LOSS]
        except NotFound:
            # None has been told yet.
            return []
        return list(zip(points.step, points.time))

    def steady(self, seconds):
        """Waits for a steady state of so many seconds. The client only looks now and then, so that it
        takes no time from the job."""
        left = seconds
        while left > 0:
            time.sleep(max(left, LOOK_EVERY))
            left = seconds - lasts(steady(self.marks()))
            if not self.runs():
                raise RuntimeError(f"{self.job.name} has ended: {self.job.message.end.message}")

    def runs(self):
        return self.job.refresh().state in ("STARTING", "RUNNING")

    def end(self):
        """Ends it, and tells its marks."""
        from torchd.errors import JobFailed

        self.job.cancel(now=True)
        with contextlib.suppress(JobFailed):
            self.job.wait(progress=False)
        marks = self.marks()
        self.job.delete()
        return marks


def torchd_turn(client, workload: Workload, threads, seconds, exported=None):
    """A turn of torchd: a job of one step, then one with so many seconds in the steady state."""
    first = first_step(client, workload.spec(threads, steps=1, every=1, exported=exported))
    training = Training(client, workload.spec(threads, exported=exported))
    memory = processes.Memory(training.runner())
    training.steady(seconds)
    marks = training.end()
    memory.stop()
    return Turn(workload.batch * pace(marks), memory.peak, memory.anonymous, first)


@contextlib.contextmanager
def temporary():
    """A folder that goes with the bench, without links in its path, as a daemon wants its roots."""
    with tempfile.TemporaryDirectory(prefix="torchd-bench-") as folder:
        yield pathlib.Path(folder).resolve()
