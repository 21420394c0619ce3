"""Engines that are programs of this machine: torchrun, and a command of the user's that starts ranks anywhere.

Each launch is a child in a session of its own. It is ended by SIGTERM, at which torchrun and `srun`
stop their ranks in order, and by SIGKILL only if it ignores that for long. Its exit code tells
nothing: torchrun ends with 1 after it was stopped in order.
"""

import collections
import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import messages
from .errors import TorchdError
from .launcher import Run

GRACE = 180.0
"""Seconds from SIGTERM to SIGKILL: torchrun waits 30 itself, and runners save a checkpoint."""
LEFT_GRACE = 30.0
"""Seconds until what a command that was stopped has left behind is killed."""
DEATH = 5.0
"""A process that is killed is gone within so many seconds."""
LOOK_EVERY = 0.2
LAST_LINES = 100
"""Lines of an engine's output that are told to the daemon."""
_OF_CALLER = ("TORCHD_SERVER", "TORCHD_TOKEN_FILE", "TORCHD_CA_FILE", "TORCHD_CERT_FILE", "TORCHD_KEY_FILE", "TORCHD_RANK_MAILBOX")
"""By these the launcher finds the daemon and is known, and no rank."""


class Torchrun:
    """torchrun on this machine: an agent for each launch."""

    number = messages.ENGINE_TORCHRUN

    def __init__(self, torchd: Path, torchrun: Sequence[str], folder: Path | None = None, gpus: Sequence[str] | None = None):
        """`folder` is for the files of ranks. `gpus` are the GPUs that they may have, by number or uuid; those of this machine by default."""
        self._torchd = torchd
        self._torchrun = torchrun
        self._folder = folder
        self._gpus = Gpus(usual_gpus() if gpus is None else gpus)
        self.gpus: int | None = self._gpus.count

    def run(self, run: Run) -> str:
        if not run.gpu:
            return self._start(run, {})
        with self._gpus.taken(run) as gpus:
            # Each launch numbers its ranks from 0.
            return self._start(run, {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}) if gpus else ""

    def _start(self, run: Run, more: Mapping[str, str]) -> str:
        # torchrun leaves this folder behind where it is stopped.
        with tempfile.TemporaryDirectory(prefix="torchd-torchrun-", ignore_cleanup_errors=True) as logs:
            # The name of this host, which torchrun takes otherwise, may lead off this machine.
            agent = ["--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0", "--nproc-per-node", str(run.world_size), "--log-dir", logs]
            return supervise([*self._torchrun, *agent, "--no-python", str(self._torchd), "--rank"], {**environment(run, self._folder), **more}, run)


class Gpus:
    """The GPUs of this machine, each of which one launch has at a time. A launch ends with torchrun: ranks that torchrun has killed while they saved may
    hold theirs for some seconds more."""

    def __init__(self, gpus: Sequence[str]):
        self._free = list(gpus)
        self.count = len(gpus)
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, run: Run) -> Iterator[list[str]]:
        """As many as the launch has ranks, once they are free; none where it is stopped before."""
        run.on_stop(self._notify)
        count = run.world_size
        with self._changed:
            if self.count < count:
                raise TorchdError(f"this machine has {self.count} GPUs for ranks, and {count} ranks need one each")
            self._changed.wait_for(lambda: run.is_stopping or len(self._free) >= count)
            own = [] if run.is_stopping else self._free[:count]
            del self._free[:len(own)]
        try:
            yield own
        finally:
            with self._changed:
                self._free += own
                self._changed.notify_all()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Command:
    """A shell command for each launch, which finds TORCHD_WORLD_SIZE and more in its environment."""

    number = messages.ENGINE_TORCHRUN
    gpus: int | None = None

    def __init__(self, template: str, torchd: Path | None = None, folder: Path | None = None):
        """`torchd` comes first on the command's PATH."""
        self._template = template
        self._torchd = torchd
        self._folder = folder

    def run(self, run: Run) -> str:
        given = environment(run, self._folder)
        given |= {"TORCHD_WORLD_SIZE": str(run.world_size), "TORCHD_JOB": run.job, "TORCHD_ATTEMPT": str(run.attempt)}
        if self._torchd is not None:
            given["PATH"] = os.pathsep.join([str(self._torchd.parent), given.get("PATH", os.defpath)])
        return supervise(["/bin/sh", "-c", self._template], given, run)


def environment(run: Run, folder: Path | None) -> dict[str, str]:
    """The environment of a launch's engine, which ranks inherit."""
    own = {name: value for name, value in os.environ.items() if name not in _OF_CALLER}
    own |= run.environment
    if folder is not None:
        own["TORCHD_RANK_DIR"] = str(folder.absolute())
    return own


def supervise(command: Sequence[str], environment: Mapping[str, str], run: Run) -> str:
    """Runs the engine of a launch to its end; its last lines, which count where ranks have not joined."""
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    last: collections.deque[bytes] = collections.deque(maxlen=LAST_LINES)
    reader = threading.Thread(target=_read, args=(child, last), daemon=True)
    reader.start()
    run.on_stop(lambda: threading.Thread(target=_stop, args=(child,), daemon=True).start())
    code = child.wait()
    # Processes that it has left behind may hold its output open.
    reader.join(1.0)
    if run.is_stopping:
        threading.Thread(target=_clear, args=(child.pid,)).start()
        return ""
    told = b"".join(list(last)).decode(errors="replace").strip()
    return told or f"{Path(command[0]).name} has ended with {code}, without a word"


def _read(child: subprocess.Popen[bytes], last: collections.deque[bytes]) -> None:
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            last.append(line)
            # It goes on to be read where nobody reads ours: ranks would have no place for their
            # words.
            with contextlib.suppress(OSError, ValueError):
                os.write(2, line)


def _stop(child: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, number)
            child.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _clear(group: int) -> None:
    """Ends what a command has left behind: an agent of torchrun can wait for another one that is gone, whatever it is sent. Its ranks have
    sessions of their own, and are not hurt."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number, patience in ((0, LEFT_GRACE), (signal.SIGKILL, DEATH)):
            os.killpg(group, number)
            limit = time.monotonic() + patience
            while time.monotonic() < limit:
                os.killpg(group, 0)
                time.sleep(LOOK_EVERY)


def torchrun_program() -> list[str]:
    """torchrun as a command: that of this Python, else the one on the PATH."""
    if importlib.util.find_spec("torch") is not None:
        return [sys.executable, "-m", "torch.distributed.run"]
    if found := shutil.which("torchrun"):
        return [found]
    raise TorchdError("this Python has no PyTorch, and no torchrun is on the PATH; --torchrun-program names one")


def usual_gpus(driver: Path = Path("/proc/driver/nvidia/gpus"), devices: Path = Path("/dev")) -> list[str]:
    """The GPUs of this machine, or those that CUDA_VISIBLE_DEVICES shows: what follows a name that is none does not count, as for CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        # Some containers have the devices of some of the driver's GPUs, others none of its folders.
        counts = [len(list(devices.glob("nvidia[0-9]*"))), len(list(driver.iterdir())) if driver.is_dir() else 0]
        count = min(filter(None, counts), default=int((devices / "dxg").exists()))
        return [str(number) for number in range(count)]
    names = [name.strip() for name in visible.split(",")]
    return list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))


def usual_slots() -> int:
    """One for each GPU; without any, for each CPU."""
    return len(usual_gpus()) or len(os.sched_getaffinity(0))
